//! The calls that wait for a device.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use thiserror::Error;
use vusb_model::speed::Speed;

use super::ioctls;
use crate::text::printable;

/// The calls that wait for a device, for any thread. A clone is the same open device.
///
/// Any of these can take seconds: the device has to answer, a driver has to let go, or a hub has to reset a port. The kernel holds a
/// lock of the device meanwhile, even against reaping (all but [`Handle::control`], which lets go of it while it waits for the device).
/// So whoever cannot wait gives such a call to another thread, and leaves [`UsbFs`](super::UsbFs) of this device alone until it has
/// returned; other devices go on.
///
/// The device stays open, and what was claimed stays claimed, until `UsbFs` and every handle of it are dropped.
#[derive(Clone, Debug)]
pub struct Handle {
    fd: Arc<OwnedFd>,
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum CallError {
    /// The device was unplugged.
    #[error("the device went away while trying to {call}; plug it in again")]
    Gone {
        /// What was tried.
        call: &'static str,
    },
    /// A driver of the kernel, or another program, has an interface that is needed.
    #[error(
        "to {call} is not possible while a driver or another program has the interface; release it first"
    )]
    Busy {
        /// What was tried.
        call: &'static str,
    },
    /// The device refuses, with a stall.
    #[error("the device refused to {call}; it does not know how, or not in its present state")]
    Stalled {
        /// What was tried.
        call: &'static str,
    },
    /// The device did not answer in time.
    #[error("the device did not answer in time to {call}; reset it or plug it in again")]
    TimedOut {
        /// What was tried.
        call: &'static str,
    },
    /// Anything else.
    #[error("the kernel refused to {call}: {source}")]
    Failed {
        /// What was tried.
        call: &'static str,
        /// What the system said.
        source: Errno,
    },
}

impl CallError {
    fn new(call: &'static str, errno: Errno) -> CallError {
        match errno {
            Errno::NODEV | Errno::SHUTDOWN => CallError::Gone { call },
            Errno::BUSY => CallError::Busy { call },
            Errno::PIPE => CallError::Stalled { call },
            Errno::TIMEDOUT => CallError::TimedOut { call },
            source => CallError::Failed { call, source },
        }
    }

    /// As Linux counts errors, and PVUSB with it: a negative number.
    pub const fn errno(&self) -> i32 {
        let errno = match self {
            CallError::Gone { .. } => Errno::SHUTDOWN,
            CallError::Busy { .. } => Errno::BUSY,
            CallError::Stalled { .. } => Errno::PIPE,
            CallError::TimedOut { .. } => Errno::TIMEDOUT,
            CallError::Failed { source, .. } => *source,
        };
        -errno.raw_os_error()
    }
}

/// What the kernel and the controller of a device can do: `USBDEVFS_CAP_*` of `<linux/usbdevice_fs.h>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u32);

impl Capabilities {
    #[cfg(test)]
    pub(super) const fn from_bits(bits: u32) -> Capabilities {
        Capabilities(bits)
    }

    /// [`Flags::zero_packet`](super::Flags::zero_packet) is honoured.
    pub const fn zero_packet(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// [`Flags::bulk_continuation`](super::Flags::bulk_continuation) is honoured: the controller stops at a short packet. xHCI does not.
    pub const fn bulk_continuation(self) -> bool {
        self.0 & 0x02 != 0
    }

    /// A transfer need not be cut at 16 KiB.
    pub const fn no_packet_size_limit(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// Large bulk transfers are gathered from pieces; the kernel needs no single piece of memory for them.
    pub const fn scatter_gather(self) -> bool {
        self.0 & 0x08 != 0
    }

    /// What is finished can be reaped after the device is gone (Linux 4.0 and later).
    pub const fn reap_after_disconnect(self) -> bool {
        self.0 & 0x10 != 0
    }

    /// [`Handle::drop_privileges`] is there.
    pub const fn drop_privileges(self) -> bool {
        self.0 & 0x40 != 0
    }

    /// All of them, as the kernel has them.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl Handle {
    pub(super) const fn new(fd: Arc<OwnedFd>) -> Handle {
        Handle { fd }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        (*self.fd).as_fd()
    }

    /// What the kernel and the controller can do.
    ///
    /// # Errors
    /// If the device is gone.
    pub fn capabilities(&self) -> Result<Capabilities, CallError> {
        let bits = ioctls::capabilities(self.fd());
        bits.map(Capabilities).map_err(|it| CallError::new("ask what can be done", it))
    }

    /// The speed that the device runs at; `None` if the kernel does not know.
    ///
    /// # Errors
    /// If the device is gone.
    pub fn speed(&self) -> Result<Option<Speed>, CallError> {
        let raw = ioctls::speed(self.fd()).map_err(|it| CallError::new("ask for the speed", it))?;
        // `enum usb_device_speed` in <linux/usb/ch9.h>; 4 is wireless, 6 is SuperSpeed Plus.
        Ok(match raw {
            1 => Some(Speed::Low),
            2 => Some(Speed::Full),
            3 => Some(Speed::High),
            5 | 6 => Some(Speed::Super),
            _ => None,
        })
    }

    /// Claims an interface that no driver has. One that is claimed already stays so.
    ///
    /// # Errors
    /// If another has it, there is no such interface (ENOENT), or the device is gone.
    pub fn claim(&self, interface: u8) -> Result<(), CallError> {
        ioctls::claim(self.fd(), interface).map_err(|it| CallError::new("claim the interface", it))
    }

    /// Takes an interface from its driver, whichever it is, and claims it, in one step in which nobody else can come between. An
    /// interface that some program has through usbfs is not taken from it; one that is claimed already here stays so.
    ///
    /// # Errors
    /// If another program has it, there is no such interface (EINVAL), or the device is gone.
    pub fn disconnect_claim(&self, interface: u8) -> Result<(), CallError> {
        match ioctls::disconnect_claim(self.fd(), interface) {
            // usbfs has it: either this very device, for which claiming again does nothing, or another program.
            Err(Errno::BUSY) => self.claim(interface),
            result => result.map_err(|it| CallError::new("take the interface from its driver", it)),
        }
    }

    /// Gives up an interface. Its URBs are cancelled; no driver takes it ([`Handle::connect`] lets one). One that is not claimed stays
    /// so.
    ///
    /// # Errors
    /// If there is no such interface (ENOENT), or the device is gone.
    pub fn release(&self, interface: u8) -> Result<(), CallError> {
        match ioctls::release(self.fd(), interface) {
            Err(Errno::INVAL) => Ok(()),
            result => result.map_err(|it| CallError::new("release the interface", it)),
        }
    }

    /// Gives an interface back to the kernel: releases it and lets the kernel's drivers look at it. Whether one has it now. A driver
    /// that is yet to be loaded may take it later.
    ///
    /// # Errors
    /// If there is no such interface, or the device is gone.
    pub fn connect(&self, interface: u8) -> Result<bool, CallError> {
        self.release(interface)?;
        match ioctls::connect(self.fd(), interface) {
            Ok(bound) => Ok(bound != 0),
            // Another was faster.
            Err(Errno::BUSY) => Ok(true),
            Err(it) => Err(CallError::new("give the interface back to its driver", it)),
        }
    }

    /// The driver that has an interface, `usbfs` if it is some program; `None` if none has it, or there is no such interface.
    ///
    /// # Errors
    /// If the device is gone.
    pub fn driver(&self, interface: u8) -> Result<Option<String>, CallError> {
        match ioctls::driver(self.fd(), interface) {
            Ok(name) => {
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                Ok(Some(printable(name, 255)))
            }
            Err(Errno::NODATA) => Ok(None),
            Err(it) => Err(CallError::new("ask for the driver", it)),
        }
    }

    /// Chooses a setting of an interface: the request SET_INTERFACE, of which the controller has to know. The URBs of the interface are
    /// cancelled.
    ///
    /// # Errors
    /// If there is no such setting (EINVAL), no room on the bus, the interface is not claimed and another has it, or the device
    /// refuses or is gone.
    pub fn set_interface(&self, interface: u8, alternate: u8) -> Result<(), CallError> {
        let result = ioctls::set_interface(self.fd(), interface, alternate);
        result.map_err(|it| CallError::new("set the interface", it))
    }

    /// Chooses a configuration, 0 for none: the request SET_CONFIGURATION, of which the controller has to know. Nobody may have an
    /// interface, not even this device: release them all before, and claim the new ones after it. The drivers of the kernel look at the
    /// new interfaces at once: use [`Handle::disconnect_claim`], or claim the port before ([`Handle::claim_port`]).
    ///
    /// # Errors
    /// If an interface is claimed or has a driver ([`CallError::Busy`]), there is no such configuration (EINVAL), or the device
    /// refuses or is gone.
    pub fn set_configuration(&self, configuration: u8) -> Result<(), CallError> {
        let result = ioctls::set_configuration(self.fd(), configuration.into());
        result.map_err(|it| CallError::new("set the configuration", it))
    }

    /// Ends the halt of an endpoint: the request CLEAR_FEATURE(ENDPOINT_HALT), after which the controller counts its packets anew.
    ///
    /// # Errors
    /// If there is no such endpoint (ENOENT), another has its interface, or the device refuses or is gone.
    pub fn clear_halt(&self, endpoint: u8) -> Result<(), CallError> {
        let result = ioctls::clear_halt(self.fd(), endpoint);
        result.map_err(|it| CallError::new("end the halt of the endpoint", it))
    }

    /// Resets the port, and puts the device's address, configuration and settings back; all URBs are cancelled. If the device does not
    /// come back as what it was, it is gone, and a new one is plugged in.
    ///
    /// Every claim is lost: the kernel unbinds drivers that cannot bear a reset, usbfs among them, and binds anew whoever wants the
    /// interface. So its driver has it then; take it back with [`Handle::disconnect_claim`]. Where no driver may see the device even for
    /// a moment (a disk that a guest writes to), claim its port before ([`Handle::claim_port`]).
    ///
    /// # Errors
    /// If the device is gone, or comes back as another (ENODEV).
    pub fn reset(&self) -> Result<(), CallError> {
        ioctls::reset(self.fd()).map_err(|it| CallError::new("reset the device", it))
    }

    /// Claims a port (from 1 on) of this device, which is a hub ([`Host::hub`](crate::Host::hub)): as long as this is open, no driver of
    /// the kernel is bound to the device in that port by itself, be it reset, configured or plugged in anew, and a device that is plugged
    /// in is left without a configuration. A driver that has it now keeps it. [`Handle::connect`] finds no driver either: release the port
    /// first.
    ///
    /// # Errors
    /// If another program has the port ([`CallError::Busy`]), there is no such port, or this is no hub (ENODEV).
    pub fn claim_port(&self, port: u8) -> Result<(), CallError> {
        ioctls::claim_port(self.fd(), port).map_err(|it| CallError::new("claim the port", it))
    }

    /// Gives up a port that was claimed here. What sits in it stays as it is: [`Handle::connect`] gives it to its drivers.
    ///
    /// # Errors
    /// If it was not claimed here (ENOENT), or the hub is gone.
    pub fn release_port(&self, port: u8) -> Result<(), CallError> {
        ioctls::release_port(self.fd(), port).map_err(|it| CallError::new("release the port", it))
    }

    /// From now on only these interfaces can be claimed (bit N: interface N), none can be taken from a driver, and a reset takes that
    /// no other has an interface. There is no way back.
    ///
    /// # Errors
    /// If more is asked for than is left (EINVAL, EACCES), or the device is gone.
    pub fn drop_privileges(&self, interfaces: u32) -> Result<(), CallError> {
        let result = ioctls::drop_privileges(self.fd(), interfaces);
        result.map_err(|it| CallError::new("drop privileges", it))
    }

    /// A control transfer that is waited for: how many bytes of `data` were sent or received. `setup` is the setup packet as on the
    /// wire; its wLength must be the length of `data`. The timeout is rounded up to milliseconds, at least 1.
    ///
    /// SET_ADDRESS, SET_CONFIGURATION, SET_INTERFACE and CLEAR_FEATURE(ENDPOINT_HALT) are not for here: the kernel must know of them.
    ///
    /// # Errors
    /// If wLength is wrong (EINVAL), more than 4096 (EINVAL: usbfs takes no more here; an URB takes 65535), or the device refuses
    /// ([`CallError::Stalled`]), is too slow ([`CallError::TimedOut`]) or is gone.
    pub fn control(
        &self,
        setup: [u8; 8],
        data: &mut [u8],
        timeout: Duration,
    ) -> Result<usize, CallError> {
        const CALL: &str = "answer a request";
        let [head @ .., low, high] = setup;
        if usize::from(u16::from_le_bytes([low, high])) != data.len() {
            return Err(CallError::new(CALL, Errno::INVAL));
        }
        let timeout = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1);
        let moved = ioctls::control(self.fd(), head, data, timeout);
        let moved = moved.map_err(|it| CallError::new(CALL, it))?;
        Ok(usize::try_from(moved).unwrap_or(0).min(data.len()))
    }
}
