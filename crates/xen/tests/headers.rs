//! Compares numbers and layouts with the C headers of Xen and Linux.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::process::Command;

use vusb_xen::abi::{evtchn, gntalloc, gntdev, status};
use vusb_xen::store::wire::{HEADER_BYTES, Kind, MAX_PATH, MAX_PAYLOAD};
use vusb_xen::{DomId, State};

/// The values of C expressions after these includes.
fn ask_c(includes: &[&str], expressions: &[String]) -> BTreeMap<String, i64> {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("ask.c"), folder.path().join("ask"));
    let includes: String = includes.iter().map(|file| format!("#include <{file}>\n")).collect();
    let lines: String =
        expressions.iter().map(|it| format!("printf(\"%lld\\n\", (long long)({it}));\n")).collect();
    let text = format!("{includes}int main(void) {{\n{lines}return 0;\n}}\n");
    std::fs::write(&source, text).unwrap();
    let compiled = Command::new("cc").arg(&source).arg("-o").arg(&program).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let output = String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap();
    expressions.iter().cloned().zip(output.lines().map(|line| line.parse().unwrap())).collect()
}

/// Compares values with those of the same C expressions.
fn compare(includes: &[&str], ours: &[(String, i64)]) {
    let expressions: Vec<String> = ours.iter().map(|(expression, _)| expression.clone()).collect();
    let theirs = ask_c(
        &[&["stdio.h", "stddef.h", "stdint.h", "errno.h", "sys/ioctl.h"], includes].concat(),
        &expressions,
    );
    let ours: BTreeMap<String, i64> = ours.iter().cloned().collect();
    assert!(!ours.is_empty());
    assert_eq!(ours, theirs);
}

fn pair<N: TryInto<i64>>(expression: &str, ours: N) -> (String, i64) {
    (expression.to_owned(), ours.try_into().ok().unwrap())
}

/// Linux's own headers and Xen's copies of them use the same names.
fn devices() -> Vec<(String, i64)> {
    let mut all = Vec::new();
    let mut size =
        |name: &str, ours: usize| all.push(pair(&format!("sizeof(struct {name})"), ours));
    size("ioctl_evtchn_bind_interdomain", size_of::<evtchn::BindInterdomain>());
    size("ioctl_evtchn_bind_unbound_port", size_of::<evtchn::BindUnbound>());
    size("ioctl_evtchn_unbind", size_of::<evtchn::LocalPort>());
    size("ioctl_evtchn_notify", size_of::<evtchn::LocalPort>());
    size("ioctl_evtchn_restrict_domid", size_of::<evtchn::Restrict>());
    size("ioctl_gntdev_map_grant_ref", size_of::<gntdev::MapGrantRef>());
    size("ioctl_gntdev_unmap_grant_ref", size_of::<gntdev::UnmapGrantRef>());
    size("ioctl_gntdev_grant_copy", size_of::<gntdev::GrantCopy>());
    size("gntdev_grant_copy_segment", size_of::<gntdev::CopySegment>());
    size("ioctl_gntalloc_alloc_gref", size_of::<gntalloc::AllocGref>());
    size("ioctl_gntalloc_dealloc_gref", size_of::<gntalloc::DeallocGref>());

    let mut at = |name: &str, field: &str, ours: usize| {
        all.push(pair(&format!("offsetof(struct {name}, {field})"), ours));
    };
    at(
        "ioctl_evtchn_bind_interdomain",
        "remote_port",
        offset_of!(evtchn::BindInterdomain, remote_port),
    );
    at("ioctl_gntdev_map_grant_ref", "index", offset_of!(gntdev::MapGrantRef, index));
    at("ioctl_gntdev_map_grant_ref", "refs[0].domid", offset_of!(gntdev::MapGrantRef, domid));
    at("ioctl_gntdev_map_grant_ref", "refs[0].ref", offset_of!(gntdev::MapGrantRef, gref));
    at("ioctl_gntdev_unmap_grant_ref", "count", offset_of!(gntdev::UnmapGrantRef, count));
    at("ioctl_gntdev_grant_copy", "segments", offset_of!(gntdev::GrantCopy, segments));
    let dest = offset_of!(gntdev::CopySegment, dest);
    at("gntdev_grant_copy_segment", "source.virt", offset_of!(gntdev::CopySegment, source));
    at("gntdev_grant_copy_segment", "dest.virt", dest);
    at("gntdev_grant_copy_segment", "dest.foreign.ref", dest + offset_of!(gntdev::Foreign, gref));
    at(
        "gntdev_grant_copy_segment",
        "dest.foreign.offset",
        dest + offset_of!(gntdev::Foreign, offset),
    );
    at(
        "gntdev_grant_copy_segment",
        "dest.foreign.domid",
        dest + offset_of!(gntdev::Foreign, domid),
    );
    at("gntdev_grant_copy_segment", "len", offset_of!(gntdev::CopySegment, len));
    at("gntdev_grant_copy_segment", "flags", offset_of!(gntdev::CopySegment, flags));
    at("gntdev_grant_copy_segment", "status", offset_of!(gntdev::CopySegment, status));
    at("ioctl_gntalloc_alloc_gref", "flags", offset_of!(gntalloc::AllocGref, flags));
    at("ioctl_gntalloc_alloc_gref", "count", offset_of!(gntalloc::AllocGref, count));
    at("ioctl_gntalloc_alloc_gref", "index", offset_of!(gntalloc::AllocGref, index));
    at("ioctl_gntalloc_alloc_gref", "gref_ids", offset_of!(gntalloc::AllocGref, gref));
    at("ioctl_gntalloc_dealloc_gref", "count", offset_of!(gntalloc::DeallocGref, count));

    all.extend([
        pair("IOCTL_EVTCHN_BIND_INTERDOMAIN", evtchn::BIND_INTERDOMAIN),
        pair("IOCTL_EVTCHN_BIND_UNBOUND_PORT", evtchn::BIND_UNBOUND_PORT),
        pair("IOCTL_EVTCHN_UNBIND", evtchn::UNBIND),
        pair("IOCTL_EVTCHN_NOTIFY", evtchn::NOTIFY),
        pair("IOCTL_EVTCHN_RESET", evtchn::RESET),
        pair("IOCTL_EVTCHN_RESTRICT_DOMID", evtchn::RESTRICT_DOMID),
        pair("IOCTL_GNTDEV_MAP_GRANT_REF", gntdev::MAP_GRANT_REF),
        pair("IOCTL_GNTDEV_UNMAP_GRANT_REF", gntdev::UNMAP_GRANT_REF),
        pair("IOCTL_GNTDEV_GRANT_COPY", gntdev::GRANT_COPY),
        pair("IOCTL_GNTALLOC_ALLOC_GREF", gntalloc::ALLOC_GREF),
        pair("IOCTL_GNTALLOC_DEALLOC_GREF", gntalloc::DEALLOC_GREF),
        pair("GNTALLOC_FLAG_WRITABLE", gntalloc::WRITABLE),
        pair("GNTCOPY_source_gref", gntdev::SOURCE_GREF),
        pair("GNTCOPY_dest_gref", gntdev::DEST_GREF),
    ]);
    all
}

const XEN: [&str; 3] = ["xen/xen.h", "xen/grant_table.h", "xen/event_channel.h"];

#[test]
#[ignore = "needs the packages gcc and libxen-dev"]
fn devices_match_xens_headers() {
    let sys = ["xen/sys/evtchn.h", "xen/sys/gntdev.h", "xen/sys/gntalloc.h"];
    // The one name that differs.
    let rename =
        |it: &str| it.replace("struct gntdev_grant_copy", "struct ioctl_gntdev_grant_copy");
    let ours: Vec<_> = devices().into_iter().map(|(it, number)| (rename(&it), number)).collect();
    compare(&[&XEN[..], &sys].concat(), &ours);
}

#[test]
#[ignore = "needs the packages gcc, linux-libc-dev and libxen-dev"]
fn devices_match_linuxs_headers() {
    let linux = ["xen/evtchn.h", "xen/gntdev.h", "xen/gntalloc.h"];
    compare(&[&XEN[..], &linux].concat(), &devices());
}

#[test]
#[ignore = "needs the packages gcc and libxen-dev"]
fn xenstore_states_and_codes_match_xens_headers() {
    let message = |(name, kind): (&str, Kind)| pair(&format!("XS_{name}"), kind.code());
    let mut ours: Vec<_> = [
        ("DIRECTORY", Kind::Directory),
        ("READ", Kind::Read),
        ("GET_PERMS", Kind::GetPerms),
        ("WATCH", Kind::Watch),
        ("UNWATCH", Kind::Unwatch),
        ("TRANSACTION_START", Kind::TransactionStart),
        ("TRANSACTION_END", Kind::TransactionEnd),
        ("GET_DOMAIN_PATH", Kind::GetDomainPath),
        ("WRITE", Kind::Write),
        ("MKDIR", Kind::Mkdir),
        ("RM", Kind::Rm),
        ("SET_PERMS", Kind::SetPerms),
        ("WATCH_EVENT", Kind::WatchEvent),
        ("ERROR", Kind::Error),
        ("RESET_WATCHES", Kind::ResetWatches),
        ("DIRECTORY_PART", Kind::DirectoryPart),
    ]
    .into_iter()
    .map(message)
    .collect();
    assert_eq!(ours.len(), Kind::ALL.len());
    ours.extend(
        State::ALL.map(|state| pair(&format!("XenbusState{}", state.name()), state.code())),
    );
    ours.extend(status::NAMES.map(|(code, name)| pair(&format!("GNTST_{name}"), code)));
    ours.extend([
        pair("sizeof(struct xsd_sockmsg)", HEADER_BYTES),
        pair("XENSTORE_PAYLOAD_MAX", MAX_PAYLOAD),
        pair("XENSTORE_ABS_PATH_MAX", MAX_PATH),
        pair("offsetof(struct xsd_sockmsg, req_id)", 4),
        pair("offsetof(struct xsd_sockmsg, tx_id)", 8),
        pair("offsetof(struct xsd_sockmsg, len)", 12),
        pair("DOMID_FIRST_RESERVED - 1", DomId::MAX.get()),
    ]);
    compare(&[&XEN[..], &["xen/io/xs_wire.h", "xen/io/xenbus.h"]].concat(), &ours);
}
