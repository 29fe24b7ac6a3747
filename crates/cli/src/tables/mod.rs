//! What is shown as a table: domains, this machine's devices, the models.
//!
//! A table has no lines and no colours, its columns are two blanks apart, and it begins with a line of capitals, so that
//! `awk` and eyes both find their way.

mod domains;
mod host;
mod models;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use crate::safe;

pub(crate) use domains::{all, controllers, devices, domain, planned};
pub(crate) use host::host;
pub(crate) use models::models;

/// A table as text. Every cell is made one harmless line; an empty one stays empty.
fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| safe::line(&cell).into_owned()));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}
