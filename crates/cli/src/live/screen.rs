//! What is on the terminal: lines, which of them are new, and which part of them is visible.
//!
//! Nothing here does I/O, so that it can be tested.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// How long a change is marked.
pub(crate) const MARK_TIME: Duration = Duration::from_secs(10);

/// A line that was removed, and where it was.
#[derive(Debug)]
struct RemovedLine {
    text: String,
    /// The text of the line before it.
    previous: Option<String>,
    since: Instant,
}

/// The lines of the last drawing.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    current: Vec<String>,
    /// When each line that is marked as new appeared, by its key.
    new: BTreeMap<String, Instant>,
    removed: Vec<RemovedLine>,
    /// How many lines are scrolled off the top.
    scroll: usize,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Same,
    New,
    Removed,
}

impl Lines {
    /// Replaces the lines. Those that differ are marked.
    pub(crate) fn update(&mut self, text: &str, now: Instant) {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let (old_keys, new_keys) = (keys(&self.current), keys(&lines));
        if !self.current.is_empty() {
            for key in new_keys.difference(&old_keys).filter(|key| !key.is_empty()) {
                self.new.insert(key.clone(), now);
            }
            for (number, line) in self.current.iter().enumerate() {
                if !line.is_empty() && !new_keys.contains(&key(line)) {
                    let previous =
                        number.checked_sub(1).and_then(|it| self.current.get(it)).cloned();
                    self.removed.push(RemovedLine { text: line.clone(), previous, since: now });
                }
            }
        }
        self.removed.retain(|it| !new_keys.contains(&key(&it.text)));
        self.current = lines;
        self.drop_expired_marks(now);
    }

    fn drop_expired_marks(&mut self, now: Instant) {
        let is_marked = |since: Instant| now.saturating_duration_since(since) < MARK_TIME;
        self.new.retain(|_, since| is_marked(*since));
        self.removed.retain(|it| is_marked(it.since));
    }

    /// The time until the next mark ends. `None`: nothing is marked.
    pub(crate) fn until_mark_ends(&self, now: Instant) -> Option<Duration> {
        let all = self.new.values().copied().chain(self.removed.iter().map(|it| it.since));
        let first = all.min()?;
        Some(MARK_TIME.saturating_sub(now.saturating_duration_since(first)))
    }

    /// All lines with their marks, in order.
    pub(crate) fn marked(&mut self, now: Instant) -> Vec<(Mark, String)> {
        self.drop_expired_marks(now);
        let mut all: Vec<(Mark, String)> = Vec::new();
        for line in &self.current {
            let is_new = self.new.contains_key(&key(line));
            all.push((if is_new { Mark::New } else { Mark::Same }, line.clone()));
        }
        for gone in &self.removed {
            let previous = gone.previous.as_deref().map(key);
            let at = all.iter().position(|(_, line)| Some(key(line)) == previous);
            all.insert(at.map_or(0, |it| it + 1), (Mark::Removed, gone.text.clone()));
        }
        all
    }

    /// Scrolls by this number of lines.
    pub(crate) fn scroll(&mut self, by: isize) {
        self.scroll = self.scroll.saturating_add_signed(by);
    }

    /// The bytes that draw the lines on a terminal of this size. `bottom` is the last row.
    pub(crate) fn drawn(
        &mut self,
        (columns, rows): (usize, usize),
        bottom: &str,
        now: Instant,
    ) -> String {
        let lines = self.marked(now);
        let room = rows.saturating_sub(1).max(1);
        self.scroll = self.scroll.min(lines.len().saturating_sub(room));
        // Start at the first cell. Each row is cleared after it was written, which avoids flicker.
        let mut out = String::from("\x1b[H");
        let mut written = 0;
        for (mark, line) in lines.iter().skip(self.scroll).take(room) {
            let (before, sign, after) = match mark {
                Mark::Same => ("", " ", ""),
                Mark::New => ("\x1b[1m", "+", "\x1b[m"),
                Mark::Removed => ("\x1b[2;9m", "-", "\x1b[m"),
            };
            let text = cut(&format!("{sign} {line}"), columns);
            // Writing to a string cannot fail.
            let _ = write!(out, "{before}{text}{after}\x1b[K\r\n");
            written += 1;
        }
        for _ in written..room {
            out.push_str("\x1b[K\r\n");
        }
        let hidden = lines.len().saturating_sub(self.scroll + written);
        let more = if hidden > 0 { format!(" {hidden} more below |") } else { String::new() };
        let bottom = cut(&format!("{more}{bottom}"), columns);
        let _ = write!(out, "\x1b[7m{bottom}\x1b[m\x1b[K\x1b[J");
        out
    }
}

/// The keys of all lines.
fn keys(lines: &[String]) -> BTreeSet<String> {
    lines.iter().map(|line| key(line)).collect()
}

/// The line without its alignment: a line whose columns have moved is not a new line.
fn key(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The beginning of a line, as far as it fits. A character that is neither ASCII nor a line of a
/// tree counts as two columns, because it may be that wide.
fn cut(line: &str, columns: usize) -> String {
    let mut used = 0;
    let mut out = String::new();
    for it in line.chars() {
        used += if it.is_ascii() || ('\u{2500}'..='\u{257f}').contains(&it) { 1 } else { 2 };
        if used > columns {
            break;
        }
        out.push(it);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_appears_and_disappears_is_marked_for_a_while() {
        let begin = Instant::now();
        let mut lines = Lines::default();
        lines.update("web1\n1  stick\n2  mouse", begin);
        assert!(lines.marked(begin).iter().all(|(mark, _)| *mark == Mark::Same));
        lines.update("web1\n1    stick\n3    tablet", begin);
        let marks: Vec<(Mark, String)> = lines.marked(begin);
        let expected = [
            (Mark::Same, "web1"),
            (Mark::Same, "1    stick"),
            (Mark::Removed, "2  mouse"),
            (Mark::New, "3    tablet"),
        ];
        assert_eq!(marks, expected.map(|(mark, text)| (mark, text.to_owned())));
        assert_eq!(lines.until_mark_ends(begin), Some(MARK_TIME));
        assert_eq!(lines.marked(begin + MARK_TIME).len(), 3);
        assert_eq!(lines.until_mark_ends(begin + MARK_TIME), None);
    }

    #[test]
    fn a_drawing_fits_the_terminal() {
        let begin = Instant::now();
        let mut lines = Lines::default();
        let text: Vec<String> =
            (0..50).map(|number| format!("line {number} {}", "x".repeat(99))).collect();
        lines.update(&text.join("\n"), begin);
        let drawn = lines.drawn((20, 10), "q ends", begin);
        assert_eq!(drawn.matches("\r\n").count(), 9);
        assert!(drawn.contains("  line 8") && !drawn.contains("line 9"), "{drawn:?}");
        lines.scroll(1000);
        let drawn = lines.drawn((20, 10), "q ends", begin);
        assert!(drawn.contains("line 49") && !drawn.contains("line 40 "), "{drawn:?}");
        lines.scroll(-1000);
        assert!(lines.drawn((20, 10), "", begin).contains("  line 0"));
    }

    #[test]
    fn wide_characters_do_not_wrap() {
        assert_eq!(cut("無線マウス", 5), "無線");
        assert_eq!(cut("├─ ab", 4), "├─ a");
    }
}
