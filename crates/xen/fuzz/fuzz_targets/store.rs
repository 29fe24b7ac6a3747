//! Whatever xenstored sends, nothing panics or hangs, and the decoder returns the same messages and
//! the same error for chunks of any size.
//!
//! Byte 0 of the input is the length of the chunks. The rest is fed to the decoder, and to a store
//! that sends requests of several types.
//!
//! ```text
//! cd crates/xen && RUSTC_BOOTSTRAP=1 cargo fuzz run store -- -max_total_time=60
//! ```

#![no_main]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vusb_xen::store::wire::{DecodeError, Decoder, MAX_PAYLOAD, Message};
use vusb_xen::store::{Error, Nodes, Store};

fn decode(stream: &[u8], chunk: usize) -> (Vec<Message>, Option<DecodeError>) {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    for chunk in stream.chunks(chunk) {
        decoder.feed(chunk);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => {
                    assert!(message.payload.len() <= MAX_PAYLOAD);
                    messages.push(message);
                }
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

/// Runs requests against a peer that has already sent `stream` and sends nothing more. No request
/// has to wait: it finds a reply or the end of the stream.
fn run_requests(stream: &[u8]) -> Option<()> {
    let (ours, mut theirs) = UnixStream::pair().ok()?;
    theirs.write_all(stream).ok()?;
    theirs.shutdown(std::net::Shutdown::Write).ok()?;
    let mut store = Store::from_fd(ours.into()).ok()?.with_limit(Duration::from_secs(1));
    let _ = store.watch("/a", "A");
    let _ = store.list("/a");
    let _ = store.permissions("/a");
    let _ = store.read("/a");
    let _: Result<(), Error> = store.transaction(|tx| tx.write("/a", "1"));
    while let Ok(Some(_)) = store.take_event() {}
    Some(())
}

fuzz_target!(|input: &[u8]| {
    let Some((chunk, stream)) = input.split_first() else { return };
    // The peer writes the whole stream before anything reads it, so it must fit into the socket's
    // buffer.
    let stream = stream.get(..60_000).unwrap_or(stream);
    assert_eq!(decode(stream, usize::from(*chunk).max(1)), decode(stream, stream.len().max(1)));
    let _ = run_requests(stream);
});
