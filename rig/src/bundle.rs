//! Programs of this machine with everything that they need in a guest that only has busybox: shared
//! libraries, and for QEMU its plug-ins and firmware, all at the same paths as on this machine.
//! QEMU locates its files relative to its program, so `/usr/bin/qemu-system-x86_64` finds
//! `/usr/share/seabios` in the guest as well.

use crate::cache::Cache;
use crate::command::run;
use crate::error::{Error, Result};
use crate::packages;
use crate::process::Qemu;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Files by their path in the guest.
pub type Files = BTreeMap<String, PathBuf>;

/// The path of QEMU in the guest.
pub const QEMU_IN_GUEST: &str = "/usr/bin/qemu-system-x86_64";

/// Plug-ins: software emulation, and USB devices of the host. Some builds of QEMU have them built
/// in.
const PLUGINS: [&str; 2] = ["accel-tcg-x86_64.so", "hw-usb-host.so"];
const PLUGIN_DIR: &str = "/usr/lib/x86_64-linux-gnu/qemu";

/// Firmware for booting with `-kernel`, without display or network card, on `pc` and `q35`.
const FIRMWARE: [&str; 4] = ["bios-256k.bin", "kvmvapic.bin", "pvh.bin", "linuxboot_dma.bin"];
const FIRMWARE_DIRS: [&str; 2] = ["/usr/share/seabios", "/usr/share/qemu"];

/// A program at the path `guest`, with its shared libraries.
///
/// # Errors
/// [`Error::Command`] if its libraries cannot be listed.
pub fn program(guest: &str, host: &Path) -> Result<Files> {
    let mut files = libraries(host)?;
    files.insert(guest.to_owned(), host.to_path_buf());
    Ok(files)
}

/// QEMU with everything that it needs to boot a guest and to pass USB devices through.
///
/// # Errors
/// [`Error::Unusable`] if firmware is missing, or as [`program`].
pub fn qemu(qemu: &Qemu) -> Result<Files> {
    let mut files = program(QEMU_IN_GUEST, &locate(qemu.program())?)?;
    for plugin in PLUGINS {
        let path = Path::new(PLUGIN_DIR).join(plugin);
        if path.exists() {
            files.extend(program(&path.to_string_lossy(), &path)?);
        }
    }
    for name in FIRMWARE {
        let mut candidates = FIRMWARE_DIRS.iter().map(|dir| Path::new(dir).join(name));
        let path = candidates.find(|path| path.exists()).ok_or_else(|| {
            Error::Unusable(format!("QEMU's {name} is missing in {}", FIRMWARE_DIRS.join(", ")))
        })?;
        files.insert(path.to_string_lossy().into_owned(), path);
    }
    Ok(files)
}

/// The path of systemd's udev daemon in the guest.
pub const UDEVD_IN_GUEST: &str = "/usr/lib/systemd/systemd-udevd";

/// The udev daemon from Debian's package. It is the only source of hotplug events for libusb, and
/// so for QEMU. It runs without rules, because it only has to forward the kernel's events.
///
/// # Errors
/// [`Error::Unusable`] if the package does not contain it; as [`packages::unpack`] and [`program`].
pub fn udevd(cache: &Cache) -> Result<Files> {
    let dir = cache.entry("udev", |half| {
        fs::create_dir(half).map_err(Error::io("make the folder", half))?;
        packages::unpack("udev", half).map(drop)
    })?;
    let mut candidates =
        ["root/usr/bin/udevadm", "root/bin/udevadm"].map(|path| dir.join(path)).into_iter();
    let udevadm = candidates.find(|path| path.exists()).ok_or_else(|| {
        Error::Unusable(
            "the package udev does not contain udevadm where Debian 12 and 13 have it".to_owned(),
        )
    })?;
    program(UDEVD_IN_GUEST, &udevadm)
}

/// The configuration of the ALSA library, which cannot open a sound card without it.
const SOUND_FILES: [&str; 2] = ["/usr/share/alsa/alsa.conf", "/usr/share/alsa/cards/aliases.conf"];

/// `aplay` at `/bin/aplay`: plays on a sound card and reports underruns.
///
/// # Errors
/// As [`packages::unpack`] and [`program`].
pub fn aplay(cache: &Cache) -> Result<Files> {
    packages::ensure_all(&["libasound2"])?;
    let dir = cache.entry("alsa-utils", |half| {
        fs::create_dir(half).map_err(Error::io("make the folder", half))?;
        packages::unpack("alsa-utils", half).map(drop)
    })?;
    let mut files = program("/bin/aplay", &dir.join("root/usr/bin/aplay"))?;
    files.extend(SOUND_FILES.map(|path| (path.to_owned(), PathBuf::from(path))));
    Ok(files)
}

/// Looks up a program in PATH if it is given without a directory.
fn locate(program: &Path) -> Result<PathBuf> {
    if program.components().count() > 1 {
        return Ok(program.to_path_buf());
    }
    let variable = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&variable).map(|dir| dir.join(program));
    candidates
        .find(|path| path.exists())
        .ok_or_else(|| Error::Unusable(format!("{} is not in PATH", program.display())))
}

/// The shared libraries of a program, and the dynamic loader. Empty for a static program.
fn libraries(program: &Path) -> Result<Files> {
    match run("ldd", &[program]) {
        Ok(text) => Ok(parse_ldd(&text)),
        Err(Error::Command { output, .. }) if output.contains("not a dynamic executable") => {
            Ok(Files::new())
        }
        Err(error) => Err(error),
    }
}

/// Parses the output of ldd: lines like `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f...)`,
/// without an arrow for the loader.
fn parse_ldd(text: &str) -> Files {
    let paths = text.lines().filter_map(|line| {
        let line = line.rsplit(" => ").next().unwrap_or(line).trim();
        let path = line.split(" (").next().unwrap_or(line);
        path.starts_with('/').then(|| (path.to_owned(), PathBuf::from(path)))
    });
    paths.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_parsed_from_the_output_of_ldd() {
        let output = "\tlinux-vdso.so.1 (0x00007fb84df57000)\n\
            \tlibusb-1.0.so.0 => /lib/x86_64-linux-gnu/libusb-1.0.so.0 (0x00007fb84df19000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007fb84df59000)\n";
        let files = parse_ldd(output);
        let paths: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(paths, ["/lib/x86_64-linux-gnu/libusb-1.0.so.0", "/lib64/ld-linux-x86-64.so.2"]);
    }
}
