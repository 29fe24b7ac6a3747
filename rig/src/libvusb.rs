//! libvusb as it is installed: the shared library, linked from Rust's static one, with its header
//! and its pkg-config file. `cargo xtask capi` and the tests of `vusb-capi` use it.
//!
//! ```text
//!   libvusb_capi.a ─▶ cc -shared, version script ─▶ lib/libvusb.so.0.1.0 ◀─ libvusb.so.0 ◀─ libvusb.so
//!   include/vusb.h, vusb.pc.in ──────────────────▶ include/vusb.h, lib/pkgconfig/vusb.pc
//! ```
//!
//! A cdylib of Rust cannot have symbol versions: rustc passes a version script of its own to the
//! linker.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::command::run;
use crate::error::{Error, Result};

/// The major version of the ABI. It changes if programs that are already linked no longer work.
pub const ABI: &str = "0";

/// What the static library needs of the system: `rustc --print native-static-libs`.
const NATIVE: [&str; 7] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

/// Where the library is installed.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    /// The prefix in the pkg-config file: `/usr`.
    pub prefix: &'a str,
    /// The folder of the libraries below the prefix: `lib`.
    pub libdir: &'a str,
    /// Whether symbols that only a debugger needs are left out.
    pub strip: bool,
}

/// Links the library and writes all files below `out`, which stands for the prefix. `capi` is the
/// folder of the crate, `archive` the static library, and `version` the version of both.
///
/// # Errors
/// [`Error::Command`] if it cannot be linked, [`Error::Io`].
pub fn install(
    capi: &Path,
    archive: &Path,
    version: &str,
    layout: &Layout<'_>,
    out: &Path,
) -> Result<()> {
    let lib = out.join(layout.libdir);
    let (pkgconfig, include) = (lib.join("pkgconfig"), out.join("include"));
    for folder in [&pkgconfig, &include] {
        fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    }
    copy(&capi.join("include/vusb.h"), &include.join("vusb.h"))?;
    copy(archive, &lib.join("libvusb.a"))?;
    link(capi, archive, version, layout.strip, &lib)?;
    let template = capi.join("vusb.pc.in");
    let text = fs::read_to_string(&template).map_err(Error::io("read", &template))?;
    let text = text
        .replace("@prefix@", layout.prefix)
        .replace("@libdir@", &format!("${{prefix}}/{}", layout.libdir))
        .replace("@version@", version)
        .replace("@private@", &NATIVE.join(" "));
    let path = pkgconfig.join("vusb.pc");
    fs::write(&path, text).map_err(Error::io("write", &path))
}

fn link(capi: &Path, archive: &Path, version: &str, strip: bool, lib: &Path) -> Result<()> {
    let soname = format!("libvusb.so.{ABI}");
    let file = format!("libvusb.so.{version}");
    let mut args = vec![
        "-shared".to_owned(),
        "-o".to_owned(),
        lib.join(&file).display().to_string(),
        format!("-Wl,-soname,{soname}"),
        format!("-Wl,--version-script={}", capi.join("libvusb.map").display()),
        "-Wl,--gc-sections,-z,relro,-z,now,-z,defs,--build-id".to_owned(),
        "-Wl,--whole-archive".to_owned(),
        archive.display().to_string(),
        "-Wl,--no-whole-archive".to_owned(),
    ];
    args.extend(NATIVE.map(str::to_owned));
    args.extend(strip.then(|| "-s".to_owned()));
    run("cc", &args)?;
    // Debian requires that a library is not executable.
    let path = lib.join(&file);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
        .map_err(Error::io("change the mode of", &path))?;
    for (name, target) in [(soname.as_str(), file.as_str()), ("libvusb.so", soname.as_str())] {
        let path = lib.join(name);
        let _ = fs::remove_file(&path);
        symlink(target, &path).map_err(Error::io("create the link", &path))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).map_err(Error::io("copy", from))
}
