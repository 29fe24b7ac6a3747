//! A bus and an address as a selector: `001.004`.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};
use vusb_model::selector::{BusAddress, Selector};

pub(crate) fn serialize<S: Serializer>(value: &BusAddress, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BusAddress, D::Error> {
    match Selector::deserialize(from)? {
        Selector::Address(address) => Ok(address),
        _ => Err(D::Error::custom("not a bus and an address")),
    }
}
