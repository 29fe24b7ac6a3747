//! xl's configurations: reading, editing, writing, and mistakes in them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod changes;
mod mistakes;
mod properties;
mod reading;
mod support;
mod writing;
