//! Enumerates this machine's devices on a separate thread.
//!
//! The kernel locks a device while it resets it or waits for its response. A read of the device's
//! serial number blocks until the kernel unlocks it. A guest can keep its device in that state for
//! many seconds. The supervisor must not block on this, because it serves all other guests too.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};

use vusb_host::{Host, HostDevice};

use crate::controller::Waker;

/// Handle to the thread that enumerates devices. Each enumeration has a number.
#[derive(Debug)]
pub struct Lister {
    requests: Sender<u64>,
    results: Receiver<(u64, Vec<HostDevice>)>,
    last: u64,
}

impl Lister {
    /// Starts the thread. It calls `waker` after each enumeration, and ends when the handle is
    /// dropped.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(host: Host, waker: Waker) -> io::Result<Lister> {
        let (requests, inbox) = mpsc::channel::<u64>();
        let (outbox, results) = mpsc::channel();
        let enumerate = move || {
            while let Ok(first) = inbox.recv() {
                // One enumeration serves all requests that have arrived by now.
                let number = inbox.try_iter().last().unwrap_or(first);
                if outbox.send((number, host.devices().unwrap_or_default())).is_err() {
                    return;
                }
                waker.wake();
            }
        };
        std::thread::Builder::new().name("lister".to_owned()).spawn(enumerate)?;
        Ok(Lister { requests, results, last: 0 })
    }

    /// Requests an enumeration that starts after this call. Returns its number.
    pub fn request(&mut self) -> u64 {
        self.last += 1;
        // The thread lives as long as this handle, so the send does not fail.
        let _ = self.requests.send(self.last);
        self.last
    }

    /// The result of the newest enumeration since the last call, and its number.
    pub fn take(&self) -> Option<(u64, Vec<HostDevice>)> {
        self.results.try_iter().last()
    }
}
