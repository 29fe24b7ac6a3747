//! The client against recorded daemons: libvirt 9.0 of Debian 12 and 11.3 of Debian 13.
//!
//! A transcript has one line for each message, `>` to the daemon and `<` from it, in hexadecimal.
//! The messages are replayed in their order: the client has to send exactly what was recorded.
//!
//! `cargo test -p vusb-libvirt --test transcripts -- --ignored` makes the same calls on the daemons
//! of the rig. With `VUSB_RECORD` in the environment, it records the transcripts again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use vusb_libvirt::codec::{Decoder, Message};
use vusb_libvirt::{
    Affect, Client, Deadline, DomainState, Error, Event, EventId, Uri, Uuid, XmlKind, code,
};
use vusb_rig::Libvirt;

const UUID: &str = "2f529084-7866-48ed-afc4-ec721375d888";

const WEB1: &str = "<domain type='qemu'><name>web1</name>\
    <uuid>2f529084-7866-48ed-afc4-ec721375d888</uuid><memory unit='MiB'>64</memory>\
    <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>\
    <controller type='usb' index='0' model='qemu-xhci' ports='8'/><memballoon model='none'/>\
    </devices></domain>";

const TABLET: &str = "<input type='tablet' bus='usb'><alias name='ua-vusb-tablet0'/>\
    <address type='usb' bus='0' port='5'/></input>";

/// The calls of a transcript, on a daemon with the running domain `web1`.
fn scenario(socket: PathBuf, version: u64) {
    let soon = || Deadline::after(Duration::from_secs(30));
    let mut client = Client::connect(&Uri::QEMU_SESSION, &[socket], soon()).unwrap();
    assert_eq!(client.version(soon()).unwrap(), version);
    let web1 = client.domain_by_name("web1", soon()).unwrap();
    assert_eq!((web1.name.as_str(), web1.uuid.to_string().as_str()), ("web1", UUID));
    assert_eq!(client.domain_by_uuid(Uuid::parse(UUID).unwrap(), soon()).unwrap(), web1);
    assert_eq!(client.domains(soon()).unwrap(), std::slice::from_ref(&web1));
    assert_eq!(client.state(&web1, soon()).unwrap(), DomainState::Paused);
    assert!(client.is_persistent(&web1, soon()).unwrap());
    assert!(client.xml(&web1, XmlKind::Live, soon()).unwrap().contains("<alias name='usb'/>"));

    for event in [EventId::Lifecycle, EventId::DeviceAdded, EventId::DeviceRemoved] {
        client.register(event, Some(&web1), soon()).unwrap();
    }
    client.attach(&web1, TABLET, Affect::BOTH, soon()).unwrap();
    let added = |event: &Event| {
        matches!(event, Event::DeviceAdded { alias, .. } if alias == "ua-vusb-tablet0")
            .then_some(())
    };
    client.wait_event(soon(), added).unwrap();
    for kind in [XmlKind::Live, XmlKind::Inactive] {
        let xml = client.xml(&web1, kind, soon()).unwrap();
        assert!(xml.contains("<alias name='ua-vusb-tablet0'/>"), "{xml}");
        assert!(xml.contains("<address type='usb' bus='0' port='5'/>"), "{xml}");
    }
    let refusal = |outcome: Result<(), Error>| match outcome {
        Err(Error::Remote(error)) => error.code,
        other => panic!("{other:?}"),
    };
    let mut attach = |xml: &str| refusal(client.attach(&web1, xml, Affect::LIVE, soon()));
    assert_eq!(attach(TABLET), code::CONFIG_UNSUPPORTED, "the alias is in use");
    let other = TABLET.replace("tablet0", "tablet1");
    assert_eq!(attach(&other), code::XML_ERROR, "the port is in use");
    assert_eq!(attach("<controller type='usb' model='ehci'/>"), code::OPERATION_UNSUPPORTED);

    client.detach(&web1, TABLET, Affect::CONFIG, soon()).unwrap();
    client.detach_alias(&web1, "ua-vusb-tablet0", Affect::LIVE, soon()).unwrap();
    let removed = |event: &Event| {
        matches!(event, Event::DeviceRemoved { alias, .. } if alias == "ua-vusb-tablet0")
            .then_some(())
    };
    client.wait_event(soon(), removed).unwrap();
    assert!(!client.xml(&web1, XmlKind::Live, soon()).unwrap().contains("tablet0"));
    let gone = client.detach_alias(&web1, "ua-vusb-tablet0", Affect::LIVE, soon());
    let refused = refusal(gone);
    assert!([code::DEVICE_MISSING, code::INTERNAL].contains(&refused), "{refused}");
    let none = client.domain_by_name("web9", soon()).map(drop);
    assert_eq!(refusal(none), code::NO_DOMAIN);
}

fn file(suite: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/transcripts/{suite}.txt"))
}

/// Plays a transcript on the socket.
fn play(listener: &UnixListener, text: &str) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut decoder = Decoder::default();
    for line in text.lines() {
        let (direction, bytes) = line.split_once(' ').unwrap();
        let digits = bytes.as_bytes().chunks(2).map(|it| std::str::from_utf8(it).unwrap());
        let bytes: Vec<u8> = digits.map(|it| u8::from_str_radix(it, 16).unwrap()).collect();
        if direction == "<" {
            stream.write_all(&bytes).unwrap();
            continue;
        }
        let received = loop {
            if let Some(message) = decoder.next_message().unwrap() {
                break message;
            }
            let mut more = [0; 4096];
            let count = stream.read(&mut more).unwrap();
            assert!(count > 0, "the client is gone");
            decoder.feed(&more[..count]);
        };
        assert_eq!(received.encode().unwrap(), bytes);
    }
}

#[track_caller]
fn replay(suite: &str, version: u64) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("libvirt-sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let text = std::fs::read_to_string(file(suite)).unwrap();
    let daemon = thread::spawn(move || play(&listener, &text));
    scenario(socket, version);
    daemon.join().unwrap();
}

#[test]
fn the_client_works_with_libvirt_9_0() {
    replay("bookworm", 9_000_000);
}

#[test]
fn the_client_works_with_libvirt_11_3() {
    replay("trixie", 11_003_000);
}

/// Passes messages on and writes them down.
fn relay(mut from: UnixStream, mut to: UnixStream, direction: char, out: &Mutex<String>) {
    let mut decoder = Decoder::default();
    let mut bytes = [0; 65536];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        decoder.feed(&bytes[..count]);
        while let Some(message) = decoder.next_message().unwrap() {
            let bytes = Message::encode(&message).unwrap();
            let digits = bytes.iter().fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").unwrap();
                text
            });
            writeln!(out.lock().unwrap(), "{direction} {digits}").unwrap();
            to.write_all(&bytes).unwrap();
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
#[ignore = "starts the libvirts of two Debian releases"]
fn the_client_works_with_real_daemons() {
    for (suite, version) in [("bookworm", 9_000_000), ("trixie", 11_003_000)] {
        let libvirt = Libvirt::of(suite).unwrap();
        libvirt.define(WEB1).unwrap();
        libvirt.start_domain("web1").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("libvirt-sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let out = Arc::new(Mutex::new(String::new()));
        let recorder = thread::spawn({
            let (out, real) = (Arc::clone(&out), libvirt.socket());
            move || {
                let (client, _) = listener.accept().unwrap();
                let daemon = UnixStream::connect(real).unwrap();
                let ends = (daemon.try_clone().unwrap(), client.try_clone().unwrap());
                let sent = Arc::clone(&out);
                let back = thread::spawn(move || relay(ends.0, ends.1, '<', &sent));
                relay(client, daemon, '>', &out);
                back.join().unwrap();
            }
        });
        scenario(socket, version);
        recorder.join().unwrap();
        if std::env::var_os("VUSB_RECORD").is_some() {
            std::fs::write(file(suite), out.lock().unwrap().as_bytes()).unwrap();
        }
        libvirt.run(&["destroy", "web1"]).unwrap();
    }
}
