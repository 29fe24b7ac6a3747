//! The guests' lines: virtio ports of dom0, each a socket here, that guests' consoles are joined to.

use crate::error::{Error, Result};
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many guests can have a line at once.
pub(super) const COUNT: u32 = 8;
/// The virtio port of the first guest's line; 1 is dom0's agent.
pub(super) const FIRST: u32 = 2;

/// All lines of a machine.
#[derive(Debug)]
pub(super) struct Lines(Mutex<Vec<Slot>>);

#[derive(Debug)]
struct Slot {
    number: u32,
    stream: UnixStream,
    used: bool,
}

impl Lines {
    /// The sockets of the lines, the first one first.
    pub(super) fn new(streams: Vec<UnixStream>) -> Self {
        let slot = |(number, stream)| Slot { number, stream, used: false };
        Self(Mutex::new((FIRST..).zip(streams).map(slot).collect()))
    }

    /// The number and the socket of a line that nobody uses.
    pub(super) fn take(&self) -> Result<(u32, UnixStream)> {
        let mut slots = self.slots();
        let full = || Error::Unusable(format!("all {COUNT} lines of guests are in use"));
        let slot = slots.iter_mut().find(|slot| !slot.used).ok_or_else(full)?;
        let stream = slot.drained().map_err(|source| {
            Error::Unusable(format!("the line {} of a guest is broken: {source}", slot.number))
        })?;
        slot.used = true;
        Ok((slot.number, stream))
    }

    /// Takes back a line whose guest is gone.
    pub(super) fn give_back(&self, number: u32) {
        if let Some(slot) = self.slots().iter_mut().find(|slot| slot.number == number) {
            slot.used = false;
        }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The socket, without what an earlier guest left in it.
    fn drained(&mut self) -> std::io::Result<UnixStream> {
        self.stream.set_nonblocking(true)?;
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.stream.set_nonblocking(false)?;
        self.stream.try_clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_line_comes_back_without_what_was_left_in_it() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let lines = Lines::new(vec![here]);
        let (number, _) = lines.take().unwrap();
        assert_eq!(number, FIRST);
        assert!(lines.take().is_err());
        there.write_all(b"old").unwrap();
        lines.give_back(number);
        let (_, mut stream) = lines.take().unwrap();
        there.write_all(b"new").unwrap();
        let mut got = [0; 3];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"new");
    }
}
