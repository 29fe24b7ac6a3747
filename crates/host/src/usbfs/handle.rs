//! The blocking calls of a device.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use thiserror::Error;
use vusb_model::speed::Speed;

use super::ioctls;
use crate::text::printable;

/// The blocking calls of a device, for any thread. Clones share the open device.
///
/// Each of these calls can take seconds: the device has to respond, a driver has to be unbound, or
/// a hub has to reset a port. The kernel holds the device's lock in the meantime, which also blocks
/// reaping (except in [`Handle::control`], which releases the lock while it waits for the device).
/// A caller that must not block makes such a call on another thread and does not use the
/// [`UsbFs`](super::UsbFs) of this device until it has returned. Other devices are not affected.
///
/// The device stays open, and its interfaces stay claimed, until `UsbFs` and all handles are
/// dropped.
#[derive(Clone, Debug)]
pub struct Handle {
    fd: Arc<OwnedFd>,
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum CallError {
    /// The device was unplugged.
    #[error("cannot {call}: the device is gone; plug it in again")]
    Gone {
        /// What failed, as in "cannot CALL".
        call: &'static str,
    },
    /// A kernel driver or another program uses an interface that the call needs.
    #[error("cannot {call}: a driver or another program uses the interface; release it first")]
    Busy {
        /// What failed, as in "cannot CALL".
        call: &'static str,
    },
    /// The device rejected the request with a stall.
    #[error(
        "cannot {call}: the device rejected the request; it is not supported, or not in the current state"
    )]
    Stalled {
        /// What failed, as in "cannot CALL".
        call: &'static str,
    },
    /// The device did not respond in time.
    #[error("cannot {call}: the device did not respond in time; reset it or plug it in again")]
    TimedOut {
        /// What failed, as in "cannot CALL".
        call: &'static str,
    },
    /// Any other error.
    #[error("cannot {call}: {source}")]
    Failed {
        /// What failed, as in "cannot CALL".
        call: &'static str,
        /// The system's error.
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

    /// The negative error number, as Linux and PVUSB define it.
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

/// What the kernel and the device's controller support: `USBDEVFS_CAP_*` of
/// `<linux/usbdevice_fs.h>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u32);

impl Capabilities {
    #[cfg(test)]
    pub(super) const fn from_bits(bits: u32) -> Capabilities {
        Capabilities(bits)
    }

    /// [`Flags::zero_packet`](super::Flags::zero_packet) is supported.
    pub const fn zero_packet(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// [`Flags::bulk_continuation`](super::Flags::bulk_continuation) is supported: the controller
    /// stops at a short packet. xHCI does not.
    pub const fn bulk_continuation(self) -> bool {
        self.0 & 0x02 != 0
    }

    /// Transfers may be longer than 16 KiB.
    pub const fn no_packet_size_limit(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// Large bulk transfers use scatter-gather lists, so the kernel needs no contiguous memory for
    /// them.
    pub const fn scatter_gather(self) -> bool {
        self.0 & 0x08 != 0
    }

    /// Completions can be reaped after the device is gone (Linux 4.0 and later).
    pub const fn reap_after_disconnect(self) -> bool {
        self.0 & 0x10 != 0
    }

    /// [`Handle::drop_privileges`] is supported.
    pub const fn drop_privileges(self) -> bool {
        self.0 & 0x40 != 0
    }

    /// All capabilities, as the kernel encodes them.
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

    /// What the kernel and the controller support.
    ///
    /// # Errors
    /// If the device is gone.
    pub fn capabilities(&self) -> Result<Capabilities, CallError> {
        let bits = ioctls::capabilities(self.fd());
        bits.map(Capabilities).map_err(|it| CallError::new("query the capabilities", it))
    }

    /// The speed that the device runs at; `None` if the kernel does not know it.
    ///
    /// # Errors
    /// If the device is gone.
    pub fn speed(&self) -> Result<Option<Speed>, CallError> {
        let raw = ioctls::speed(self.fd()).map_err(|it| CallError::new("query the speed", it))?;
        // `enum usb_device_speed` in <linux/usb/ch9.h>; 4 is wireless, 6 is SuperSpeed Plus.
        Ok(match raw {
            1 => Some(Speed::Low),
            2 => Some(Speed::Full),
            3 => Some(Speed::High),
            5 | 6 => Some(Speed::Super),
            _ => None,
        })
    }

    /// Claims an interface without a driver. Does nothing if it is already claimed here.
    ///
    /// # Errors
    /// If a driver or another program has it, it does not exist (ENOENT), or the device is gone.
    pub fn claim(&self, interface: u8) -> Result<(), CallError> {
        ioctls::claim(self.fd(), interface).map_err(|it| CallError::new("claim the interface", it))
    }

    /// Unbinds an interface from its driver and claims it, atomically. An interface that another
    /// program has claimed through usbfs is not taken. Does nothing if it is already claimed here.
    ///
    /// # Errors
    /// If another program has it, it does not exist (EINVAL), or the device is gone.
    pub fn disconnect_claim(&self, interface: u8) -> Result<(), CallError> {
        match ioctls::disconnect_claim(self.fd(), interface) {
            // It is bound to usbfs: claimed here, so that claiming again does nothing, or by
            // another program.
            Err(Errno::BUSY) => self.claim(interface),
            result => result.map_err(|it| CallError::new("unbind the driver", it)),
        }
    }

    /// Releases an interface. Its URBs are cancelled. It stays without a driver: see
    /// [`Handle::connect`]. Does nothing if it is not claimed here.
    ///
    /// # Errors
    /// If it does not exist (ENOENT), or the device is gone.
    pub fn release(&self, interface: u8) -> Result<(), CallError> {
        match ioctls::release(self.fd(), interface) {
            Err(Errno::INVAL) => Ok(()),
            result => result.map_err(|it| CallError::new("release the interface", it)),
        }
    }

    /// Returns an interface to the kernel: releases it and lets the kernel's drivers probe it.
    /// Returns whether one was bound. A driver that is not loaded yet may bind to it later.
    ///
    /// # Errors
    /// If it does not exist, or the device is gone.
    pub fn connect(&self, interface: u8) -> Result<bool, CallError> {
        self.release(interface)?;
        match ioctls::connect(self.fd(), interface) {
            Ok(bound) => Ok(bound != 0),
            // A driver was bound in the meantime.
            Err(Errno::BUSY) => Ok(true),
            Err(it) => Err(CallError::new("bind a driver", it)),
        }
    }

    /// The driver that is bound to an interface: `usbfs` if a program has claimed it, `None` if
    /// there is no driver or no such interface.
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
            Err(it) => Err(CallError::new("query the driver", it)),
        }
    }

    /// Selects an alternate setting: SET_INTERFACE, which also reconfigures the controller. The
    /// URBs of the interface are cancelled.
    ///
    /// # Errors
    /// If the setting does not exist (EINVAL), the bus lacks bandwidth, the interface is claimed
    /// elsewhere, or the device stalls or is gone.
    pub fn set_interface(&self, interface: u8, alternate: u8) -> Result<(), CallError> {
        let result = ioctls::set_interface(self.fd(), interface, alternate);
        result.map_err(|it| CallError::new("set the interface", it))
    }

    /// Selects a configuration, 0 for none: SET_CONFIGURATION, which also reconfigures the
    /// controller. No interface may be claimed, not even here: release them all first, and claim
    /// the new ones afterwards. Kernel drivers are bound to the new interfaces at once. So use
    /// [`Handle::disconnect_claim`], or claim the port first ([`Handle::claim_port`]).
    ///
    /// # Errors
    /// If an interface is claimed or has a driver ([`CallError::Busy`]), the configuration does not
    /// exist (EINVAL), or the device stalls or is gone.
    pub fn set_configuration(&self, configuration: u8) -> Result<(), CallError> {
        let result = ioctls::set_configuration(self.fd(), configuration.into());
        result.map_err(|it| CallError::new("set the configuration", it))
    }

    /// Clears the halt of an endpoint: CLEAR_FEATURE(ENDPOINT_HALT), which also resets the
    /// controller's data toggle or sequence number.
    ///
    /// # Errors
    /// If the endpoint does not exist (ENOENT), its interface is claimed elsewhere, or the device
    /// stalls or is gone.
    pub fn clear_halt(&self, endpoint: u8) -> Result<(), CallError> {
        let result = ioctls::clear_halt(self.fd(), endpoint);
        result.map_err(|it| CallError::new("clear the halt of the endpoint", it))
    }

    /// Resets the port and restores the device's address, configuration and settings. All URBs are
    /// cancelled. If the device has different descriptors afterwards, it counts as unplugged, and a
    /// new one as plugged in.
    ///
    /// Every claim is lost: the kernel unbinds drivers that do not support a reset, including
    /// usbfs, and probes its drivers again. So a kernel driver may be bound afterwards; take the
    /// interface back with [`Handle::disconnect_claim`]. If no driver may access the device even
    /// for a moment (a disk that a guest writes to), claim its port first ([`Handle::claim_port`]).
    ///
    /// # Errors
    /// If the device is gone, or has changed (ENODEV).
    pub fn reset(&self) -> Result<(), CallError> {
        ioctls::reset(self.fd()).map_err(|it| CallError::new("reset the device", it))
    }

    /// Claims a port of this hub ([`Host::hub`](crate::Host::hub)); ports are numbered from 1.
    /// While the hub is open, the kernel does not bind drivers to the device in that port, even if
    /// it is reset, configured or replaced, and a device that is plugged in is not configured. A
    /// driver that is already bound stays bound. [`Handle::connect`] does not bind a driver either:
    /// release the port first.
    ///
    /// # Errors
    /// If another program has the port ([`CallError::Busy`]), the port does not exist, or this is
    /// not a hub (ENODEV).
    pub fn claim_port(&self, port: u8) -> Result<(), CallError> {
        ioctls::claim_port(self.fd(), port).map_err(|it| CallError::new("claim the port", it))
    }

    /// Releases a port that was claimed here. The device in it is not changed: use
    /// [`Handle::connect`] to bind its drivers.
    ///
    /// # Errors
    /// If the port was not claimed here (ENOENT), or the hub is gone.
    pub fn release_port(&self, port: u8) -> Result<(), CallError> {
        ioctls::release_port(self.fd(), port).map_err(|it| CallError::new("release the port", it))
    }

    /// Restricts this open device irrevocably: from now on only these interfaces can be claimed
    /// (bit N for interface N), no driver can be unbound, and a reset fails while an interface is
    /// claimed elsewhere.
    ///
    /// # Errors
    /// If the mask includes interfaces that were dropped earlier (EINVAL, EACCES), or the device is
    /// gone.
    pub fn drop_privileges(&self, interfaces: u32) -> Result<(), CallError> {
        let result = ioctls::drop_privileges(self.fd(), interfaces);
        result.map_err(|it| CallError::new("drop privileges", it))
    }

    /// Makes a control transfer and returns the number of bytes of `data` that were sent or
    /// received. `setup` is the setup packet as on the wire; its wLength must be the length of
    /// `data`. The timeout is in whole milliseconds, at least 1.
    ///
    /// Do not use it for SET_ADDRESS, SET_CONFIGURATION, SET_INTERFACE and
    /// CLEAR_FEATURE(ENDPOINT_HALT): the kernel has to know about those.
    ///
    /// # Errors
    /// If wLength is wrong or more than 4096 (EINVAL; a URB can have up to 65535), or the device
    /// stalls ([`CallError::Stalled`]), does not respond in time ([`CallError::TimedOut`]) or is
    /// gone.
    pub fn control(
        &self,
        setup: [u8; 8],
        data: &mut [u8],
        timeout: Duration,
    ) -> Result<usize, CallError> {
        const CALL: &str = "make the control transfer";
        let [head @ .., low, high] = setup;
        if usize::from(u16::from_le_bytes([low, high])) != data.len() {
            return Err(CallError::new(CALL, Errno::INVAL));
        }
        let timeout = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1);
        let length = ioctls::control(self.fd(), head, data, timeout);
        let length = length.map_err(|it| CallError::new(CALL, it))?;
        Ok(usize::try_from(length).unwrap_or(0).min(data.len()))
    }
}
