//! The state of one end of a paravirtual device.

use std::fmt;
use std::str::FromStr;

use crate::domain::strict_decimal;

/// State of a frontend or a backend, as kept in its `state` node (Xen's `io/xenbus.h`, `enum xenbus_state`).
///
/// ```text
/// Initialising ──▶ InitWait ──▶ Initialised ──▶ Connected ──▶ Closing ──▶ Closed
/// ```
///
/// A frontend may leave out InitWait and Initialised, and either side may go to Closing from anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Nobody has said anything yet.
    Unknown = 0,
    /// The toolstack has made the nodes.
    Initialising = 1,
    /// Waits for the other side to give its details.
    InitWait = 2,
    /// Has given its details, and waits for the other side to connect.
    Initialised = 3,
    /// Carries data.
    Connected = 4,
    /// Is about to go, or asks the other side to.
    Closing = 5,
    /// Is gone.
    Closed = 6,
    /// Asks for a change while connected.
    Reconfiguring = 7,
    /// Has made that change.
    Reconfigured = 8,
}

/// What was given is not a state.
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

    /// The state of that number, 0 to 8.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        usize::try_from(code).ok().and_then(|code| Self::ALL.get(code)).copied()
    }

    /// Its number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Its name, for people: `Connected`.
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

/// As in xenstore: the number alone. [`State::name`] is for people.
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
