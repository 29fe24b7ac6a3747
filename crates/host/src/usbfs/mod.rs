//! A safe way to talk to a USB device: usbfs, the nodes `/dev/bus/usb/BBB/DDD`.
//!
//! ```text
//!              Buffers ──take──▶ Buffer
//!                                  │ in an Urb
//! UsbFs::open ──▶ UsbFs ──submit(urb, token)──▶ in flight ──epoll: EPOLLOUT──▶ reap ──▶ Done { token, status, buffer }
//!                   │                              │                            ▲
//!                   │                              └────── discard(token), unplugged ┘
//!                   └──▶ Handle (any thread): claim, control, set_configuration, clear_halt, reset, connect: they wait
//! ```
//!
//! ```no_run
//! use vusb_host::usbfs::{Buffers, Flags, Kind, Urb, UsbFs};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut device = UsbFs::open("/dev/bus/usb/003/014".as_ref())?;
//! device.disconnect_claim(0)?;
//! let buffers = Buffers::new(65536, 16);
//! let buffer = buffers.take().ok_or("no memory")?;
//! let urb = Urb { kind: Kind::Bulk, endpoint: 0x81, flags: Flags::default(), buffer };
//! device.submit(urb, 1).map_err(|(refused, _urb)| refused)?;
//! // ... once epoll says EPOLLOUT:
//! while let Some(done) = device.reap()? {
//!     println!("{}: {:?}, {:?}", done.token, done.status, done.buffer.data().get(..done.actual_length));
//! }
//! device.connect(0)?;
//! # Ok(())
//! # }
//! ```
//!
//! An URB owns its memory from when it is submitted until it is reaped: nothing that safe code can do lets the kernel write where it
//! should not (the head of `flight.rs` says why). After a device is gone, what is in flight is reaped all the same, and every buffer
//! comes back.

mod buffer;
mod device;
mod flight;
mod handle;
#[cfg(test)]
mod headers;
mod ioctls;
mod urb;

pub use buffer::{Buffer, Buffers, MAX_BUFFER, NoSuchRange, PAGE};
pub use device::{Gone, OpenError, UsbFs};
pub use flight::MAX_IN_FLIGHT;
pub use handle::{CallError, Capabilities, Handle};
pub use urb::{Done, Flags, Kind, MAX_PACKETS, Packet, Refused, Status, Urb};
