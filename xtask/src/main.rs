//! `cargo xtask`: tests, checks, benchmarks, packages and the demonstration, from a fresh clone on
//! a Debian machine with Rust. Missing packages of Debian are installed.

#![forbid(unsafe_code)]

mod attack;
mod bench;
mod cargo;
mod demo;
mod deny;
mod dist;
mod msrv;
mod mutants;
mod record;
mod test;
mod tools;

use std::path::Path;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  demo    give a real guest USB controllers and devices, and show what its kernel sees; demo xen: a Xen guest
  test    run all tests: first the fast ones, then those with real QEMUs and real guests
          --without-hardware-guests: not those with Xen PVH and HVM guests, which take long to boot in emulation
  soak    attach a device to a real Xen guest a thousand times and check for leftovers; takes 45 minutes
  endure  replug real devices 200 times, kill vusbd 160 times, and let storms of notifications loose on it, and print
          the figures; endure WORD...: only tests with one of these words in their names; takes an hour
  mutants introduce faults and count those that the fast tests detect; mutants AREA [COUNT]: only one area, this many faults
  record  record the replies of real QEMUs for the fast tests; record WORD: only scenarios with WORD in their names
  attack  kill vusb at every system call, and try it with disk errors, races, hostile monitors and mutated inputs;
          attack PART...: only these; --short; --write: into docs/reliability.md; --vusb=PATH: attack this build
  bench   run all benchmarks; bench NAME...: only these of resolve, claims, command, xen;
          bench xen --icount: with a clock that counts instructions, whose results do not depend on other work
  capi --out DIR
          build libvusb into DIR: include/vusb.h, lib/libvusb.so and libvusb.a, lib/pkgconfig/vusb.pc;
          --packages: also the packages libvusb0 and libvusb-dev
  dist    build Debian packages, libvusb, a static vusb in a tarball, and checksums; --out DIR: into DIR, by default target/dist/out;
          --twice: build them in two folders and compare the bytes
  dist-test
          build the packages, and install, upgrade and purge them in trees of Debian 12 and 13; needs root
  msrv    check that the workspace compiles with the oldest supported Rust version, taken from Debian
  deny    check the licences and sources of all dependencies with cargo-deny

Missing Debian packages are installed with apt-get, as root or through sudo; their names are printed first.
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo"] => demo::run(),
        ["demo", "xen"] => demo::xen::run(),
        ["test"] => test::run(true),
        ["test", "--without-hardware-guests"] => test::run(false),
        ["soak"] => test::soak(),
        ["endure", words @ ..] => test::endure(words),
        ["capi", "--out", dir] => dist::libvusb::install_into(Path::new(dir), false),
        ["capi", "--out", dir, "--packages"] => dist::libvusb::install_into(Path::new(dir), true),
        ["dist"] => dist::dist(&dist::Request::Build(dist::default_out())),
        ["dist", "--out", dir] => dist::dist(&dist::Request::Build(dir.into())),
        ["dist", "--twice"] => dist::dist(&dist::Request::Twice),
        ["dist-test"] => dist::test::run_all(),
        ["msrv"] => msrv::check(),
        ["deny"] => deny::check(),
        ["mutants", words @ ..] => mutants::run(words),
        ["record"] => record::run(""),
        ["record", name] => record::run(name),
        ["attack", words @ ..] => attack::run(words),
        ["bench", names @ ..] => bench::run(names),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
