//! The way in for the fuzzer, past the socket: from a device tree as QEMU prints it to the hardware in it. No part of the API.

use vusb_model::hardware::Hardware;

use super::assemble::assemble;
use super::details::Details;
use super::{qtree, scan};

/// Reads a tree and puts together what is in it, without a record and with one.
pub fn tree(text: &str) {
    let Some(root) = qtree::read(text) else { return };
    let scan = scan::scan(&root);
    let details = Details::default();
    let (first, _) = assemble(&scan, &details, &Hardware::new());
    // Again, by who knows it.
    let _ = assemble(&scan, &details, &first.hardware);
}
