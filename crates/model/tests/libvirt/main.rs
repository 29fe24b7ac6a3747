//! The profile `libvirt`, tested by cases and by properties of all specs.
//!
//! | file | about |
//! |---|---|
//! | `cases` | each file in `cases/` has a spec and the expected result, written by hand from what libvirt does |
//! | `case` | the reader of such a file |
//! | `limits` | the limits of the rules: the last port, one item more or less |
//! | `manual` | common mistakes, with the complete message of each refusal |
//! | `properties` | soundness, resolving again, comparison with a reference implementation |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod case;
mod cases;
mod limits;
mod manual;
mod properties;
