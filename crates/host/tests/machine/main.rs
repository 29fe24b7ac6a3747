//! What is read from a machine, told by machines that are made up in a temporary folder.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot build its machine should fail on the spot"
)]

mod hostile;
mod listing;
mod naming;
mod protection;
mod speeds;
mod support;
