//! The train of requests that carries the data of one mass storage command.
//!
//! With the bulk-only transport (class 8, protocol 0x50), each command block tells the device how
//! many bytes of data follow. Linux's xen-hcd sends them as a train of requests of a page or more
//! each, a few microseconds apart:
//!
//! ```text
//!   ring     [command block: 64 KiB, IN] … [4K] [4K] [4K] [4K] …            [4K] [status, 13]
//!   device   [ 31 OUT ]                    [ ────────── 64K IN ────────── ]      [ 13 IN ]
//!                                          ▲ a moment of waiting, instead of up to 16 transfers
//! ```
//!
//! So the backend knows that the rest of a train is about to arrive, and waits for it: one transfer
//! of the whole train costs little more than the transfer of one request.
//!
//! If a train does not fit into the ring, the backend waits for half a ring at a time. Requests
//! have to be answered before the ring is full, because xen-hcd resumes a full ring only with a
//! timer, up to 4 ms later.
//!
//! The length comes from the guest. If it is wrong, the requests are submitted after the wait, or
//! without it, and after a short read too many or too few of them are answered without data
//! ([`Rest`](super::queue::Rest)). Only the guest's own transfers are affected.

use vusb_usbif::urb::{Direction, RING_SLOTS};

/// Length of a command block wrapper in bytes (USB Mass Storage Class, Bulk-Only Transport 1.0,
/// section 5.1).
pub(super) const COMMAND_BYTES: usize = 31;
/// `dCBWSignature`, at offset 0.
const SIGNATURE: [u8; 4] = *b"USBC";
/// Offset of `dCBWDataTransferLength`, four bytes, little-endian.
const LENGTH: usize = 8;
/// Offset of `bmCBWFlags`; bit 7 is set for data from the device.
const FLAGS: usize = 12;

/// How many requests to wait for at a time if a train does not fit into the ring. Meanwhile the
/// guest can use the other half of the ring.
const HALF_RING: usize = RING_SLOTS as usize / 2;

/// The data that a command block announces: its direction and its length in bytes, 0 if no data
/// follows. `None` if these bytes are not a command block.
pub(super) fn announced(bytes: &[u8]) -> Option<(Direction, usize)> {
    let block: &[u8; COMMAND_BYTES] = bytes.try_into().ok()?;
    if block.first_chunk() != Some(&SIGNATURE) {
        return None;
    }
    let length = u32::from_le_bytes(*block.get(LENGTH..)?.first_chunk()?);
    let flags = *block.get(FLAGS)?;
    let direction = if flags & 0x80 == 0 { Direction::Out } else { Direction::In };
    Some((direction, usize::try_from(length).ok()?))
}

/// The data of a command that has not been submitted to the device yet, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Train {
    left: usize,
}

impl Train {
    /// A train of this many bytes.
    pub(super) const fn new(bytes: usize) -> Train {
        Train { left: bytes }
    }

    /// Some of its requests were submitted.
    pub(super) const fn submitted(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// Whether all of it was submitted.
    pub(super) const fn is_submitted(self) -> bool {
        self.left == 0
    }

    /// Submitted requests were put back into the queue.
    pub(super) const fn put_back(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(bytes);
    }

    /// Whether to wait for further requests. `requests` with `bytes` together are waiting, `limit`
    /// is the most bytes of one transfer, and the guest can add `free` requests to its ring.
    pub(super) fn is_worth_waiting(
        self,
        requests: usize,
        bytes: usize,
        limit: usize,
        free: usize,
    ) -> bool {
        let missing = self.left.min(limit).saturating_sub(bytes);
        let each = bytes.checked_div(requests).filter(|bytes| *bytes > 0);
        let fits = each.is_some_and(|each| missing.div_ceil(each) <= free);
        let half = each.is_some() && requests < HALF_RING && free > HALF_RING;
        missing > 0 && (fits || half)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(length: u32, flags: u8) -> Vec<u8> {
        let mut block = vec![0; COMMAND_BYTES];
        block[..4].copy_from_slice(b"USBC");
        block[LENGTH..LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        block[FLAGS] = flags;
        block
    }

    #[test]
    fn a_command_block_announces_its_data() {
        assert_eq!(announced(&block(65536, 0x80)), Some((Direction::In, 65536)));
        assert_eq!(announced(&block(512, 0)), Some((Direction::Out, 512)));
        assert_eq!(announced(&block(0, 0x80)), Some((Direction::In, 0)), "a command without data");
        assert_eq!(announced(&block(512, 0)[..30]), None);
        let mut other = block(512, 0);
        other[3] = b'S';
        assert_eq!(announced(&other), None, "a status block");
    }

    const PAGE: usize = 4096;
    const LIMIT: usize = 256 << 10;

    #[test]
    fn the_rest_of_a_train_that_fits_into_the_ring_is_waited_for() {
        let train = Train::new(16 * PAGE);
        assert!(train.is_worth_waiting(1, PAGE, LIMIT, 15));
        assert!(train.is_worth_waiting(15, 15 * PAGE, LIMIT, 1));
        assert!(!train.is_worth_waiting(16, 16 * PAGE, LIMIT, 0), "it is complete");
    }

    #[test]
    fn a_train_that_does_not_fit_into_the_ring_comes_in_halves() {
        let mut train = Train::new(30 * PAGE);
        assert!(train.is_worth_waiting(7, 7 * PAGE, LIMIT, 9));
        assert!(!train.is_worth_waiting(8, 8 * PAGE, LIMIT, 8));
        train.submitted(8 * PAGE);
        assert!(!train.is_worth_waiting(3, 3 * PAGE, LIMIT, 5), "much of the ring is in use");
        train.submitted(8 * PAGE);
        assert!(train.is_worth_waiting(8, 8 * PAGE, LIMIT, 8), "the rest fits");
        train.put_back(8 * PAGE);
        assert!(!train.is_worth_waiting(8, 8 * PAGE, LIMIT, 8));
    }

    proptest! {
        /// The backend never waits for requests that cannot come, because the guest has no slot
        /// for them or the train is complete, or that would not fit into the transfer.
        #[test]
        fn there_is_always_something_to_wait_for(
            total in 0_usize..1 << 20, submitted in 0_usize..1 << 20,
            requests in 0_usize..17, bytes in 0_usize..1 << 17, free in 0_usize..17,
        ) {
            let mut train = Train::new(total);
            train.submitted(submitted);
            if train.is_worth_waiting(requests, bytes, LIMIT, free) {
                prop_assert!(requests > 0 && bytes > 0 && free > 0);
                prop_assert!(submitted + bytes < total && bytes < LIMIT);
            }
        }

        #[test]
        fn any_bytes_are_parsed(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let found = announced(&bytes);
            prop_assert!(found.is_none() || bytes.len() == COMMAND_BYTES);
        }
    }
}
