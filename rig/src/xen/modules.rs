//! The kernel of dom0 and of the guests: Debian's kernel with the PVUSB frontend `xen-hcd`, which
//! Debian does not enable (`CONFIG_USB_XEN_HCD`). It is built unmodified from Debian's source with
//! Debian's headers, both unpacked into the cache.

use super::packages::check;
use crate::bundle::Files;
use crate::cache::Cache;
use crate::command::run;
use crate::error::{Error, Result};
use crate::image::Dependencies;
use crate::kernel::Kernel;
use crate::packages;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// The modules that dom0 loads: those for Xen's tools, for the connection to this machine, then
/// device drivers, then controller drivers.
pub const DOM0: &[&str] = &[
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-privcmd",
    "xenfs",
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
    "usb-storage delay_use=0",
    "sd_mod",
    "usbhid",
    "hid-generic",
    "evdev",
    "ftdi_sio",
    "cdc_acm",
    "cdc_ether",
    "snd-usb-audio",
    "ehci-pci",
    "uhci-hcd",
    "xhci-pci",
];

/// The modules that a guest loads: drivers for a stick, a mouse, a serial adapter and a sound card,
/// the driver for emulated xHCI controllers, and the PVUSB frontend.
pub const GUEST: &[&str] = &[
    "usb-storage delay_use=0",
    "sd_mod",
    "usbhid",
    "hid-generic",
    "evdev",
    "ftdi_sio",
    "snd-usb-audio",
    "xhci-pci",
    "xen-hcd",
];

/// The modules that a driver domain loads in addition to [`GUEST`]: for software-emulated USB
/// devices, and Xen's interfaces for a backend program.
pub const DRIVER_DOMAIN: &[&str] = &[
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-privcmd",
    "xenfs",
    "libcomposite",
    "usb_f_mass_storage",
    "dummy_hcd",
];

/// A shell script that creates a software-emulated stick of 4 MiB, `/gadget.img`, in a guest with
/// [`DRIVER_DOMAIN`] or [`ON_DEMAND`]: a configfs gadget (Documentation/usb/gadget_configfs.rst) on
/// dummy_hcd. Its IDs are the ones that the Linux Foundation provides for multifunction gadgets.
pub const GADGET_STICK: &str = "set -e
head -c 4194304 /dev/urandom >/gadget.img
mkdir -p /config
mount -t configfs configfs /config
g=/config/usb_gadget/stick
mkdir $g
echo 0x1d6b >$g/idVendor
echo 0x0104 >$g/idProduct
mkdir $g/strings/0x409
echo rig-0001 >$g/strings/0x409/serialnumber
echo vusb >$g/strings/0x409/manufacturer
echo 'gadget stick' >$g/strings/0x409/product
mkdir $g/configs/c.1 $g/functions/mass_storage.0
echo /gadget.img >$g/functions/mass_storage.0/lun.0/file
ln -s $g/functions/mass_storage.0 $g/configs/c.1/
ls /sys/class/udc | head -n 1 >$g/UDC
";

/// The modules that tests can load in dom0 with `modprobe`.
pub const ON_DEMAND: &[&str] = &["dummy_hcd", "libcomposite", "usb_f_mass_storage", "usbmon"];

/// The path of the source in Debian's kernel.
const SOURCE: &str = "drivers/usb/host/xen-hcd.c";

/// The kernel with the module `xen-hcd`. Built only if the cache does not contain it.
///
/// # Errors
/// [`Error::Command`] if a download or the compiler fails, [`Error::Unusable`] if Debian's packages
/// are not as expected.
pub fn kernel(cache: &Cache) -> Result<Kernel> {
    let plain = Kernel::fetch(cache)?;
    let name = format!("kernel-xen-{}", plain.release);
    let dir = cache.entry(&name, |half| add_frontend(&plain, half))?;
    Ok(Kernel { modules: dir.join("root/lib/modules").join(&plain.release), ..plain })
}

fn add_frontend(plain: &Kernel, half: &Path) -> Result<()> {
    let modules = half.join("root/lib/modules");
    let build = half.join("build");
    for dir in [&modules, &build] {
        fs::create_dir_all(dir).map_err(Error::io("create the directory", dir))?;
    }
    // Hard links, because the modules have a few hundred megabytes and never change.
    run("cp", &["-al".as_ref(), plain.modules.as_os_str(), modules.as_os_str()])?;
    let built = compile(&plain.release, &build)?;
    let extra = modules.join(&plain.release).join("extra");
    fs::create_dir(&extra).map_err(Error::io("create the directory", &extra))?;
    let to = extra.join("xen-hcd.ko");
    fs::copy(&built, &to).map_err(Error::io("copy", &built))?;
    fs::remove_dir_all(&build).map_err(Error::io("remove", &build))?;
    // depmod must create a new file, because this one is shared with the other directory.
    let list = modules.join(&plain.release).join("modules.dep");
    fs::remove_file(&list).map_err(Error::io("remove", &list))?;
    let root = half.join("root");
    run("depmod", &["-b".as_ref(), root.as_os_str(), plain.release.as_ref()]).map(drop)
}

/// Builds the module in a directory and returns its path.
fn compile(release: &str, dir: &Path) -> Result<std::path::PathBuf> {
    let headers = format!("linux-headers-{release}");
    let depends = run("apt-cache", &["depends", &headers]).map_err(|_| {
        Error::Unusable(format!(
            "Debian no longer has {headers}: delete target/rig/kernel, so that a newer kernel is used"
        ))
    })?;
    let mut names = header_packages(&depends);
    names.push(headers.clone());
    for name in &names {
        packages::unpack(name, dir)?;
    }
    let tree = dir.join("root/usr/src").join(&headers);
    relocate(&tree.join("Makefile"), &dir.join("root"))?;
    let module = dir.join("module");
    fs::create_dir(&module).map_err(Error::io("create the directory", &module))?;
    source(release, dir, &module.join("xen-hcd.c"))?;
    let rules = module.join("Kbuild");
    fs::write(&rules, "obj-m := xen-hcd.o\n").map_err(Error::io("write", &rules))?;
    let mut make = Command::new("make");
    make.arg("-s").arg("-C").arg(&tree).arg(format!("M={}", module.display())).arg("modules");
    check(make)?;
    Ok(module.join("xen-hcd.ko"))
}

/// The packages of kernel headers in the output of `apt-cache depends`.
fn header_packages(depends: &str) -> Vec<String> {
    let names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.filter(|name| name.starts_with("linux-")).map(str::to_owned).collect()
}

/// Adapts the makefile of the headers to the directory that they are unpacked in.
fn relocate(makefile: &Path, root: &Path) -> Result<()> {
    let text = fs::read_to_string(makefile).map_err(Error::io("read", makefile))?;
    let text = text.replace("/usr/src", &format!("{}/usr/src", root.display()));
    fs::write(makefile, text).map_err(Error::io("write", makefile))
}

/// Extracts one file from Debian's kernel source.
fn source(release: &str, dir: &Path, to: &Path) -> Result<()> {
    let version: Vec<&str> = release.split('.').take(2).collect();
    let package = format!("linux-source-{}", version.join("."));
    let root = packages::unpack(&package, dir)?;
    let archive = root.join("usr/src").join(format!("{package}.tar.xz"));
    let output = File::create(to).map_err(Error::io("create", to))?;
    let mut command = Command::new("tar");
    command.arg("-xJOf").arg(&archive).arg(format!("{package}/{SOURCE}"));
    command.stdout(output).stderr(Stdio::null());
    let status = command.status().map_err(Error::io("unpack", &archive))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Unusable(format!("{package} does not contain {SOURCE}")))
}

/// The files of modules that a guest does not load itself, for `modprobe`.
///
/// # Errors
/// [`Error::Unusable`] if the kernel does not have a module.
pub fn on_demand(kernel: &Kernel, names: &[&str]) -> Result<Files> {
    let known = Dependencies::read(kernel)?;
    let inside = format!("lib/modules/{}", kernel.release);
    let mut files = Files::new();
    for list in ["modules.dep", "modules.builtin"] {
        files.insert(format!("{inside}/{list}"), kernel.modules.join(list));
    }
    for name in names {
        for file in known.with_dependencies(name)? {
            files.insert(format!("{inside}/{file}"), kernel.modules.join(&file));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_packages_depend_on_others() {
        let output = "linux-headers-6.1.0-56-amd64\n  Depends: linux-headers-6.1.0-56-common\n  \
            Depends: linux-kbuild-6.1\n  Depends: linux-compiler-gcc-12-x86\n  Recommends: x\n";
        let names = header_packages(output);
        let expected =
            ["linux-headers-6.1.0-56-common", "linux-kbuild-6.1", "linux-compiler-gcc-12-x86"];
        assert_eq!(names, expected);
    }
}
