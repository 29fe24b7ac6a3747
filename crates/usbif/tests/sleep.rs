//! Going to sleep and being woken, with both sides running at once.
//!
//! `loom` tries every order of the few accesses that matter, and every older value that a processor may
//! still see. `shuttle` runs whole conversations under many random schedules; a lost wake-up is a
//! deadlock. Both must find the fault when one is put in, and two tests see to that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use vusb_usbif::front::UrbRing;
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

/// Words of the page's head; only these decide on who sleeps.
const HEAD: usize = 4;

mod ordering {
    use loom::sync::atomic::{AtomicU32, Ordering, fence};

    use super::{Arc, HEAD, MemoryPage, NOTHING, Page, Response, Ring, UrbRing};

    /// A page with loom's atomics for its head and for the first word of slot 1.
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

    /// The guest sends while the backend goes to sleep: an event is sent, or the request is seen.
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
                let (ticket, _) = back.next().unwrap().expect("rearm said so");
                assert_eq!(ticket.id(), 1, "what was written before is seen with it");
            }
            let pushed = guest.join().unwrap();
            assert!(seen || pushed.notify.is_due(), "the wake-up is lost");
        });
    }

    /// The backend answers while the guest goes to sleep.
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
            let seen = front.rest();
            if seen {
                assert_eq!(front.take().unwrap().expect("rest said so").id, 1);
            }
            let notify = device.join().unwrap();
            assert!(seen || notify.is_due(), "the wake-up is lost");
        });
    }

    #[test]
    fn no_request_is_slept_through() {
        request_wakes(true);
    }

    #[test]
    fn no_response_is_slept_through() {
        response_wakes(true);
    }

    #[test]
    #[should_panic(expected = "the wake-up is lost")]
    fn without_the_barrier_a_request_is_slept_through() {
        request_wakes(false);
    }

    #[test]
    #[should_panic(expected = "the wake-up is lost")]
    fn without_the_barrier_a_response_is_slept_through() {
        response_wakes(false);
    }
}

mod schedules {
    use shuttle::rand::{Rng, thread_rng};
    use shuttle::sync::atomic::{AtomicU32, Ordering};
    use shuttle::sync::{Condvar, Mutex};
    use shuttle::thread;
    use vusb_usbif::connect::{self, Posted};
    use vusb_usbif::front::{Answered, ConnectRing, NotSent};
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

    /// One end of an event channel: an event that comes before the sleep ends it at once.
    #[derive(Default)]
    struct Bell {
        rung: Mutex<bool>,
        woken: Condvar,
    }

    impl Bell {
        fn ring(&self, notify: Notify) {
            if notify.is_due() {
                *self.rung.lock().unwrap() = true;
                self.woken.notify_one();
            }
        }

        fn sleep(&self) {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.woken.wait(rung).unwrap();
            }
            *rung = false;
        }
    }

    /// The guest: transfers, now and then an unlink, and sleep when there is nothing to do.
    fn guest(page: Arc<ShuttlePage>, own: &Bell, other: &Bell, total: u32) {
        let mut front = UrbRing::new(page);
        let (mut sent, mut done) = (0, 0);
        other.ring(Notify::Due); // It is connected.
        while done < total {
            while sent < total {
                let target = thread_rng().gen_range(0_u16..64);
                let pushed = front.unlink(target).or_else(|_| front.submit(&NOTHING));
                match pushed {
                    Ok(pushed) => other.ring(pushed.notify),
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
            // With room and something to send it goes on.
            let waits = sent == total || front.in_flight() == 16;
            if done < total && waits && !front.rest() {
                own.sleep();
            }
        }
    }

    /// The backend: answers some at once, some later, and sleeps when none is left.
    fn backend(page: Arc<ShuttlePage>, own: &Bell, other: &Bell, total: u32, careful: bool) {
        own.sleep();
        let mut ring = Ring::new(page);
        let (mut done, mut held) = (0, Vec::new());
        while done < total {
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
            other.ring(ring.publish());
            if done < total && held.is_empty() && (!ring.rearm() || !careful) {
                own.sleep();
            }
        }
    }

    fn talk(total: u32, careful: bool) {
        let page = Arc::new(ShuttlePage::new());
        let bells = Arc::new((Bell::default(), Bell::default()));
        let (its_page, its_bells) = (page.clone(), bells.clone());
        let other = thread::spawn(move || {
            backend(its_page, &its_bells.0, &its_bells.1, total, careful);
        });
        guest(page, &bells.1, &bells.0, total);
        other.join().unwrap();
    }

    #[test]
    fn a_conversation_ends() {
        shuttle::check_random(|| talk(60, true), 100);
        shuttle::check_pct(|| talk(60, true), 100, 3);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_backend_that_does_not_look_again_sleeps_for_ever() {
        shuttle::check_random(|| talk(60, false), 300);
    }

    /// More events than there is credit: the backend waits for the guest to give more.
    fn plug(total: u32) {
        let page = Arc::new(ShuttlePage::new());
        let bells = Arc::new((Bell::default(), Bell::default()));
        let (its_page, its_bells) = (page.clone(), bells.clone());
        let other = thread::spawn(move || {
            its_bells.0.sleep();
            let mut ring = connect::Ring::new(its_page);
            let mut sent = 0;
            while sent < total {
                match ring.post(Port::MIN, Speed::Low).unwrap() {
                    Posted::Sent(notify) => {
                        sent += 1;
                        its_bells.1.ring(notify);
                    }
                    Posted::NoCredit if ring.rearm() => {}
                    Posted::NoCredit => its_bells.0.sleep(),
                }
            }
        });
        let mut front = ConnectRing::new(page);
        bells.0.ring(front.fill());
        let mut seen = 0;
        while seen < total {
            while front.take().unwrap().is_some() {
                seen += 1;
            }
            bells.0.ring(front.push());
            if seen < total && !front.rest() {
                bells.1.sleep();
            }
        }
        other.join().unwrap();
    }

    #[test]
    fn every_event_arrives() {
        shuttle::check_random(|| plug(700), 8);
        shuttle::check_pct(|| plug(700), 8, 3);
    }
}
