//! The lines of guests: virtio ports of dom0 that are connected to the guests' consoles. Each is a
//! socket on this machine.

use crate::error::{Error, Result};
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of lines, which limits the number of guests.
pub(super) const COUNT: u32 = 8;
/// The virtio port of the first line. Port 1 is dom0's agent.
pub(super) const FIRST_PORT: u32 = 2;

/// All lines of a machine.
#[derive(Debug)]
pub(super) struct Lines(Mutex<Vec<Slot>>);

#[derive(Debug)]
struct Slot {
    /// The virtio port.
    port: u32,
    stream: UnixStream,
    used: bool,
}

impl Lines {
    /// The lines with these sockets, in order.
    pub(super) fn new(streams: Vec<UnixStream>) -> Self {
        let slot = |(port, stream)| Slot { port, stream, used: false };
        Self(Mutex::new((FIRST_PORT..).zip(streams).map(slot).collect()))
    }

    /// Takes a free line. Returns its virtio port and its socket.
    pub(super) fn take(&self) -> Result<(u32, UnixStream)> {
        let mut slots = self.slots();
        let full = || Error::Unusable(format!("all {COUNT} lines are in use"));
        let slot = slots.iter_mut().find(|slot| !slot.used).ok_or_else(full)?;
        let stream = slot
            .drained()
            .map_err(|source| Error::Unusable(format!("line {} is broken: {source}", slot.port)))?;
        slot.used = true;
        Ok((slot.port, stream))
    }

    /// Releases a line whose guest has ended.
    pub(super) fn release(&self, port: u32) {
        if let Some(slot) = self.slots().iter_mut().find(|slot| slot.port == port) {
            slot.used = false;
        }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The socket, after discarding the output of an earlier guest.
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
    fn a_released_line_is_reused_without_old_output() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let lines = Lines::new(vec![here]);
        let (port, _) = lines.take().unwrap();
        assert_eq!(port, FIRST_PORT);
        assert!(lines.take().is_err());
        there.write_all(b"old").unwrap();
        lines.release(port);
        let (_, mut stream) = lines.take().unwrap();
        there.write_all(b"new").unwrap();
        let mut got = [0; 3];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"new");
    }
}
