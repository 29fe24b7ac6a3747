//! xl's configurations: what they say, how they are changed, what is wrong with them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod changes;
mod mistakes;
mod properties;
mod reading;
mod support;
mod writing;
