//! The xenstore contract: what one side writes the other side reads, and the page that describes
//! it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod hostile;
mod page;
mod paths;
mod round_trip;

use std::collections::BTreeMap;
use std::convert::Infallible;

use vusb_xen::usb::{Entry, Key};

/// A folder, as one side fills it and the other reads it.
type Nodes = BTreeMap<Key, String>;

fn folder(entries: impl IntoIterator<Item = Entry>) -> Nodes {
    entries.into_iter().collect()
}

/// The function that `parse` reads a folder with.
fn reader(nodes: &Nodes) -> impl FnMut(Key) -> Result<Option<String>, Infallible> {
    |key| Ok(nodes.get(&key).cloned())
}

/// The result of a `parse` whose `read` cannot fail.
fn infallible<T>(result: Result<T, Infallible>) -> T {
    let Ok(value) = result;
    value
}
