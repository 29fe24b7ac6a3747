//! A xenstored that refuses, does not answer, or violates the protocol.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use vusb_drivers::xenctl::{Xen, XenAccess};
use vusb_drivers::{Driver, Error};
use vusb_host::Host;
use vusb_model::hardware::Hardware;
use vusb_xen::store::wire::{Decoder, Kind, Message};

use crate::world::SHORT;

/// The error of observing a guest with a xenstored that serves its connections like this.
fn observe(serve: impl Fn(UnixStream) + Send + 'static) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    let access =
        XenAccess { xenstored: Some(socket), ..XenAccess::system(Host::new(Path::new("/none"))) };
    Xen::at("web1", &access, SHORT, false).observe(&Hardware::new()).unwrap_err()
}

/// Answers each request with an error.
fn refuse(mut stream: UnixStream, name: &str) {
    let (mut decoder, mut chunk) = (Decoder::new(), [0; 512]);
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        decoder.feed(&chunk[..count]);
        while let Ok(Some(Message { request, transaction, .. })) = decoder.next_message() {
            let payload = format!("{name}\0").into_bytes();
            let reply = Message { kind: Kind::Error, request, transaction, payload };
            stream.write_all(&reply.encode().unwrap()).unwrap();
        }
    }
}

#[test]
fn a_missing_answer_is_a_timeout() {
    let error = observe(std::mem::forget);
    assert!(matches!(error, Error::TimedOut { limit: SHORT, .. }), "{error}");
    assert!(error.to_string().starts_with("xenstored's reply"), "{error}");
}

#[test]
fn a_protocol_violation_is_reported() {
    let error = observe(|mut stream| {
        let _ = stream.write_all(&[0xff; 64]);
        std::mem::forget(stream);
    });
    assert!(matches!(&error, Error::Confused { domain, .. } if domain == "xenstored"), "{error}");
}

#[test]
fn denied_access_makes_the_guest_unreachable() {
    let error = observe(|stream| refuse(stream, "EACCES"));
    assert!(matches!(&error, Error::Unreachable { midway: false, .. }), "{error}");
    assert!(error.to_string().contains("permission denied for /local/domain"), "{error}");
}

#[test]
fn any_other_refusal_is_a_failure() {
    let error = observe(|stream| refuse(stream, "EIO"));
    assert!(matches!(&error, Error::Failed { .. }), "{error}");
    assert!(error.to_string().contains("EIO"), "{error}");
}

#[test]
fn a_closed_connection_makes_the_guest_unreachable_midway() {
    let error = observe(drop);
    assert!(matches!(&error, Error::Unreachable { midway: true, .. }), "{error}");
}
