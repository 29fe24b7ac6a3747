//! Permissions of a node.

use std::fmt::Write as _;

use super::error::Error;
use super::wire::texts;
use crate::DomId;

/// What a domain may do with a node. Its owner and domain 0 may do everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Nothing (`n`).
    None,
    /// Read (`r`).
    Read,
    /// Write (`w`).
    Write,
    /// Read and write (`b`).
    Both,
}

impl Access {
    const fn letter(self) -> char {
        match self {
            Self::None => 'n',
            Self::Read => 'r',
            Self::Write => 'w',
            Self::Both => 'b',
        }
    }

    const fn from_letter(letter: u8) -> Option<Self> {
        match letter {
            b'n' => Some(Self::None),
            b'r' => Some(Self::Read),
            b'w' => Some(Self::Write),
            b'b' => Some(Self::Both),
            _ => None,
        }
    }
}

/// Permissions of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Perms {
    /// The domain that owns the node.
    pub owner: DomId,
    /// The access of every domain that is not listed in `others`.
    pub default: Access,
    /// The access of particular domains.
    pub others: Vec<(DomId, Access)>,
}

impl Perms {
    /// Only the owner has access.
    #[must_use]
    pub const fn private(owner: DomId) -> Self {
        Self { owner, default: Access::None, others: Vec::new() }
    }

    /// The owner has access, and `reader` may read: the permissions of both ends' folders of a
    /// device.
    #[must_use]
    pub fn readable_by(owner: DomId, reader: DomId) -> Self {
        Self { owner, default: Access::None, others: vec![(reader, Access::Read)] }
    }

    /// `n5 \0 r0 \0`: the first entry has the owner and the default.
    pub(super) fn encode(&self) -> String {
        let first = (self.owner, self.default);
        let mut text = String::new();
        for (domain, access) in std::iter::once(&first).chain(&self.others) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{domain}\0", access.letter());
        }
        text
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut entries = texts(payload).map(entry);
        let (owner, default) =
            entries.next().ok_or_else(|| Error::Protocol("a node without an owner".into()))??;
        Ok(Self { owner, default, others: entries.collect::<Result<_, _>>()? })
    }
}

fn entry(text: &[u8]) -> Result<(DomId, Access), Error> {
    let parsed = text.split_first().and_then(|(letter, number)| {
        let number = std::str::from_utf8(number).ok()?;
        Some((number.parse().ok()?, Access::from_letter(*letter)?))
    });
    parsed.ok_or_else(|| {
        let text: String = String::from_utf8_lossy(text).chars().take(16).collect();
        Error::Protocol(format!("invalid permission {text:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_have_xenstoreds_format() {
        let guest = DomId::new(5).unwrap();
        let perms = Perms::readable_by(guest, DomId::ZERO);
        assert_eq!(perms.encode(), "n5\0r0\0");
        assert_eq!(Perms::decode(b"n5\0r0\0").unwrap(), perms);
        assert_eq!(Perms::decode(b"b0\0").unwrap().default, Access::Both);
    }

    #[test]
    fn invalid_permissions_are_errors() {
        for payload in
            [&b""[..], b"\0", b"n", b"x5\0", b"n5\0\0", b"n-1\0", b"n32752\0", b"n\xff\0"]
        {
            assert!(matches!(Perms::decode(payload), Err(Error::Protocol(_))), "{payload:?}");
        }
    }
}
