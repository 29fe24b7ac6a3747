//! USB bus speeds, and which of them a port supports or a device can run at.
//!
//! Source: USB 2.0 specification, section 5.2.3 (low 1.5, full 12, high 480 Mbit/s) and USB 3.0,
//! section 3.1 (SuperSpeed 5 Gbit/s). Faster modes of USB 3.1 and later count as super: no emulated
//! or paravirtual controller distinguishes them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The speed of a USB device, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speed {
    /// 1.5 Mbit/s.
    Low,
    /// 12 Mbit/s.
    Full,
    /// 480 Mbit/s.
    High,
    /// 5 Gbit/s and above.
    Super,
}

impl Speed {
    /// All speeds, slowest first.
    pub const ALL: [Speed; 4] = [Speed::Low, Speed::Full, Speed::High, Speed::Super];

    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The rate in Mbit/s as Linux prints it in a device's `speed` attribute.
    pub const fn mbits(self) -> &'static str {
        match self {
            Speed::Low => "1.5",
            Speed::Full => "12",
            Speed::High => "480",
            Speed::Super => "5000",
        }
    }

    /// The speed for a value of Linux's `speed` attribute: `1.5`, `12`, `480`, or 5000 and above.
    /// `None` for anything else.
    pub fn from_mbits(text: &str) -> Option<Speed> {
        match text {
            "1.5" => Some(Speed::Low),
            "12" => Some(Speed::Full),
            "480" => Some(Speed::High),
            other => other.parse::<u32>().ok().filter(|rate| *rate >= 5000).map(|_| Speed::Super),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Speed::Low => "low",
            Speed::Full => "full",
            Speed::High => "high",
            Speed::Super => "super",
        })
    }
}

/// A set of speeds: those that a port supports, or that a device can run at.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "Vec<Speed>", from = "Vec<Speed>")]
pub struct SpeedSet(u8);

impl SpeedSet {
    /// No speed at all.
    pub const NONE: SpeedSet = SpeedSet(0);
    /// Every speed.
    pub const ALL: SpeedSet = SpeedSet(0b1111);
    /// The number of different sets: [`SpeedSet::ordinal`] is below it.
    pub const COUNT: usize = 16;

    /// The set of these speeds.
    pub const fn of(speeds: &[Speed]) -> SpeedSet {
        let mut bits = 0;
        let mut rest = speeds;
        while let [first, tail @ ..] = rest {
            bits |= first.bit();
            rest = tail;
        }
        SpeedSet(bits)
    }

    /// Whether `speed` is in the set.
    pub const fn contains(self, speed: Speed) -> bool {
        self.0 & speed.bit() != 0
    }

    /// The speeds in both sets.
    pub const fn intersection(self, other: SpeedSet) -> SpeedSet {
        SpeedSet(self.0 & other.0)
    }

    /// The speeds in either set.
    pub const fn union(self, other: SpeedSet) -> SpeedSet {
        SpeedSet(self.0 | other.0)
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The fastest speed in the set.
    pub fn fastest(self) -> Option<Speed> {
        Speed::ALL.into_iter().rev().find(|speed| self.contains(*speed))
    }

    /// The speeds in the set, slowest first.
    pub fn iter(self) -> impl Iterator<Item = Speed> {
        Speed::ALL.into_iter().filter(move |speed| self.contains(*speed))
    }

    /// Whether low or full speed is in the set.
    pub const fn has_slow(self) -> bool {
        self.contains(Speed::Low) || self.contains(Speed::Full)
    }

    /// A number below [`SpeedSet::COUNT`] that is unique to this set.
    pub const fn ordinal(self) -> usize {
        self.0 as usize
    }
}

impl From<Speed> for SpeedSet {
    fn from(speed: Speed) -> Self {
        SpeedSet(speed.bit())
    }
}

impl From<Vec<Speed>> for SpeedSet {
    fn from(speeds: Vec<Speed>) -> Self {
        SpeedSet::of(&speeds)
    }
}

impl From<SpeedSet> for Vec<Speed> {
    fn from(set: SpeedSet) -> Self {
        set.iter().collect()
    }
}

impl fmt::Display for SpeedSet {
    /// For use in a sentence: `low, full and high`; `no` for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let speeds: Vec<Speed> = self.iter().collect();
        match speeds.as_slice() {
            [] => f.write_str("no"),
            [only] => write!(f, "{only}"),
            [head @ .., last] => {
                let head: Vec<String> = head.iter().map(Speed::to_string).collect();
                write!(f, "{} and {last}", head.join(", "))
            }
        }
    }
}

impl fmt::Debug for SpeedSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_formatted_for_a_sentence() {
        assert_eq!(SpeedSet::ALL.to_string(), "low, full, high and super");
        assert_eq!(SpeedSet::from(Speed::High).to_string(), "high");
        assert_eq!(SpeedSet::NONE.to_string(), "no");
    }

    #[test]
    fn linux_speed_attributes_are_parsed() {
        for speed in Speed::ALL {
            assert_eq!(Speed::from_mbits(speed.mbits()), Some(speed));
        }
        assert_eq!(Speed::from_mbits("20000"), Some(Speed::Super));
        assert_eq!(Speed::from_mbits("53.3"), None);
        assert_eq!(Speed::from_mbits("-12"), None);
    }
}
