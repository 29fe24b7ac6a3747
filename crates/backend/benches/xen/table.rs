//! The table, as `docs/benchmarks.md` has it.

use std::fmt;

use crate::measure::{Figure, Figures};
use crate::stage::Side;

/// Figures as a table of Markdown.
pub(crate) struct Table<'a>(pub(crate) &'a Figures);

/// A row: what, in which unit, with how many digits, and whether more is better.
const ROWS: [(Figure, &str, usize, bool); 14] = [
    (Figure::Read64K, "64 KiB reads, MB/s", 1, true),
    (Figure::Write64K, "64 KiB writes, MB/s", 1, true),
    (Figure::Read4K, "4 KiB read, one at a time, µs", 0, false),
    (Figure::Interrupt, "from a tablet's report until the next is asked for, µs", 0, false),
    (Figure::InterruptNinth, "the same, nine of ten are faster, µs", 0, false),
    (Figure::Echo, "serial line, a byte there and back, µs", 0, false),
    (Figure::EchoNinth, "the same, nine of ten are faster, µs", 0, false),
    (Figure::ReadCpu, "processor time a MiB read, ms", 1, false),
    (Figure::WriteCpu, "processor time a MiB written, ms", 1, false),
    (Figure::Attach, "from the command to the stick in the guest, ms", 0, false),
    (Figure::Memory, "resident, one controller, KiB", 0, false),
    (
        Figure::TwoAlone,
        "two guests with a stick each, 64 KiB reads, each alone, sum, MB/s",
        1,
        true,
    ),
    (Figure::TwoTogether, "the same, both at once, sum, MB/s", 1, true),
    (Figure::MemoryMore, "each further controller, KiB", 0, false),
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
        (figure, what, digits, more): &(Figure, &str, usize, bool),
    ) -> fmt::Result {
        let get = |side| self.0.get(*figure, side);
        let text = |side| get(side).map_or_else(String::new, |it| format!("{it:.digits$}"));
        let ratio =
            get(Side::Qusb).zip(get(Side::Vusb)).map_or_else(String::new, |(qusb, vusb)| {
                let ratio = if *more { vusb / qusb } else { qusb / vusb };
                format!("**{ratio:.1} times**")
            });
        let (dom0, qusb, vusb) = (text(Side::Dom0), text(Side::Qusb), text(Side::Vusb));
        writeln!(f, "| {what} | {dom0} | {qusb} | {vusb} | {ratio} |")
    }
}
