//! What the last word of an incomplete command line is.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, Command};

use super::candidate::Candidate;
use super::candidates::Sources;

/// An incomplete command line.
pub(super) struct Line<'a> {
    /// The command, as far as it is known: `vusb device remove`.
    command: &'a Command,
    /// The names of the command below `vusb`: `device remove`.
    path: Vec<&'a str>,
    /// The values that the line has, by the ID of their argument.
    values: BTreeMap<&'a str, &'a str>,
    last: Last<'a>,
}

/// The last word, which is to be completed.
enum Last<'a> {
    /// It begins with a hyphen.
    Option(&'a str),
    /// The beginning of a value. `before` precedes the value in the same word: `--port=`.
    Value { arg: &'a Arg, before: &'a str, start: &'a str },
    /// The beginning of a subcommand.
    Subcommand(&'a str),
    /// No word is expected here.
    Nothing,
}

impl<'a> Line<'a> {
    /// Reads the words after the name of the program. The command must be built.
    pub(super) fn parse(command: &'a Command, words: &'a [String]) -> Line<'a> {
        let mut line =
            Line { command, path: Vec::new(), values: BTreeMap::new(), last: Last::Nothing };
        let (last, before) = match words.split_last() {
            Some((last, before)) => (last.as_str(), before),
            None => ("", words),
        };
        let (mut option, mut position, mut escaped) = (None, 1, false);
        for word in before.iter().map(String::as_str) {
            if let Some(arg) = option.take() {
                line.set(arg, word);
            } else if escaped || !word.starts_with('-') || word == "-" {
                if let Some(subcommand) = line.command.find_subcommand(word).filter(|_| !escaped) {
                    line.path.push(subcommand.get_name());
                    (line.command, position) = (subcommand, 1);
                } else if let Some(arg) = line.positional(position) {
                    line.set(arg, word);
                    position += 1;
                }
            } else if word == "--" {
                escaped = true;
            } else if let Some((name, value)) = word.split_once('=') {
                if let Some(arg) = line.option(name) {
                    line.set(arg, value);
                }
            } else {
                option = line.option(word).filter(|arg| arg.get_action().takes_values());
            }
        }
        line.last = line.classify(last, option, position, escaped);
        line
    }

    fn classify(
        &self,
        word: &'a str,
        option: Option<&'a Arg>,
        position: usize,
        escaped: bool,
    ) -> Last<'a> {
        if let Some(arg) = option {
            return Last::Value { arg, before: "", start: word };
        }
        if !escaped && word.starts_with('-') {
            let Some(equals) = word.find('=') else { return Last::Option(word) };
            let (before, start) = word.split_at(equals + 1);
            let arg = self.option(before.trim_end_matches('='));
            return arg.map_or(Last::Nothing, |arg| Last::Value { arg, before, start });
        }
        if self.command.has_subcommands() {
            return Last::Subcommand(word);
        }
        let arg = self.positional(position);
        arg.map_or(Last::Nothing, |arg| Last::Value { arg, before: "", start: word })
    }

    fn set(&mut self, arg: &'a Arg, value: &'a str) {
        self.values.insert(arg.get_id().as_str(), value);
    }

    /// The argument at this position. The last one may take any number of words.
    fn positional(&self, position: usize) -> Option<&'a Arg> {
        let takes_more = |arg: &Arg| matches!(arg.get_action(), ArgAction::Append);
        let mut all = self.command.get_positionals();
        all.find(|arg| {
            let index = arg.get_index();
            index == Some(position) || (index < Some(position) && takes_more(arg))
        })
    }

    /// The option with this name, which includes its hyphens.
    fn option(&self, name: &str) -> Option<&'a Arg> {
        let is_named = |arg: &&Arg| match name.strip_prefix("--") {
            Some(long) => arg.get_long() == Some(long),
            // Short options may be combined; the last one takes the value.
            None => arg.get_short().is_some_and(|short| name.ends_with(short)),
        };
        self.command.get_arguments().find(is_named)
    }

    /// The names of the command below `vusb`.
    pub(super) fn path(&self) -> &[&'a str] {
        &self.path
    }

    /// The value of an argument before the last word.
    pub(super) fn value(&self, id: &str) -> Option<&'a str> {
        self.values.get(id).copied()
    }

    /// What the last word can be.
    pub(super) fn candidates(&self, sources: &Sources) -> Vec<Candidate> {
        match &self.last {
            Last::Nothing => Vec::new(),
            Last::Option(start) => self.options(start),
            Last::Subcommand(start) => {
                let visible = self.command.get_subcommands().filter(|it| !it.is_hide_set());
                let all = visible.map(|it| Candidate::new(it.get_name(), about(it.get_about())));
                all.filter(|it| it.value.starts_with(start)).collect()
            }
            Last::Value { arg, before, start } => {
                let possible = arg.get_possible_values();
                let mut all: Vec<Candidate> = if possible.is_empty() {
                    sources.values(self, arg.get_id().as_str(), start)
                } else {
                    let visible = possible.iter().filter(|value| !value.is_hide_set());
                    visible.map(|it| Candidate::new(it.get_name(), about(it.get_help()))).collect()
                };
                all.retain(|it| it.value.starts_with(start));
                all.iter_mut().for_each(|it| it.value.insert_str(0, before));
                all
            }
        }
    }

    /// The options that begin with this text and that the line does not have yet.
    fn options(&self, start: &str) -> Vec<Candidate> {
        let visible = self.command.get_arguments().filter(|arg| !arg.is_hide_set());
        let unset = visible.filter(|arg| self.value(arg.get_id().as_str()).is_none());
        let named = unset.filter_map(|arg| Some((format!("--{}", arg.get_long()?), arg)));
        let matching = named.filter(|(name, _)| name.starts_with(start));
        matching.map(|(name, arg)| Candidate::new(name, about(arg.get_help()))).collect()
    }
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Arguments;
    use clap::CommandFactory as _;

    /// The ID of the argument that the last word belongs to, the part of the value that was typed,
    /// and the domain.
    fn last(line: &str) -> (String, String, Option<String>) {
        let mut command = Arguments::command();
        command.build();
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let line = Line::parse(&command, &words);
        let domain = line.value("domain").map(str::to_owned);
        match line.last {
            Last::Value { arg, before, start } => {
                (format!("{before}{}", arg.get_id()), start.to_owned(), domain)
            }
            Last::Option(start) => ("(option)".to_owned(), start.to_owned(), domain),
            Last::Subcommand(start) => ("(command)".to_owned(), start.to_owned(), domain),
            Last::Nothing => ("(nothing)".to_owned(), String::new(), domain),
        }
    }

    #[test]
    fn the_last_word_is_recognized() {
        for (line, id, start, domain) in [
            ("", "(command)", "", None),
            ("dev", "(command)", "dev", None),
            ("device ", "(command)", "", None),
            ("device remove ", "domain", "", None),
            ("device remove web1 st", "devices", "st", Some("web1")),
            ("device remove web1 stick pe", "devices", "pe", Some("web1")),
            ("device detach web1 st", "devices", "st", Some("web1")),
            ("device move web1 stick --port ", "port", "", Some("web1")),
            ("--json device -v remove --timeout 3 web1 st", "devices", "st", Some("web1")),
            ("device add web1 tablet --controller ", "controller", "", Some("web1")),
            ("device add web1 tablet --port=2", "--port=port", "2", Some("web1")),
            ("device add web1 --controller=hci0 tab", "devices", "tab", Some("web1")),
            ("device remove --timeout ", "timeout", "", None),
            ("device move web1 stick ", "(nothing)", "", Some("web1")),
            ("device remove -", "(option)", "-", None),
            ("device remove -- -", "domain", "-", None),
        ] {
            let expected = (id.to_owned(), start.to_owned(), domain.map(str::to_owned));
            assert_eq!(last(line), expected, "{line}");
        }
    }
}
