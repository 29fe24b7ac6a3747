//! The ioctls of usbfs, each as a small function.
//!
//! Source: `<linux/usbdevice_fs.h>`; `headers.rs` compiles that header and compares every size,
//! offset and number. The kernel's implementation: Linux, `drivers/usb/core/devio.c`.

#![allow(unsafe_code, reason = "talks to the kernel")]

use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::os::fd::BorrowedFd;
use std::ptr;

use rustix::io::Result;
use rustix::ioctl::{Getter, Ioctl, IoctlOutput, NoArg, Opcode, Setter, Updater, ioctl, opcode};

/// The `type` of every ioctl of usbfs.
const GROUP: u8 = b'U';

pub(crate) const CONTROL: Opcode = opcode::read_write::<ControlTransfer>(GROUP, 0);
pub(crate) const SETINTERFACE: Opcode = opcode::read::<SetInterface>(GROUP, 4);
pub(crate) const SETCONFIGURATION: Opcode = opcode::read::<c_uint>(GROUP, 5);
pub(crate) const GETDRIVER: Opcode = opcode::write::<GetDriver>(GROUP, 8);
pub(crate) const SUBMITURB: Opcode = opcode::read::<RawUrb>(GROUP, 10);
pub(crate) const DISCARDURB: Opcode = opcode::none(GROUP, 11);
pub(crate) const REAPURBNDELAY: Opcode = opcode::write::<*mut c_void>(GROUP, 13);
pub(crate) const CLAIMINTERFACE: Opcode = opcode::read::<c_uint>(GROUP, 15);
pub(crate) const RELEASEINTERFACE: Opcode = opcode::read::<c_uint>(GROUP, 16);
pub(crate) const IOCTL: Opcode = opcode::read_write::<DriverIoctl>(GROUP, 18);
pub(crate) const RESET: Opcode = opcode::none(GROUP, 20);
pub(crate) const CLEAR_HALT: Opcode = opcode::read::<c_uint>(GROUP, 21);
pub(crate) const CONNECT: Opcode = opcode::none(GROUP, 23);
pub(crate) const CLAIM_PORT: Opcode = opcode::read::<c_uint>(GROUP, 24);
pub(crate) const RELEASE_PORT: Opcode = opcode::read::<c_uint>(GROUP, 25);
pub(crate) const GET_CAPABILITIES: Opcode = opcode::read::<u32>(GROUP, 26);
pub(crate) const DISCONNECT_CLAIM: Opcode = opcode::read::<DisconnectClaim>(GROUP, 27);
pub(crate) const DROP_PRIVILEGES: Opcode = opcode::write::<u32>(GROUP, 30);
pub(crate) const GET_SPEED: Opcode = opcode::none(GROUP, 31);

/// `USBDEVFS_URB_TYPE_*`.
pub(crate) const URB_ISO: c_uchar = 0;
pub(crate) const URB_INTERRUPT: c_uchar = 1;
pub(crate) const URB_CONTROL: c_uchar = 2;
pub(crate) const URB_BULK: c_uchar = 3;

/// `USBDEVFS_MAXDRIVERNAME` and its final zero.
const DRIVER_NAME: usize = 255 + 1;

/// `USBDEVFS_DISCONNECT_CLAIM_EXCEPT_DRIVER`: do not unbind this driver.
pub(crate) const EXCEPT_DRIVER: c_uint = 0x02;

/// The driver that is bound to interfaces which programs have claimed.
const USBFS: &[u8] = b"usbfs";

/// `struct usbdevfs_ctrltransfer`.
#[repr(C)]
pub(crate) struct ControlTransfer {
    pub(crate) request_type: u8,
    pub(crate) request: u8,
    pub(crate) value: u16,
    pub(crate) index: u16,
    pub(crate) length: u16,
    /// In milliseconds; 0 waits forever.
    pub(crate) timeout: u32,
    pub(crate) data: *mut c_void,
}

/// `struct usbdevfs_setinterface`.
#[repr(C)]
pub(crate) struct SetInterface {
    pub(crate) interface: c_uint,
    pub(crate) alternate: c_uint,
}

/// `struct usbdevfs_getdriver`.
#[repr(C)]
pub(crate) struct GetDriver {
    pub(crate) interface: c_uint,
    pub(crate) driver: [u8; DRIVER_NAME],
}

/// `struct usbdevfs_disconnect_claim`.
#[repr(C)]
pub(crate) struct DisconnectClaim {
    pub(crate) interface: c_uint,
    pub(crate) flags: c_uint,
    pub(crate) driver: [u8; DRIVER_NAME],
}

/// `struct usbdevfs_ioctl`: an ioctl for the driver of one interface.
#[repr(C)]
pub(crate) struct DriverIoctl {
    pub(crate) interface: c_int,
    pub(crate) code: c_int,
    pub(crate) data: *mut c_void,
}

/// `struct usbdevfs_iso_packet_desc`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct RawPacket {
    pub(crate) length: c_uint,
    pub(crate) actual_length: c_uint,
    /// 0 or a negative error number, despite its type.
    pub(crate) status: c_uint,
}

/// `struct usbdevfs_urb`, without the packets that follow it.
#[repr(C)]
pub(crate) struct RawUrb {
    pub(crate) kind: c_uchar,
    pub(crate) endpoint: c_uchar,
    pub(crate) status: c_int,
    pub(crate) flags: c_uint,
    pub(crate) buffer: *mut c_void,
    pub(crate) buffer_length: c_int,
    pub(crate) actual_length: c_int,
    pub(crate) start_frame: c_int,
    pub(crate) number_of_packets: c_int,
    pub(crate) error_count: c_int,
    pub(crate) signr: c_uint,
    pub(crate) usercontext: *mut c_void,
}

/// An ioctl whose argument is a raw pointer, and whose result is the return value of the system
/// call.
struct Raw<const OPCODE: Opcode>(*mut c_void);

// SAFETY: opcode and pointer are those that `Raw` was created with, and each creator guarantees
// that they match. IS_MUTATING is set, so the compiler assumes that the kernel writes to the
// memory.
unsafe impl<const OPCODE: Opcode> Ioctl for Raw<OPCODE> {
    type Output = c_int;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.0
    }

    unsafe fn output_from_ptr(returned: IoctlOutput, _: *mut c_void) -> Result<c_int> {
        Ok(returned)
    }
}

pub(crate) fn capabilities(fd: BorrowedFd<'_>) -> Result<u32> {
    // SAFETY: the kernel writes one u32.
    unsafe { ioctl(fd, Getter::<GET_CAPABILITIES, u32>::new()) }
}

/// One of `enum usb_device_speed` (`<linux/usb/ch9.h>`).
pub(crate) fn speed(fd: BorrowedFd<'_>) -> Result<c_int> {
    // SAFETY: the kernel ignores the argument; the speed is the return value.
    unsafe { ioctl(fd, Raw::<GET_SPEED>(ptr::null_mut())) }
}

pub(crate) fn claim(fd: BorrowedFd<'_>, interface: u8) -> Result<()> {
    // SAFETY: the kernel reads one unsigned int.
    unsafe { ioctl(fd, Setter::<CLAIMINTERFACE, c_uint>::new(interface.into())) }
}

pub(crate) fn release(fd: BorrowedFd<'_>, interface: u8) -> Result<()> {
    // SAFETY: the kernel reads one unsigned int.
    unsafe { ioctl(fd, Setter::<RELEASEINTERFACE, c_uint>::new(interface.into())) }
}

/// Unbinds the interface from any driver except usbfs itself, and claims it.
pub(crate) fn disconnect_claim(fd: BorrowedFd<'_>, interface: u8) -> Result<()> {
    let mut driver = [0; DRIVER_NAME];
    for (to, from) in driver.iter_mut().zip(USBFS) {
        *to = *from;
    }
    let request = DisconnectClaim { interface: interface.into(), flags: EXCEPT_DRIVER, driver };
    // SAFETY: the kernel reads one usbdevfs_disconnect_claim.
    unsafe { ioctl(fd, Setter::<DISCONNECT_CLAIM, DisconnectClaim>::new(request)) }
}

/// Lets the kernel's drivers probe the interface. Not 0 if one was bound.
pub(crate) fn connect(fd: BorrowedFd<'_>, interface: u8) -> Result<c_int> {
    let code = CONNECT as c_int;
    let mut request = DriverIoctl { interface: interface.into(), code, data: ptr::null_mut() };
    // SAFETY: the kernel reads one usbdevfs_ioctl; USBDEVFS_CONNECT carries no data (its size is
    // 0).
    unsafe { ioctl(fd, Raw::<IOCTL>((&raw mut request).cast())) }
}

/// The name of the driver, padded with zero bytes.
pub(crate) fn driver(fd: BorrowedFd<'_>, interface: u8) -> Result<[u8; DRIVER_NAME]> {
    let mut answer = GetDriver { interface: interface.into(), driver: [0; DRIVER_NAME] };
    // SAFETY: the kernel reads and writes one usbdevfs_getdriver.
    unsafe { ioctl(fd, Updater::<GETDRIVER, GetDriver>::new(&mut answer)) }?;
    Ok(answer.driver)
}

pub(crate) fn set_interface(fd: BorrowedFd<'_>, interface: u8, alternate: u8) -> Result<()> {
    let request = SetInterface { interface: interface.into(), alternate: alternate.into() };
    // SAFETY: the kernel reads one usbdevfs_setinterface.
    unsafe { ioctl(fd, Setter::<SETINTERFACE, SetInterface>::new(request)) }
}

/// Selects the configuration with this value. 0 selects none, unless the device has a configuration
/// with this value; -1 always selects none.
pub(crate) fn set_configuration(fd: BorrowedFd<'_>, configuration: c_int) -> Result<()> {
    // SAFETY: the kernel reads one int.
    unsafe { ioctl(fd, Setter::<SETCONFIGURATION, c_int>::new(configuration)) }
}

pub(crate) fn clear_halt(fd: BorrowedFd<'_>, endpoint: u8) -> Result<()> {
    // SAFETY: the kernel reads one unsigned int.
    unsafe { ioctl(fd, Setter::<CLEAR_HALT, c_uint>::new(endpoint.into())) }
}

pub(crate) fn reset(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the ioctl has no argument.
    unsafe { ioctl(fd, NoArg::<RESET>::new()) }
}

pub(crate) fn claim_port(hub: BorrowedFd<'_>, port: u8) -> Result<()> {
    // SAFETY: the kernel reads one unsigned int.
    unsafe { ioctl(hub, Setter::<CLAIM_PORT, c_uint>::new(port.into())) }
}

pub(crate) fn release_port(hub: BorrowedFd<'_>, port: u8) -> Result<()> {
    // SAFETY: the kernel reads one unsigned int.
    unsafe { ioctl(hub, Setter::<RELEASE_PORT, c_uint>::new(port.into())) }
}

pub(crate) fn drop_privileges(fd: BorrowedFd<'_>, interfaces: u32) -> Result<()> {
    // SAFETY: the kernel reads one u32.
    unsafe { ioctl(fd, Setter::<DROP_PRIVILEGES, u32>::new(interfaces)) }
}

/// Makes a control transfer, with the length of `data` as wLength. Returns the number of bytes
/// transferred.
pub(crate) fn control(
    fd: BorrowedFd<'_>,
    [request_type, request, value_low, value_high, index_low, index_high]: [u8; 6],
    data: &mut [u8],
    timeout: u32,
) -> Result<c_int> {
    let length = u16::try_from(data.len()).map_err(|_| rustix::io::Errno::INVAL)?;
    let mut transfer = ControlTransfer {
        request_type,
        request,
        value: u16::from_le_bytes([value_low, value_high]),
        index: u16::from_le_bytes([index_low, index_high]),
        length,
        timeout,
        data: data.as_mut_ptr().cast(),
    };
    // SAFETY: the kernel reads one usbdevfs_ctrltransfer, and reads or writes at most `length`
    // bytes at `data`, which is a slice of that length and borrowed during the call.
    unsafe { ioctl(fd, Raw::<CONTROL>((&raw mut transfer).cast())) }
}

/// Submits a URB to the kernel.
///
/// # Safety
/// `urb` points to a usbdevfs_urb, followed by `number_of_packets` packets if it is isochronous.
/// Its buffer has `buffer_length` bytes, or as many as all packets together. If this succeeds, all
/// of that must stay in place and must not be accessed until the kernel has returned the URB in
/// [`reap`], or can no longer do so.
pub(crate) unsafe fn submit(fd: BorrowedFd<'_>, urb: *mut RawUrb) -> Result<()> {
    // SAFETY: the caller guarantees what the kernel relies on.
    unsafe { ioctl(fd, Raw::<SUBMITURB>(urb.cast())) }.map(drop)
}

/// Cancels a URB. The pointer only identifies it and is not dereferenced.
pub(crate) fn discard(fd: BorrowedFd<'_>, urb: *mut RawUrb) -> Result<()> {
    // SAFETY: the kernel compares the pointer with those of the URBs in flight and does not
    // dereference it.
    unsafe { ioctl(fd, Raw::<DISCARDURB>(urb.cast())) }.map(drop)
}

/// The address of the next URB that has ended. EAGAIN: there is none. ENODEV: there is none, and
/// the device is gone.
pub(crate) fn reap(fd: BorrowedFd<'_>) -> Result<*mut RawUrb> {
    // SAFETY: the kernel writes one pointer here, and the results into the URB and its buffer,
    // which the submitter has kept in place (see `submit`).
    unsafe { ioctl(fd, Getter::<REAPURBNDELAY, *mut RawUrb>::new()) }
}
