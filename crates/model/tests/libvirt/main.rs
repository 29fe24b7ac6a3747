//! The profile `libvirt`, held by examples and by what holds for all specs.
//!
//! | file | about |
//! |---|---|
//! | `cases` | examples, each in a file of `cases/` with what must come out, stated by hand from what libvirt does |
//! | `case` | how such a file is read |
//! | `manual` | stories of what one asks for, and of what is refused, with the whole of what is said |
//! | `properties` | soundness, resolving again, the search against an obvious one |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod case;
mod cases;
mod manual;
mod properties;
