//! libvusb: the library for programs in C. `include/vusb.h` is its documentation.
//!
//! ```text
//!   vusb_call ──────────────▶ vusb-methods ─┐
//!   vusb_controller_add, … ─────────────────┼─▶ vusb (the library)
//!   vusb_watch, vusb_events_next ───────────┘
//! ```
//!
//! Every function that can fail runs inside [`entry`], which catches panics, blocks SIGPIPE, and
//! reports errors as a [`error::VusbError`]. Strings and arrays that the caller gets are allocated
//! with `malloc` ([`memory`]). The library prints nothing, and has no state except the handles and
//! the panic hook. Threads only exist during a call. The only environment variable that is read is
//! RUST_MIN_STACK: Rust's standard library reads it when it starts a thread.
//!
//! Unsafe code accesses the caller's pointers or calls the C library (`memory`, `signals`). The
//! SAFETY comments refer to the header, which states what the caller guarantees.

#![allow(unsafe_code, reason = "the boundary to C")]
#![allow(
    clippy::missing_safety_doc,
    reason = "include/vusb.h says what the caller of each function guarantees"
)]

pub mod calls;
pub mod controllers;
pub mod devices;
pub mod entry;
pub mod error;
pub mod handle;
pub mod memory;
mod signals;
pub mod watch;
