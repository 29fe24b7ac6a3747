//! Positions on the USB bus tree: a controller's index and a path of port numbers.
//!
//! libvirt and libxl agreed on this form: `bus` is the index of a controller, 0 to 0xfff, and
//! `port` is up to four numbers separated by dots, each 1 or more: the port on the controller, then
//! one for each hub. Guests do not see the indexes.

use std::fmt;
use std::num::NonZeroU8;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The index of a controller in its domain: 0 to 4095.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Index(u16);

impl Index {
    /// The first index.
    pub const ZERO: Index = Index(0);
    /// The highest index, 0xfff: libvirt's limit for the `bus` of a USB address.
    pub const MAX: Index = Index(0xfff);

    /// The index `number`; `None` above 4095.
    pub const fn new(number: u16) -> Option<Index> {
        if number <= Index::MAX.0 { Some(Index(number)) } else { None }
    }

    /// The index as a number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Every index from 0 on.
    pub fn all() -> impl Iterator<Item = Index> {
        (0..=Index::MAX.0).map(Index)
    }
}

impl TryFrom<u32> for Index {
    type Error = AddressError;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        u16::try_from(number)
            .ok()
            .and_then(Index::new)
            .ok_or_else(|| AddressError::Index(number.to_string()))
    }
}

impl From<Index> for u32 {
    fn from(index: Index) -> u32 {
        u32::from(index.0)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Index {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decimal::<u16>(text)
            .and_then(Index::new)
            .ok_or_else(|| AddressError::Index(text.to_owned()))
    }
}

/// A path of ports below a controller: `2`, or `2.1.3` through two hubs. One to four numbers, each
/// 1 to 255 (a hub's `bNbrPorts` is one byte: USB 2.0, section 11.23.2.1).
///
/// Paths sort depth first: `1`, `1.1`, `1.2`, `2`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortPath([u8; PortPath::MAX_DEPTH]);

impl PortPath {
    /// How many numbers a path can have: libvirt's limit. QEMU's is two more: it accepts five
    /// hubs in a chain.
    pub const MAX_DEPTH: usize = 4;

    /// The path to a controller's own port.
    pub const fn root(port: NonZeroU8) -> PortPath {
        PortPath([port.get(), 0, 0, 0])
    }

    /// The path to `port` of the hub at this path; `None` if it would be deeper than
    /// [`PortPath::MAX_DEPTH`].
    pub fn child(self, port: NonZeroU8) -> Option<PortPath> {
        let mut numbers = self.0;
        let slot = numbers.get_mut(self.depth())?;
        *slot = port.get();
        Some(PortPath(numbers))
    }

    /// The path of the hub that has this path's last port; `None` for a controller's own port.
    pub fn parent(self) -> Option<PortPath> {
        let last = self.depth().checked_sub(1).filter(|last| *last > 0)?;
        let mut numbers = self.0;
        *numbers.get_mut(last)? = 0;
        Some(PortPath(numbers))
    }

    /// How many numbers the path has: 1 to 4.
    pub fn depth(self) -> usize {
        self.0.iter().take_while(|number| **number != 0).count()
    }

    /// The last number: the port on the hub or controller that the device is plugged into.
    pub fn port(self) -> u8 {
        self.numbers().last().unwrap_or(0)
    }

    /// The first number: the port of the controller itself.
    pub const fn root_port(self) -> u8 {
        let [first, ..] = self.0;
        first
    }

    /// The numbers, from the controller outwards.
    pub fn numbers(self) -> impl Iterator<Item = u8> {
        self.0.into_iter().take_while(|number| *number != 0)
    }

    /// Whether this path goes through the hub at `hub`.
    pub fn is_below(self, hub: PortPath) -> bool {
        self.depth() > hub.depth() && hub.numbers().zip(self.numbers()).all(|(a, b)| a == b)
    }
}

impl fmt::Display for PortPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.numbers().map(|number| number.to_string()).collect();
        f.write_str(&numbers.join("."))
    }
}

impl fmt::Debug for PortPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortPath({self})")
    }
}

impl FromStr for PortPath {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || AddressError::Port(text.to_owned());
        let mut path: Option<PortPath> = None;
        for part in text.split('.') {
            let port = decimal::<u8>(part).and_then(NonZeroU8::new).ok_or_else(error)?;
            path = Some(match path {
                None => PortPath::root(port),
                Some(hub) => hub.child(port).ok_or_else(error)?,
            });
        }
        path.ok_or_else(error)
    }
}

impl TryFrom<String> for PortPath {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PortPath> for String {
    fn from(path: PortPath) -> String {
        path.to_string()
    }
}

/// The address of a device: a port of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The controller.
    pub bus: Index,
    /// The port on it.
    pub port: PortPath,
}

impl fmt::Display for Address {
    /// `0:1.2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.bus, self.port)
    }
}

/// Text that is neither an index nor a port path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Not an index.
    #[error("`{0}` is not a controller index: an index is a decimal number from 0 to 4095")]
    Index(String),
    /// Not a port path.
    #[error(
        "`{0}` is not a port: a port is one to four decimal numbers separated by dots, each 1 to 255, such as 2 or 1.4.3"
    )]
    Port(String),
}

/// A number in strict decimal: only digits, without leading zeros. libxl reads `010` as 8 and
/// libvirt as 10 or 16, so it is refused.
pub(crate) fn decimal<N: FromStr>(text: &str) -> Option<N> {
    let strict =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if strict { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> PortPath {
        text.parse().unwrap()
    }

    #[test]
    fn paths_go_through_hubs() {
        assert_eq!(path("2").depth(), 1);
        assert_eq!(path("2").parent(), None);
        assert_eq!(path("2.1.3").parent(), Some(path("2.1")));
        assert_eq!(path("2.1.3").port(), 3);
        assert_eq!(path("2.1.3").root_port(), 2);
        assert!(path("2.1.3").is_below(path("2")));
        assert!(!path("2.1.3").is_below(path("2.1.3")));
        assert!(!path("21").is_below(path("2")));
        assert_eq!(path("1.2.3.4").child(NonZeroU8::MIN), None);
    }

    #[test]
    fn paths_order_depth_first() {
        let mut paths = ["2", "1.2", "1", "10", "1.1.1", "1.1"].map(path);
        paths.sort();
        assert_eq!(paths.map(|p| p.to_string()), ["1", "1.1", "1.1.1", "1.2", "2", "10"]);
    }

    #[test]
    fn texts_that_are_not_paths() {
        for text in [
            "",
            "0",
            "1.",
            ".1",
            "1..2",
            "1.0",
            "01",
            "0x1",
            "1.2.3.4.5",
            "256",
            "-1",
            "+1",
            " 1",
            "1 2",
        ] {
            assert!(text.parse::<PortPath>().is_err(), "{text}");
        }
        for text in ["4096", "-1", "0x1", "", "00", "007"] {
            assert!(text.parse::<Index>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_path_reads_back(numbers in prop::collection::vec(1u8..=255, 1..=4)) {
            let text = numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(".");
            prop_assert_eq!(path(&text).to_string(), text);
        }
    }
}
