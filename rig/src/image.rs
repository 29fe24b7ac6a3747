//! The initramfs of the rig's guests: static busybox, the drivers of USB, a shell agent.
//!
//! It is not compressed: decompression is slow on an emulated processor, and the host can spare a
//! few megabytes.

use crate::bundle::Files;
use crate::cache::Cache;
use crate::command;
use crate::cpio::Archive;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The modules that a guest loads, in this order, each after its dependencies.
///
/// EHCI must be loaded before UHCI and OHCI. Otherwise the kernel warns, and devices first appear
/// on the companion. Device drivers are loaded before controllers, so that a device is bound to its
/// driver as soon as it is enumerated.
pub const MODULES: &[&str] = &[
    "usb-storage delay_use=0",
    "uas",
    "sd_mod",
    "sr_mod",
    "usbhid",
    "hid-generic",
    "evdev",
    "ftdi_sio",
    "cdc_ether",
    "rndis_host",
    "ehci-pci",
    "uhci-hcd",
    "ohci-pci",
    "xhci-pci",
];

/// Part of the cache's key. Change it when the code creates another image from the same inputs.
const FORMAT: &str = "1";
/// The static busybox of package busybox-static.
const BUSYBOX: &str = "/bin/busybox";
const INIT: &str = include_str!("../guest/init.sh");
const USB_TREE: &str = include_str!("../guest/usb-tree.sh");
const PCI_TREE: &str = include_str!("../guest/pci-tree.sh");

/// The content of an initramfs.
#[derive(Debug, Clone)]
pub struct Image {
    modules: Vec<String>,
    files: Files,
}

impl Default for Image {
    fn default() -> Self {
        let modules = MODULES.iter().map(|m| (*m).to_owned()).collect();
        Self { modules, files: Files::new() }
    }
}

impl Image {
    /// Loads these modules instead of [`MODULES`]. Options may follow a name after a space.
    pub fn modules<S: Into<String>>(mut self, modules: impl IntoIterator<Item = S>) -> Self {
        self.modules = modules.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a file of this machine, with its permissions, at a path in the guest.
    pub fn file(mut self, guest: &str, host: &Path) -> Self {
        self.files.insert(guest.trim_start_matches('/').to_owned(), host.to_path_buf());
        self
    }

    /// Adds files: paths in the guest, and paths on this machine.
    pub fn files(mut self, files: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        for (guest, host) in files {
            self = self.file(&guest, &host);
        }
        self
    }

    /// The complete image. Created only if the cache does not contain one from the same inputs.
    ///
    /// # Errors
    /// [`Error::Io`] if an input cannot be read, [`Error::Unusable`] if the kernel does not have a
    /// module.
    pub fn build(&self, cache: &Cache, kernel: &Kernel) -> Result<PathBuf> {
        let name = format!("image-{}.cpio", self.key(kernel, &self.loads(kernel)?)?);
        cache.entry(&name, |path| self.write(kernel, path.to_path_buf()).map(drop))
    }

    /// Writes the image to the given file, for inputs that change with every run.
    ///
    /// # Errors
    /// As [`Image::build`].
    pub fn write(&self, kernel: &Kernel, path: PathBuf) -> Result<PathBuf> {
        let loads = self.loads(kernel)?;
        let file = fs::File::create(&path).map_err(Error::io("create", &path))?;
        let mut archive = Archive::new(io::BufWriter::with_capacity(1 << 20, file));
        self.basics(&mut archive, &path)?;
        Self::add_modules(&mut archive, &loads, kernel, &path)?;
        add_files(&mut archive, &self.files, &path)?;
        archive.finish().map_err(Error::io("write", &path))?;
        Ok(path)
    }

    /// A hash of all inputs.
    fn key(&self, kernel: &Kernel, loads: &[Load]) -> Result<String> {
        let mut hash = Sha256::new();
        for text in [FORMAT, INIT, USB_TREE, PCI_TREE, &kernel.release, &order(loads)] {
            hash.update(text);
            hash.update("\n");
        }
        let busybox = ("busybox".to_owned(), PathBuf::from(BUSYBOX));
        for (guest, host) in self.files.clone().into_iter().chain([busybox]) {
            let meta = fs::metadata(&host).map_err(Error::io("read", &host))?;
            let changed = meta.modified().map_err(Error::io("read", &host))?;
            hash.update(format!("{guest} {} {} {changed:?}\n", host.display(), meta.len()));
        }
        let digest = hash.finalize();
        Ok(digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    fn basics<W: io::Write>(&self, archive: &mut Archive<W>, path: &Path) -> Result<()> {
        let busybox = fs::read(BUSYBOX).map_err(Error::io("read", Path::new(BUSYBOX)))?;
        let applets = command::run(BUSYBOX, &["--list"])?;
        let mut write = || -> io::Result<()> {
            for dir in ["bin", "dev", "proc", "sys", "tmp", "modules"] {
                archive.directory(dir)?;
            }
            archive.file("init", 0o755, INIT.as_bytes())?;
            archive.file("bin/usb-tree", 0o755, USB_TREE.as_bytes())?;
            archive.file("bin/pci-tree", 0o755, PCI_TREE.as_bytes())?;
            archive.file("bin/busybox", 0o755, &busybox)?;
            // Not with `busybox --install` in the guest, where each link is a slow system call.
            for applet in applets.lines().filter(|name| *name != "busybox") {
                archive.symlink(&format!("bin/{applet}"), "busybox")?;
            }
            Ok(())
        };
        write().map_err(Error::io("write", path))
    }

    /// Every module to load, each after its dependencies.
    fn loads(&self, kernel: &Kernel) -> Result<Vec<Load>> {
        let known = Dependencies::read(kernel)?;
        let mut seen = BTreeSet::new();
        let mut loads = Vec::new();
        for module in &self.modules {
            let (name, options) = module.split_once(' ').unwrap_or((module, ""));
            for file in known.with_dependencies(name)? {
                if seen.insert(file.clone()) {
                    let is_requested = normalized(stem(&file)) == normalized(name);
                    let options = if is_requested { options.to_owned() } else { String::new() };
                    loads.push(Load { file, options });
                }
            }
        }
        Ok(loads)
    }

    fn add_modules<W: io::Write>(
        archive: &mut Archive<W>,
        loads: &[Load],
        kernel: &Kernel,
        path: &Path,
    ) -> Result<()> {
        for load in loads {
            let data = read_module(&kernel.modules.join(&load.file))?;
            let inside = format!("modules/{}.ko", stem(&load.file));
            archive.file(&inside, 0o644, &data).map_err(Error::io("write", path))?;
        }
        let order = order(loads);
        archive.file("modules/order", 0o644, order.as_bytes()).map_err(Error::io("write", path))
    }
}

/// Adds files of this machine and their parent directories to an archive. Adding an existing
/// directory again is harmless.
pub(crate) fn add_files<W: io::Write>(
    archive: &mut Archive<W>,
    files: &Files,
    path: &Path,
) -> Result<()> {
    let mut created = BTreeSet::new();
    for (guest, host) in files {
        for (slash, _) in guest.match_indices('/').filter(|(at, _)| *at > 0) {
            let parent = guest.get(..slash).unwrap_or_default();
            if created.insert(parent) {
                archive.directory(parent).map_err(Error::io("write", path))?;
            }
        }
        let data = fs::read(host).map_err(Error::io("read", host))?;
        let mode = fs::metadata(host).map_err(Error::io("read", host))?.permissions().mode();
        archive.file(guest, mode & 0o777, &data).map_err(Error::io("write", path))?;
    }
    Ok(())
}

/// One module to load.
struct Load {
    /// Its file, as `modules.dep` names it.
    file: String,
    /// Its parameters.
    options: String,
}

/// The content of `modules/order`, which the guest's init reads: lines with a file and its options.
fn order(loads: &[Load]) -> String {
    loads.iter().map(|load| format!("{}.ko {}\n", stem(&load.file), load.options)).collect()
}

/// The dependencies of each module, from `modules.dep`. It has lines like
/// `kernel/a/b.ko.xz: kernel/c/d.ko.xz kernel/c/e.ko.xz`, with the dependencies in reverse order.
pub(crate) struct Dependencies {
    /// By normalized name: the module's own file, and the files that it depends on.
    modules: BTreeMap<String, (String, Vec<String>)>,
}

impl Dependencies {
    pub(crate) fn read(kernel: &Kernel) -> Result<Self> {
        let path = kernel.modules.join("modules.dep");
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let entry = |(file, needs): (&str, &str)| {
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            (normalized(stem(file)), (file.to_owned(), needs))
        };
        Self { modules: lines.map(entry).collect() }
    }

    /// The files to load for a module, in load order.
    pub(crate) fn with_dependencies(&self, name: &str) -> Result<Vec<String>> {
        let (file, needs) = self.modules.get(&normalized(name)).ok_or_else(|| {
            Error::Unusable(format!("the guest's kernel has no module {name}; it may be built in"))
        })?;
        let needs = needs.iter().rev();
        Ok(needs.chain([file]).cloned().collect())
    }
}

/// A module's normalized name: the kernel treats `-` and `_` as equal.
fn normalized(name: &str) -> String {
    name.replace('-', "_")
}

/// `kernel/drivers/usb/host/xhci-pci.ko.xz` → `xhci-pci`
fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split_once(".ko").map_or(name, |(stem, _)| stem)
}

/// The uncompressed content of a module. Debian 13 compresses modules.
fn read_module(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).map_err(Error::io("read", path)),
    };
    let input = fs::File::open(path).map_err(Error::io("open", path))?;
    let out = std::process::Command::new(program).arg("-dc").stdin(input).output();
    let out = out.map_err(Error::io("unpack", path))?;
    if out.status.success() {
        return Ok(out.stdout);
    }
    Err(Error::Unusable(format!("{program} could not unpack {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/host/xhci-hcd.ko: kernel/core/usbcore.ko kernel/common/usb-common.ko\n\
        kernel/host/xhci-pci.ko.xz: kernel/host/xhci-hcd.ko kernel/core/usbcore.ko kernel/common/usb-common.ko\n";

    #[test]
    fn a_module_is_loaded_after_its_dependencies() {
        let known = Dependencies::parse(DEP);
        let files = known.with_dependencies("xhci_pci").unwrap();
        let names: Vec<&str> = files.iter().map(|f| stem(f)).collect();
        assert_eq!(names, ["usb-common", "usbcore", "xhci-hcd", "xhci-pci"]);
    }

    #[test]
    fn a_missing_module_is_named_in_the_error() {
        let error = Dependencies::parse(DEP).with_dependencies("pciehp").unwrap_err();
        assert!(error.to_string().contains("no module pciehp"), "{error}");
    }
}
