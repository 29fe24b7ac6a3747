//! vusb-backend beside `qusb`, the backend of the same protocol in QEMU: in one boot of Xen, for one guest, with one device that goes back and
//! forth, and with dom0's own speed on that device as the limit.
//!
//! ```text
//!   round:  dom0 ─ measure ─▶ vusb: attach ─ measure ─ detach ─▶ qusb: attach ─ measure ─ detach     (every other round: qusb first)
//! ```
//!
//! All of it runs under software emulation: seconds say little, ratios say what they say. Medians over the rounds.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark may fail"
)]

mod measure;
mod stage;
mod table;

use measure::Figures;
use stage::{Side, Stage};
use table::Table;

/// How often each side is measured, unless `VUSB_BENCH_ROUNDS` says it.
const ROUNDS: usize = 3;

fn main() {
    let rounds = std::env::var("VUSB_BENCH_ROUNDS").map_or(ROUNDS, |it| it.parse().unwrap());
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
    measure::together(&stage, &mut all);
    measure::memory(&stage, &mut all);
    print!("{}", Table(&all));
}
