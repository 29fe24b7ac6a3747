//! The waiting requests of one endpoint, and which of them are submitted next.
//!
//! Linux's xen-hcd has no scatter-gather: a read or write of 64 KiB arrives as a train of up to
//! sixteen requests of 4 KiB. Requests that are in the ring together are submitted together, as one
//! URB:
//!
//! ```text
//!   ring       [4K IN, short-not-ok] [4K IN, short-not-ok] [4K IN, short-not-ok] three requests
//!   device     [ ───────────────────── 12K IN ───────────────────── ]            one URB
//!   the device returns 6K and a short packet
//!   responses  [4K]                  [2K]                  [0]                   three responses
//! ```
//!
//! Reads may be merged only if each but the last ends on a packet boundary and has the flag
//! "short-not-ok", by which the guest declares that nothing may be read after a short packet.
//! Submitting such requests at once as separate URBs would be wrong: after a short packet an xHCI
//! continues with the next URB, which would swallow the status of a mass storage device. For the
//! same reason the endpoint's other requests wait while such a read is in flight. Reads without
//! "short-not-ok" are a stream: all of them are submitted immediately.
//!
//! A short packet ends the whole train, including the part that is still waiting or has not
//! arrived: its requests are answered without data instead of being submitted
//! ([`Queue::end_train`]).
//!
//! Writes may be merged if each but the last ends on a packet boundary: the device cannot tell the
//! difference. While merged writes are in flight, the endpoint's other requests wait too. If the
//! guest cancels one of the merged writes, the others have to be sent again before any later write.

use std::collections::VecDeque;

/// The most bytes that one URB carries. usbfs limits all its buffers on the machine to a total of
/// 16 MiB (`usbfs_memory_mb`), and a host controller without scatter-gather needs a contiguous
/// buffer.
pub(super) const MERGED_BYTES: usize = 256 << 10;

/// The properties of a request that the queue depends on.
pub(super) trait Item {
    /// Its position in the sequence of all requests of the controller.
    fn number(&self) -> u64;
    /// Its length in bytes.
    fn length(&self) -> usize;
    /// Whether nothing may be read after it if it ends short.
    fn short_not_ok(&self) -> bool;
}

/// How the requests of an endpoint may be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merging {
    /// Not at all: the endpoint is not a bulk endpoint.
    Never,
    /// Reads, at packet boundaries; with the packet size in bytes.
    Reads(usize),
    /// Writes, at packet boundaries; with the packet size in bytes.
    Writes(usize),
}

/// Which further requests belong to a train of reads that a short packet has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// None.
    None,
    /// Those that wait at the moment, up to the first read without "short-not-ok". Whether later
    /// ones belong to the train is not known.
    Waiting,
    /// All, up to the first read without "short-not-ok", or until [`Queue::begin_train`].
    UntilOther,
}

/// The requests of one endpoint that have not been submitted.
#[derive(Debug)]
pub(super) struct Queue<T> {
    merging: Merging,
    waiting: VecDeque<T>,
    /// A transfer that no other may follow is in flight.
    blocked: bool,
    /// The requests that are answered without data instead of being submitted.
    rest: Rest,
    /// The most bytes that one URB may carry now: less after a shortage of memory.
    limit: usize,
}

/// The requests that are submitted as one URB.
#[derive(Debug)]
pub(super) struct Batch<T> {
    /// The requests, in the order of the ring; at least one.
    pub(super) items: Vec<T>,
    /// Whether the endpoint's other requests wait until this is done ([`Queue::unblock`]).
    pub(super) blocks_endpoint: bool,
}

/// The requests that would be submitted next, if more could be added to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenBatch {
    pub(super) requests: usize,
    /// Their length together.
    pub(super) bytes: usize,
    /// The most bytes that one URB may carry.
    pub(super) limit: usize,
}

impl<T: Item> Queue<T> {
    /// An empty queue.
    pub(super) const fn new(merging: Merging) -> Queue<T> {
        Queue {
            merging,
            waiting: VecDeque::new(),
            blocked: false,
            rest: Rest::None,
            limit: MERGED_BYTES,
        }
    }

    /// Changes how requests are merged from now on. Forgets the shortage of memory and the train
    /// that has ended.
    pub(super) const fn set_merging(&mut self, merging: Merging) {
        self.merging = merging;
        self.limit = MERGED_BYTES;
        self.rest = Rest::None;
    }

    /// Appends a request.
    pub(super) fn push(&mut self, item: T) {
        self.waiting.push_back(item);
    }

    /// Returns requests that were not executed to their original positions.
    pub(super) fn put_back(&mut self, items: Vec<T>) {
        for item in items {
            let at = self.waiting.partition_point(|it| it.number() < item.number());
            self.waiting.insert(at, item);
        }
    }

    /// Removes the requests to submit next; `None` if the queue is empty or the endpoint is
    /// blocked.
    pub(super) fn next_batch(&mut self) -> Option<Batch<T>> {
        if self.blocked {
            return None;
        }
        let count = self.batch().0.requests;
        if count == 0 {
            return None;
        }
        let items: Vec<T> = self.waiting.drain(..count).collect();
        let blocks_endpoint = match self.merging {
            Merging::Never => false,
            Merging::Reads(_) => items.iter().any(Item::short_not_ok),
            Merging::Writes(_) => items.len() > 1,
        };
        self.blocked = blocks_endpoint;
        Some(Batch { items, blocks_endpoint })
    }

    /// The transfer that blocked the endpoint is done.
    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// A short packet has ended a train of reads: its `rest` must not be submitted, because it
    /// would swallow what the device sends next. See [`Queue::take_rest`].
    pub(super) fn end_train(&mut self, rest: Rest) {
        self.rest = rest;
    }

    /// What arrives from now on belongs to another train.
    pub(super) fn begin_train(&mut self) {
        self.rest = Rest::None;
    }

    /// Removes the waiting requests of a train that has ended, which are to be answered without
    /// data. To be called before [`Queue::next_batch`].
    pub(super) fn take_rest(&mut self) -> Vec<T> {
        if self.rest == Rest::None {
            return Vec::new();
        }
        let other = self.waiting.iter().position(|item| !item.short_not_ok());
        if other.is_some() || self.rest == Rest::Waiting {
            self.rest = Rest::None;
        }
        self.waiting.drain(..other.unwrap_or(self.waiting.len())).collect()
    }

    /// There was no memory for the last URB: halves the limit. A URB still carries at least one
    /// request.
    pub(super) fn shrink_batches(&mut self) {
        self.limit /= 2;
    }

    /// A URB is done, so there is memory again: doubles the limit.
    pub(super) fn grow_batches(&mut self) {
        self.limit = self.limit.max(1).saturating_mul(2).min(MERGED_BYTES);
    }

    /// Removes the first waiting request that `matches`.
    pub(super) fn take(&mut self, matches: impl Fn(&T) -> bool) -> Option<T> {
        let at = self.waiting.iter().position(matches)?;
        self.waiting.remove(at)
    }

    /// Removes all requests.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.waiting.drain(..)
    }

    /// The requests that are submitted next, if a request that arrives now could become part of
    /// their URB.
    pub(super) fn open_batch(&self) -> Option<OpenBatch> {
        let (batch, open) = self.batch();
        (open && batch.requests > 0 && !self.blocked).then_some(batch)
    }

    /// The requests at the head that form one URB, and whether another may be added to them.
    fn batch(&self) -> (OpenBatch, bool) {
        let mut batch = OpenBatch { requests: 0, bytes: 0, limit: self.limit };
        let packet = match self.merging {
            Merging::Never => {
                batch.requests = self.waiting.len().min(1);
                return (batch, false);
            }
            Merging::Reads(packet) | Merging::Writes(packet) => packet.max(1),
        };
        let reads = matches!(self.merging, Merging::Reads(_));
        for item in &self.waiting {
            let first = batch.requests == 0;
            if !first && (batch.bytes + item.length() > self.limit || item.length() == 0) {
                return (batch, false);
            }
            if reads && !first && !item.short_not_ok() {
                return (batch, false);
            }
            batch.bytes += item.length();
            batch.requests += 1;
            let whole_packets = item.length() > 0 && item.length() % packet == 0;
            if !whole_packets || reads && !item.short_not_ok() {
                return (batch, false);
            }
        }
        (batch, true)
    }
}

/// Distributes the `actual` bytes of a merged transfer over its requests, which have these
/// `lengths`.
pub(super) fn split_bytes(
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
    /// Length, and short-not-ok.
    struct FakeItem(usize, bool);

    impl Item for FakeItem {
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

    fn batches(merging: Merging, items: &[FakeItem]) -> Vec<Vec<usize>> {
        let mut queue = Queue::new(merging);
        items.iter().for_each(|item| queue.push(*item));
        let mut all = Vec::new();
        while let Some(batch) = queue.next_batch() {
            all.push(batch.items.iter().map(|item| item.0).collect());
            queue.unblock();
        }
        all
    }

    #[test]
    fn a_train_of_reads_is_one_urb() {
        let train =
            [FakeItem(4096, true), FakeItem(4096, true), FakeItem(2048, true), FakeItem(13, false)];
        assert_eq!(batches(Merging::Reads(512), &train), [vec![4096, 4096, 2048], vec![13]]);
    }

    #[test]
    fn a_read_that_ends_inside_a_packet_ends_the_urb() {
        let train = [FakeItem(4096, true), FakeItem(100, true), FakeItem(4096, true)];
        assert_eq!(batches(Merging::Reads(512), &train), [vec![4096, 100], vec![4096]]);
    }

    #[test]
    fn the_rest_of_an_ended_train_goes_up_to_the_first_other_read() {
        let (data, status) = (FakeItem(4096, true), FakeItem(13, false));
        let mut queue = Queue::new(Merging::Reads(512));
        for rest in [Rest::Waiting, Rest::UntilOther] {
            queue.end_train(rest);
            [data, data, status, data].iter().for_each(|item| queue.push(*item));
            assert_eq!(queue.take_rest(), [data, data], "{rest:?}");
            assert_eq!(queue.take_rest(), []);
            assert_eq!(queue.drain().count(), 2);
        }
        for (rest, later) in [(Rest::Waiting, vec![]), (Rest::UntilOther, vec![data])] {
            queue.end_train(rest);
            assert_eq!(queue.take_rest(), []);
            queue.push(data);
            assert_eq!(queue.take_rest(), later, "{rest:?}");
            queue.begin_train();
            queue.push(data);
            assert_eq!(queue.take_rest(), []);
            queue.drain().for_each(drop);
        }
    }

    #[test]
    fn a_stream_of_reads_is_neither_merged_nor_delayed() {
        let mut queue = Queue::new(Merging::Reads(512));
        (0..3).for_each(|_| queue.push(FakeItem(2048, false)));
        let counts: Vec<usize> =
            std::iter::from_fn(|| queue.next_batch()).map(|it| it.items.len()).collect();
        assert_eq!(counts, [1, 1, 1]);
    }

    #[test]
    fn no_request_follows_a_train_until_it_is_done() {
        let mut queue = Queue::new(Merging::Reads(512));
        queue.push(FakeItem(4096, true));
        assert!(queue.next_batch().is_some_and(|it| it.blocks_endpoint));
        queue.push(FakeItem(13, false));
        assert!(queue.next_batch().is_none());
        queue.unblock();
        assert!(queue.next_batch().is_some());
    }

    #[test]
    fn writes_are_merged_at_packet_boundaries() {
        let writes = [
            FakeItem(31, false),
            FakeItem(512, false),
            FakeItem(1024, false),
            FakeItem(0, false),
            FakeItem(512, false),
        ];
        assert_eq!(
            batches(Merging::Writes(512), &writes),
            [vec![31], vec![512, 1024], vec![0], vec![512]]
        );
        assert_eq!(batches(Merging::Never, &[FakeItem(8, false); 2]), [vec![8], vec![8]]);
    }

    #[test]
    fn no_request_follows_merged_writes_until_they_are_done() {
        let mut queue = Queue::new(Merging::Writes(512));
        queue.push(FakeItem(512, false));
        assert!(queue.next_batch().is_some_and(|it| !it.blocks_endpoint));
        (0..2).for_each(|_| queue.push(FakeItem(512, false)));
        assert!(queue.next_batch().is_some_and(|it| it.blocks_endpoint));
        queue.push(FakeItem(512, false));
        assert!(queue.next_batch().is_none());
    }

    #[test]
    fn a_batch_is_open_until_a_request_ends_it() {
        let open = |items: &[FakeItem]| {
            let mut queue = Queue::new(Merging::Reads(512));
            items.iter().for_each(|item| queue.push(*item));
            queue.open_batch().map(|it| (it.requests, it.bytes))
        };
        assert_eq!(open(&[]), None);
        assert_eq!(open(&[FakeItem(4096, true), FakeItem(4096, true)]), Some((2, 8192)));
        assert_eq!(open(&[FakeItem(4096, true), FakeItem(100, true)]), None, "a short packet");
        assert_eq!(open(&[FakeItem(4096, true), FakeItem(13, false)]), None, "the status");
        assert_eq!(open(&[FakeItem(4096, false)]), None, "a stream");
        let mut queue = Queue::new(Merging::Reads(512));
        (0..2).for_each(|_| queue.push(FakeItem(4096, true)));
        queue.next_batch();
        queue.push(FakeItem(4096, true));
        assert_eq!(queue.open_batch(), None, "blocked");
    }

    #[test]
    fn the_size_of_a_urb_is_limited() {
        let many = [FakeItem(64 << 10, true); 5];
        let counts: Vec<usize> = batches(Merging::Reads(512), &many).iter().map(Vec::len).collect();
        assert_eq!(counts, [4, 1]);
    }

    #[test]
    fn a_short_transfer_is_distributed_in_order() {
        let all = |actual| split_bytes([4096, 4096, 10].into_iter(), actual).collect::<Vec<_>>();
        assert_eq!(all(8202), [4096, 4096, 10]);
        assert_eq!(all(5000), [4096, 904, 0]);
        assert_eq!(all(0), [0, 0, 0]);
        assert_eq!(all(99999), [4096, 4096, 10]);
    }
}
