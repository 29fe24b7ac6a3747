//! `vusb-backend`.

#![forbid(unsafe_code)]

fn main() {}
