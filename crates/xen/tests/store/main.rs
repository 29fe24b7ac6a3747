//! What can be done with xenstore, and what happens when it cannot be done.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod nodes;
mod peer;
mod transactions;
mod trouble;
mod watches;
mod wire;
