//! The module for Python and the program in Go, on a simulated hypervisor.

use std::path::Path;
use std::process::Command;

use vusb_rig::command::finish;
use vusb_rig::packages::ensure_all;

use super::{capi, installed};

#[test]
#[ignore = "needs Python; run by cargo xtask test"]
fn the_python_module_works() {
    ensure_all(&["python3"]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-I", "-X", "pycache_prefix=/nonexistent"]);
    command.arg(capi().join("bindings/python/test_vusb.py"));
    command.arg(installed().join("lib/libvusb.so.0")).arg(dir.path());
    assert_eq!(finish(command).unwrap(), "ok\n");
}

#[test]
#[ignore = "needs mypy; run by cargo xtask test"]
fn the_type_annotations_of_the_python_module_pass_mypy() {
    ensure_all(&["mypy"]).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut command = Command::new("/usr/bin/mypy");
    command.args(["--strict", "--cache-dir"]).arg(cache.path());
    command.args(["vusb.py", "test_vusb.py"]).current_dir(capi().join("bindings/python"));
    finish(command).unwrap();
}

#[test]
#[ignore = "needs Go; run by cargo xtask test"]
fn the_go_program_works() {
    ensure_all(&["golang-go", "pkgconf"]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = installed();
    let go = |words: &[&str], more: &[&Path]| {
        let mut command = Command::new("go");
        command.args(words).args(more).current_dir(capi().join("bindings/go"));
        command.env("GOCACHE", dir.path().join("cache")).env("GOFLAGS", "-mod=mod");
        command.env("GOPROXY", "off").env("GOPATH", dir.path().join("path"));
        command.env("PKG_CONFIG_PATH", out.join("lib/pkgconfig"));
        command.env("LD_LIBRARY_PATH", out.join("lib"));
        finish(command).unwrap()
    };
    go(&["vet", "./..."], &[]);
    let text = go(&["run", "./tablet"], &[dir.path()]);
    assert_eq!(text, "hci0 qemu-xhci 15\nhci0:1 tablet attached\nnot found: 3\n");
}
