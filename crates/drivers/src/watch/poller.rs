//! One descriptor that stands for several others and a timer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// The token of the timer.
const TIMER: u64 = u64::MAX;

/// How many ready descriptors are returned at once. The others remain ready.
const MAX_READY: usize = 64;

/// Waits for any of several descriptors to become readable. Its own descriptor is readable when one
/// of them is, or when its time has come.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
}

impl Poller {
    /// # Errors
    /// Too many files are open.
    pub(crate) fn new() -> Result<Poller, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let poller = Poller { epoll, timer };
        poller.add(&poller.timer, TIMER)?;
        Ok(poller)
    }

    /// Waits for this descriptor too, until it is closed.
    ///
    /// # Errors
    /// The kernel's limit for such descriptors is reached.
    pub(crate) fn add(&self, fd: impl AsFd, token: u64) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)
    }

    /// Makes the descriptor readable at that time; never if it is `None`.
    ///
    /// # Errors
    /// Only in case of a bug.
    pub(crate) fn wake_at(&self, time: Option<Instant>) -> Result<(), Errno> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = time.map_or(zero, |time| {
            let left = time.saturating_duration_since(Instant::now());
            // Zero would disarm the timer.
            Timespec::try_from(left.max(Duration::from_nanos(1))).unwrap_or(zero)
        });
        let value = Itimerspec { it_interval: zero, it_value };
        // Setting it also clears an expiration that was not read.
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value).map(drop)
    }

    /// Waits until a descriptor is readable or the time has come, at most `limit` (`None` is
    /// unlimited). Returns the tokens of the descriptors.
    ///
    /// # Errors
    /// Only in case of a bug.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Result<Vec<u64>, Errno> {
        let timeout = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut events = Vec::with_capacity(MAX_READY);
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
            // After a signal the caller waits again, for the time that is left.
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let tokens = events.iter().map(|event: &epoll::Event| event.data.u64());
        Ok(tokens.filter(|token| *token != TIMER).collect())
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
