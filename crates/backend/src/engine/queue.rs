//! What waits on one endpoint, and what of it goes to the device next.
//!
//! Linux's xen-hcd has no scatter-gather: a read of 64 KiB arrives as a train of up to sixteen requests of 4 KiB, and a write
//! likewise. What is in the ring together goes to the device together, as one URB:
//!
//! ```text
//!   ring     [4K IN, short-not-ok] [4K IN, short-not-ok] [4K IN, short-not-ok]      three requests
//!   device   [ ───────────────────── 12K IN ───────────────────── ]                 one URB
//!   device answers with 6K and a short packet
//!   answers  [4K]                  [2K]                  [0]                        three responses
//! ```
//!
//! That is right for reads only where each request but the last ends on a packet's end and says "short-not-ok": then the guest
//! has said itself that nothing may be read after a short packet. Sending the requests one by one would not be right: an
//! xHCI goes on with the next URB after a short packet, which would swallow the status of a mass storage device. So while
//! such a read is with the device, the endpoint's other requests wait. What does not say short-not-ok is a stream, and goes
//! to the device at once, as many at a time as there are.
//!
//! For writes the device cannot tell the difference as long as each but the last ends on a packet's end. While several are with the
//! device as one, the others wait too: if the guest cancels one of them, the rest have to be sent again, and before what comes later.

use std::collections::VecDeque;

/// How much one URB carries at most. usbfs counts all buffers of the machine against 16 MiB (`usbfs_memory_mb`), and a host controller without
/// scatter-gather wants the buffer in one piece.
pub(super) const MERGED_BYTES: usize = 256 << 10;

/// A request, as far as the queue must know it.
pub(super) trait Item {
    /// Which of the controller's requests it is, in the order of the ring.
    fn number(&self) -> u64;
    /// How many bytes it carries.
    fn length(&self) -> usize;
    /// Whether nothing may be read after it if it ends short.
    fn short_not_ok(&self) -> bool;
}

/// How requests of an endpoint may be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merging {
    /// Not at all: interrupt and isochronous transfers.
    Never,
    /// Reads, at the end of packets of so many bytes.
    Reads(usize),
    /// Writes, likewise.
    Writes(usize),
}

/// The requests of one endpoint that the device does not have yet.
#[derive(Debug)]
pub(super) struct Queue<T> {
    merging: Merging,
    waiting: VecDeque<T>,
    /// A read or write that nothing may follow is with the device.
    held: bool,
    /// How much one URB may carry: less after a shortage of memory.
    limit: usize,
}

/// What goes to the device as one URB.
#[derive(Debug)]
pub(super) struct Batch<T> {
    /// The requests, in the order of the ring; at least one.
    pub(super) items: Vec<T>,
    /// Whether the endpoint waits until this is done ([`Queue::release`]).
    pub(super) holds: bool,
}

impl<T: Item> Queue<T> {
    /// An endpoint on which nothing waits.
    pub(super) const fn new(merging: Merging) -> Queue<T> {
        Queue { merging, waiting: VecDeque::new(), held: false, limit: MERGED_BYTES }
    }

    /// How requests are put together from now on.
    pub(super) const fn merge(&mut self, merging: Merging) {
        self.merging = merging;
        self.limit = MERGED_BYTES;
    }

    /// One more request.
    pub(super) fn push(&mut self, item: T) {
        self.waiting.push_back(item);
    }

    /// Requests that the device has not done after all go back to where they were.
    pub(super) fn put_back(&mut self, items: Vec<T>) {
        for item in items {
            let at = self.waiting.partition_point(|it| it.number() < item.number());
            self.waiting.insert(at, item);
        }
    }

    /// What goes to the device next; `None` if nothing waits or the endpoint is held.
    pub(super) fn next_batch(&mut self) -> Option<Batch<T>> {
        if self.held {
            return None;
        }
        let count = self.run();
        if count == 0 {
            return None;
        }
        let items: Vec<T> = self.waiting.drain(..count).collect();
        let holds = match self.merging {
            Merging::Never => false,
            Merging::Reads(_) => items.iter().any(Item::short_not_ok),
            Merging::Writes(_) => items.len() > 1,
        };
        self.held = holds;
        Some(Batch { items, holds })
    }

    /// What the endpoint was held for is done.
    pub(super) fn release(&mut self) {
        self.held = false;
    }

    /// There was no memory for the last URB: the next ones carry half as much, but one request at least.
    pub(super) fn merge_less(&mut self) {
        self.limit /= 2;
    }

    /// A URB is done, so there is memory again: the next ones carry twice as much.
    pub(super) fn merge_more(&mut self) {
        self.limit = self.limit.max(1).saturating_mul(2).min(MERGED_BYTES);
    }

    /// Takes the request out that `is` is true for, if the device does not have it yet.
    pub(super) fn take(&mut self, is: impl Fn(&T) -> bool) -> Option<T> {
        let at = self.waiting.iter().position(is)?;
        self.waiting.remove(at)
    }

    /// Takes all requests out.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = T> + '_ {
        self.waiting.drain(..)
    }

    /// How many requests from the head make one URB.
    fn run(&self) -> usize {
        let packet = match self.merging {
            Merging::Never => return self.waiting.len().min(1),
            Merging::Reads(packet) | Merging::Writes(packet) => packet.max(1),
        };
        let reads = matches!(self.merging, Merging::Reads(_));
        let mut total = 0;
        let mut count = 0;
        for item in &self.waiting {
            if count > 0 && (total + item.length() > self.limit || item.length() == 0) {
                break;
            }
            if reads && count > 0 && !item.short_not_ok() {
                break;
            }
            total += item.length();
            count += 1;
            let whole_packets = item.length() > 0 && item.length().is_multiple_of(packet);
            if !whole_packets || reads && !item.short_not_ok() {
                break;
            }
        }
        count
    }
}

/// How many bytes of `actual` each of the requests got, which have asked for `lengths`, in order.
pub(super) fn shares(
    lengths: impl Iterator<Item = usize>,
    actual: usize,
) -> impl Iterator<Item = usize> {
    lengths.scan(actual, |left, length| {
        let share = length.min(*left);
        *left -= share;
        Some(share)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Ask(usize, bool);

    impl Item for Ask {
        fn number(&self) -> u64 {
            0
        }
        fn length(&self) -> usize {
            self.0
        }
        fn short_not_ok(&self) -> bool {
            self.1
        }
    }

    fn batches(merging: Merging, asks: &[Ask]) -> Vec<Vec<usize>> {
        let mut queue = Queue::new(merging);
        asks.iter().for_each(|ask| queue.push(*ask));
        let mut all = Vec::new();
        while let Some(batch) = queue.next_batch() {
            all.push(batch.items.iter().map(|ask| ask.0).collect());
            queue.release();
        }
        all
    }

    #[test]
    fn a_train_of_reads_is_one_urb() {
        let train = [Ask(4096, true), Ask(4096, true), Ask(2048, true), Ask(13, false)];
        assert_eq!(batches(Merging::Reads(512), &train), [vec![4096, 4096, 2048], vec![13]]);
    }

    #[test]
    fn a_read_that_ends_inside_a_packet_ends_the_urb() {
        let train = [Ask(4096, true), Ask(100, true), Ask(4096, true)];
        assert_eq!(batches(Merging::Reads(512), &train), [vec![4096, 100], vec![4096]]);
    }

    #[test]
    fn a_stream_of_reads_is_not_put_together_and_does_not_wait() {
        let mut queue = Queue::new(Merging::Reads(512));
        (0..3).for_each(|_| queue.push(Ask(2048, false)));
        let counts: Vec<usize> =
            std::iter::from_fn(|| queue.next_batch()).map(|it| it.items.len()).collect();
        assert_eq!(counts, [1, 1, 1]);
    }

    #[test]
    fn nothing_follows_a_train_until_it_is_done() {
        let mut queue = Queue::new(Merging::Reads(512));
        queue.push(Ask(4096, true));
        assert!(queue.next_batch().is_some_and(|it| it.holds));
        queue.push(Ask(13, false));
        assert!(queue.next_batch().is_none());
        queue.release();
        assert!(queue.next_batch().is_some());
    }

    #[test]
    fn writes_are_put_together_at_packets_ends() {
        let writes =
            [Ask(31, false), Ask(512, false), Ask(1024, false), Ask(0, false), Ask(512, false)];
        assert_eq!(
            batches(Merging::Writes(512), &writes),
            [vec![31], vec![512, 1024], vec![0], vec![512]]
        );
        assert_eq!(batches(Merging::Never, &[Ask(8, false); 2]), [vec![8], vec![8]]);
    }

    #[test]
    fn nothing_follows_writes_that_are_one_urb() {
        let mut queue = Queue::new(Merging::Writes(512));
        queue.push(Ask(512, false));
        assert!(queue.next_batch().is_some_and(|it| !it.holds));
        (0..2).for_each(|_| queue.push(Ask(512, false)));
        assert!(queue.next_batch().is_some_and(|it| it.holds));
        queue.push(Ask(512, false));
        assert!(queue.next_batch().is_none());
    }

    #[test]
    fn one_urb_has_a_limit() {
        let many = [Ask(64 << 10, true); 5];
        let counts: Vec<usize> = batches(Merging::Reads(512), &many).iter().map(Vec::len).collect();
        assert_eq!(counts, [4, 1]);
    }

    #[test]
    fn a_short_answer_is_shared_out_in_order() {
        let all = |actual| shares([4096, 4096, 10].into_iter(), actual).collect::<Vec<_>>();
        assert_eq!(all(8202), [4096, 4096, 10]);
        assert_eq!(all(5000), [4096, 904, 0]);
        assert_eq!(all(0), [0, 0, 0]);
        assert_eq!(all(99999), [4096, 4096, 10]);
    }
}
