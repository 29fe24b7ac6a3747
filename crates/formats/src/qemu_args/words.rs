//! The words of a command line, as a shell reads them.
//!
//! A text is a shell script, the arguments alone on one or several lines, or the arguments of a
//! process with a NUL after each (`/proc/PID/cmdline`). Quotes, backslashes, comments and
//! continued lines are those of POSIX (XCU 2.2 and 2.3). What a shell would insert (`$NAME`,
//! `$(COMMAND)`) is unknown: the word keeps that part as it is written, and is marked.

use std::iter::Peekable;
use std::ops::Range;
use std::str::CharIndices;

/// A word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// The word, without quotes.
    pub(crate) text: String,
    /// Its position, in bytes.
    pub(crate) span: Range<usize>,
    /// Whether a part of it is unknown.
    pub(crate) opaque: bool,
}

/// The words of the first command that starts a QEMU; empty if none does.
pub(crate) fn qemu(text: &str) -> Vec<Word> {
    if text.contains('\0') {
        return separated(text);
    }
    let commands = commands(text);
    if commands.first().and_then(|it| it.first()).is_some_and(|it| it.text.starts_with('-')) {
        return commands.into_iter().flatten().collect();
    }
    let is_qemu = |words: &Vec<Word>| program(words).is_some();
    commands.into_iter().find(is_qemu).unwrap_or_default()
}

/// The position of the program among the words of a command, if that is a QEMU with options.
pub(crate) fn program(words: &[Word]) -> Option<usize> {
    let is_qemu = |word: &Word| {
        let name = word.text.rsplit('/').next().unwrap_or_default();
        let is_variable = word.opaque && name.to_ascii_lowercase().contains("qemu");
        name.starts_with("qemu-system-")
            || matches!(name, "qemu-kvm" | "kvm" | "qemu")
            || (is_variable && !name.contains('='))
    };
    let position = words.iter().position(is_qemu)?;
    let before = words.get(..position)?;
    let has_options = words.get(position + 1)?.text.starts_with(['-', '$']);
    (has_options && before.iter().all(|it| is_prefix(&it.text))).then_some(position)
}

/// Whether a word may precede the program: another program that runs it, its options, and
/// variables.
fn is_prefix(text: &str) -> bool {
    const PROGRAMS: [&str; 11] = [
        "exec", "sudo", "nice", "ionice", "env", "nohup", "setsid", "time", "chrt", "taskset",
        "numactl",
    ];
    let is_variable = text.split_once('=').is_some_and(|(name, _)| !name.is_empty());
    let is_number =
        !text.is_empty() && text.bytes().all(|it| it.is_ascii_hexdigit() || b",x".contains(&it));
    PROGRAMS.contains(&text) || text.starts_with('-') || is_variable || is_number
}

/// Words with a NUL after each.
fn separated(text: &str) -> Vec<Word> {
    let mut at = 0;
    let word = |part: &str| {
        let span = at..at + part.len();
        at = span.end + 1;
        Word { text: part.to_owned(), span, opaque: false }
    };
    text.trim_end_matches('\0').split('\0').map(word).collect()
}

/// The words of each simple command of a script.
fn commands(text: &str) -> Vec<Vec<Word>> {
    let mut reader = Reader { text, rest: text.char_indices().peekable() };
    let mut commands = vec![Vec::new()];
    while let Some((at, next)) = reader.rest.peek().copied() {
        match next {
            // The byte order mark of a Windows file is not a word.
            ' ' | '\t' | '\r' | '\u{feff}' => reader.skip(),
            '#' => while reader.rest.next_if(|(_, it)| *it != '\n').is_some() {},
            '\n' | ';' | '&' | '|' | '(' | ')' => {
                reader.skip();
                commands.push(Vec::new());
            }
            '<' | '>' => {
                // The file of a redirection is not an argument.
                while reader.rest.next_if(|(_, it)| "<>&| \t".contains(*it)).is_some() {}
                reader.word();
            }
            '\\' if text.get(at..).is_some_and(|it| it.starts_with("\\\n")) => {
                reader.skip();
                reader.skip();
            }
            '\\' if text.get(at..).is_some_and(|it| it.starts_with("\\\r\n")) => {
                (0..3).for_each(|_| reader.skip());
            }
            _ => {
                let word = reader.word();
                if let Some(command) = commands.last_mut() {
                    command.push(word);
                }
            }
        }
    }
    commands.retain(|words| !words.is_empty());
    commands
}

struct Reader<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl Reader<'_> {
    fn skip(&mut self) {
        self.rest.next();
    }

    fn position(&mut self) -> usize {
        self.rest.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    /// Reads a word, which ends before a blank or an operator.
    fn word(&mut self) -> Word {
        let start = self.position();
        let mut word = Word { text: String::new(), span: start..start, opaque: false };
        while let Some((_, next)) = self.rest.peek().copied() {
            match next {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')' => break,
                '\'' => self.single_quoted(&mut word),
                '"' => self.double_quoted(&mut word),
                '\\' => self.escaped(&mut word, |_| true),
                '$' | '`' => self.expansion(&mut word),
                other => {
                    word.text.push(other);
                    self.skip();
                }
            }
        }
        word.span.end = self.position();
        word
    }

    fn single_quoted(&mut self, word: &mut Word) {
        self.skip();
        while let Some((_, next)) = self.rest.next_if(|(_, it)| *it != '\'') {
            word.text.push(next);
        }
        self.skip();
    }

    fn double_quoted(&mut self, word: &mut Word) {
        self.skip();
        while let Some((_, next)) = self.rest.peek().copied() {
            match next {
                '"' => break,
                '\\' => self.escaped(word, |it| "$`\"\\\n".contains(it)),
                '$' | '`' => self.expansion(word),
                other => {
                    word.text.push(other);
                    self.skip();
                }
            }
        }
        self.skip();
    }

    /// Reads a backslash and the character after it. `quoted` tells whether the backslash quotes
    /// this character; if not, the backslash stays.
    fn escaped(&mut self, word: &mut Word, quoted: impl Fn(char) -> bool) {
        self.skip();
        match self.rest.next() {
            Some((_, '\n')) => {}
            Some((_, next)) if quoted(next) => word.text.push(next),
            Some((_, next)) => word.text.extend(['\\', next]),
            None => {}
        }
    }

    /// Reads `$NAME`, `${NAME}`, `$(COMMAND)` or a command in backquotes.
    fn expansion(&mut self, word: &mut Word) {
        word.opaque = true;
        let Some((_, first)) = self.rest.next() else { return };
        word.text.push(first);
        let close = match (first, self.rest.peek().map(|(_, it)| *it)) {
            ('`', _) => Some('`'),
            (_, Some('{')) => Some('}'),
            (_, Some('(')) => Some(')'),
            _ => None,
        };
        let Some(close) = close else {
            let is_name =
                |it: &(usize, char)| it.1.is_ascii_alphanumeric() || "_@*#?".contains(it.1);
            while let Some((_, next)) = self.rest.next_if(is_name) {
                word.text.push(next);
            }
            return;
        };
        // Nested pairs count: `$(echo $(id))`.
        let mut depth = 0_usize;
        for (_, next) in self.rest.by_ref() {
            word.text.push(next);
            match next {
                '(' | '{' => depth += 1,
                _ if next == close && depth <= 1 => return,
                ')' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        qemu(text).into_iter().map(|it| it.text).collect()
    }

    #[test]
    fn a_script_is_read_as_a_shell_reads_it() {
        let script = "#!/bin/sh\n# -device usb-mouse\nset -e; cd /vm\nexec sudo qemu-system-x86_64 -M q35 \\\n  -device 'usb-kbd,id=a b' \\\r\n \
                      -name \"it's \\\"web1\\\"\" -device usb-\\mouse 2>/dev/null >log &\necho -device usb-tablet\n";
        let expected = [
            "exec",
            "sudo",
            "qemu-system-x86_64",
            "-M",
            "q35",
            "-device",
            "usb-kbd,id=a b",
            "-name",
            "it's \"web1\"",
            "-device",
            "usb-mouse",
        ];
        // The number before a redirection is a separate word here; it is not an option.
        let found: Vec<String> = words(script).into_iter().filter(|it| it != "2").collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn variables_are_opaque() {
        let all = qemu(
            "qemu-system-x86_64 -device usb-storage,drive=$D \"$@\" -m ${M:-1G} $(x $(y)) `z` -usb",
        );
        let opaque: Vec<&str> =
            all.iter().filter(|it| it.opaque).map(|it| it.text.as_str()).collect();
        assert_eq!(opaque, ["usb-storage,drive=$D", "$@", "${M:-1G}", "$(x $(y))", "`z`"]);
        assert_eq!(all.last().map(|it| it.text.as_str()), Some("-usb"));
        assert_eq!(words("$QEMU -usb"), ["$QEMU", "-usb"]);
    }

    #[test]
    fn arguments_alone_and_those_of_a_process() {
        assert_eq!(
            words("-usb -device usb-mouse\n-device usb-kbd"),
            ["-usb", "-device", "usb-mouse", "-device", "usb-kbd"]
        );
        assert_eq!(
            words("/usr/bin/kvm\0-usb\0-name\0a b\0"),
            ["/usr/bin/kvm", "-usb", "-name", "a b"]
        );
        assert_eq!(words("echo -usb"), [""; 0]);
        assert_eq!(words(""), [""; 0]);
    }
}
