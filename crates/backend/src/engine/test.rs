//! Tests of the engine with a simulated guest, its memory and its devices. The tests control every
//! step.
//!
//! ```text
//!   world ─┬─ usbif's front: the guest's side of the rings, with the rules of xen-hcd
//!          ├─ memory: what the guest has granted, byte by byte
//!          ├─ device: keeps each transfer until the test completes it
//!          └─ Engine, and its jobs, which end when the test ends them
//! ```
//!
//! The simulation itself checks some rules in every test: no request is answered twice, no memory
//! is accessed without a grant, and no device is accessed while a job works on it.

mod descriptors;
mod device;
mod memory;
mod world;

mod bulk;
mod enumeration;
mod hotplug;
mod isochronous;
mod jobs;
mod malicious_guests;
mod memory_shortage;
mod random_operations;
mod trains;
mod unlink;
