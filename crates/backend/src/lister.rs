//! Looking for this machine's devices, on a thread of its own.
//!
//! The kernel holds a device while it resets it or waits for an answer of it, and whoever reads its serial number waits as long. A guest can have its
//! device in that state for many seconds, and the supervisor has all other guests to see to.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};

use vusb_host::{Host, HostDevice};

use crate::controller::Waker;

/// The thread that looks, as its owner sees it.
#[derive(Debug)]
pub struct Lister {
    asks: Sender<u64>,
    found: Receiver<(u64, Vec<HostDevice>)>,
    last: u64,
}

impl Lister {
    /// Starts it. It wakes its owner whenever it has looked, and ends with it.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(host: Host, waker: Waker) -> io::Result<Lister> {
        let (asks, inbox) = mpsc::channel::<u64>();
        let (outbox, found) = mpsc::channel();
        let look = move || {
            while let Ok(first) = inbox.recv() {
                // Those that have asked meanwhile are served by one look.
                let number = inbox.try_iter().last().unwrap_or(first);
                if outbox.send((number, host.devices().unwrap_or_default())).is_err() {
                    return;
                }
                waker.wake();
            }
        };
        std::thread::Builder::new().name("lister".to_owned()).spawn(look)?;
        Ok(Lister { asks, found, last: 0 })
    }

    /// Asks for a look that begins after this; its number.
    pub fn ask(&mut self) -> u64 {
        self.last += 1;
        // The thread ends with us.
        let _ = self.asks.send(self.last);
        self.last
    }

    /// What was found since the last call, and the last question that it answers.
    pub fn take(&self) -> Option<(u64, Vec<HostDevice>)> {
        self.found.try_iter().last()
    }
}
