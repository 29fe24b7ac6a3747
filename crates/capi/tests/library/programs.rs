//! Compiles and runs the programs in C: the tests in `tests/c`, the example and the adapters.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use vusb_rig::Guest;
use vusb_rig::command::run;
use vusb_rig::packages::ensure_all;

use super::{C11, CXX17, Compiler, capi, compile, installed};

const PROGRAMS: [&str; 4] = ["verbs", "misuse", "threads", "watch"];

/// Flags for the compiler without pkg-config, so that the fast tests only need a C compiler.
fn plain_flags() -> Vec<String> {
    let out = installed();
    vec![
        format!("-I{}", out.join("include").display()),
        format!("-L{}", out.join("lib").display()),
        "-lvusb".to_owned(),
    ]
}

fn source(name: &str) -> PathBuf {
    capi().join(format!("tests/c/{name}.c"))
}

/// Plugs a stick into the simulated machine whose root directory is `root`, at bus 1, address 4.
fn plug_in(root: &Path) {
    let device = "devices/pci0000:00/0000:00:14.0/usb1/1-1";
    let sys = root.join("sys");
    std::fs::create_dir_all(sys.join(device)).unwrap();
    std::fs::create_dir_all(sys.join("bus/usb/devices")).unwrap();
    for (name, text) in [
        ("busnum", "1"),
        ("devnum", "4"),
        ("idVendor", "0781"),
        ("idProduct", "5581"),
        ("speed", "480"),
        ("bDeviceClass", "00"),
    ] {
        std::fs::write(sys.join(device).join(name), format!("{text}\n")).unwrap();
    }
    let link = sys.join("bus/usb/devices/1-1");
    std::os::unix::fs::symlink(format!("../../../{device}"), link).unwrap();
}

/// Runs a program with a new folder as its argument, which is also the root of a machine with a
/// stick. The program must succeed and print nothing.
fn run_quietly(command: &mut Command, name: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("guests")).unwrap();
    plug_in(dir.path());
    let output = command.arg(dir.path()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{out}{error}", output.status);
    assert_eq!((out.as_str(), error.as_str()), ("", ""), "{name}");
}

fn run_all(compiler: Compiler<'_>, flags: &[String], wrapper: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    for name in PROGRAMS {
        let program = dir.path().join(name);
        compile(compiler, &source(name), &program, flags);
        let mut words = wrapper.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        words.push(program.display().to_string());
        let (first, others) = words.split_first().unwrap();
        run_quietly(Command::new(first).args(others), name);
    }
}

#[test]
fn programs_in_c_work_and_the_library_prints_nothing() {
    run_all(C11, &plain_flags(), &[]);
}

#[test]
#[ignore = "needs g++; run by cargo xtask test"]
fn programs_in_cxx_work() {
    ensure_all(&["g++"]).unwrap();
    run_all(CXX17, &plain_flags(), &[]);
}

#[test]
#[ignore = "needs pkg-config; run by cargo xtask test"]
fn pkg_config_has_the_flags_and_the_static_library_works() {
    run_all(C11, &super::pkg_config(&["--cflags", "--libs"]), &[]);
    let mut flags = super::pkg_config(&["--cflags"]);
    flags.push(installed().join("lib/libvusb.a").display().to_string());
    let static_flags = super::pkg_config(&["--libs", "--static"]);
    flags.extend(static_flags.into_iter().filter(|it| it.starts_with("-l") && it != "-lvusb"));
    run_all(C11, &flags, &[]);
}

/// Checks the memory that the library returns, and how it uses the caller's memory.
#[test]
#[ignore = "slow; run by cargo xtask test"]
fn address_sanitizer_finds_nothing() {
    let mut flags = plain_flags();
    flags.extend(["-fsanitize=address,undefined", "-g"].map(str::to_owned));
    run_all(C11, &flags, &[]);
}

#[test]
#[ignore = "needs valgrind; run by cargo xtask test"]
fn valgrind_finds_nothing() {
    ensure_all(&["valgrind", "libc6-dbg"]).unwrap();
    let wrapper = ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full"];
    let kinds =
        ["--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect"];
    run_all(C11, &plain_flags(), &[&wrapper[..], &kinds].concat());
}

/// The example gives a real guest a controller and a stick, and its kernel sees both.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn sixty_lines_of_c_give_a_guest_a_stick() {
    let example = capi().join("examples/stick.c");
    let lines = std::fs::read_to_string(&example).unwrap().lines().count();
    assert!(lines <= 60, "{lines} lines");
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("stick");
    compile(C11, &example, &program, &plain_flags());
    let image = dir.path().join("stick.img");
    std::fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let guest = Guest::builder().start().unwrap();
    guest.wait_booted(Duration::from_secs(180)).unwrap();
    let domain = format!("qemu:{}", guest.qmp_socket().display());
    let state = dir.path().join("state");
    let stick = |words: &[&Path]| {
        let output = Command::new(&program).args(words).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
    };
    let words = [Path::new(&domain), image.as_path(), state.as_path()];
    let (code, text) = stick(&words);
    assert_eq!((code, text.as_str()), (Some(0), "hci0 (nec-xhci, 4 ports)\nhci0:1\n"));
    guest.wait_until("[ -b /dev/sda ]", Duration::from_secs(120)).unwrap();
    let size = guest.sh("cat /sys/block/sda/size", Duration::from_secs(30)).unwrap().ok().unwrap();
    assert_eq!(size.trim(), "2048");
    // A second run finds the stick already attached.
    assert_eq!(stick(&words), (Some(0), text));
    let (code, text) = stick(&[Path::new("qemu:/nosuch.qmp"), &image, &state]);
    assert_eq!(code, Some(7), "{text}");
}

/// Compiles an adapter together with its test, with these flags. Returns the program.
fn adapter(name: &str, flags: &[String], dir: &Path) -> PathBuf {
    let program = dir.join(name);
    let mut all = plain_flags();
    let adapter = capi().join(format!("examples/adapters/vusb_{name}.c"));
    all.insert(0, adapter.display().to_string());
    all.extend(flags.iter().cloned());
    compile(C11, &source(name), &program, &all);
    program
}

/// The adapter logs what libxl would log.
#[test]
#[ignore = "needs Xen's headers; run by cargo xtask test"]
fn the_adapter_with_the_signatures_of_libxl_works() {
    ensure_all(&["libxen-dev"]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let flags = ["-fsanitize=address,undefined", "-lxenlight"].map(str::to_owned);
    let program = adapter("libxl", &flags, dir.path());
    plug_in(dir.path());
    let output = Command::new(program).arg(dir.path()).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}\n{log}", output.status);
    assert!(log.lines().all(|line| line.starts_with("libvusb: error: usb")), "{log}");
    assert!(log.contains("usbdev_add: "), "{log}");
}

#[test]
#[ignore = "needs the libvirt headers; run by cargo xtask test"]
fn the_adapter_for_the_xml_of_libvirt_works() {
    ensure_all(&["libvirt-dev", "libxml2-dev", "pkgconf"]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let libxml = run("pkg-config", &["--cflags", "--libs", "libxml-2.0"]).unwrap();
    let mut flags: Vec<String> = libxml.split_whitespace().map(str::to_owned).collect();
    flags.push("-fsanitize=address,undefined".to_owned());
    let program = adapter("libvirt", &flags, dir.path());
    run_quietly(&mut Command::new(program), "libvirt");
}
