//! A xenstored that sends what the test chooses.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use vusb_xen::store::Store;
use vusb_xen::store::wire::{Decoder, Kind, Message};

pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    decoder: Decoder,
}

/// A store with a short limit, and the other end of its connection.
pub(crate) fn connected() -> (Store, Peer) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let store = Store::from_fd(ours.into()).unwrap().with_limit(Duration::from_millis(300));
    (store, Peer { stream: theirs, decoder: Decoder::new() })
}

impl Peer {
    pub(crate) fn request(&mut self) -> Message {
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return message;
            }
            let mut chunk = [0; 512];
            let count = self.stream.read(&mut chunk).unwrap();
            assert_ne!(count, 0, "the client closed the connection");
            self.decoder.feed(&chunk[..count]);
        }
    }

    pub(crate) fn send(&mut self, kind: Kind, request: u32, payload: &[u8]) {
        let message = Message { kind, request, transaction: 0, payload: payload.to_vec() };
        self.stream.write_all(&message.encode().unwrap()).unwrap();
    }
}
