//! URBs in flight: memory that the kernel knows of.
//!
//! When does the kernel touch it? From Linux, `drivers/usb/core/devio.c`:
//!
//! ```text
//! SUBMITURB      reads the URB, its packets, the setup packet and what is to be sent, and keeps copies of its own
//!                (proc_do_submiturb); of ours it keeps two addresses, of the URB and of its buffer
//! in flight      the controller works with the kernel's copies. Nothing of ours is touched
//! REAPURB...     what was received, and the results, are written to the two addresses, of this one URB and in the memory of the
//!                process that reaps (processcompl). Then the kernel forgets the URB
//! DISCARDURB     ends the URB, waits until it has (usb_kill_urb), and writes nothing; it is left to be reaped
//! close          ends all URBs and forgets them, and writes nothing (usbdev_release)
//! unplugging     ends all URBs, which are left to be reaped (usbdev_remove)
//! ```
//!
//! So memory is the kernel's from SUBMITURB until the URB is reaped, and is freed by nothing else: not when `UsbFs` is dropped, for the
//! file may live on, in a `Handle` or in a duplicate of its descriptor, and whoever reaps from that one would have the kernel write to
//! where the memory was. `UsbFs` therefore discards and reaps what is in flight before it goes, and never frees what it could not reap
//! (that takes a second program that reaps with a duplicate of the descriptor, or a kernel that hangs).

#![allow(unsafe_code, reason = "owns memory that the kernel writes to")]

use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};

use rustix::io::Errno;

use super::buffer::Buffer;
use super::device::Gone;
use super::ioctls::{self, RawPacket, RawUrb};
use super::urb::{Done, Kind, MAX_PACKETS, Packet, Refused, SETUP, Status, Urb};

/// The most URBs of one device in flight. A guest's controller has 16; a relay that adds some of its own stays far below.
pub const MAX_IN_FLIGHT: usize = 256;

/// What the kernel calls `struct usbdevfs_urb`, with room for all packets.
#[repr(C)]
struct Frame {
    urb: RawUrb,
    packets: [RawPacket; MAX_PACKETS],
}

/// Where the packets begin.
#[cfg(test)]
pub(super) const FRAME_PACKETS: usize = std::mem::offset_of!(Frame, packets);

/// A [`Frame`] at an address that does not change. Not a `Box`: while it is in flight the kernel writes to it, and a `Box` that is moved
/// about says that nobody else does.
struct FrameBox(NonNull<Frame>);

// SAFETY: it owns its frame, which holds plain numbers and addresses.
unsafe impl Send for FrameBox {}
// SAFETY: `&FrameBox` gives nothing but the address.
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
        // The URB is the first field, and the pointer is good for all of the frame: the packets are found behind the URB.
        self.0.as_ptr().cast()
    }

    /// The frame, which must not be in flight.
    const fn get(&mut self) -> &mut Frame {
        // SAFETY: made from a Box, initialised, and only reached through this value. Whoever calls has it out of flight, so that no
        // ioctl writes to it meanwhile.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for FrameBox {
    fn drop(&mut self) {
        // SAFETY: made from a Box that was leaked, and dropped once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// One URB that the kernel has.
struct Flight {
    token: u64,
    frame: FrameBox,
    buffer: Buffer,
    /// How many bytes there is room for: of the data stage, in a control URB.
    room: usize,
    packets: Vec<Packet>,
}

/// All URBs in flight of one device.
#[derive(Default)]
pub(super) struct Flights {
    flights: Vec<Flight>,
    /// Frames that were in flight, to be used again.
    frames: Vec<FrameBox>,
}

impl Flights {
    pub(super) const fn len(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn submit(
        &mut self,
        fd: BorrowedFd<'_>,
        mut urb: Urb,
        token: u64,
    ) -> Result<(), (Refused, Urb)> {
        let length = match self.check(&urb, token) {
            Ok(length) => length,
            Err(refused) => return Err((refused, urb)),
        };
        let mut frame = self.frames.pop().unwrap_or_else(FrameBox::new);
        fill(frame.get(), &mut urb, length);
        // SAFETY: `frame` is an URB with its packets behind it, and its buffer is as long as it says and as the packets need: `check`
        // has seen to that. If the kernel takes it, frame and buffer go into `flights`, which lets nobody at them and keeps
        // them until the URB is reaped.
        if let Err(errno) = unsafe { ioctls::submit(fd, frame.urb()) } {
            self.frames.push(frame);
            return Err((Refused::from_errno(errno), urb));
        }
        let Urb { kind, buffer, .. } = urb;
        let (room, packets) = match kind {
            Kind::Control => (buffer.len().saturating_sub(SETUP), Vec::new()),
            Kind::Iso(packets) => (buffer.len(), packets),
            Kind::Bulk | Kind::Interrupt => (buffer.len(), Vec::new()),
        };
        self.flights.push(Flight { token, frame, buffer, room, packets });
        Ok(())
    }

    fn check(&self, urb: &Urb, token: u64) -> Result<i32, Refused> {
        if self.flights.len() >= MAX_IN_FLIGHT {
            return Err(Refused::TooMany(MAX_IN_FLIGHT));
        }
        if self.flights.iter().any(|flight| flight.token == token) {
            return Err(Refused::TokenInUse(token));
        }
        urb.check()
    }

    pub(super) fn reap(&mut self, fd: BorrowedFd<'_>) -> Result<Option<Done>, Gone> {
        loop {
            let urb = match ioctls::reap(fd) {
                Ok(urb) => urb,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(None),
                Err(_) => return Err(Gone),
            };
            // One that is not ours was submitted through a duplicate of the descriptor: nothing may be read through its address.
            if let Some(at) = self.flights.iter().position(|flight| flight.frame.urb() == urb) {
                return Ok(Some(self.land(at)));
            }
        }
    }

    /// The flight at this place, which the kernel has just given back.
    fn land(&mut self, at: usize) -> Done {
        let mut flight = self.flights.swap_remove(at);
        let done = finish(&mut flight);
        let Flight { token, frame, buffer, packets, .. } = flight;
        self.frames.push(frame);
        let (status, actual_length, error_count) = done;
        Done { token, status, actual_length, error_count, packets, buffer }
    }

    pub(super) fn discard(&self, fd: BorrowedFd<'_>, token: u64) {
        if let Some(flight) = self.flights.iter().find(|flight| flight.token == token) {
            // EINVAL: it is finished already. ENODEV: the device is gone, and so it is finished, or soon will be.
            let _ = ioctls::discard(fd, flight.frame.urb());
        }
    }

    pub(super) fn discard_all(&self, fd: BorrowedFd<'_>) {
        // The last ones first, lest the device begins one only to be stopped.
        for flight in self.flights.iter().rev() {
            let _ = ioctls::discard(fd, flight.frame.urb());
        }
    }

    /// Never frees what is in flight.
    pub(super) fn leak(&mut self) {
        for Flight { frame, buffer, .. } in self.flights.drain(..) {
            std::mem::forget(frame);
            buffer.leak();
        }
    }
}

/// Writes what the kernel is to read.
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

/// Reads what the kernel has written: the status, the bytes moved, and the packets that failed.
fn finish(flight: &mut Flight) -> (Status, usize, u32) {
    let frame = flight.frame.get();
    for (packet, raw) in flight.packets.iter_mut().zip(&frame.packets) {
        packet.actual_length = raw.actual_length.min(packet.length);
        packet.status = Status::from_raw(raw.status.cast_signed());
    }
    let moved = usize::try_from(frame.urb.actual_length).unwrap_or(0).min(flight.room);
    (Status::from_raw(frame.urb.status), moved, u32::try_from(frame.urb.error_count).unwrap_or(0))
}
