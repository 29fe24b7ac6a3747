//! `vusb watch` with trees: on a terminal, redrawn after each change; elsewhere, printed again
//! after each change.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use serde_json::Value;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGTTIN, SIGWINCH};
use signal_hook::low_level::{pipe, raise};

use super::changes::{Changes, WaitResult};
use super::last_known::LastKnown;
use super::screen::Lines;
use crate::failure::Failure;
use crate::run::{Cli, Result};
use crate::{safe, tables};

/// A terminal in the mode in which each key is read at once. Dropping it restores the terminal.
struct Terminal {
    before: Termios,
}

impl Terminal {
    fn open() -> io::Result<Terminal> {
        let terminal = Terminal { before: tcgetattr(io::stdin())? };
        terminal.set()?;
        Ok(terminal)
    }

    fn set(&self) -> io::Result<()> {
        let mut mode = self.before.clone();
        // ISIG stays set: Ctrl-C and Ctrl-Z still send signals.
        mode.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        mode.special_codes[SpecialCodeIndex::VMIN] = 0;
        mode.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &mode)?;
        // Show the alternate screen, so that the previous content returns at the end. Hide the
        // cursor.
        write("\x1b[?1049h\x1b[?25l\x1b[2J")
    }

    fn restore(&self) {
        // There is no other place to report a failure.
        let _ = write("\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }

    /// Restores the terminal for the shell, and stops this process until it is continued.
    fn stop(&self) -> io::Result<()> {
        self.restore();
        // SIGTSTP has a handler here, so SIGTTIN is sent instead. SIGSTOP would also stop a process
        // that no shell continues.
        raise(SIGTTIN)?;
        self.set()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    End,
    Refresh,
    Scroll(isize),
}

/// The keys in the bytes that a terminal has sent.
fn keys(bytes: &[u8], page: isize) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let (key, next) = match (first, after) {
            (b'q' | b'Q' | 3 | 4, _) => (Some(Key::End), after),
            (b'r' | b'R', _) => (Some(Key::Refresh), after),
            (b'j', _) => (Some(Key::Scroll(1)), after),
            (b'k', _) => (Some(Key::Scroll(-1)), after),
            (b' ', _) => (Some(Key::Scroll(page)), after),
            (b'b', _) => (Some(Key::Scroll(-page)), after),
            (0x1b, [b'[' | b'O', b'A', next @ ..]) => (Some(Key::Scroll(-1)), next),
            (0x1b, [b'[' | b'O', b'B', next @ ..]) => (Some(Key::Scroll(1)), next),
            (0x1b, [b'[', b'5', b'~', next @ ..]) => (Some(Key::Scroll(-page)), next),
            (0x1b, [b'[', b'6', b'~', next @ ..]) => (Some(Key::Scroll(page)), next),
            _ => (None, after),
        };
        keys.extend(key);
        rest = next;
    }
    keys
}

/// A stream that becomes readable at each of these signals.
pub(crate) fn signals(numbers: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for number in numbers {
        pipe::register(*number, write.try_clone()?)?;
    }
    Ok(read)
}

/// Reads what is pending. Returns whether there was anything.
fn drain(stream: &mut UnixStream) -> bool {
    let mut buffer = [0; 64];
    matches!(stream.read(&mut buffer), Ok(count) if count > 0)
}

/// Whether everything could be read, so that only a change is a reason to read it again.
fn is_complete<T>(read: &Result<(T, bool)>) -> bool {
    matches!(read, Ok((_, false)))
}

impl Cli {
    /// Shows all guests until the user ends the command.
    pub(crate) fn watch_trees(&self, lines: tables::Lines) -> Result {
        if io::stdout().is_terminal() && io::stdin().is_terminal() {
            return self.watch_on_terminal(lines);
        }
        let mut changes = Changes::new(self);
        let mut known = LastKnown::default();
        let (mut last, may_answer) = self.trees(lines, &mut known)?;
        changes.record_read(!may_answer);
        self.screen.result(&format!("{last}\n"))?;
        let mut failed = false;
        loop {
            if reader_has_closed() {
                return Ok(());
            }
            let out = io::stdout();
            // poll reports a pipe that its reader has closed (POLLERR), whatever it waits for.
            let pipe = [out.as_fd()];
            if changes.wait(if is_pipe() { &pipe } else { &[] }, None)? != WaitResult::Changed {
                continue;
            }
            let read = self.trees(lines, &mut known);
            changes.record_read(is_complete(&read));
            let had_failed = std::mem::replace(&mut failed, read.is_err());
            match read {
                Ok((text, _)) if text != last => {
                    self.screen.result(&format!("{text}\n"))?;
                    last = text;
                }
                // The error is printed once, not for each retry.
                Err(failure) if !had_failed => self.screen.error(&failure.message()),
                _ => {}
            }
        }
    }

    /// All guests as trees, and whether some may answer later.
    fn trees(&self, lines: tables::Lines, known: &mut LastKnown) -> Result<(String, bool)> {
        let (view, may_answer) = self.describe_all_live(known)?;
        if view.domains.is_empty() && view.unreachable.is_empty() && view.unrecorded.is_empty() {
            return Ok(("no domain has a record yet".to_owned(), may_answer));
        }
        Ok((tables::trees(&view, &self.plugged_in(), lines), may_answer))
    }

    fn watch_on_terminal(&self, lines: tables::Lines) -> Result {
        let mut changes = Changes::new(self);
        // This is read before the alternate screen is shown, so that an error message stays
        // visible.
        let mut known = LastKnown::default();
        let (mut text, may_answer) = self.trees(lines, &mut known)?;
        changes.record_read(!may_answer);
        let mut resized = signals(&[SIGWINCH])?;
        let mut stopped = signals(&[SIGTSTP])?;
        let mut continued = signals(&[SIGCONT])?;
        let mut ended = signals(&[SIGINT, SIGTERM, SIGHUP])?;
        let terminal = Terminal::open()?;
        let mut shown = Lines::default();
        let mut event = String::new();
        let mut status = String::new();
        shown.update(&safe::lines(&text), Instant::now());
        loop {
            let size = tcgetwinsize(io::stdout()).map_err(io::Error::from)?;
            let size = match (usize::from(size.ws_col), usize::from(size.ws_row)) {
                (0, _) | (_, 0) => (80, 24),
                size => size,
            };
            let now = Instant::now();
            let bottom = format!(" vusb watch  q: end  r: read again {status}{event}");
            write(&shown.drawn(size, &safe::line(&bottom), now))?;
            let limit = shown.until_mark_ends(now);
            let input = io::stdin();
            let signals = [&resized, &stopped, &continued, &ended].map(AsFd::as_fd);
            let [resizes, stops, continues, ends] = signals;
            let others = [input.as_fd(), resizes, stops, continues, ends];
            let result = changes.wait(&others, limit)?;
            drain(&mut resized);
            if drain(&mut ended) {
                break;
            }
            if drain(&mut stopped) {
                terminal.stop()?;
                drain(&mut continued);
            } else if drain(&mut continued) {
                // The process was stopped by SIGSTOP, and a shell may have changed the terminal.
                terminal.set()?;
            }
            let mut again = result == WaitResult::Changed;
            if result == WaitResult::Ready {
                let page = isize::try_from(size.1).unwrap_or(24) - 2;
                match pressed(page)? {
                    None => break,
                    Some(keys) if keys.contains(&Key::End) => break,
                    Some(keys) => {
                        for key in keys {
                            match key {
                                Key::Scroll(by) => shown.scroll(by),
                                Key::Refresh => again = true,
                                Key::End => {}
                            }
                        }
                    }
                }
            }
            if again {
                if let Some(last) = changes.events().last() {
                    event = format!(" | {}", event_text(last));
                }
                let read = self.trees(lines, &mut known);
                changes.record_read(is_complete(&read));
                match read {
                    Ok((read, _)) => (text, status) = (read, String::new()),
                    Err(failure) => status = format!(" | {}", failure.message()),
                }
                shown.update(&safe::lines(&text), Instant::now());
            }
        }
        drop(terminal);
        Ok(())
    }
}

/// Whether standard output is a pipe.
fn is_pipe() -> bool {
    let mode = rustix::fs::fstat(io::stdout()).map(|it| it.st_mode);
    mode.is_ok_and(|it| rustix::fs::FileType::from_raw_mode(it).is_fifo())
}

/// Whether standard output is a pipe that its reader has closed.
fn reader_has_closed() -> bool {
    ready(io::stdout(), PollFlags::empty()).is_ok_and(|it| it.contains(PollFlags::ERR))
}

/// What a descriptor is ready for at this moment.
fn ready(descriptor: impl AsFd, flags: PollFlags) -> io::Result<PollFlags> {
    let mut polled = [PollFd::new(&descriptor, flags)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(polled.iter().fold(PollFlags::empty(), |all, it| all | it.revents()))
}

/// The keys that were pressed; `None` if the terminal was closed.
fn pressed(page: isize) -> std::result::Result<Option<Vec<Key>>, Failure> {
    let input = io::stdin();
    if ready(&input, PollFlags::IN)?.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let mut buffer = [0; 256];
    // Read without the standard library's buffer, because poll does not see what is in it.
    match rustix::io::read(&input, &mut buffer) {
        Ok(0) => Ok(None),
        Ok(count) => Ok(Some(keys(buffer.get(..count).unwrap_or_default(), page))),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(Some(Vec::new())),
        Err(_) => Ok(None),
    }
}

/// An event of the daemon for the last row.
fn event_text(event: &Value) -> String {
    let text = tables::event(event);
    if event.get("event").and_then(Value::as_str) == Some("question") {
        return format!("question {text}: `vusb answer`");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        assert_eq!(keys(b"r", 9), [Key::Refresh]);
        let expected = [Key::Scroll(-1), Key::Scroll(1), Key::Scroll(9), Key::End];
        assert_eq!(keys(b"\x1b[A\x1bOBx q", 9), expected);
        assert_eq!(keys(b"\x1b[5~\x1b", 9), [Key::Scroll(-9)]);
    }
}
