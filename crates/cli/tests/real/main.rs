//! The command on real guests: the command lines, their output, and what the guest's own kernel
//! sees.
//!
//! The tests boot guests under software emulation, so they are slow; `cargo xtask test` runs them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod cold;
mod command_lines;
mod failures;
mod hot;
mod kinds;
mod moving;
mod nearest;
mod other_user;
mod passthrough;
mod storage;
mod support;
mod two_users;
mod versions;
