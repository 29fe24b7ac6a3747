//! The operand of an address: `web1`, a UUID, or `qemu:///session/web1`.

use std::fmt;

use vusb_libvirt::{Uri, Uuid};

use crate::scheme::AddressError;

/// A libvirt domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The connection that knows it.
    pub(super) uri: Uri,
    /// Which of its domains.
    pub(super) key: Key,
}

/// How a domain is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Name(String),
    Uuid(Uuid),
}

impl Target {
    /// Reads an operand. A name that has the form of a UUID is a UUID.
    pub(super) fn parse(operand: &str) -> Result<Target, AddressError> {
        let wrong = |problem: String| AddressError {
            problem,
            expected: "libvirt:NAME, libvirt:UUID or libvirt:qemu:///session/NAME".to_owned(),
        };
        let (uri, key) = if operand.contains("://") {
            let (head, query) = operand.split_once('?').unwrap_or((operand, ""));
            let (uri, key) = head.rsplit_once('/').unwrap_or((head, ""));
            let query = if query.is_empty() { String::new() } else { format!("?{query}") };
            let uri: Uri = format!("{uri}{query}").parse().map_err(|it| wrong(format!("{it}")))?;
            (uri, key)
        } else {
            (Uri::QEMU_SYSTEM, operand)
        };
        if uri.is_xen() {
            return Err(AddressError {
                problem: "Xen guests are not addressed through libvirt".to_owned(),
                expected: format!("xen:{}", key.escape_debug()),
            });
        }
        if key.is_empty() {
            return Err(wrong("the address does not name a domain".to_owned()));
        }
        if key.contains('/') || key.chars().any(char::is_control) {
            return Err(wrong(format!("`{}` is not a domain's name", key.escape_debug())));
        }
        let key = Uuid::parse(key).map_or_else(|| Key::Name(key.to_owned()), Key::Uuid);
        Ok(Target { uri, key })
    }

    /// The domain with this UUID on the same connection.
    pub(super) fn with_uuid(&self, uuid: Uuid) -> Target {
        Target { uri: self.uri.clone(), key: Key::Uuid(uuid) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match &self.key {
            Key::Name(name) => name.clone(),
            Key::Uuid(uuid) => uuid.to_string(),
        };
        if self.uri == Uri::QEMU_SYSTEM {
            return f.write_str(&key);
        }
        let uri = self.uri.to_string();
        let query = uri.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
        write!(f, "{}/{key}{query}", self.uri.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_several_forms() {
        let uuid = "2f529084-7866-48ed-afc4-ec721375d888";
        for (text, written) in [
            ("web1", "web1"),
            ("my web?1", "my web?1"),
            (uuid, uuid),
            ("qemu:///system/web1", "web1"),
            ("qemu:///session/web1", "qemu:///session/web1"),
            ("qemu:///session/web1?socket=/tmp/s", "qemu:///session/web1?socket=/tmp/s"),
            ("qemu:///system/web1?socket=/tmp/s", "qemu:///system/web1?socket=/tmp/s"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.to_string(), written);
            assert_eq!(Target::parse(written).unwrap(), target);
        }
        assert_eq!(Target::parse(uuid).unwrap().key, Key::Uuid(Uuid::parse(uuid).unwrap()));
    }

    #[test]
    fn invalid_addresses_are_refused_with_the_reason() {
        for (text, part) in [
            ("", "does not name a domain"),
            ("a/b", "not a domain's name"),
            ("a\nb", "not a domain's name"),
            ("qemu:///session/", "does not name"),
            ("qemu:///session", "qemu"),
            ("test:///default/a", "`test`"),
            ("xen:///system/a", "write xen:a"),
            ("qemu://host/system/a", "another machine"),
        ] {
            let error = Target::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
