//! The manual pages of the commands, in section 1.
//!
//! clap_mangen writes everything up to the options. It would reflow the text that `--help` prints
//! after the options, and so break its tables. This module writes that text instead:
//!
//! ```text
//!   DEVICE, a USB device of this machine:  ─▶ .PP, .nf, the lines as they are, .fi
//!     0781:5581   by vendor and product
//!
//!   Prints the location of the device.     ─▶ .PP and the text
//!
//!   Examples:                              ─▶ .SH EXAMPLES
//! ```

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::arguments::Arguments;

/// Blocks of the help text that become sections of a manual page.
const SECTIONS: [(&str, &str); 2] = [("Examples:\n", "EXAMPLES"), ("Exit codes:\n", "EXIT STATUS")];

/// References to the handwritten pages, at the end of each page.
const SEE_ALSO: &str = ".SH \"SEE ALSO\"\n.BR vusb (7),\n.BR vusb\\-spec (5)\n";

/// Writes a page to the folder for each command that `--help` shows.
pub(crate) fn write_pages(folder: &Path) -> io::Result<()> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    write_page(&command, folder)
}

fn write_page(command: &Command, folder: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        write_page(subcommand, folder)?;
    }
    let man = Man::new(command.clone()).manual("vusb");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let details = command.get_after_help().map(|it| details(&it.to_string())).unwrap_or_default();
    page.extend(details.bytes().chain(SEE_ALSO.bytes()));
    fs::write(folder.join(man.get_filename()), page)
}

/// The text after the options, as sections.
fn details(help: &str) -> String {
    let mut text = String::new();
    let (sections, rest): (Vec<&str>, Vec<&str>) = help
        .split("\n\n")
        .partition(|block| SECTIONS.iter().any(|(start, _)| block.starts_with(start)));
    if !rest.is_empty() {
        text.push_str(".SH DETAILS\n");
    }
    rest.into_iter().for_each(|block| write_block(&mut text, block));
    for (start, title) in SECTIONS {
        for lines in sections.iter().filter_map(|block| block.strip_prefix(start)) {
            let _ = writeln!(text, ".SH \"{title}\"");
            write_block(&mut text, lines);
        }
    }
    text
}

/// Writes a paragraph. If a line is indented, the block is a table and keeps its line ends.
fn write_block(text: &mut String, block: &str) {
    let is_table = block.lines().any(|line| line.starts_with(' '));
    text.push_str(if is_table { ".PP\n.nf\n" } else { ".PP\n" });
    for line in block.lines() {
        let escaped = line.replace('\\', "\\e").replace('-', "\\-");
        // A full stop or an apostrophe at the beginning would make it a request.
        let guard = if escaped.starts_with(['.', '\'']) { "\\&" } else { "" };
        let _ = writeln!(text, "{guard}{escaped}");
    }
    text.push_str(if is_table { ".fi\n" } else { "" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_their_lines_and_examples_are_a_section() {
        let help = "Prints it.\n\nDEVICE:\n  1-4   by port\n\nExamples:\n  a\\b\n.c";
        assert_eq!(
            details(help),
            ".SH DETAILS\n.PP\nPrints it.\n.PP\n.nf\nDEVICE:\n  1\\-4   by port\n.fi\n\
             .SH \"EXAMPLES\"\n.PP\n.nf\n  a\\eb\n\\&.c\n.fi\n"
        );
    }
}
