//! The ioctls of `/dev/xen/evtchn`.
#![allow(unsafe_code, reason = "ioctls")]

use std::ffi::c_void;
use std::os::fd::BorrowedFd;

use rustix::io::Result;
use rustix::ioctl::{Ioctl, IoctlOutput, NoArg, Opcode, Setter, ioctl};

use crate::abi::evtchn as abi;

/// An ioctl that reads `Input` and returns a number.
struct Returning<const OPCODE: Opcode, Input>(Input);

// SAFETY: `as_ptr` points to an `Input` that lives as long as `self`, and every use below pairs an
// opcode with the structure that it reads. The kernel does not write to it.
unsafe impl<const OPCODE: Opcode, Input> Ioctl for Returning<OPCODE, Input> {
    type Output = IoctlOutput;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<IoctlOutput> {
        Ok(output)
    }
}

pub(super) fn bind_interdomain(
    fd: BorrowedFd<'_>,
    bind: abi::BindInterdomain,
) -> Result<IoctlOutput> {
    // SAFETY: the opcode reads a `BindInterdomain`.
    unsafe { ioctl(fd, Returning::<{ abi::BIND_INTERDOMAIN }, _>(bind)) }
}

pub(super) fn bind_unbound(fd: BorrowedFd<'_>, bind: abi::BindUnbound) -> Result<IoctlOutput> {
    // SAFETY: the opcode reads a `BindUnbound`.
    unsafe { ioctl(fd, Returning::<{ abi::BIND_UNBOUND_PORT }, _>(bind)) }
}

pub(super) fn unbind(fd: BorrowedFd<'_>, port: u32) -> Result<()> {
    // SAFETY: the opcode reads a `LocalPort`.
    unsafe { ioctl(fd, Setter::<{ abi::UNBIND }, _>::new(abi::LocalPort { port })) }
}

pub(super) fn notify(fd: BorrowedFd<'_>, port: u32) -> Result<()> {
    // SAFETY: the opcode reads a `LocalPort`.
    unsafe { ioctl(fd, Setter::<{ abi::NOTIFY }, _>::new(abi::LocalPort { port })) }
}

pub(super) fn reset(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the opcode takes no argument.
    unsafe { ioctl(fd, NoArg::<{ abi::RESET }>::new()) }
}

pub(super) fn restrict(fd: BorrowedFd<'_>, domid: u16) -> Result<()> {
    // SAFETY: the opcode reads a `Restrict`.
    unsafe { ioctl(fd, Setter::<{ abi::RESTRICT_DOMID }, _>::new(abi::Restrict { domid })) }
}
