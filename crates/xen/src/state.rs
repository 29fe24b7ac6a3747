//! The state of one end of a paravirtual device.

use std::fmt;
use std::str::FromStr;

use crate::domain::strict_decimal;

/// State of a frontend or a backend, as kept in its `state` node (Xen's `io/xenbus.h`,
/// `enum xenbus_state`).
///
/// ```text
/// Initialising ──▶ InitWait ──▶ Initialised ──▶ Connected ──▶ Closing ──▶ Closed
/// ```
///
/// A frontend may skip InitWait and Initialised, and either side may go to Closing from any state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// No state has been set yet.
    Unknown = 0,
    /// The toolstack has created the nodes.
    Initialising = 1,
    /// Waits for the other side to publish its details.
    InitWait = 2,
    /// Has published its details and waits for the other side to connect.
    Initialised = 3,
    /// Carries data.
    Connected = 4,
    /// Is closing, or asks the other side to close.
    Closing = 5,
    /// Has closed.
    Closed = 6,
    /// Requests a change while connected.
    Reconfiguring = 7,
    /// Has made the requested change.
    Reconfigured = 8,
}

/// A text that is not a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the state of a device: it must be a number from 0 to 8")]
pub struct NotAState(String);

impl State {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Initialising,
        Self::InitWait,
        Self::Initialised,
        Self::Connected,
        Self::Closing,
        Self::Closed,
        Self::Reconfiguring,
        Self::Reconfigured,
    ];

    /// The state with that number, 0 to 8.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        usize::try_from(code).ok().and_then(|code| Self::ALL.get(code)).copied()
    }

    /// The state that a `state` node contains. Another domain wrote it, so any other text counts as
    /// [`State::Unknown`].
    #[must_use]
    pub fn from_node(text: &str) -> Self {
        text.parse().unwrap_or(Self::Unknown)
    }

    /// The state's number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The state's name, for people: `Connected`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Initialising => "Initialising",
            Self::InitWait => "InitWait",
            Self::Initialised => "Initialised",
            Self::Connected => "Connected",
            Self::Closing => "Closing",
            Self::Closed => "Closed",
            Self::Reconfiguring => "Reconfiguring",
            Self::Reconfigured => "Reconfigured",
        }
    }
}

/// As in xenstore: only the number. [`State::name`] is for people.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code().fmt(f)
    }
}

/// Strict decimal: no sign, no blanks, no leading zeros.
impl FromStr for State {
    type Err = NotAState;

    fn from_str(text: &str) -> Result<Self, NotAState> {
        strict_decimal(text)
            .and_then(Self::from_code)
            .ok_or_else(|| NotAState(text.chars().take(16).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (code, state) in (0_u32..).zip(State::ALL) {
            assert_eq!(u32::from(state.code()), code);
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        for text in ["", "9", "-1", "04", "4 ", "4\n", "Connected", "4294967300"] {
            assert!(text.parse::<State>().is_err(), "{text:?}");
        }
    }
}
