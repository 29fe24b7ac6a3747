//! A domain's address: how it is reached, whichever hypervisor it runs on.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use vusb_drivers::{Parsed, Scheme};

/// The address of a domain, for instance `qemu:/run/web1.qmp` or the path of a config file.
/// [`Context::domain`](crate::Context::domain) makes one from what a user writes.
///
/// Addresses compare by their text.
#[derive(Clone, Debug)]
pub struct DomainAddress {
    scheme: Arc<dyn Scheme>,
    operand: String,
    text: String,
}

impl DomainAddress {
    pub(crate) fn new(scheme: Arc<dyn Scheme>, operand: String) -> DomainAddress {
        let text = scheme.address(&operand);
        DomainAddress { scheme, operand, text }
    }

    /// The driver's scheme.
    pub fn scheme(&self) -> &dyn Scheme {
        self.scheme.as_ref()
    }

    /// What follows the scheme: a socket, a name, a path.
    pub fn operand(&self) -> &str {
        &self.operand
    }

    /// The address, as a user writes it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether vusb keeps a record of the domain. A config file is its own record.
    pub fn has_record(&self) -> bool {
        self.scheme.has_records()
    }

    /// The same domain under another operand.
    pub(crate) fn with_operand(&self, operand: String) -> DomainAddress {
        DomainAddress::new(self.scheme.clone(), operand)
    }

    /// The address whose lock protects the domain.
    pub(crate) fn for_lock(&self) -> String {
        self.scheme.address(&self.scheme.lock_operand(&self.operand))
    }
}

impl From<Parsed> for DomainAddress {
    fn from(parsed: Parsed) -> DomainAddress {
        DomainAddress::new(parsed.scheme, parsed.operand)
    }
}

impl fmt::Display for DomainAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for DomainAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl PartialEq for DomainAddress {
    fn eq(&self, other: &DomainAddress) -> bool {
        self.text == other.text
    }
}

impl Eq for DomainAddress {}

impl PartialOrd for DomainAddress {
    fn partial_cmp(&self, other: &DomainAddress) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DomainAddress {
    fn cmp(&self, other: &DomainAddress) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for DomainAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
