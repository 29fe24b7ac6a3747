//! At which speeds a device can be offered to a guest.
//!
//! A device runs on this machine at its native speed, whatever the guest sees. To a guest with a slower controller it can
//! be shown as slower as long as nothing in it contradicts the slower speed: no isochronous endpoint (its packets are
//! sized for the native speed), no bulk streams (they are SuperSpeed's), no interrupt packet larger than the slower speed
//! allows (64 bytes at full speed, 1024 at high speed: USB 2.0 specification, section 5.7.3).
//!
//! This is the rule of QEMU's `hw/usb/host-libusb.c` (`usb_host_speed_compat`), and has to stay so: QEMU refuses to plug
//! in what it finds no speed for. Like there, all configurations count, not just the active one; and at a SCSI disk
//! (class 8, subclass 6) the rest of the interface is passed over, for a guest at a slower speed uses bulk-only transport
//! and not the streams of its other setting. Low speed is never offered to what is faster.

use vusb_model::speed::{Speed, SpeedSet};

use crate::descriptors::{Descriptors, Setting, Transfer};

/// The speeds at which a device of this native speed can be offered: the native one, and slower ones that its descriptors
/// allow. Without descriptors, the native speed alone.
pub fn offered(native: Speed, descriptors: Option<&Descriptors>) -> SpeedSet {
    let slower = match descriptors {
        Some(descriptors) => tolerated(descriptors),
        None => SpeedSet::NONE,
    };
    let below = match native {
        Speed::Low | Speed::Full => SpeedSet::NONE,
        Speed::High => SpeedSet::of(&[Speed::Full]),
        Speed::Super => SpeedSet::of(&[Speed::Full, Speed::High]),
    };
    SpeedSet::from(native).or(below.and(slower))
}

/// The slower speeds that nothing in the descriptors contradicts: some of full and high.
fn tolerated(descriptors: &Descriptors) -> SpeedSet {
    let mut speeds = SpeedSet::of(&[Speed::Full, Speed::High]);
    for configuration in &descriptors.configurations {
        let mut disk = None;
        for setting in &configuration.settings {
            if is_scsi_disk(setting) {
                disk = Some(setting.interface);
            }
            if disk != Some(setting.interface) {
                speeds = speeds.and(tolerated_by(setting));
            }
        }
    }
    speeds
}

const fn is_scsi_disk(setting: &Setting) -> bool {
    setting.class == 8 && setting.subclass == 6
}

fn tolerated_by(setting: &Setting) -> SpeedSet {
    let both = SpeedSet::of(&[Speed::Full, Speed::High]);
    let each = setting.endpoints.iter().map(|endpoint| {
        match (endpoint.transfer, endpoint.max_packet, endpoint.streams) {
            (Transfer::Isochronous, ..) | (Transfer::Bulk, _, 1..) => SpeedSet::NONE,
            (Transfer::Interrupt, 1025.., _) => SpeedSet::NONE,
            (Transfer::Interrupt, 65.., _) => SpeedSet::of(&[Speed::High]),
            _ => both,
        }
    });
    each.fold(both, SpeedSet::and)
}
