//! Compares our structures and numbers with `<linux/usbdevice_fs.h>`, as a C compiler sees it.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::process::Command;

use super::handle::{Capabilities, Handle};
use super::in_flight::FRAME_PACKETS;
use super::ioctls::*;
use super::urb::Flags;
use super::{Kind, Packet};

/// The header's numbers, sizes and offsets by name.
fn header() -> BTreeMap<String, u64> {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("headers");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/usbfs/headers.c");
    let compiled =
        Command::new("cc").args(["-Wall", "-Werror", "-o"]).arg(&program).arg(source).status();
    assert!(compiled.expect("a C compiler (cc) and the kernel's headers are needed").success());
    let output = Command::new(&program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    text.lines().map(line).collect()
}

macro_rules! layout {
    ($theirs:literal, $ours:ty, { $($their:literal: $our:ident),* $(,)? }) => {
        [
            (concat!("sizeof ", $theirs), size_of::<$ours>()),
            $((concat!($theirs, ".", $their), offset_of!($ours, $our)),)*
        ]
    };
}

fn flag(flags: Flags, kind: &Kind, is_in: bool) -> u64 {
    flags.raw(kind, is_in).into()
}

fn numbers() -> Vec<(&'static str, u64)> {
    let none = Flags::default();
    let iso = Kind::Iso(vec![Packet::new(1)]);
    vec![
        ("USBDEVFS_CONTROL", CONTROL.into()),
        ("USBDEVFS_SETINTERFACE", SETINTERFACE.into()),
        ("USBDEVFS_SETCONFIGURATION", SETCONFIGURATION.into()),
        ("USBDEVFS_GETDRIVER", GETDRIVER.into()),
        ("USBDEVFS_SUBMITURB", SUBMITURB.into()),
        ("USBDEVFS_DISCARDURB", DISCARDURB.into()),
        ("USBDEVFS_REAPURBNDELAY", REAPURBNDELAY.into()),
        ("USBDEVFS_CLAIMINTERFACE", CLAIMINTERFACE.into()),
        ("USBDEVFS_RELEASEINTERFACE", RELEASEINTERFACE.into()),
        ("USBDEVFS_IOCTL", IOCTL.into()),
        ("USBDEVFS_RESET", RESET.into()),
        ("USBDEVFS_CLEAR_HALT", CLEAR_HALT.into()),
        ("USBDEVFS_CONNECT", CONNECT.into()),
        ("USBDEVFS_CLAIM_PORT", CLAIM_PORT.into()),
        ("USBDEVFS_RELEASE_PORT", RELEASE_PORT.into()),
        ("USBDEVFS_GET_CAPABILITIES", GET_CAPABILITIES.into()),
        ("USBDEVFS_DISCONNECT_CLAIM", DISCONNECT_CLAIM.into()),
        ("USBDEVFS_DROP_PRIVILEGES", DROP_PRIVILEGES.into()),
        ("USBDEVFS_GET_SPEED", GET_SPEED.into()),
        ("USBDEVFS_URB_TYPE_ISO", URB_ISO.into()),
        ("USBDEVFS_URB_TYPE_INTERRUPT", URB_INTERRUPT.into()),
        ("USBDEVFS_URB_TYPE_CONTROL", URB_CONTROL.into()),
        ("USBDEVFS_URB_TYPE_BULK", URB_BULK.into()),
        ("USBDEVFS_DISCONNECT_CLAIM_EXCEPT_DRIVER", EXCEPT_DRIVER.into()),
        (
            "USBDEVFS_URB_SHORT_NOT_OK",
            flag(Flags { short_not_ok: true, ..none }, &Kind::Bulk, true),
        ),
        ("USBDEVFS_URB_ISO_ASAP", flag(Flags { iso_asap: true, ..none }, &iso, true)),
        (
            "USBDEVFS_URB_BULK_CONTINUATION",
            flag(Flags { bulk_continuation: true, ..none }, &Kind::Bulk, true),
        ),
        ("USBDEVFS_URB_ZERO_PACKET", flag(Flags { zero_packet: true, ..none }, &Kind::Bulk, false)),
    ]
}

fn layouts() -> Vec<(&'static str, usize)> {
    let all: [&[(&str, usize)]; 7] = [
        &layout!("usbdevfs_ctrltransfer", ControlTransfer, {
            "bRequestType": request_type, "bRequest": request, "wValue": value, "wIndex": index,
            "wLength": length, "timeout": timeout, "data": data,
        }),
        &layout!("usbdevfs_setinterface", SetInterface, {
            "interface": interface, "altsetting": alternate,
        }),
        &layout!("usbdevfs_getdriver", GetDriver, { "interface": interface, "driver": driver }),
        &layout!("usbdevfs_disconnect_claim", DisconnectClaim, {
            "interface": interface, "flags": flags, "driver": driver,
        }),
        &layout!("usbdevfs_ioctl", DriverIoctl, { "ifno": interface, "ioctl_code": code, "data": data }),
        &layout!("usbdevfs_iso_packet_desc", RawPacket, {
            "length": length, "actual_length": actual_length, "status": status,
        }),
        &layout!("usbdevfs_urb", RawUrb, {
            "type": kind, "endpoint": endpoint, "status": status, "flags": flags, "buffer": buffer,
            "buffer_length": buffer_length, "actual_length": actual_length,
            "start_frame": start_frame, "number_of_packets": number_of_packets,
            "error_count": error_count, "signr": signr, "usercontext": usercontext,
        }),
    ];
    let mut layouts: Vec<_> = all.into_iter().flatten().copied().collect();
    layouts.push(("usbdevfs_urb.iso_frame_desc", FRAME_PACKETS));
    layouts
}

/// Whether these bits contain a capability.
type HasCapability = fn(Capabilities) -> bool;

const CAPABILITIES: [(&str, HasCapability); 6] = [
    ("USBDEVFS_CAP_ZERO_PACKET", Capabilities::zero_packet),
    ("USBDEVFS_CAP_BULK_CONTINUATION", Capabilities::bulk_continuation),
    ("USBDEVFS_CAP_NO_PACKET_SIZE_LIM", Capabilities::no_packet_size_limit),
    ("USBDEVFS_CAP_BULK_SCATTER_GATHER", Capabilities::scatter_gather),
    ("USBDEVFS_CAP_REAP_AFTER_DISCONNECT", Capabilities::reap_after_disconnect),
    ("USBDEVFS_CAP_DROP_PRIVILEGES", Capabilities::drop_privileges),
];

#[test]
fn everything_agrees_with_the_header() {
    let header = header();
    let layouts = layouts().into_iter().map(|(name, value)| (name, u64::try_from(value).unwrap()));
    let ours: Vec<(&str, u64)> = numbers().into_iter().chain(layouts).collect();
    for (name, value) in &ours {
        assert_eq!(header.get(*name), Some(value), "{name}");
    }
    for (name, has) in CAPABILITIES {
        let bit = u32::try_from(header[name]).unwrap();
        assert!(has(Capabilities::from_bits(bit)) && !has(Capabilities::from_bits(!bit)), "{name}");
    }
    assert_eq!(header.len(), ours.len() + CAPABILITIES.len(), "some of the header is not compared");
}

#[test]
fn all_types_are_send_and_sync() {
    const fn assert<T: Send + Sync>() {}
    assert::<super::UsbFs>();
    assert::<Handle>();
    assert::<super::Buffer>();
    assert::<super::BufferPool>();
}
