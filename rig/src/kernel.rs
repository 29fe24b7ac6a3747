//! Debian's kernel for guests: downloaded and unpacked into the cache, never installed.
//!
//! The package contains a bzImage, whose payload is compressed with xz. Decompression takes 2.6 s
//! of the 6 s that a guest needs to boot under emulation, so it is done here once. QEMU starts the
//! uncompressed ELF kernel through its PVH entry point, which Debian enables (`CONFIG_PVH`).

use crate::cache::Cache;
use crate::command::run;
use crate::error::{Error, Result};
use crate::packages;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The package that depends on the newest kernel. Not the cloud flavour, which has no USB.
const METAPACKAGE: &str = "linux-image-amd64";

/// A kernel for guests.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The output of `uname -r` in the guest.
    pub release: String,
    /// The file for QEMU's `-kernel`.
    pub image: PathBuf,
    /// The directory that contains `modules.dep`.
    pub modules: PathBuf,
}

impl Kernel {
    /// The kernel from the cache. Downloaded if the cache does not contain it.
    ///
    /// # Errors
    /// [`Error::Command`] if downloading or unpacking fails, [`Error::Unusable`] if the package is
    /// not as expected.
    pub fn fetch(cache: &Cache) -> Result<Self> {
        let dir = cache.entry("kernel", unpack)?;
        let release = release(&dir)?;
        let modules = dir.join("root/lib/modules").join(&release);
        Ok(Self { image: dir.join("vmlinux"), modules, release })
    }

    /// The bzImage of the package.
    pub fn packed(&self) -> PathBuf {
        self.image.with_file_name("root").join("boot").join(format!("vmlinuz-{}", self.release))
    }
}

/// Downloads the kernel and unpacks it into `dir`: the package as `root/`, and `vmlinux`.
fn unpack(dir: &Path) -> Result<()> {
    fs::create_dir(dir).map_err(Error::io("make the folder", dir))?;
    let package = concrete_package()?;
    let root = packages::unpack(&package, dir)?;
    // Debian 12 has lib/modules, Debian 13 usr/lib/modules. depmod expects the former.
    if !root.join("lib").exists() {
        let link = root.join("lib");
        std::os::unix::fs::symlink("usr/lib", &link).map_err(Error::io("link", &link))?;
    }
    let release = release(dir)?;
    run("depmod", &["-b".as_ref(), root.as_os_str(), release.as_ref()])?;
    let vmlinuz = root.join("boot").join(format!("vmlinuz-{release}"));
    extract(&vmlinuz, &dir.join("vmlinux"))
}

/// The package that the metapackage depends on, like `linux-image-6.1.0-56-amd64`.
fn concrete_package() -> Result<String> {
    // The mirror still has the kernel of an outdated list, but the next list no longer has its
    // headers, which a module for Xen's guests is built with.
    packages::update_lists()?;
    let depends = run("apt-cache", &["depends", METAPACKAGE]).ok();
    depends.and_then(|text| first_image(&text)).ok_or_else(|| {
        Error::Unusable(format!(
            "{METAPACKAGE} does not depend on a kernel; the rig needs Debian 12 or 13 on amd64"
        ))
    })
}

/// The first kernel package in the output of `apt-cache depends`.
fn first_image(depends: &str) -> Option<String> {
    let mut names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.find(|name| name.starts_with("linux-image-")).map(str::to_owned)
}

/// The kernel's release: the name of the only directory in `lib/modules`.
fn release(dir: &Path) -> Result<String> {
    let path = only_entry(&dir.join("root/lib/modules"), |_| true)?;
    Ok(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// The only entry of a directory whose name passes the test.
fn only_entry(dir: &Path, test: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).map_err(Error::io("read the folder", dir))?;
    let mut found = entries
        .filter_map(std::result::Result::ok)
        .filter(|e| test(&e.file_name().to_string_lossy()))
        .map(|e| e.path());
    match (found.next(), found.next()) {
        (Some(path), None) => Ok(path),
        (None, _) => Err(Error::Unusable(format!("{} does not contain a kernel", dir.display()))),
        _ => Err(Error::Unusable(format!("{} contains more than one kernel", dir.display()))),
    }
}

/// Writes the ELF kernel inside a bzImage to `to`. If its compression is unknown, links the bzImage
/// itself, which boots more slowly.
fn extract(vmlinuz: &Path, to: &Path) -> Result<()> {
    let image = fs::read(vmlinuz).map_err(Error::io("read", vmlinuz))?;
    let unpacked = payload(&image).and_then(|p| Some((decompressor(p)?, p)));
    let Some((program, data)) = unpacked else {
        return fs::hard_link(vmlinuz, to).map_err(Error::io("link", to));
    };
    let packed = to.with_extension("packed");
    fs::write(&packed, data).map_err(Error::io("write", &packed))?;
    let input = File::open(&packed).map_err(Error::io("open", &packed))?;
    let output = File::create(to).map_err(Error::io("create", to))?;
    let mut unpack = Command::new(program);
    unpack.arg("-dc").stdin(input).stdout(output).stderr(Stdio::null());
    let status = unpack.status().map_err(Error::io("unpack", &packed))?;
    fs::remove_file(&packed).map_err(Error::io("remove", &packed))?;
    let unpacked = fs::metadata(to).map_err(Error::io("read", to))?.len();
    if !status.success() || unpacked == 0 {
        let reason = format!("{program} could not unpack {}: {status}", vmlinuz.display());
        return Err(Error::Unusable(reason));
    }
    Ok(())
}

/// The compressed kernel inside a bzImage. Fields of the setup header are in the kernel's
/// Documentation/arch/x86/boot.rst: `setup_sects` at 0x1f1, `payload_offset` and `payload_length`
/// at 0x248 and 0x24c, counted from the end of the setup sectors.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    // 0 means 4 for historical reasons.
    let sectors = match usize::from(*image.get(0x1f1)?) {
        0 => 4,
        n => n,
    };
    let start = (sectors + 1) * 512 + word(0x248)?;
    let data = image.get(start..start.checked_add(word(0x24c)?)?)?;
    // The uncompressed length is appended, except for gzip, whose format already ends with it.
    if data.starts_with(GZIP) { Some(data) } else { data.get(..data.len().checked_sub(4)?) }
}

const GZIP: &[u8] = &[0x1f, 0x8b];
const XZ: &[u8] = b"\xfd7zXZ\0";
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The program that decompresses data with this magic number.
fn decompressor(data: &[u8]) -> Option<&'static str> {
    let known = [(GZIP, "gzip"), (XZ, "xz"), (ZSTD, "zstd")];
    known.into_iter().find(|(magic, _)| data.starts_with(magic)).map(|(_, program)| program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metapackage_depends_on_a_kernel() {
        let output = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n";
        assert_eq!(first_image(output).as_deref(), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(first_image("linux-image-amd64\n"), None);
    }

    #[test]
    fn the_payload_of_a_bzimage_is_found_by_its_header() {
        let mut image = vec![0u8; 0x400];
        image[0x1f1] = 1;
        image[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
        let body = [XZ, b"kernel", &[6, 0, 0, 0]].concat();
        image[0x24c..0x250].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        image.extend([0; 16]);
        image.extend(&body);
        assert_eq!(payload(&image), Some([XZ, b"kernel"].concat().as_slice()));
        assert_eq!(decompressor(payload(&image).unwrap()), Some("xz"));
    }

    #[test]
    fn other_files_have_no_payload() {
        assert_eq!(payload(b"MZ"), None);
        assert_eq!(payload(&[0xff; 0x1000]), None);
    }
}
