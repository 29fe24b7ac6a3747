//! Notices when a caller disconnects while its call is carried out.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vusb::Cancel;

/// Without `RDHUP`: a caller that has finished sending may still wait for the reply.
const HUNG_UP: PollFlags = PollFlags::HUP.union(PollFlags::ERR);

/// Whether the process at the other end of a connection has closed it.
pub(crate) fn is_closed(stream: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&stream, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds.iter().any(|it| it.revents().intersects(HUNG_UP))
}

/// While this exists, a call is cancelled when its caller closes the connection.
pub(crate) struct HangupWatch {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl HangupWatch {
    /// # Errors
    /// There are no descriptors or threads left.
    pub(crate) fn new(connection: &UnixStream, cancel: Cancel) -> io::Result<HangupWatch> {
        let connection = connection.try_clone()?;
        let (stop, stopped) = UnixStream::pair()?;
        let watch = move || {
            let mut fds = [
                PollFd::new(&connection, PollFlags::empty()),
                PollFd::new(&stopped, PollFlags::empty()),
            ];
            while poll(&mut fds, None).is_err() {}
            let [connection, stopped] = fds;
            if connection.revents().intersects(HUNG_UP) && !stopped.revents().intersects(HUNG_UP) {
                cancel.cancel();
            }
        };
        let thread = thread::Builder::new().name("hangup".to_owned()).spawn(watch)?;
        Ok(HangupWatch { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for HangupWatch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
