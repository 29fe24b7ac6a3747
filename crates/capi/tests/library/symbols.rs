//! What the shared library exports.

use std::collections::BTreeSet;

use vusb_rig::command::run;

use super::{capi, installed};

/// The functions of the version script.
fn mapped() -> BTreeSet<String> {
    let map = std::fs::read_to_string(capi().join("libvusb.map")).unwrap();
    let names = map.lines().filter_map(|line| line.trim().strip_suffix(';'));
    names.filter(|it| it.starts_with("vusb_")).map(str::to_owned).collect()
}

#[test]
fn only_the_functions_are_exported_and_each_has_a_version() {
    let library = installed().join("lib/libvusb.so.0");
    let args = ["-D", "--defined-only", "--with-symbol-versions"].map(str::to_owned);
    let text = run("nm", &[&args[..], &[library.display().to_string()]].concat()).unwrap();
    let symbols = text.lines().filter_map(|line| line.split_whitespace().nth(2));
    let expected = mapped().iter().map(|it| format!("{it}@@VUSB_0.1")).collect::<BTreeSet<_>>();
    let is_version = |it: &&str| *it != "VUSB_0.1" && *it != "VUSB_0.1@@VUSB_0.1";
    let found: BTreeSet<String> = symbols.filter(is_version).map(str::to_owned).collect();
    assert_eq!(found, expected);
    let dynamic = run("readelf", &["-d", &library.display().to_string()]).unwrap();
    assert!(dynamic.contains("Library soname: [libvusb.so.0]"), "{dynamic}");
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    for line in needed {
        let known = ["libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux"];
        assert!(known.iter().any(|it| line.contains(it)), "{line}");
    }
}

/// The functions of the version script are those of the header and of the sources.
#[test]
fn the_version_script_is_complete() {
    let header = super::header::prototypes();
    assert_eq!(header.keys().cloned().collect::<BTreeSet<_>>(), mapped());
    assert_eq!(super::header::functions().keys().cloned().collect::<BTreeSet<_>>(), mapped());
}
