//! The library as programs in C use it: the installed header, pkg-config file and shared library.

#![allow(unsafe_code, reason = "the tests call the functions of the C interface")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod abi;
mod bindings;
mod header;
mod programs;
mod symbols;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use vusb_rig::command::{finish, run};
use vusb_rig::libvusb::{Layout, install};

/// The folder of the crate.
fn capi() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Builds and installs the library once for all tests. Returns the folder that serves as its
/// prefix.
fn installed() -> &'static Path {
    static OUT: OnceLock<PathBuf> = OnceLock::new();
    OUT.get_or_init(|| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.args(["build", "--quiet", "--package", "vusb-capi", "--lib"]).current_dir(capi());
        finish(command).unwrap();
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let archive = tmp.parent().unwrap().join("debug/libvusb_capi.a");
        let out = tmp.join("libvusb");
        let prefix = out.display().to_string();
        let layout = Layout { prefix: &prefix, libdir: "lib", strip: false };
        install(capi(), &archive, env!("CARGO_PKG_VERSION"), &layout, &out).unwrap();
        out
    })
}

/// The output of pkg-config for the library, as words.
fn pkg_config(args: &[&str]) -> Vec<String> {
    vusb_rig::packages::ensure_all(&["pkgconf"]).unwrap();
    let mut command = Command::new("pkg-config");
    command.args(args).arg("vusb");
    command.env("PKG_CONFIG_PATH", installed().join("lib/pkgconfig"));
    finish(command).unwrap().split_whitespace().map(str::to_owned).collect()
}

/// A compiler and its arguments, which select the language.
#[derive(Clone, Copy)]
struct Compiler<'a> {
    program: &'a str,
    args: &'a [&'a str],
}

const C11: Compiler<'_> = Compiler { program: "cc", args: &["-std=c11"] };
const CXX17: Compiler<'_> =
    Compiler { program: "g++", args: &["-std=c++17", "-x", "c++", "-Wno-old-style-cast"] };

const STRICT: [&str; 5] = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread"];

/// Compiles a program. At run time it finds the library where it was linked.
fn compile(compiler: Compiler<'_>, source: &Path, out: &Path, flags: &[String]) {
    let mut args: Vec<String> = compiler.args.iter().map(|it| (*it).to_owned()).collect();
    args.extend(STRICT.map(str::to_owned));
    args.extend([source.display().to_string(), "-o".into(), out.display().to_string()]);
    // Libraries are not sources: `-x c++` does not apply to them.
    args.extend(["-x", "none"].map(str::to_owned));
    args.extend(flags.iter().cloned());
    args.push(format!("-Wl,-rpath,{}", installed().join("lib").display()));
    run(compiler.program, &args).unwrap();
}
