//! URBs in flight: memory that the kernel may write to.
//!
//! When does the kernel access it? From Linux, `drivers/usb/core/devio.c`:
//!
//! ```text
//! SUBMITURB      reads the URB, its packets, the setup packet and the data to send, and makes its
//!                own copies (proc_do_submiturb). It stores two of our addresses: of the URB and of
//!                its buffer
//! in flight      the controller uses the kernel's copies. Our memory is not accessed
//! REAPURB...     writes the received data and the results of this URB to the two addresses, in the
//!                address space of the process that reaps (processcompl). Then the kernel forgets
//!                the URB
//! DISCARDURB     cancels the URB, waits until it has ended (usb_kill_urb), and writes nothing. It
//!                has to be reaped
//! close          cancels all URBs and forgets them, and writes nothing (usbdev_release)
//! unplug         cancels all URBs, which have to be reaped (usbdev_remove)
//! ```
//!
//! So the kernel owns the memory from SUBMITURB until the URB is reaped, and it must not be freed
//! earlier. That includes dropping `UsbFs`: the open file may survive in a `Handle` or in a
//! duplicate of its descriptor, and reaping through either would make the kernel write to freed
//! memory. `UsbFs` therefore discards and reaps everything in flight when it is dropped, and leaks
//! what it cannot reap. That only happens if another process reaps with a duplicate of the
//! descriptor, or the kernel hangs.

#![allow(unsafe_code, reason = "owns memory that the kernel writes to")]

use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};

use rustix::io::Errno;

use super::buffer::Buffer;
use super::device::Gone;
use super::ioctls::{self, RawPacket, RawUrb};
use super::urb::{Completion, Kind, MAX_PACKETS, Packet, SETUP, Status, SubmitError, Urb};

/// The maximum number of URBs in flight per device. A guest's controller has at most 16 in flight,
/// and a program that relays them adds only a few of its own.
pub const MAX_IN_FLIGHT: usize = 256;

/// The kernel's `struct usbdevfs_urb` with space for the maximum number of packets.
#[repr(C)]
struct Frame {
    urb: RawUrb,
    packets: [RawPacket; MAX_PACKETS],
}

/// The offset of the packets.
#[cfg(test)]
pub(super) const FRAME_PACKETS: usize = std::mem::offset_of!(Frame, packets);

/// A [`Frame`] at a fixed address. Not a `Box`, because moving a `Box` asserts exclusive access,
/// and the kernel writes to the frame while it is in flight.
struct FrameBox(NonNull<Frame>);

// SAFETY: it owns its frame, which consists of plain numbers and addresses.
unsafe impl Send for FrameBox {}
// SAFETY: `&FrameBox` only provides the address.
unsafe impl Sync for FrameBox {}

impl FrameBox {
    fn new() -> FrameBox {
        let frame = Frame {
            urb: RawUrb {
                kind: 0,
                endpoint: 0,
                status: 0,
                flags: 0,
                buffer: ptr::null_mut(),
                buffer_length: 0,
                actual_length: 0,
                start_frame: 0,
                number_of_packets: 0,
                error_count: 0,
                signr: 0,
                usercontext: ptr::null_mut(),
            },
            packets: [RawPacket::default(); MAX_PACKETS],
        };
        FrameBox(NonNull::from(Box::leak(Box::new(frame))))
    }

    const fn urb(&self) -> *mut RawUrb {
        // The URB is the first field. The pointer is valid for the whole frame, as the packets
        // follow the URB.
        self.0.as_ptr().cast()
    }

    /// The frame, which must not be in flight.
    const fn get(&mut self) -> &mut Frame {
        // SAFETY: allocated by a Box, initialised, and only reachable through this value. It is not
        // in flight, so the kernel does not write to it.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for FrameBox {
    fn drop(&mut self) {
        // SAFETY: allocated by a Box that was leaked, and dropped only here.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// One URB that was submitted to the kernel.
struct Submitted {
    token: u64,
    frame: FrameBox,
    buffer: Buffer,
    /// The maximum number of bytes to transfer; in a control URB, of the data stage.
    max_length: usize,
    packets: Vec<Packet>,
}

/// All URBs in flight of one device.
#[derive(Default)]
pub(super) struct InFlight {
    urbs: Vec<Submitted>,
    /// Frames for reuse.
    free_frames: Vec<FrameBox>,
}

impl InFlight {
    pub(super) fn len(&self) -> usize {
        self.urbs.len()
    }

    pub(super) fn submit(
        &mut self,
        fd: BorrowedFd<'_>,
        mut urb: Urb,
        token: u64,
    ) -> Result<(), (SubmitError, Urb)> {
        let length = match self.check(&urb, token) {
            Ok(length) => length,
            Err(error) => return Err((error, urb)),
        };
        let mut frame = self.free_frames.pop().unwrap_or_else(FrameBox::new);
        fill(frame.get(), &mut urb, length);
        // SAFETY: `frame` is a URB followed by its packets, and `check` has verified that its
        // buffer is long enough. If the kernel accepts it, frame and buffer move into `urbs`, where
        // they are not accessed and not freed until the URB is reaped.
        if let Err(errno) = unsafe { ioctls::submit(fd, frame.urb()) } {
            self.free_frames.push(frame);
            return Err((SubmitError::from_errno(errno), urb));
        }
        let Urb { kind, buffer, .. } = urb;
        let (max_length, packets) = match kind {
            Kind::Control => (buffer.len().saturating_sub(SETUP), Vec::new()),
            Kind::Iso(packets) => (buffer.len(), packets),
            Kind::Bulk | Kind::Interrupt => (buffer.len(), Vec::new()),
        };
        self.urbs.push(Submitted { token, frame, buffer, max_length, packets });
        Ok(())
    }

    fn check(&self, urb: &Urb, token: u64) -> Result<i32, SubmitError> {
        if self.urbs.len() >= MAX_IN_FLIGHT {
            return Err(SubmitError::TooMany(MAX_IN_FLIGHT));
        }
        if self.urbs.iter().any(|urb| urb.token == token) {
            return Err(SubmitError::TokenInUse(token));
        }
        urb.check()
    }

    pub(super) fn reap(&mut self, fd: BorrowedFd<'_>) -> Result<Option<Completion>, Gone> {
        loop {
            let urb = match ioctls::reap(fd) {
                Ok(urb) => urb,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(None),
                Err(_) => return Err(Gone),
            };
            // A foreign URB was submitted through a duplicate of the descriptor: its address must
            // not be dereferenced.
            if let Some(index) = self.urbs.iter().position(|it| it.frame.urb() == urb) {
                return Ok(Some(self.complete(index)));
            }
        }
    }

    /// The completion of the URB at this index, which the kernel has just returned.
    fn complete(&mut self, index: usize) -> Completion {
        let mut submitted = self.urbs.swap_remove(index);
        let (status, actual_length, error_count) = read_results(&mut submitted);
        let Submitted { token, frame, buffer, packets, .. } = submitted;
        self.free_frames.push(frame);
        Completion { token, status, actual_length, error_count, packets, buffer }
    }

    pub(super) fn discard(&self, fd: BorrowedFd<'_>, token: u64) {
        if let Some(urb) = self.urbs.iter().find(|urb| urb.token == token) {
            // EINVAL: it has already ended. ENODEV: the device is gone, so it has ended or soon
            // will.
            let _ = ioctls::discard(fd, urb.frame.urb());
        }
    }

    pub(super) fn discard_all(&self, fd: BorrowedFd<'_>) {
        // In reverse order, so that the device does not start a URB that is about to be cancelled.
        for urb in self.urbs.iter().rev() {
            let _ = ioctls::discard(fd, urb.frame.urb());
        }
    }

    /// Leaks the memory of everything in flight.
    pub(super) fn leak(&mut self) {
        for Submitted { frame, buffer, .. } in self.urbs.drain(..) {
            std::mem::forget(frame);
            buffer.leak();
        }
    }
}

/// Fills in the structure that the kernel reads.
fn fill(frame: &mut Frame, urb: &mut Urb, length: i32) {
    let flags = urb.flags.raw(&urb.kind, urb.is_in());
    let packets = match &urb.kind {
        Kind::Iso(packets) => packets.as_slice(),
        _ => &[],
    };
    for (raw, packet) in frame.packets.iter_mut().zip(packets) {
        *raw = RawPacket { length: packet.length, actual_length: 0, status: 0 };
    }
    frame.urb = RawUrb {
        kind: urb.kind.raw(),
        endpoint: urb.endpoint,
        status: 0,
        flags,
        buffer: urb.buffer.data_mut().as_mut_ptr().cast(),
        buffer_length: length,
        actual_length: 0,
        start_frame: 0,
        // At most MAX_PACKETS: `Urb::check`.
        number_of_packets: i32::try_from(packets.len()).unwrap_or(0),
        error_count: 0,
        signr: 0,
        usercontext: ptr::null_mut(),
    };
}

/// Reads the results from the kernel: the status, the number of bytes transferred, and the number
/// of packets that failed.
fn read_results(submitted: &mut Submitted) -> (Status, usize, u32) {
    let frame = submitted.frame.get();
    for (packet, raw) in submitted.packets.iter_mut().zip(&frame.packets) {
        packet.actual_length = raw.actual_length.min(packet.length);
        packet.status = Status::from_raw(raw.status as i32);
    }
    let length = usize::try_from(frame.urb.actual_length).unwrap_or(0).min(submitted.max_length);
    (Status::from_raw(frame.urb.status), length, u32::try_from(frame.urb.error_count).unwrap_or(0))
}
