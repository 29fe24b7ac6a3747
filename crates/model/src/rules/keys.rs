//! The patterns that the keys of a rule have as values.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::selector::{BusId, StablePath, UsbId, hex4};

/// The vendor, the product, and optionally the serial number: `0529:0001`, `0529:*`,
/// `0529:0620:A1B2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPattern {
    /// The vendor.
    pub vendor: u16,
    /// The product; `None` is any.
    pub product: Option<u16>,
    /// The serial number; `None` matches any serial number, and devices without a serial number.
    pub serial: Option<String>,
}

impl IdPattern {
    /// Whether a device with this id and serial number matches.
    pub fn matches(&self, id: UsbId, serial: Option<&str>) -> bool {
        self.vendor == id.vendor
            && self.product.is_none_or(|it| it == id.product)
            && self.serial.as_deref().is_none_or(|it| Some(it) == serial)
    }

    /// Whether every device that matches `other` matches this too.
    pub(super) fn covers(&self, other: &IdPattern) -> bool {
        self.vendor == other.vendor
            && self.product.is_none_or(|it| other.product == Some(it))
            && self.serial.as_ref().is_none_or(|it| other.serial.as_ref() == Some(it))
    }
}

impl FromStr for IdPattern {
    type Err = IdPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || IdPatternError(text.chars().take(80).collect());
        let mut parts = text.splitn(3, ':');
        let vendor = parts.next().and_then(hex4).ok_or_else(error)?;
        let product = match parts.next().ok_or_else(error)? {
            "*" => None,
            product => Some(hex4(product).ok_or_else(error)?),
        };
        let serial = parts.next().map(str::to_owned);
        let is_valid = |serial: &String| {
            let length = serial.chars().count();
            (1..=126).contains(&length) && !serial.chars().any(char::is_control)
        };
        let serial_is_valid = serial.as_ref().is_none_or(|it| is_valid(it) && product.is_some());
        if serial_is_valid { Ok(IdPattern { vendor, product, serial }) } else { Err(error()) }
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:", self.vendor)?;
        match self.product {
            Some(product) => write!(f, "{product:04x}")?,
            None => f.write_str("*")?,
        }
        self.serial.as_ref().map_or(Ok(()), |serial| write!(f, ":{serial}"))
    }
}

/// A text that is not an id pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not an id: write four hexadecimal digits each, as in 0529:0001, 0529:* (any product), or 0529:0001:SERIAL"
)]
pub struct IdPatternError(String);

/// A port of this machine, `1-4` or `pci-0000:00:14.0-usb-0:4`; with `.*` that port and everything
/// below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPattern {
    /// The port itself.
    position: Position,
    /// Whether the ports below it match too.
    includes_below: bool,
}

/// A port, in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Position {
    /// `1-4`.
    Bus(BusId),
    /// `pci-0000:00:14.0-usb-0:4`.
    Path(StablePath),
}

impl PortPattern {
    /// Whether the ports below it match too.
    pub const fn is_subtree(&self) -> bool {
        self.includes_below
    }

    /// How many ports are in the chain from the root hub.
    pub fn depth(&self) -> usize {
        match &self.position {
            Position::Bus(id) => id.chain().len(),
            Position::Path(path) => path.chain().split('.').count(),
        }
    }

    /// Whether a device in this port matches.
    pub fn matches(&self, port: Option<&BusId>, path: Option<&StablePath>) -> bool {
        match &self.position {
            Position::Bus(id) => port.is_some_and(|it| {
                id.bus() == it.bus() && self.covers_chain(&id.chain_text(), &it.chain_text())
            }),
            Position::Path(own) => path.is_some_and(|it| {
                own.controller() == it.controller() && self.covers_chain(own.chain(), it.chain())
            }),
        }
    }

    /// Whether every device that matches `other` matches this too. `false` if one is `1-4` and
    /// the other a path, even if both mean the same port: the path of a bus is not known here.
    pub(super) fn covers(&self, other: &PortPattern) -> bool {
        if other.includes_below && !self.includes_below {
            return false;
        }
        match &other.position {
            Position::Bus(id) => self.matches(Some(id), None),
            Position::Path(path) => self.matches(None, Some(path)),
        }
    }

    fn covers_chain(&self, own: &str, other: &str) -> bool {
        let rest = other.strip_prefix(own);
        rest.is_some_and(|rest| rest.is_empty() || (self.includes_below && rest.starts_with('.')))
    }
}

impl FromStr for PortPattern {
    type Err = PortPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (port, includes_below) = match text.strip_suffix(".*") {
            Some(port) => (port, true),
            None => (text, false),
        };
        let path = || port.parse().map(Position::Path);
        let position = if port.contains(':') { path() } else { port.parse().map(Position::Bus) };
        let error = |_| PortPatternError(text.chars().take(80).collect());
        Ok(PortPattern { position: position.map_err(error)?, includes_below })
    }
}

impl fmt::Display for PortPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.position {
            Position::Bus(id) => write!(f, "{id}")?,
            Position::Path(path) => write!(f, "{path}")?,
        }
        f.write_str(if self.includes_below { ".*" } else { "" })
    }
}

/// A text that is not a port.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a port: write bus and port (1-4.2) or a path (pci-0000:00:14.0-usb-0:4.2), with .* at the end for everything below it"
)]
pub struct PortPatternError(String);

/// Class, subclass and protocol of an interface. `None` is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfacePattern {
    /// `bInterfaceClass`.
    pub class: u8,
    /// `bInterfaceSubClass`.
    pub subclass: Option<u8>,
    /// `bInterfaceProtocol`; only with a subclass.
    pub protocol: Option<u8>,
}

impl InterfacePattern {
    /// The interfaces with exactly these codes.
    pub const fn exact(class: u8, subclass: u8, protocol: u8) -> InterfacePattern {
        InterfacePattern { class, subclass: Some(subclass), protocol: Some(protocol) }
    }

    const fn of_class(class: u8) -> InterfacePattern {
        InterfacePattern { class, subclass: None, protocol: None }
    }

    const fn of_subclass(class: u8, subclass: u8) -> InterfacePattern {
        InterfacePattern { class, subclass: Some(subclass), protocol: None }
    }

    /// Whether every interface that matches `other` also matches this pattern.
    pub fn covers(self, other: InterfacePattern) -> bool {
        let wide = |own: Option<u8>, other: Option<u8>| own.is_none_or(|it| other == Some(it));
        self.class == other.class
            && wide(self.subclass, other.subclass)
            && wide(self.protocol, other.protocol)
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.class)?;
        for code in [self.subclass, self.protocol].into_iter().flatten() {
            write!(f, ":{code:02x}")?;
        }
        Ok(())
    }
}

/// The words for interfaces, with the codes that they stand for. Sources: USB-IF, "Defined Class
/// Codes"; HID 1.11, section 4.2; for RNDIS Linux's `rndis_host.c`; for ADB Android's `adb.h`.
const WORDS: [(&str, &[InterfacePattern]); 15] = [
    ("audio", &[InterfacePattern::of_class(0x01)]),
    ("comm", &[InterfacePattern::of_class(0x02)]),
    ("hid", &[InterfacePattern::of_class(0x03)]),
    ("keyboard", &[InterfacePattern::exact(0x03, 0x01, 0x01)]),
    ("mouse", &[InterfacePattern::exact(0x03, 0x01, 0x02)]),
    ("printer", &[InterfacePattern::of_class(0x07)]),
    ("storage", &[InterfacePattern::of_class(0x08)]),
    ("hub", &[InterfacePattern::of_class(0x09)]),
    ("smartcard", &[InterfacePattern::of_class(0x0b)]),
    ("video", &[InterfacePattern::of_class(0x0e)]),
    ("wireless", &[InterfacePattern::of_class(0xe0)]),
    (
        "net",
        &[
            InterfacePattern::of_subclass(0x02, 0x06),
            InterfacePattern::of_subclass(0x02, 0x0d),
            InterfacePattern::of_subclass(0x02, 0x0e),
            InterfacePattern::exact(0xe0, 0x01, 0x03),
            InterfacePattern::exact(0xef, 0x04, 0x01),
        ],
    ),
    ("adb", &[InterfacePattern::exact(0xff, 0x42, 0x01)]),
    ("dfu", &[InterfacePattern::of_subclass(0xfe, 0x01)]),
    ("vendor", &[InterfacePattern::of_class(0xff)]),
];

/// A kind of interface, as a word (`printer`) or as codes (`08`, `08:06`, `08:06:50`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceClass {
    text: String,
    patterns: Vec<InterfacePattern>,
}

impl InterfaceClass {
    /// The codes that it stands for.
    pub fn patterns(&self) -> &[InterfacePattern] {
        &self.patterns
    }

    /// Whether every interface that matches `interface` is of this kind.
    pub fn covers(&self, interface: InterfacePattern) -> bool {
        self.patterns.iter().any(|it| it.covers(interface))
    }

    /// Whether it covers everything that `other` covers.
    pub(super) fn covers_class(&self, other: &InterfaceClass) -> bool {
        other.patterns.iter().all(|it| self.covers(*it))
    }

    /// The words.
    pub fn words() -> impl Iterator<Item = &'static str> {
        WORDS.iter().map(|(word, _)| *word)
    }
}

impl FromStr for InterfaceClass {
    type Err = InterfaceClassError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((_, patterns)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(InterfaceClass { text: text.to_owned(), patterns: patterns.to_vec() });
        }
        let error = || InterfaceClassError(text.chars().take(80).collect());
        let code = |part: &str| {
            let valid = part.len() == 2 && part.bytes().all(|it| it.is_ascii_hexdigit());
            valid.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        };
        let mut codes = text.split(':').map(|part| code(part).ok_or_else(error));
        let class = codes.next().ok_or_else(error)??;
        let (subclass, protocol) = (codes.next().transpose()?, codes.next().transpose()?);
        if codes.next().is_some() {
            return Err(error());
        }
        let pattern = InterfacePattern { class, subclass, protocol };
        Ok(InterfaceClass { text: pattern.to_string(), patterns: vec![pattern] })
    }
}

impl fmt::Display for InterfaceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A text that is not a kind of interface.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a kind of interface: write class, subclass and protocol (08:06:50, 08:06 or 08), or one of {words}",
    words = InterfaceClass::words().collect::<Vec<_>>().join(", ")
)]
pub struct InterfaceClassError(String);

/// A text in which `*` stands for any number of characters, including none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// The pattern that any text matches.
    pub fn any() -> Glob {
        Glob("*".to_owned())
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the text matches. The case of letters is ignored.
    pub fn matches(&self, text: &str) -> bool {
        glob(&folded(&self.0), &folded(text))
    }

    /// Whether the text matches. The case of letters matters; `*` stands for any text here too.
    pub fn matches_exactly(&self, text: &str) -> bool {
        glob(&self.0.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
    }

    /// Whether every text that matches `other` matches this too. Each `*` of `other` is treated as
    /// a character that only a `*` of this pattern matches. Then that `*` of this pattern also
    /// matches any text that the `*` of `other` stands for.
    pub(super) fn covers(&self, other: &Glob) -> bool {
        self.matches(&other.0)
    }

    /// As [`Glob::covers`], but the case of letters matters.
    pub(super) fn covers_exactly(&self, other: &Glob) -> bool {
        self.matches_exactly(&other.0)
    }
}

fn folded(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Whether the text matches the pattern. After a mismatch, the last `*` takes one more character.
/// So the time is at most proportional to the product of both lengths.
fn glob(pattern: &[char], text: &[char]) -> bool {
    let (mut in_pattern, mut in_text) = (0, 0);
    // The last `*`: where it is in the pattern, and where the text that it stands for ends.
    let mut star: Option<(usize, usize)> = None;
    while let Some(character) = text.get(in_text) {
        match pattern.get(in_pattern) {
            Some('*') => {
                star = Some((in_pattern, in_text));
                in_pattern += 1;
            }
            Some(wanted) if wanted == character => {
                in_pattern += 1;
                in_text += 1;
            }
            _ => {
                let Some((star_in_pattern, end)) = star else { return false };
                star = Some((star_in_pattern, end + 1));
                in_pattern = star_in_pattern + 1;
                in_text = end + 1;
            }
        }
    }
    pattern.iter().skip(in_pattern).all(|it| *it == '*')
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = (1..=256).contains(&text.chars().count()) && !text.contains(char::is_control);
        if valid { Ok(Glob(text.to_owned())) } else { Err(GlobError) }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a pattern has 1 to 256 characters and no control characters; `*` stands for any text")]
pub struct GlobError;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_ports_and_interfaces_read_back() {
        for text in ["0529:0001", "0529:*", "0529:0620:A1B2"] {
            assert_eq!(text.parse::<IdPattern>().unwrap().to_string(), text);
        }
        for text in ["*:*", "0529", "529:0001", "0529:*:A", "0529:0001:", ""] {
            assert!(text.parse::<IdPattern>().is_err(), "{text}");
        }
        for text in ["1-4", "1-4.*", "pci-0000:00:14.0-usb-0:4.2", "pci-0000:00:14.0-usb-0:4.2.*"] {
            assert_eq!(text.parse::<PortPattern>().unwrap().to_string(), text);
        }
        for text in ["*", "1-*", "1-4*", "0781:5581", "pci-0000:00:14.0-usb-0:*", ""] {
            assert!(text.parse::<PortPattern>().is_err(), "{text}");
        }
        for text in ["08", "08:06", "08:06:50", "printer", "net"] {
            assert_eq!(text.parse::<InterfaceClass>().unwrap().to_string(), text);
        }
        for text in ["8", "08:", "08:06:50:01", "printers", "0x08", ""] {
            assert!(text.parse::<InterfaceClass>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_subtree_has_its_port_and_everything_below_it() {
        let matches = |pattern: &str, port: &str| {
            let pattern: PortPattern = pattern.parse().unwrap();
            pattern.matches(Some(&port.parse().unwrap()), None)
        };
        assert!(
            matches("1-4.*", "1-4") && matches("1-4.*", "1-4.2") && matches("1-4.*", "1-4.2.1")
        );
        assert!(
            !matches("1-4.*", "1-42") && !matches("1-4.*", "2-4.2") && !matches("1-4", "1-4.2")
        );
    }

    #[test]
    fn a_star_stands_for_any_text() {
        let matches = |glob: &str, text: &str| glob.parse::<Glob>().unwrap().matches(text);
        assert!(matches("*ethernet*", "ACME Ethernet 100"));
        assert!(matches("a*b*c", "aXbYbc") && matches("*", "") && matches("a**", "a"));
        assert!(!matches("a*b", "aXbc") && !matches("ab", "a"));
    }

    proptest! {
        /// The obvious definition of a pattern, which takes exponential time.
        #[test]
        fn a_pattern_matches_as_its_definition_says(pattern in "[ab*]{1,8}", text in "[ab]{0,10}") {
            fn matches(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
                    Some((byte, rest)) => text.first() == Some(byte) && matches(rest, &text[1..]),
                }
            }
            let glob: Glob = pattern.parse().unwrap();
            prop_assert_eq!(glob.matches(&text), matches(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn a_pattern_that_covers_another_matches_all_its_texts(
            wide in "[ab*]{1,6}", narrow in "[ab*]{1,6}", text in "[ab]{0,8}"
        ) {
            let [wide, narrow] = [wide, narrow].map(|it| it.parse::<Glob>().unwrap());
            if wide.covers(&narrow) && narrow.matches(&text) {
                prop_assert!(wide.matches(&text));
            }
        }
    }
}
