//! Sockets that are missing or stale; authentication.

use std::os::unix::net::UnixListener;

use vusb_libvirt::protocol::{auth, procedure};
use vusb_libvirt::xdr::Writer;
use vusb_libvirt::{Client, Error, Uri, code};

use crate::daemon::{Daemon, Line, long_enough};

#[test]
fn the_first_socket_that_exists_is_used() {
    let daemon = Daemon::new(|listener| Line::accept(listener).open());
    let missing = daemon.path().with_file_name("virtqemud-sock");
    Client::connect(&Uri::QEMU_SYSTEM, &[missing, daemon.path()], long_enough()).unwrap();
}

#[test]
fn a_missing_daemon_is_reported_with_its_socket_paths() {
    let dir = tempfile::tempdir().unwrap();
    let [modular, monolithic] = ["virtqemud-sock", "libvirt-sock"].map(|it| dir.path().join(it));
    let connect = || {
        let sockets = [modular.clone(), monolithic.clone()];
        Client::connect(&Uri::QEMU_SYSTEM, &sockets, long_enough()).unwrap_err()
    };
    let error = connect();
    assert!(matches!(&error, Error::NoSocket { paths } if paths.len() == 2), "{error}");
    assert!(error.to_string().contains("libvirt-sock do not exist; start"), "{error}");
    drop(UnixListener::bind(&monolithic).unwrap());
    let error = connect();
    assert!(matches!(&error, Error::Refused { path } if *path == monolithic), "{error}");
    assert!(error.is_lost());
}

#[test]
fn polkit_is_asked_if_the_daemon_requires_it() {
    let daemon = Daemon::new(|listener| {
        for allowed in [true, false] {
            let mut line = Line::accept(listener);
            let serial = line.expect(procedure::AUTH_LIST).serial;
            line.reply(procedure::AUTH_LIST, serial, Writer::new().u32(1).i32(auth::POLKIT));
            let serial = line.expect(procedure::AUTH_POLKIT).serial;
            if allowed {
                line.reply(procedure::AUTH_POLKIT, serial, Writer::new().i32(1));
                let serial = line.expect(procedure::CONNECT_OPEN).serial;
                line.reply(procedure::CONNECT_OPEN, serial, Writer::new());
            } else {
                line.refuse(procedure::AUTH_POLKIT, serial, code::AUTH_UNAVAILABLE, "no agent");
            }
        }
    });
    daemon.connect().unwrap();
    let error = daemon.connect().unwrap_err();
    let refused = matches!(&error, Error::Remote(it) if it.code == code::AUTH_UNAVAILABLE);
    assert!(refused && error.to_string() == "no agent", "{error}");
}

#[test]
fn a_password_is_not_supported() {
    let daemon = Daemon::new(|listener| {
        let mut line = Line::accept(listener);
        let serial = line.expect(procedure::AUTH_LIST).serial;
        line.reply(procedure::AUTH_LIST, serial, Writer::new().u32(1).i32(auth::SASL));
        assert_eq!(line.receive(), None);
    });
    assert!(matches!(daemon.connect(), Err(Error::Authentication)));
}
