//! Operations on xenstore, and their failures.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod failures;
mod nodes;
mod peer;
mod transactions;
mod watches;
mod wire;
