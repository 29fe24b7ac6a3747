//! What holds for all specs and all hardware.
//!
//! | file | about |
//! |---|---|
//! | `generate` | random specs: many controllers, hubs, kinds and explicit ports |
//! | `ports` | the tables of ports and speeds once more, written apart from the library's |
//! | `naive` | rules 7 and 8 in the most obvious way, however slow |
//! | `resolving` | resolving again, on top, in another order; soundness; the naive rules against the fast ones |
//! | `changing` | steps, their undo, digests and stored hardware |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod changing;
mod generate;
mod naive;
mod ports;
mod resolving;
