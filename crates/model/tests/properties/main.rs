//! Properties of all specs and all hardware.
//!
//! | file | about |
//! |---|---|
//! | `generate` | random specs: many controllers, hubs, kinds and explicit ports |
//! | `ports` | a second, independent implementation of the tables of ports and speeds |
//! | `naive` | the simplest implementation of rules 7 and 8 of `vusb-1` |
//! | `resolving` | resolving again, on top of a base, in another order; soundness; comparison with the naive rules |
//! | `changing` | steps, their undo, digests and stored hardware |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod changing;
mod generate;
mod naive;
mod ports;
mod resolving;
