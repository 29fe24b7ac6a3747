//! The initramfs of dom0 and of Xen's guests: the rig's default image with other modules; dom0 also
//! has Xen's tools, the device model and the guests' kernel.

use super::modules;
use crate::bundle::{self, Files};
use crate::cache::Cache;
use crate::error::Result;
use crate::image::Image;
use crate::kernel::Kernel;
use std::path::{Path, PathBuf};

/// The path of the guests' kernel in dom0. Uncompressed, because decompression is slower on an
/// emulated processor than reading it.
pub(super) const GUEST_KERNEL: &str = "/guest/vmlinux";
/// The same kernel as bzImage, for HVM guests: the device model only accepts this format.
pub(super) const GUEST_KERNEL_HVM: &str = "/guest/vmlinuz";
/// The path of the guests' default image in dom0.
pub(super) const GUEST_IMAGE: &str = "/guest/image.cpio";

/// Xen's daemons and tools, at the paths that libxl uses.
const TOOLS: [&str; 7] = [
    "/usr/lib/xen-4.17/bin/xl",
    "/usr/lib/xen-4.17/bin/libxl-save-helper",
    "/usr/lib/xen-4.17/bin/xenstored",
    "/usr/lib/xen-4.17/bin/xenconsoled",
    "/usr/lib/xen-4.17/bin/xen-init-dom0",
    "/usr/lib/xen-4.17/bin/lsevtchn",
    "/usr/libexec/xen-qemu-system-i386",
];
/// The tools of xenstore: `xenstore-NAME`.
const STORE_TOOLS: [&str; 8] = ["ls", "read", "write", "rm", "list", "exists", "chmod", "watch"];

/// Firmware of HVM guests, and the keymap that a device model loads even without a display.
const FIRMWARE: [&str; 6] = [
    "/usr/share/qemu/keymaps/en-us",
    "/usr/lib/xen-4.17/boot/hvmloader",
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/qemu/linuxboot.bin",
    "/usr/share/qemu/kvmvapic.bin",
    "/usr/share/seabios/vgabios-stdvga.bin",
];

const SERVICES: (&str, &str) =
    ("bin/xen-services", concat!(env!("CARGO_MANIFEST_DIR"), "/guest/xen-services.sh"));
const RELAY: (&str, &str) =
    ("bin/xen-relay", concat!(env!("CARGO_MANIFEST_DIR"), "/guest/xen-relay.sh"));

/// The image of a guest with these modules and files.
pub(super) fn guest(modules: &[&str], files: Files) -> Image {
    let image = Image::default().modules(modules.iter().copied());
    image.files(files)
}

/// dom0's image. Created only if the cache does not contain one from the same inputs.
pub(super) fn dom0(cache: &Cache, kernel: &Kernel) -> Result<PathBuf> {
    let guest = guest(modules::GUEST, Files::new()).build(cache, kernel)?;
    let mut image = Image::default()
        .modules(modules::DOM0.iter().copied())
        .files(bundle::udevd(cache)?)
        .files(modules::on_demand(kernel, modules::ON_DEMAND)?)
        .file(GUEST_KERNEL, &kernel.image)
        .file(GUEST_KERNEL_HVM, &kernel.packed())
        .file(GUEST_IMAGE, &guest);
    for tool in TOOLS {
        image = image.files(bundle::program(tool, Path::new(tool))?);
    }
    image = image.file("/bin/xl", Path::new("/usr/lib/xen-4.17/bin/xl"));
    for tool in STORE_TOOLS {
        let path = format!("/usr/bin/xenstore-{tool}");
        image = image.files(bundle::program(&path, Path::new(&path))?);
    }
    for path in FIRMWARE {
        image = image.file(path, Path::new(path));
    }
    for (inside, script) in [SERVICES, RELAY] {
        image = image.file(inside, Path::new(script));
    }
    image.build(cache, kernel)
}
