//! The nodes by which a guest's driver connects.

use super::key::{Entry, Key};
use crate::domain::strict_decimal;

/// Where the guest's rings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Grant reference of the ring for transfers: `urb-ring-ref`.
    pub urbs: u32,
    /// Grant reference of the ring for connections: `conn-ring-ref`.
    pub connects: u32,
    /// The guest's event channel: `event-channel`.
    pub events: u32,
}

impl Rings {
    /// The nodes that a guest's driver writes.
    pub fn entries(&self) -> Vec<Entry> {
        vec![
            (Key::UrbRingRef, self.urbs.to_string()),
            (Key::ConnRingRef, self.connects.to_string()),
            (Key::EventChannel, self.events.to_string()),
        ]
    }

    /// Reads the nodes; `None` if one is missing or not a number.
    ///
    /// # Errors
    /// The errors of `read`.
    pub fn parse<E>(
        mut read: impl FnMut(Key) -> Result<Option<String>, E>,
    ) -> Result<Option<Rings>, E> {
        let mut number = |key| Ok(read(key)?.as_deref().and_then(strict_decimal));
        let (urbs, connects, events) =
            (number(Key::UrbRingRef)?, number(Key::ConnRingRef)?, number(Key::EventChannel)?);
        Ok(urbs.zip(connects).zip(events).map(|((urbs, connects), events)| Rings {
            urbs,
            connects,
            events,
        }))
    }
}
