//! The engine with a guest, its memory and its devices, all of which do what a test wants.
//!
//! ```text
//!   world ─┬─ usbif's front: the guest's side of the rings, with the rules of xen-hcd
//!          ├─ memory: what the guest has granted, byte by byte, and for how long
//!          ├─ device: keeps each transfer until the test finishes it
//!          └─ Engine, and its jobs, which end when the test ends them
//! ```
//!
//! A test that the engine does not fail in its own way fails in `world`: a request that is answered twice, memory that is touched without a
//! grant, a device that is touched while a job is at it.

mod device;
mod memory;
mod sheets;
mod world;

mod bulk;
mod enumeration;
mod isochronous;
mod jobs;
mod liars;
mod machine;
mod plugging;
mod shortage;
mod unlink;
