//! The pages for users of another tool, parsed for the tests that run their commands.
//!
//! ```text
//!   ## Guests that run                                  a heading: applies to all parts that follow
//!
//!   | with xl | with vusb |
//!   |---|---|
//!   | `xl usb-list web1` | `vusb list xen:web1` |       a row: a part with two cells
//!
//!       vusb list xen:web1     # says which             a line of a block: a part with one cell
//!
//!   `vusb apply web1.toml` puts it back, but            a paragraph or list item: also one cell
//!   `vusb apply web1.cfg` ends with exit code 2.
//! ```
//!
//! A command is a code span, or a line of a block, that starts with the name of its program. The
//! text between it and the next code span can specify its result: "prints `pv0`" is its complete
//! output, and "exit code 2" its exit code.

use std::path::Path;

use crate::error::{Error, Result};

/// A page.
#[derive(Debug)]
pub struct Guide {
    /// Everything except headings, in order.
    pub parts: Vec<Part>,
}

/// A row of a table, a line of a block or a paragraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The last second-level heading above it; empty if there is none.
    pub heading: String,
    /// The line number of its first line.
    pub line: usize,
    /// Whether it is a line of a block.
    pub is_line: bool,
    /// Its cells: those of a row, otherwise one.
    pub cells: Vec<Cell>,
}

/// A text that contains code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The code in it (its code spans, or the line of a block without its comment), each with the
    /// text up to the next one.
    pub code: Vec<(String, String)>,
}

/// A command that the page contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The whole line.
    pub text: String,
    /// Its complete output, if the page specifies it.
    pub prints: Option<String>,
    /// Its exit code, 0 unless the page specifies another one.
    pub code: i32,
}

impl Guide {
    /// Reads a page from the directory `docs`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read(name: &str) -> Result<Guide> {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).join(name);
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        Ok(Guide::parse(&text))
    }

    fn parse(text: &str) -> Guide {
        let mut parts: Vec<Part> = Vec::new();
        let mut heading = String::new();
        // The current paragraph and the number of its first line.
        let mut prose: Option<(usize, String)> = None;
        for (number, line) in (1..).zip(text.lines().chain([""])) {
            let is_prose = !line.is_empty() && !line.starts_with(['|', '#', '*']);
            let is_block = line.starts_with("    ");
            let ended = if !is_prose || is_block { prose.take() } else { None };
            if let Some((line, text)) = ended {
                parts.push(Part::new(&heading, line, vec![Cell::of_spans(&text)]));
            }
            if let Some(title) = line.strip_prefix("## ") {
                title.clone_into(&mut heading);
            } else if is_block {
                let part = Part::new(&heading, number, vec![Cell::of_line(line)]);
                parts.push(Part { is_line: true, ..part });
            } else if let Some(row) = line.strip_prefix('|') {
                let cells = row.trim_end_matches('|').split(" | ").map(Cell::of_spans).collect();
                parts.push(Part::new(&heading, number, cells));
            } else if is_prose || line.starts_with('*') {
                let (_, text) = prose.get_or_insert_with(|| (number, String::new()));
                text.push_str(line.trim());
                text.push(' ');
            }
        }
        Guide { parts }
    }

    /// The parts below a heading.
    pub fn below<'a>(&'a self, heading: &'a str) -> impl Iterator<Item = &'a Part> {
        self.parts.iter().filter(move |part| part.heading == heading)
    }
}

impl Part {
    fn new(heading: &str, line: usize, cells: Vec<Cell>) -> Part {
        Part { heading: heading.to_owned(), line, is_line: false, cells }
    }

    /// All commands of a program.
    pub fn commands(&self, program: &str) -> Vec<Command> {
        self.cells.iter().flat_map(|cell| cell.commands(program)).collect()
    }
}

impl Cell {
    fn of_spans(text: &str) -> Cell {
        let pieces: Vec<&str> = text.split('`').collect();
        let pairs = pieces.get(1..).unwrap_or_default().chunks(2);
        let pair = |pair: &[&str]| {
            let [code, rest @ ..] = pair else { return None };
            Some(((*code).to_owned(), rest.concat()))
        };
        Cell { code: pairs.filter_map(pair).collect() }
    }

    fn of_line(line: &str) -> Cell {
        let (code, comment) = line.split_once(" # ").unwrap_or((line, ""));
        Cell { code: vec![(code.trim().to_owned(), comment.to_owned())] }
    }

    /// The commands of a program.
    pub fn commands(&self, program: &str) -> Vec<Command> {
        let all = self.code.iter().enumerate();
        let all = all.filter(|(_, (code, _))| is_of(code, program));
        all.map(|(at, (code, after))| {
            let next = self.code.get(at + 1).map(|(next, _)| next.clone());
            let printed = after.trim_end().ends_with("prints").then_some(next).flatten();
            let in_comment = after.split_once("prints ").map(|(_, it)| it.trim().to_owned());
            let number = after.split_once("exit code ").map(|(_, it)| it);
            let digits = number.map(|it| it.split(|c: char| !c.is_ascii_digit()).next());
            let exit_code = digits.flatten().and_then(|it| it.parse().ok());
            Command {
                text: code.clone(),
                prints: printed.or(in_comment.filter(|it| !it.is_empty())),
                code: exit_code.unwrap_or_default(),
            }
        })
        .collect()
    }
}

/// Whether some code is a command of this program.
fn is_of(code: &str, program: &str) -> bool {
    code.strip_prefix(program).is_some_and(|rest| rest.starts_with(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# Coming from xl

A word: `vusb list
xen:web1`.

## Guests that run

| with xl | with vusb |
|---|---|
| `xl usb-list web1`, `x = 1` | `vusb list xen:web1`: prints `web1`, then `vusb host list` |

    vusb apply web1.cfg     # exit code 2
    vusb list

* One `vusb a b`,
  and more.
* `vusb models`
";

    fn command(text: &str) -> Command {
        Command { text: text.to_owned(), prints: None, code: 0 }
    }

    #[test]
    fn a_page_is_parsed() {
        let page = Guide::parse(PAGE);
        let commands: Vec<(&str, usize, Vec<Command>)> = page
            .parts
            .iter()
            .map(|it| (it.heading.as_str(), it.line, it.commands("vusb")))
            .filter(|(.., commands)| !commands.is_empty())
            .collect();
        let run = "Guests that run";
        assert_eq!(
            commands,
            [
                ("", 3, vec![command("vusb list xen:web1")]),
                (
                    run,
                    10,
                    vec![
                        Command {
                            prints: Some("web1".to_owned()),
                            ..command("vusb list xen:web1")
                        },
                        command("vusb host list"),
                    ]
                ),
                (run, 12, vec![Command { code: 2, ..command("vusb apply web1.cfg") }]),
                (run, 13, vec![command("vusb list")]),
                (run, 15, vec![command("vusb a b")]),
                (run, 17, vec![command("vusb models")]),
            ]
        );
        let row = page.below(run).find(|it| it.cells.len() == 2 && it.line == 10).unwrap();
        assert_eq!(row.cells[0].commands("xl"), [command("xl usb-list web1")]);
        assert_eq!(row.cells[0].code[1].0, "x = 1");
    }
}
