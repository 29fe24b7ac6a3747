//! Safe access to a USB device through usbfs, the nodes `/dev/bus/usb/BBB/DDD`.
//!
//! ```text
//! BufferPool ──take──▶ Buffer, in an Urb
//!                         │
//! UsbFs::open ─▶ UsbFs ─submit(urb, token)─▶ in flight ─epoll: EPOLLOUT─▶ reap ─▶ Completion
//!                  │                            │                          ▲
//!                  │                            └─ discard(token), unplug ─┘
//!                  └─▶ Handle (any thread): blocking calls, such as claim, control and reset
//! ```
//!
//! ```no_run
//! use vusb_host::usbfs::{BufferPool, Flags, Kind, Urb, UsbFs};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut device = UsbFs::open("/dev/bus/usb/003/014".as_ref())?;
//! device.disconnect_claim(0)?;
//! let buffers = BufferPool::new(65536, 16);
//! let buffer = buffers.take().ok_or("no memory")?;
//! let urb = Urb { kind: Kind::Bulk, endpoint: 0x81, flags: Flags::default(), buffer };
//! device.submit(urb, 1).map_err(|(error, _urb)| error)?;
//! // ... once epoll reports EPOLLOUT:
//! while let Some(completion) = device.reap()? {
//!     let data = completion.buffer.data().get(..completion.actual_length);
//!     println!("{}: {:?}, {data:?}", completion.token, completion.status);
//! }
//! device.connect(0)?;
//! # Ok(())
//! # }
//! ```
//!
//! A URB owns its memory from submission until it is reaped, so safe code cannot make the kernel
//! write to memory that is in use elsewhere (`in_flight.rs` explains why). After a device is gone,
//! the URBs in flight can still be reaped, and every buffer is returned.

mod buffer;
mod device;
mod handle;
#[cfg(test)]
mod headers;
mod in_flight;
mod ioctls;
mod urb;

pub use buffer::{Buffer, BufferPool, MAX_BUFFER, PAGE, RangeError};
pub use device::{Gone, OpenError, UsbFs};
pub use handle::{CallError, Capabilities, Handle};
pub use in_flight::MAX_IN_FLIGHT;
pub use urb::{Completion, Flags, Kind, MAX_PACKETS, Packet, Status, SubmitError, Urb};
