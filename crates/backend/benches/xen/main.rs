//! Compares vusb-backend with `qusb`, QEMU's backend for the same protocol, in one boot of Xen,
//! with the same guests and devices. dom0's own speed on a device is the upper bound.
//!
//! ```text
//!   round:  dom0 ─ measure ─▶ vusb: attach ─ measure ─ detach ─▶ qusb: attach ─ measure ─ detach
//!           (every other round: qusb first)
//! ```
//!
//! Everything runs under software emulation, so only ratios are meaningful, not absolute times. The
//! results are medians over the rounds. With `--icount`, the module `instructions` measures
//! instead, on a machine whose clock counts instructions.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark may fail"
)]

mod instructions;
mod measure;
mod stage;
mod table;

use measure::Figures;
use stage::{Side, Stage};
use table::Table;

/// The number of rounds, unless `VUSB_BENCH_ROUNDS` is set.
const ROUNDS: usize = 3;

fn main() {
    let rounds = std::env::var("VUSB_BENCH_ROUNDS").map_or(ROUNDS, |it| it.parse().unwrap());
    if std::env::args().any(|it| it == "--icount") {
        return instructions::run(rounds);
    }
    let stage = Stage::new();
    let mut all = Figures::default();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        measure::dom0(&stage, &mut all);
        let order =
            if round % 2 == 0 { [Side::Vusb, Side::Qusb] } else { [Side::Qusb, Side::Vusb] };
        for side in order {
            measure::guest(&stage, side, &mut all);
        }
    }
    measure::two_guests(&stage, &mut all);
    measure::memory(&stage, &mut all);
    print!("{}", Table(&all));
}
