//! How a table becomes text.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use crate::safe;

/// A table as text. Control characters in cells are escaped, so that each row is one line.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    lines: impl IntoIterator<Item = [String; N]>,
) -> String {
    rows(header.map(str::to_owned).into(), lines.into_iter().map(Vec::from))
}

/// As [`table`], for a number of columns that is only known at run time.
pub(super) fn rows(header: Vec<String>, lines: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for line in lines {
        table.add_row(line.iter().map(|cell| safe::line(cell).into_owned()));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}
