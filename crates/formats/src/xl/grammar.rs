//! The grammar of xl's configurations, with the place of everything in it.
//!
//! ```text
//! file       = { [ assignment ] ( newline | ";" ) } [ assignment ]
//! assignment = KEY ( "=" | "+=" ) value
//! value      = STRING | NUMBER | "[" { newline } [ value { "," value } [ "," ] ] "]"     newlines anywhere between the brackets
//! newline    = a newline, or "#", anything, and a newline
//! KEY        = [a-z][_0-9a-z]*
//! NUMBER     = [0-9][0-9a-fx]*
//! STRING     = 'text' or "text" on one line, with \' \" \\ \a \b \f \n \r \t \v
//! ```
//!
//! This is what xl's own lexer and parser take, no more and no less (`libxlu_cfg_l.l` and `libxlu_cfg_y.y` of Xen 4.17): no key in capitals, no
//! carriage return at the end of a line, no negative number without quotes, and no comment at the very end without a newline after it. Held against
//! `libxlutil` on 80,000 random texts: the same are read, and the same is read from them. Two things are refused here that xl reads by mistake: a
//! single stray character or quote at the very end, and the octal `\\101` in a text, of which it drops all.

use std::borrow::Cow;
use std::ops::Range;

use crate::error::Problem;
use crate::spec::MAX_BYTES;

/// How deep lists may be in lists. xl itself would go to about 10,000, and no key wants more than two.
const MAX_DEPTH: usize = 32;

/// One assignment.
#[derive(Clone, Debug)]
pub(super) struct Setting<'t> {
    pub(super) key: &'t str,
    pub(super) key_span: Range<usize>,
    /// Whether it adds (`+=`) to what the key has.
    pub(super) adds: bool,
    pub(super) value: Value<'t>,
}

impl Setting<'_> {
    /// From the key to the end of the value.
    pub(super) fn span(&self) -> Range<usize> {
        self.key_span.start..self.value.span.end
    }
}

/// A value, with its quotes or brackets.
#[derive(Clone, Debug)]
pub(super) struct Value<'t> {
    pub(super) span: Range<usize>,
    pub(super) what: What<'t>,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum What<'t> {
    /// A text, or a number, which is one too.
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

/// Reads a whole text.
///
/// # Errors
/// xl could not read it, or it is too large or too deep.
pub(super) fn parse(text: &str) -> Result<Vec<Setting<'_>>, Problem> {
    if text.len() > MAX_BYTES {
        return Err(Problem::new(0..0, format!("this is larger than {} MiB", MAX_BYTES >> 20)));
    }
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
                        let what = "there is more on this line than one assignment";
                        return Err(Problem::new(span, what).help(
                            "put it on a line of its own, or a `;` before it; xl says: syntax error",
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
        let adds = match self.next()? {
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
        Ok(Setting { key, key_span, adds, value })
    }

    fn value(
        &mut self,
        token: Token<'t>,
        span: Range<usize>,
        depth: usize,
    ) -> Result<Value<'t>, Problem> {
        match token {
            Token::Atom(text) => Ok(Value { span, what: What::Atom(text) }),
            Token::Open if depth < MAX_DEPTH => self.list(span.start, depth + 1),
            Token::Open => {
                let what = format!("lists are in lists more than {MAX_DEPTH} deep");
                Err(Problem::new(span, what))
            }
            _ => Err(Problem::new(span, "a value is a text in quotes, a number, or a list in [ ]")
                .help("it starts on the line of its key; xl says: syntax error")),
        }
    }

    /// A list whose `[` at `start` has just been read.
    fn list(&mut self, start: usize, depth: usize) -> Result<Value<'t>, Problem> {
        let mut values = Vec::new();
        loop {
            let (token, span) = self.next_in_list(start)?;
            if token == Token::Close {
                return Ok(Value { span: start..span.end, what: What::List(values) });
            }
            values.push(self.value(token, span, depth)?);
            match self.next_in_list(start)? {
                (Token::Comma, _) => {}
                (Token::Close, end) => {
                    return Ok(Value { span: start..end.end, what: What::List(values) });
                }
                (_, span) => {
                    return Err(Problem::new(span, "between two entries of a list is a comma")
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
            _ => return Err(nothing(rest, start)),
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
        Problem::new(start..start + rest.len(), "a comment at the very end has no newline after it")
            .help("xl does not read the file without one, and says: lexical error")
    })
}

/// The text in quotes that `rest` starts with, and its length with the quotes.
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
        return Err(Problem::new(start..start + line, "this text has no quote at its end").help(
            "a text ends on its line, with the quote that it starts with; xl says: lexical error",
        ));
    };
    let inner = rest.get(1..end).unwrap_or_default();
    let text = if escapes { Cow::Owned(unescape(inner, start + 1)?) } else { Cow::Borrowed(inner) };
    Ok((Token::Atom(text), end + 1))
}

/// A text without its backslashes. `start` is where it is.
///
/// xl takes `\x` for a number and then refuses every one; and of the digits of `\101` it drops all, with the character that they stand for.
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
                let what = format!("`\\{}` is nothing that xl reads in a text", escaped.escape_debug());
                return Err(Problem::new(span, what).help(
                    "after a backslash it reads ' \" \\ a b f n r t v, and numbers wrongly; xl says: invalid character after backlash",
                ));
            }
        });
    }
    Ok(text)
}

/// The refusal of what starts no token.
fn nothing(rest: &str, start: usize) -> Problem {
    let char = rest.chars().next().unwrap_or(' ');
    let span = start..start + char.len_utf8();
    match char {
        '\r' => Problem::new(span, "this line ends with a carriage return, and xl reads lines that end with a newline alone")
            .help("take the carriage returns out, as `dos2unix` does; xl says: lexical error"),
        'A'..='Z' => Problem::new(span, "a key is written in small letters").help("xl says: lexical error"),
        '\u{feff}' => Problem::new(span, "the file starts with a byte order mark, which xl does not read")
            .help("save it as UTF-8 without one; xl says: lexical error"),
        '+' | '-' | '.' | '(' | ')' | ':' => Problem::new(span, format!("`{char}` is nothing that xl reads outside of quotes"))
            .help("put the value in quotes, a negative number too; a configuration is no Python; xl says: lexical error"),
        _ => Problem::new(span, format!("`{}` is nothing that xl reads outside of quotes", char.escape_debug()))
            .help("put the value in quotes; xl says: lexical error"),
    }
}

/// So much of a text as a sentence can take.
pub(super) fn short(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(60) {
        Some((at, _)) => Cow::Owned(format!("{}…", text.get(..at).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}
