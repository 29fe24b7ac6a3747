//! What the library does, told by what happens to guests of a simulated hypervisor.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod apply;
mod failures;
mod hosts;
mod house;
mod killed;
mod manual;
mod property;
mod qemu;
mod together;
mod xen;
mod xen_world;
