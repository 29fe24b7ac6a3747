//! The grammar of xl's configurations, with the span of every value.
//!
//! ```text
//! file       = { [ assignment ] ( newline | ";" ) } [ assignment ]
//! assignment = KEY ( "=" | "+=" ) value
//! value      = STRING | NUMBER | "[" { newline } [ value { "," value } [ "," ] ] "]"
//!              with newlines anywhere between the brackets
//! newline    = a newline, or "#", anything, and a newline
//! KEY        = [a-z][_0-9a-z]*
//! NUMBER     = [0-9][0-9a-fx]*
//! STRING     = 'text' or "text" on one line, with \' \" \\ \a \b \f \n \r \t \v
//! ```
//!
//! This is exactly what xl's own lexer and parser accept (`libxlu_cfg_l.l` and `libxlu_cfg_y.y` of
//! Xen 4.17): no upper-case keys, no carriage return at the end of a line, no negative number
//! without quotes, and no comment at the end without a newline after it. Compared with
//! `libxlutil` on 80,000 random texts: both accept the same texts and read the same values. There
//! are two deliberate exceptions, which xl accepts by mistake: a single stray character or quote at
//! the very end, and the octal escape `\101` in a string, which xl drops entirely.

use std::borrow::Cow;
use std::ops::Range;

use crate::error::Problem;
use crate::length;

/// The maximum nesting of lists. xl itself goes to about 10,000, and no key needs more than two.
const MAX_DEPTH: usize = 32;

/// One assignment.
#[derive(Clone, Debug)]
pub(super) struct Setting<'t> {
    pub(super) key: &'t str,
    pub(super) key_span: Range<usize>,
    /// Whether it appends (`+=`) to the value of the key.
    pub(super) appends: bool,
    pub(super) value: Value<'t>,
}

impl Setting<'_> {
    /// From the key to the end of the value.
    pub(super) fn span(&self) -> Range<usize> {
        self.key_span.start..self.value.span.end
    }
}

/// A value. The span includes its quotes or brackets.
#[derive(Clone, Debug)]
pub(super) struct Value<'t> {
    pub(super) span: Range<usize>,
    pub(super) kind: ValueKind<'t>,
}

/// The kind of a value.
#[derive(Clone, Debug)]
pub(super) enum ValueKind<'t> {
    /// A string, or a number, which xl also stores as a string.
    Atom(Cow<'t, str>),
    List(Vec<Value<'t>>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token<'t> {
    Key(&'t str),
    Atom(Cow<'t, str>),
    Open,
    Close,
    Comma,
    Assign,
    Add,
    Semicolon,
    Newline,
    End,
}

/// Parses a whole text.
///
/// # Errors
/// xl could not read it, or it is too large or nested too deeply.
pub(super) fn parse(text: &str) -> Result<Vec<Setting<'_>>, Problem> {
    length::check(text, "an xl configuration")?;
    let mut parser = Parser { text, at: 0 };
    let mut settings = Vec::new();
    loop {
        match parser.next()? {
            (Token::Newline | Token::Semicolon, _) => {}
            (Token::End, _) => return Ok(settings),
            (Token::Key(key), key_span) => {
                settings.push(parser.assignment(key, key_span)?);
                match parser.next()? {
                    (Token::Newline | Token::Semicolon, _) => {}
                    (Token::End, _) => return Ok(settings),
                    (_, span) => {
                        let what = "there is more than one assignment on this line";
                        return Err(Problem::new(span, what).help(
                            "start a new line, or put a `;` before it; xl says: syntax error",
                        ));
                    }
                }
            }
            (_, span) => {
                let what = "an assignment starts with a key, such as usbctrl = [ .. ]";
                return Err(Problem::new(span, what).help("xl says: syntax error"));
            }
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn assignment(&mut self, key: &'t str, key_span: Range<usize>) -> Result<Setting<'t>, Problem> {
        let appends = match self.next()? {
            (Token::Assign, _) => false,
            (Token::Add, _) => true,
            (_, span) => {
                let what = format!("`{}` has no `=` after it on its line", short(key));
                return Err(
                    Problem::new(span, what).help("xl says: syntax error, expecting += or '='")
                );
            }
        };
        let (token, span) = self.next()?;
        let value = self.value(token, span, 0)?;
        Ok(Setting { key, key_span, appends, value })
    }

    fn value(
        &mut self,
        token: Token<'t>,
        span: Range<usize>,
        depth: usize,
    ) -> Result<Value<'t>, Problem> {
        match token {
            Token::Atom(text) => Ok(Value { span, kind: ValueKind::Atom(text) }),
            Token::Open if depth < MAX_DEPTH => self.list(span.start, depth + 1),
            Token::Open => {
                let what = format!("lists are nested more than {MAX_DEPTH} levels deep");
                Err(Problem::new(span, what))
            }
            _ => {
                Err(Problem::new(span, "a value is a string in quotes, a number, or a list in [ ]")
                    .help("it starts on the line of its key; xl says: syntax error"))
            }
        }
    }

    /// Reads a list whose `[` at `start` has just been read.
    fn list(&mut self, start: usize, depth: usize) -> Result<Value<'t>, Problem> {
        let mut values = Vec::new();
        loop {
            let (token, span) = self.next_in_list(start)?;
            if token == Token::Close {
                return Ok(Value { span: start..span.end, kind: ValueKind::List(values) });
            }
            values.push(self.value(token, span, depth)?);
            match self.next_in_list(start)? {
                (Token::Comma, _) => {}
                (Token::Close, end) => {
                    return Ok(Value { span: start..end.end, kind: ValueKind::List(values) });
                }
                (_, span) => {
                    return Err(Problem::new(
                        span,
                        "there is no comma between two entries of a list",
                    )
                    .other(start..start + 1, "the list starts here")
                    .help("xl says: syntax error, expecting ']'"));
                }
            }
        }
    }

    fn next_in_list(&mut self, start: usize) -> Result<(Token<'t>, Range<usize>), Problem> {
        loop {
            match self.next()? {
                (Token::Newline, _) => {}
                (Token::End, span) => {
                    return Err(Problem::new(span, "a list is not closed at the end of the file")
                        .other(start..start + 1, "it starts here")
                        .help("xl says: syntax error, unexpected $end, expecting ']'"));
                }
                other => return Ok(other),
            }
        }
    }

    fn next(&mut self) -> Result<(Token<'t>, Range<usize>), Problem> {
        let rest = self.rest();
        let start = self.at + (rest.len() - rest.trim_start_matches([' ', '\t']).len());
        self.at = start;
        let rest = self.rest();
        let Some(first) = rest.bytes().next() else {
            return Ok((Token::End, start..start));
        };
        let single = |token| (token, 1);
        let while_in = |good: fn(&u8) -> bool| rest.bytes().take_while(good).count();
        let (token, length) = match first {
            b'[' => single(Token::Open),
            b']' => single(Token::Close),
            b',' => single(Token::Comma),
            b'=' => single(Token::Assign),
            b';' => single(Token::Semicolon),
            b'\n' => single(Token::Newline),
            b'+' if rest.starts_with("+=") => (Token::Add, 2),
            b'#' => (Token::Newline, comment(rest, start)?),
            b'a'..=b'z' => {
                let length = while_in(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'_'));
                (Token::Key(rest.get(..length).unwrap_or_default()), length)
            }
            b'0'..=b'9' => {
                let length = while_in(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f' | b'x'));
                (Token::Atom(Cow::Borrowed(rest.get(..length).unwrap_or_default())), length)
            }
            b'\'' | b'"' => string(rest, start)?,
            _ => return Err(unexpected_character(rest, start)),
        };
        self.at = start + length;
        Ok((token, start..self.at))
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }
}

/// The length of the comment that `rest` starts with, its newline included.
fn comment(rest: &str, start: usize) -> Result<usize, Problem> {
    rest.find('\n').map(|newline| newline + 1).ok_or_else(|| {
        Problem::new(
            start..start + rest.len(),
            "the comment at the end of the file has no newline after it",
        )
        .help("without one xl does not read the file, and says: lexical error")
    })
}

/// The quoted string that `rest` starts with, and its length including the quotes.
fn string(rest: &str, start: usize) -> Result<(Token<'_>, usize), Problem> {
    let quote = rest.chars().next().unwrap_or('\'');
    let mut escaped = false;
    let mut end = None;
    let mut escapes = false;
    for (at, char) in rest.char_indices().skip(1) {
        match char {
            '\n' | '\0' => break,
            _ if escaped => escaped = false,
            '\\' => (escaped, escapes) = (true, true),
            _ if char == quote => {
                end = Some(at);
                break;
            }
            _ => {}
        }
    }
    let Some(end) = end else {
        let line = rest.find('\n').unwrap_or(rest.len());
        return Err(Problem::new(start..start + line, "this string has no closing quote").help(
            "a string ends on its line, with the quote that it starts with; xl says: lexical error",
        ));
    };
    let inner = rest.get(1..end).unwrap_or_default();
    let text = if escapes { Cow::Owned(unescape(inner, start + 1)?) } else { Cow::Borrowed(inner) };
    Ok((Token::Atom(text), end + 1))
}

/// Resolves the escapes of a string. `start` is its position.
///
/// xl treats `\x` as a number and then rejects all of them; of `\101` it drops the digits and the
/// character that they stand for.
fn unescape(inner: &str, start: usize) -> Result<String, Problem> {
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.char_indices();
    while let Some((at, char)) = chars.next() {
        if char != '\\' {
            text.push(char);
            continue;
        }
        let escaped = chars.next().map_or('\\', |(_, char)| char);
        text.push(match escaped {
            '\\' | '\'' | '"' => escaped,
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            _ => {
                let span = start + at..start + at + 1 + escaped.len_utf8();
                let what = format!("`\\{}` is not an escape that xl knows", escaped.escape_debug());
                return Err(Problem::new(span, what).help(
                    "it knows ' \" \\ a b f n r t v after a backslash, and misreads numbers; xl says: invalid character after backlash",
                ));
            }
        });
    }
    Ok(text)
}

/// The error for a character that starts no token.
fn unexpected_character(rest: &str, start: usize) -> Problem {
    let char = rest.chars().next().unwrap_or(' ');
    let span = start..start + char.len_utf8();
    match char {
        '\r' => Problem::new(span, "this line ends with a carriage return, and xl only accepts a plain newline")
            .help("remove the carriage returns, for example with `dos2unix`; xl says: lexical error"),
        'A'..='Z' => Problem::new(span, "keys are in lower case").help("xl says: lexical error"),
        '\u{feff}' => Problem::new(span, "the file starts with a byte order mark, which xl does not accept")
            .help("save it as UTF-8 without one; xl says: lexical error"),
        '+' | '-' | '.' | '(' | ')' | ':' => Problem::new(span, format!("`{char}` cannot be used outside of quotes"))
            .help("put the value in quotes, even a negative number; a configuration is not Python; xl says: lexical error"),
        _ => Problem::new(span, format!("`{}` cannot be used outside of quotes", char.escape_debug()))
            .help("put the value in quotes; xl says: lexical error"),
    }
}

/// A text, shortened so that it fits into a sentence.
pub(super) fn short(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(60) {
        Some((at, _)) => Cow::Owned(format!("{}…", text.get(..at).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}
