//! The turnaround time of a device's interrupt endpoint, measured by the QEMU that runs Xen.
//!
//! ```text
//!   device ─ data ─▶ xHCI ─▶ dom0 ─▶ backend ─▶ ring ─▶ guest's driver
//!     └──────── next transfer ◀─ dom0 ◀─ backend ◀─ ring ◀──┘          a round trip, measured by one clock
//! ```
//!
//! A USB driver submits the next transfer as soon as it has received data (Linux's `hid_irq_in`).
//! So the round trip can be measured at the device, without a program in the guest.

use std::collections::HashMap;
use std::time::Duration;

/// The trace events, for `trace-event-set-state`. Source: QEMU's `hw/usb/trace-events`.
pub(super) const EVENTS: &str = "usb_xhci_xfer_*";

/// An xHCI slot and an endpoint of its device.
type Endpoint<'a> = (&'a str, &'a str);

/// Evaluates QEMU's log with [`EVENTS`]: for each transfer with exactly this number of bytes, the
/// time until the next transfer of the same endpoint. A transfer without a successor is not
/// counted, and other lines are skipped.
pub(super) fn turnarounds(log: &str, bytes: u32) -> Vec<Duration> {
    let expected = format!("len {bytes}");
    let mut started: HashMap<&str, Endpoint> = HashMap::new();
    let mut done: HashMap<Endpoint, Duration> = HashMap::new();
    let mut found = Vec::new();
    for (at, event, rest) in log.lines().filter_map(event) {
        let Some((transfer, more)) = rest.split_once(": ") else { continue };
        match event {
            "usb_xhci_xfer_start" => {
                let Some(endpoint) = endpoint(more) else { continue };
                if let Some(before) = done.remove(&endpoint) {
                    found.push(at.saturating_sub(before));
                }
                started.insert(transfer, endpoint);
            }
            "usb_xhci_xfer_success" => {
                let Some(endpoint) = started.remove(transfer) else { continue };
                if more == expected {
                    done.insert(endpoint, at);
                }
            }
            _ => {}
        }
    }
    found
}

/// Parses `PID@SECONDS.MICROSECONDS:EVENT REST`, the format of QEMU's log with `-msg timestamp=on`.
fn event(line: &str) -> Option<(Duration, &str, &str)> {
    let (_pid, line) = line.split_once('@')?;
    let (time, line) = line.split_once(':')?;
    let (seconds, micros) = time.split_once('.')?;
    let time = Duration::from_secs(seconds.parse().ok()?)
        .checked_add(Duration::from_micros(micros.parse().ok()?))?;
    let (event, rest) = line.split_once(' ')?;
    Some((time, event, rest))
}

/// Parses `slotid N, epid N, streamid N`.
fn endpoint(text: &str) -> Option<Endpoint<'_>> {
    let mut parts = text.split(", ");
    Some((parts.next()?.strip_prefix("slotid ")?, parts.next()?.strip_prefix("epid ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tablet in slot 1 whose endpoint 3 sends 6 bytes, and a disk in slot 2. From QEMU 7.2, with
    /// shorter times.
    const LOG: &str = "qemu-system-x86_64: a warning: of no kind\n\
        7@10.000100:usb_xhci_xfer_start 0xa0: slotid 1, epid 3, streamid 0\n\
        7@10.000110:usb_xhci_xfer_nak 0xa0\n\
        7@10.000500:usb_xhci_xfer_start 0xb0: slotid 2, epid 3, streamid 0\n\
        7@10.999990:usb_xhci_xfer_retry 0xa0\n\
        7@10.999999:usb_xhci_xfer_success 0xa0: len 6\n\
        7@11.000100:usb_xhci_xfer_success 0xb0: len 512\n\
        7@11.000200:usb_xhci_xfer_start 0xb0: slotid 2, epid 3, streamid 0\n\
        7@11.000499:usb_xhci_xfer_start 0xa0: slotid 1, epid 3, streamid 0\n\
        7@11.000600:usb_xhci_xfer_success 0xa0: len 6\n";

    #[test]
    fn the_next_transfer_of_the_same_endpoint_ends_the_wait() {
        assert_eq!(turnarounds(LOG, 6), [Duration::from_micros(500)]);
        assert_eq!(turnarounds(LOG, 512), [Duration::from_micros(100)]);
        assert!(turnarounds(LOG, 13).is_empty());
    }

    #[test]
    fn other_lines_are_skipped() {
        assert!(
            turnarounds("@:\n7@x.y:usb_xhci_xfer_start\n7@1.2:usb_xhci_xfer_start 0x: slot", 6)
                .is_empty()
        );
    }
}
