//! Where a device is plugged in, as Linux names it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::address::decimal;

/// A bus and a chain of ports, `1-4.2`: Linux's name for a port path. The bus number can change at
/// each boot; the chain does not. Up to seven ports are accepted, one more than a device can have
/// (USB 2.0, section 4.1.1: seven tiers, which are the root hub, at most five hubs and the device).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BusId {
    bus: u16,
    chain: Vec<u8>,
}

impl BusId {
    /// The number of the host's bus, from 1.
    pub const fn bus(&self) -> u16 {
        self.bus
    }

    /// The ports from the root hub outwards, each from 1.
    pub fn chain(&self) -> &[u8] {
        &self.chain
    }

    /// The chain as text: `4.2`.
    pub fn chain_text(&self) -> String {
        self.chain.iter().map(u8::to_string).collect::<Vec<_>>().join(".")
    }

    /// The bus and the ports that a text names.
    pub(super) fn parse(text: &str) -> Option<BusId> {
        let (bus, chain) = text.split_once('-')?;
        let bus = decimal::<u16>(bus).filter(|bus| *bus > 0)?;
        Some(BusId { bus, chain: port_chain(chain)? })
    }
}

/// A chain of one to seven ports.
pub(super) fn port_chain(text: &str) -> Option<Vec<u8>> {
    let chain: Vec<u8> = text
        .split('.')
        .map(|port| decimal::<u8>(port).filter(|port| *port > 0))
        .take(8)
        .collect::<Option<_>>()?;
    (chain.len() <= 7).then_some(chain)
}

impl From<BusId> for String {
    fn from(id: BusId) -> String {
        id.to_string()
    }
}

impl fmt::Display for BusId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.bus, self.chain_text())
    }
}
