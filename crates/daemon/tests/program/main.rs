//! The program `vusbd`, with guests of simulated hypervisors and a simulated tree of devices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod api;
mod endurance;
mod events;
mod machine;
mod packaged;
mod varlinkctl;
