//! Compares the ABI with that of the last version, `abi/libvusb.so.0.abi`.
//!
//! `abidiff` compares libraries by their debug information, which describes Rust's types in the
//! real library. So it is given a library that is compiled in C from the functions of the header.
//! The other tests compare the header with the real library.

use std::path::{Path, PathBuf};
use std::process::Command;

use vusb_rig::command::run;
use vusb_rig::packages::ensure_all;

use super::capi;
use super::header::{declarations, text};

/// Compiles a library with the functions of a header. The functions do nothing.
fn stub(header: &str, dir: &Path) -> PathBuf {
    std::fs::write(dir.join("vusb.h"), header).unwrap();
    let declarations = declarations(header);
    let bodies = declarations.iter().map(|it| format!("{it} {{ __builtin_trap(); }}\n"));
    let source = format!("#include \"vusb.h\"\n{}", bodies.collect::<String>());
    std::fs::write(dir.join("stub.c"), source).unwrap();
    let (library, map) = (dir.join("libvusb.so.0"), capi().join("libvusb.map"));
    let mut args =
        ["-shared", "-fPIC", "-g", "-Wl,-soname,libvusb.so.0", "-o"].map(str::to_owned).to_vec();
    args.push(library.display().to_string());
    args.push(format!("-Wl,--version-script={}", map.display()));
    args.push(dir.join("stub.c").display().to_string());
    run("cc", &args).unwrap();
    library
}

/// Compares a header with the last version: the exit code of `abidiff`, and its report.
fn compare(header: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let library = stub(header, dir.path());
    let mut command = Command::new("abidiff");
    command.args([capi().join("abi/libvusb.so.0.abi"), library]);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// After adding a function, regenerate the file with `abidw --no-show-locs --no-comp-dir-path
/// --no-corpus-path`.
#[test]
#[ignore = "needs abigail-tools; run by cargo xtask test"]
fn the_abi_is_unchanged_since_the_last_version() {
    ensure_all(&["abigail-tools"]).unwrap();
    let header = text();
    let (code, report) = compare(&header);
    assert_eq!(code, Some(0), "{report}");

    // In the exit code, bit 2 says that the ABI has changed, and bit 3 that the change certainly
    // breaks programs (abidiff(1)).
    let wider = header.replace("    int numports;", "    long numports;");
    let (code, report) = compare(&wider);
    assert!(code.is_some_and(|it| it & 4 != 0) && report.contains("numports"), "{code:?} {report}");
    let without = header.replace("const char *vusb_version(void);", "");
    let (code, report) = compare(&without);
    assert!(
        code.is_some_and(|it| it & 8 != 0) && report.contains("vusb_version"),
        "{code:?} {report}"
    );
}
