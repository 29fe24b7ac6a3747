//! Both rings on a page that changes while it is read.
//!
//! The input decides whether a load returns a value other than the stored one. Whatever it decides,
//! the rings do not panic and read each word of a request only once. They never have more than 16
//! requests in flight or read more than 16 between two publications. A broken ring stays broken.
//!
//! ```text
//! cd crates/usbif && RUSTC_BOOTSTRAP=1 cargo fuzz run rings -- -max_total_time=60
//! ```

#![no_main]

use std::cell::{Cell, RefCell};

use libfuzzer_sys::fuzz_target;
use vusb_usbif::urb::{REQUEST_WORDS, Response, Ring, Status, Ticket};
use vusb_usbif::{PAGE_WORDS, Page, Port, Speed, connect};

/// The input, one byte at a time; zeros when it is exhausted.
struct Input<'a>(RefCell<&'a [u8]>);

impl Input<'_> {
    fn byte(&self) -> u8 {
        let mut left = self.0.borrow_mut();
        let Some((byte, rest)) = left.split_first() else { return 0 };
        *left = rest;
        *byte
    }

    fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

struct HostilePage<'a> {
    words: RefCell<[u32; PAGE_WORDS]>,
    input: &'a Input<'a>,
    loads: Cell<usize>,
}

impl<'a> HostilePage<'a> {
    fn new(input: &'a Input<'a>) -> Self {
        Self { words: RefCell::new([0; PAGE_WORDS]), input, loads: Cell::new(0) }
    }
}

impl Page for HostilePage<'_> {
    fn load(&self, word: usize) -> u32 {
        assert!(word < PAGE_WORDS);
        self.loads.set(self.loads.get() + 1);
        let input = self.input;
        let mut words = self.words.borrow_mut();
        let value = &mut words[word];
        // Mostly small steps, so that the rings make progress before the indexes become invalid.
        match input.byte() {
            0..0x40 => {}
            step @ 0x40..0xe0 => *value = value.wrapping_add(u32::from(step & 0x1f)),
            0xe0..0xf8 => {
                *value = u32::from_le_bytes(std::array::from_fn(|_| input.byte()));
            }
            _ => *value = value.wrapping_sub(1),
        }
        *value
    }

    fn store(&self, word: usize, value: u32) {
        assert!(word < PAGE_WORDS);
        self.words.borrow_mut()[word] = value;
    }

    fn fence(&self) {}
}

fuzz_target!(|input: &[u8]| {
    let input = Input(RefCell::new(input));
    let (urbs, events) = (HostilePage::new(&input), HostilePage::new(&input));
    let mut ring = Ring::new(&urbs);
    let mut connections = connect::Ring::new(&events);
    let mut tickets: Vec<Ticket> = Vec::new();
    let (mut broken, mut connect_broken, mut unpublished) = (None, None, 0);

    while !input.is_empty() {
        match input.byte() % 8 {
            0..=2 => {
                let before = urbs.loads.get();
                match ring.next() {
                    Ok(Some((ticket, _))) => {
                        assert_eq!(urbs.loads.get() - before, 1 + REQUEST_WORDS);
                        assert_eq!(broken, None);
                        unpublished += 1;
                        tickets.push(ticket);
                    }
                    Ok(None) => assert_eq!(broken, None),
                    Err(why) => assert_eq!(*broken.get_or_insert(why), why),
                }
            }
            3 | 4 => {
                if let Some(ticket) = tickets.pop() {
                    ring.respond(ticket, Response::failed(Status::Stall)).unwrap();
                }
            }
            5 => {
                let _ = ring.publish();
                unpublished = ring.in_flight();
            }
            6 => {
                assert!(ring.rearm() || broken.is_none());
            }
            _ => {
                let port = Port::new(input.byte() % 31 + 1).unwrap();
                match connections.post(port, Speed::High) {
                    Ok(_) => assert_eq!(connect_broken, None),
                    Err(why) => assert_eq!(*connect_broken.get_or_insert(why), why),
                }
            }
        }
        assert_eq!(ring.in_flight() as usize, tickets.len());
        assert!(tickets.len() <= 16 && unpublished <= 16);
    }
});
