//! Scenarios of the library, on guests of a simulated hypervisor.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod apply;
mod claims;
mod concurrent_commands;
mod config_files;
mod domains;
mod failures;
mod hosts;
mod killed;
mod library;
mod manual;
mod other_hypervisor;
mod property;
mod qemu;
mod rules;
mod sandbox;
mod slow_peer;
mod xen;
mod xen_world;
