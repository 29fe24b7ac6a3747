//! The driver of Xen guests, against a simulated machine: a xenstored, vusb-backends and guests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

mod access;
mod capabilities;
mod controllers;
mod device_model;
mod devices;
mod domains;
mod limits;
mod observe;
mod scheme;
mod watch;
mod world;
mod xenstored;
