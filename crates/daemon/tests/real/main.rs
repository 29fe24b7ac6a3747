//! Real devices and a real guest: the daemon runs in a machine (L1) whose devices an outer QEMU
//! plugs and unplugs. The guest (L2) runs inside this machine.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod comes_back;
mod endurance;
mod machine;
mod recognized;
