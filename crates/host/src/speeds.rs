//! The speeds at which a device can be presented to a guest.
//!
//! A device runs on this machine at its native speed, whatever the guest sees. It can be presented
//! as slower to a guest with a slower controller, unless its descriptors rule out the slower speed:
//! isochronous endpoints (their packets are sized for the native speed), bulk streams (only
//! SuperSpeed has them), or interrupt packets larger than the slower speed allows (64 bytes at full
//! speed, 1024 at high speed: USB 2.0 specification, section 5.7.3).
//!
//! This must be the same rule as in QEMU's `hw/usb/host-libusb.c` (`usb_host_speed_compat`): QEMU
//! refuses to attach a device if no speed is compatible. As in QEMU, all configurations count and
//! not only the active one. For a SCSI disk (class 8, subclass 6) the rest of the interface is
//! skipped, because a guest at a slower speed uses bulk-only transport and not the setting with
//! streams. Faster devices are never presented at low speed.

use vusb_model::speed::{Speed, SpeedSet};

use crate::descriptors::{AlternateSetting, Descriptors, TransferType};

/// The speeds at which a device with this native speed can be presented: the native one, and slower
/// ones that its descriptors allow. Without descriptors, only the native speed.
pub fn presentable(native: Speed, descriptors: Option<&Descriptors>) -> SpeedSet {
    let slower = match descriptors {
        Some(descriptors) => allowed(descriptors),
        None => SpeedSet::NONE,
    };
    let below = match native {
        Speed::Low | Speed::Full => SpeedSet::NONE,
        Speed::High => SpeedSet::of(&[Speed::Full]),
        Speed::Super => SpeedSet::of(&[Speed::Full, Speed::High]),
    };
    SpeedSet::from(native).union(below.intersection(slower))
}

/// Which of full and high speed the descriptors allow.
fn allowed(descriptors: &Descriptors) -> SpeedSet {
    let mut speeds = SpeedSet::of(&[Speed::Full, Speed::High]);
    for configuration in &descriptors.configurations {
        let mut disk = None;
        for setting in &configuration.settings {
            if is_scsi_disk(setting) {
                disk = Some(setting.interface);
            }
            if disk != Some(setting.interface) {
                speeds = speeds.intersection(allowed_by(setting));
            }
        }
    }
    speeds
}

const fn is_scsi_disk(setting: &AlternateSetting) -> bool {
    setting.class == 8 && setting.subclass == 6
}

fn allowed_by(setting: &AlternateSetting) -> SpeedSet {
    let both = SpeedSet::of(&[Speed::Full, Speed::High]);
    let each = setting.endpoints.iter().map(|endpoint| {
        match (endpoint.transfer, endpoint.max_packet, endpoint.streams) {
            (TransferType::Isochronous, ..) | (TransferType::Bulk, _, 1..) => SpeedSet::NONE,
            (TransferType::Interrupt, 1025.., _) => SpeedSet::NONE,
            (TransferType::Interrupt, 65.., _) => SpeedSet::of(&[Speed::High]),
            _ => both,
        }
    });
    each.fold(both, SpeedSet::intersection)
}
