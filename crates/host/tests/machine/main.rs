//! Reading a machine's devices, tested with simulated machines in a temporary directory.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot build its machine should fail immediately"
)]

mod hostile;
mod listing;
mod naming;
mod protection;
mod speeds;
mod support;
mod used_by;
