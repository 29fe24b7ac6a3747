//! Sleeping and waking with both sides running concurrently.
//!
//! `loom` tries every order of the few accesses that matter, and every stale value that a processor
//! may still see. `shuttle` runs complete exchanges under many random schedules, in which a lost
//! wake-up is a deadlock. Some tests insert a bug and check that it is found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use vusb_usbif::frontend::UrbRing;
use vusb_usbif::urb::{Direction, Kind, Request, Response, Ring, Segments, Status, Transfer};
use vusb_usbif::{MemoryPage, Page, Port};

const NOTHING: Transfer = Transfer {
    port: Port::MIN,
    address: 0,
    endpoint: 1,
    direction: Direction::In,
    kind: Kind::Bulk,
    short_not_ok: false,
    data: Segments::NONE,
};

/// Number of words in the page's header that determine whether a side sleeps.
const HEAD: usize = 4;

mod ordering {
    use loom::sync::atomic::{AtomicU32, Ordering, fence};

    use super::{Arc, HEAD, MemoryPage, NOTHING, Page, Response, Ring, UrbRing};

    /// A page with loom's atomics for its header and for the first word of slot 1.
    struct LoomPage {
        head: [AtomicU32; HEAD],
        slot: AtomicU32,
        rest: MemoryPage,
        fences: bool,
    }

    impl LoomPage {
        fn cell(&self, word: usize) -> Option<&AtomicU32> {
            if word == 16 + 37 { Some(&self.slot) } else { self.head.get(word) }
        }
    }

    impl Page for LoomPage {
        fn load(&self, word: usize) -> u32 {
            self.cell(word).map_or_else(|| self.rest.load(word), |c| c.load(Ordering::Acquire))
        }

        fn store(&self, word: usize, value: u32) {
            match self.cell(word) {
                Some(cell) => cell.store(value, Ordering::Release),
                None => self.rest.store(word, value),
            }
        }

        fn fence(&self) {
            if self.fences {
                fence(Ordering::SeqCst);
            }
        }
    }

    fn page(fences: bool) -> Arc<LoomPage> {
        Arc::new(LoomPage {
            head: std::array::from_fn(|_| AtomicU32::new(0)),
            slot: AtomicU32::new(0),
            rest: MemoryPage::new(),
            fences,
        })
    }

    /// The guest sends a request while the backend goes to sleep: either an event is sent, or the
    /// backend sees the request.
    fn request_wakes(fences: bool) {
        loom::model(move || {
            let page = page(fences);
            let mut front = UrbRing::new(page.clone());
            let mut back = Ring::new(page);
            assert!(front.submit(&NOTHING).unwrap().notify.is_due());
            let (_ticket, _) = back.next().unwrap().unwrap();

            let guest = loom::thread::spawn(move || front.submit(&NOTHING).unwrap());
            let seen = back.rearm();
            if seen {
                let (ticket, _) = back.next().unwrap().expect("rearm returned true");
                assert_eq!(ticket.id(), 1, "the contents of the slot are visible with the index");
            }
            let pushed = guest.join().unwrap();
            assert!(seen || pushed.notify.is_due(), "the wake-up is lost");
        });
    }

    /// The same while the backend, which was awake, first parks and then goes to sleep. The guest
    /// may still see the value that the backend stored before it slept the last time.
    fn request_wakes_after_park(sleeps_parked: bool) {
        loom::model(move || {
            let page = page(true);
            let mut front = UrbRing::new(page.clone());
            let mut back = Ring::new(page);
            assert!(front.submit(&NOTHING).unwrap().notify.is_due());
            let (_ticket, _) = back.next().unwrap().unwrap();
            assert!(!back.rearm());

            let guest = loom::thread::spawn(move || front.submit(&NOTHING).unwrap());
            // Woken by something other than the guest.
            back.park();
            let seen = back.rearm();
            if sleeps_parked {
                back.park();
            }
            if seen {
                let (ticket, _) = back.next().unwrap().expect("rearm returned true");
                assert_eq!(ticket.id(), 1);
            }
            let pushed = guest.join().unwrap();
            assert!(seen || pushed.notify.is_due(), "the wake-up is lost");
        });
    }

    /// The backend publishes a response while the guest goes to sleep.
    fn response_wakes(fences: bool) {
        loom::model(move || {
            let page = page(fences);
            let mut front = UrbRing::new(page.clone());
            let mut back = Ring::new(page);
            for _ in 0..2 {
                let _ = front.submit(&NOTHING).unwrap();
            }
            let (first, _) = back.next().unwrap().unwrap();
            let (second, _) = back.next().unwrap().unwrap();
            back.respond(first, Response::done(0)).unwrap();
            assert!(back.publish().is_due());
            front.take().unwrap().unwrap();

            let device = loom::thread::spawn(move || {
                back.respond(second, Response::done(0)).unwrap();
                back.publish()
            });
            let seen = front.rearm();
            if seen {
                assert_eq!(front.take().unwrap().expect("rearm returned true").id, 1);
            }
            let notify = device.join().unwrap();
            assert!(seen || notify.is_due(), "the wake-up is lost");
        });
    }

    #[test]
    fn no_request_is_missed() {
        request_wakes(true);
    }

    #[test]
    fn no_request_is_missed_after_the_backend_was_parked() {
        request_wakes_after_park(false);
    }

    #[test]
    #[should_panic(expected = "the wake-up is lost")]
    fn a_backend_that_parks_before_it_sleeps_misses_a_request() {
        request_wakes_after_park(true);
    }

    #[test]
    fn no_response_is_missed() {
        response_wakes(true);
    }

    #[test]
    #[should_panic(expected = "the wake-up is lost")]
    fn without_the_barrier_a_request_is_missed() {
        request_wakes(false);
    }

    #[test]
    #[should_panic(expected = "the wake-up is lost")]
    fn without_the_barrier_a_response_is_missed() {
        response_wakes(false);
    }
}

mod schedules {
    use shuttle::rand::{Rng, thread_rng};
    use shuttle::sync::atomic::{AtomicU32, Ordering};
    use shuttle::sync::{Condvar, Mutex};
    use shuttle::thread;
    use vusb_usbif::connect::{self, Posted};
    use vusb_usbif::frontend::{Answered, ConnectRing, NotSent};
    use vusb_usbif::{Notify, Speed};

    use super::{
        Arc, HEAD, MemoryPage, NOTHING, Page, Port, Request, Response, Ring, Status, UrbRing,
    };

    struct ShuttlePage {
        head: [AtomicU32; HEAD],
        rest: MemoryPage,
    }

    impl ShuttlePage {
        fn new() -> Self {
            Self { head: std::array::from_fn(|_| AtomicU32::new(0)), rest: MemoryPage::new() }
        }
    }

    impl Page for ShuttlePage {
        fn load(&self, word: usize) -> u32 {
            match self.head.get(word) {
                Some(cell) => cell.load(Ordering::SeqCst),
                None => self.rest.load(word),
            }
        }

        fn store(&self, word: usize, value: u32) {
            match self.head.get(word) {
                Some(cell) => cell.store(value, Ordering::SeqCst),
                None => self.rest.store(word, value),
            }
        }

        fn fence(&self) {}
    }

    /// One end of an event channel: an event that arrives before the sleep ends the sleep
    /// immediately.
    #[derive(Default)]
    struct EventChannel {
        pending: Mutex<bool>,
        woken: Condvar,
    }

    impl EventChannel {
        fn notify(&self, notify: Notify) {
            if notify.is_due() {
                *self.pending.lock().unwrap() = true;
                self.woken.notify_one();
            }
        }

        fn sleep(&self) {
            let mut pending = self.pending.lock().unwrap();
            while !*pending {
                pending = self.woken.wait(pending).unwrap();
            }
            *pending = false;
        }
    }

    /// The guest: sends transfers and a few unlinks, and sleeps when there is nothing to do.
    fn guest(page: Arc<ShuttlePage>, own: &EventChannel, other: &EventChannel, total: u32) {
        let mut front = UrbRing::new(page);
        let (mut sent, mut done) = (0, 0);
        other.notify(Notify::Due); // It is connected.
        while done < total {
            while sent < total {
                let target = thread_rng().gen_range(0_u16..64);
                let pushed = front.unlink(target).or_else(|_| front.submit(&NOTHING));
                match pushed {
                    Ok(pushed) => other.notify(pushed.notify),
                    Err(NotSent::Full) => break,
                    Err(error) => panic!("{error}"),
                }
                sent += 1;
            }
            while let Some(answer) = front.take().unwrap() {
                let unlink = matches!(answer.to, Answered::Unlink { .. });
                assert_eq!(answer.status, if unlink { Status::Ok } else { Status::Stall });
                done += 1;
            }
            // If the ring has space and there is something to send, the guest does not sleep.
            let waits = sent == total || front.in_flight() == 16;
            if done < total && waits && !front.rearm() {
                own.sleep();
            }
        }
    }

    /// What is wrong with a backend.
    #[derive(Clone, Copy, PartialEq)]
    enum Bug {
        None,
        /// It sleeps even if a request is there already.
        DoesNotCheckAgain,
        /// It tells the guest that it is awake, and then sleeps.
        ParksLate,
    }

    /// The backend: answers some requests immediately and some later. It looks for further requests
    /// a few times, and sleeps when there is none.
    fn backend(
        page: Arc<ShuttlePage>,
        own: &EventChannel,
        other: &EventChannel,
        total: u32,
        bug: Bug,
    ) {
        own.sleep();
        let mut ring = Ring::new(page);
        let (mut done, mut held) = (0, Vec::new());
        while done < total {
            ring.park();
            while let Some((ticket, request)) = ring.next().unwrap() {
                held.push((ticket, request));
            }
            while !held.is_empty() && thread_rng().gen_range(0..4) > 0 {
                let (ticket, request) = held.swap_remove(thread_rng().gen_range(0..held.len()));
                let unlink = matches!(request, Request::Unlink { .. });
                let status = if unlink { Status::Ok } else { Status::Stall };
                ring.respond(ticket, Response::failed(status)).unwrap();
                done += 1;
            }
            other.notify(ring.publish());
            let polls = thread_rng().gen_range(0..4);
            if done == total || !held.is_empty() || (0..polls).any(|_| found(&ring)) {
                continue;
            }
            let more = ring.rearm();
            if bug == Bug::ParksLate {
                ring.park();
            }
            if !more || bug == Bug::DoesNotCheckAgain {
                own.sleep();
            }
        }
    }

    /// One look for a request while the guest continues.
    fn found(ring: &Ring<Arc<ShuttlePage>>) -> bool {
        thread::yield_now();
        ring.has_request()
    }

    fn exchange(total: u32, bug: Bug) {
        let page = Arc::new(ShuttlePage::new());
        let channels = Arc::new((EventChannel::default(), EventChannel::default()));
        let (its_page, its_channels) = (page.clone(), channels.clone());
        let other = thread::spawn(move || {
            backend(its_page, &its_channels.0, &its_channels.1, total, bug);
        });
        guest(page, &channels.1, &channels.0, total);
        other.join().unwrap();
    }

    #[test]
    fn an_exchange_completes() {
        shuttle::check_random(|| exchange(60, Bug::None), 100);
        shuttle::check_pct(|| exchange(60, Bug::None), 100, 3);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_backend_that_does_not_check_again_sleeps_forever() {
        shuttle::check_random(|| exchange(60, Bug::DoesNotCheckAgain), 300);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_backend_that_parks_before_it_sleeps_sleeps_forever() {
        shuttle::check_random(|| exchange(60, Bug::ParksLate), 300);
    }

    /// More events than credit: the backend waits until the guest grants more.
    fn post_events(total: u32) {
        let page = Arc::new(ShuttlePage::new());
        let channels = Arc::new((EventChannel::default(), EventChannel::default()));
        let (its_page, its_channels) = (page.clone(), channels.clone());
        let other = thread::spawn(move || {
            its_channels.0.sleep();
            let mut ring = connect::Ring::new(its_page);
            let mut sent = 0;
            while sent < total {
                match ring.post(Port::MIN, Speed::Low).unwrap() {
                    Posted::Sent(notify) => {
                        sent += 1;
                        its_channels.1.notify(notify);
                    }
                    Posted::NoCredit if ring.rearm() => {}
                    Posted::NoCredit => its_channels.0.sleep(),
                }
            }
        });
        let mut front = ConnectRing::new(page);
        channels.0.notify(front.fill());
        let mut seen = 0;
        while seen < total {
            while front.take().unwrap().is_some() {
                seen += 1;
            }
            channels.0.notify(front.push());
            if seen < total && !front.rearm() {
                channels.1.sleep();
            }
        }
        other.join().unwrap();
    }

    #[test]
    fn every_event_arrives() {
        shuttle::check_random(|| post_events(700), 8);
        shuttle::check_pct(|| post_events(700), 8, 3);
    }
}
