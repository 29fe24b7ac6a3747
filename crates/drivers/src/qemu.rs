//! A running QEMU.
