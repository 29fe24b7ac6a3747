//! The table for `docs/benchmarks.md`.

use std::fmt;

use crate::measure::{Figure, Figures};
use crate::stage::Side;

/// The results as a Markdown table.
pub(crate) struct Table<'a>(pub(crate) &'a Figures);

/// The rows: quantity, label with unit, number of decimals, and whether a larger value is better.
const ROWS: [(Figure, &str, usize, bool); 14] = [
    (Figure::Read64K, "64 KiB reads, MB/s", 1, true),
    (Figure::Write64K, "64 KiB writes, MB/s", 1, true),
    (Figure::Read4K, "4 KiB read, one at a time, µs", 0, false),
    (Figure::Interrupt, "from a tablet's report until the next request, µs", 0, false),
    (Figure::InterruptP90, "the same, 90th percentile, µs", 0, false),
    (Figure::Echo, "serial line, round trip of one byte, µs", 0, false),
    (Figure::EchoP90, "the same, 90th percentile, µs", 0, false),
    (Figure::ReadCpu, "processor time per MiB read, ms", 1, false),
    (Figure::WriteCpu, "processor time per MiB written, ms", 1, false),
    (Figure::Attach, "from the command to the stick in the guest, ms", 0, false),
    (Figure::Memory, "resident, one controller in use, KiB", 0, false),
    (Figure::MemoryMore, "resident, each further controller, KiB", 0, false),
    (
        Figure::TwoAlone,
        "two guests with a stick each, 64 KiB reads, sum of both alone, MB/s",
        1,
        true,
    ),
    (Figure::TwoTogether, "the same, both at the same time, sum, MB/s", 1, true),
];

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | dom0 itself | qusb | vusb-backend | better than qusb |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        ROWS.iter().try_for_each(|row| self.row(f, row))
    }
}

impl Table<'_> {
    fn row(
        &self,
        f: &mut fmt::Formatter<'_>,
        (figure, label, decimals, larger_is_better): &(Figure, &str, usize, bool),
    ) -> fmt::Result {
        let get = |side| self.0.get(*figure, side);
        let text = |side| get(side).map_or_else(String::new, |it| format!("{it:.decimals$}"));
        let ratio =
            get(Side::Qusb).zip(get(Side::Vusb)).map_or_else(String::new, |(qusb, vusb)| {
                let ratio = if *larger_is_better { vusb / qusb } else { qusb / vusb };
                format!("**{ratio:.1} times**")
            });
        let (dom0, qusb, vusb) = (text(Side::Dom0), text(Side::Qusb), text(Side::Vusb));
        writeln!(f, "| {label} | {dom0} | {qusb} | {vusb} | {ratio} |")
    }
}
