//! Which host device a domain was given.
//!
//! A selector is only how a person found a device: `0781:5581` may match another stick tomorrow. So
//! the record has the identity of the device that was given: the reboot-proof path of its port, and
//! its ids and serial number at that time. What is plugged in later is compared with the identity.
//!
//! ```text
//!   in the recorded port ──┬─ same ids and serial number, or ids that the record allows ─▶ Here
//!                          └─ others ──────────────────────────────────────────────────▶ Replaced
//!   in another port ───────┬─ given by a serial number, and that is the same ──────────▶ Moved
//!                          └─ only the selector matches ───────────────────────────────▶ Elsewhere
//!   nowhere ───────────────────────────────────────────────────────────────────────────▶ Absent
//! ```
//!
//! A device that was given by its serial number is followed to another port, because the number
//! names that one device wherever it is. Any other device is only recognized at its port.
//!
//! Records of older versions have the port alone, or nothing. The selector then replaces the
//! unknown parts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use vusb_host::{HostDevice, SelectError, select};
use vusb_model::device::HostRef;
use vusb_model::selector::{BusAddress, BusId, Selector, Traits, UsbId};

use crate::device_list::DeviceList;
use crate::view::as_selector;

/// The identity of a host device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostIdentity {
    /// The place of its port: see [`port_key`].
    pub(crate) place: String,
    /// What it was when it was given; `None` in a record of an older version.
    pub(crate) seen: Option<ObservedDevice>,
    /// The other ids that it may return with.
    pub(crate) also: BTreeSet<UsbId>,
}

/// A host device, as it was when it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ObservedDevice {
    /// Vendor and product.
    pub(crate) id: UsbId,
    /// The serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) serial: Option<String>,
    /// The bus and the chain of ports. The bus number may change at a reboot.
    pub(crate) port: BusId,
    /// The bus and the address. The address changes with each plug. A udev rule knows nothing else
    /// of a device that was just unplugged.
    #[serde(with = "as_selector")]
    pub(crate) address: BusAddress,
}

/// Where the device of an identity is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// In its port.
    Here(HostDevice),
    /// In another port: it was given by its serial number.
    Moved(HostDevice),
    /// Not plugged in: another device is in its port.
    Replaced(HostDevice),
    /// Not plugged in: another device in another port matches the selector.
    Elsewhere(HostDevice),
    /// Not plugged in.
    Absent,
}

impl Presence {
    /// The device, if it is plugged in.
    pub(crate) fn device(self) -> Option<HostDevice> {
        match self {
            Presence::Here(device) | Presence::Moved(device) => Some(device),
            Presence::Replaced(_) | Presence::Elsewhere(_) | Presence::Absent => None,
        }
    }
}

/// The place of the port that a device is plugged into: the reboot-proof path, or the bus and the
/// chain of ports on a machine that has no such paths.
pub(crate) fn port_key(device: &HostDevice) -> String {
    device.path.as_ref().map_or_else(|| device.bus_id.to_string(), ToString::to_string)
}

impl HostIdentity {
    /// The identity of a device that is plugged in.
    pub(crate) fn of(device: &HostDevice) -> HostIdentity {
        HostIdentity {
            place: port_key(device),
            seen: Some(ObservedDevice::of(device)),
            also: BTreeSet::new(),
        }
    }

    /// The identity of a device that is plugged in and was given as `host`.
    pub(crate) fn given(host: &HostRef, device: &HostDevice) -> HostIdentity {
        let mut identity = HostIdentity::of(device);
        identity.allow(host);
        identity
    }

    /// Allows the other ids of `host`, which the device has in its other modes. If it is in one of
    /// these modes now, the ids that it was selected by are allowed too.
    pub(crate) fn allow(&mut self, host: &HostRef) {
        self.also.clone_from(&host.also);
        let now = self.seen.as_ref().map(|seen| seen.id);
        if let Selector::Id { id, .. } = &host.selector {
            if now.is_some_and(|now| now != *id && host.also.contains(&now)) {
                self.also.insert(*id);
            }
        }
    }

    /// Whether `device`, which is in the recorded port, may be the one that was given as
    /// `selector`.
    fn accepts(&self, device: &HostDevice, selector: &Selector) -> bool {
        let same = match &self.seen {
            Some(seen) => seen.id == device.id && seen.serial == device.serial,
            None => device.matches(selector),
        };
        same || self.also.contains(&device.id)
    }

    /// Whether the selector names the device as it was when it was given.
    pub(crate) fn is_named_by(&self, selector: &Selector) -> bool {
        if let Selector::Path(path) = selector {
            return path.as_str() == self.place;
        }
        let Some(seen) = &self.seen else { return false };
        selector.matches(&Traits {
            id: seen.id,
            serial: seen.serial.as_deref(),
            port: &seen.port,
            address: seen.address,
            path: Some(&self.place),
        })
    }

    /// Whether `wanted`, which is not plugged in, may be this device: its selector names the device
    /// in one of its modes, or one of its other ids is what the device was when it was given.
    /// Another id that both may return with is not enough: boards of different kinds share the id
    /// of a boot loader, and the port tells them apart.
    pub(crate) fn may_be(&self, wanted: &HostRef) -> bool {
        let in_other_mode = match &wanted.selector {
            Selector::Id { id, .. } => self.also.contains(id),
            _ => false,
        };
        let seen = self.seen.as_ref();
        self.is_named_by(&wanted.selector)
            || in_other_mode
            || seen.is_some_and(|seen| wanted.also.contains(&seen.id))
    }

    /// Every selector that named the device when it was given, except for patterns.
    pub(crate) fn selectors(&self) -> Vec<Selector> {
        let mut all: Vec<Selector> = self.place.parse().map(Selector::Path).into_iter().collect();
        if let Some(seen) = &self.seen {
            all.push(Selector::Id { id: seen.id, serial: None });
            all.push(Selector::Port(seen.port.clone()));
            all.push(Selector::Address(seen.address));
            let serial = seen.serial.clone();
            all.extend(serial.map(|serial| Selector::Id { id: seen.id, serial: Some(serial) }));
        }
        all
    }

    /// Its ids and serial number as a selector; `None` in a record of an older version.
    pub(crate) fn id_selector(&self) -> Option<Selector> {
        let ObservedDevice { id, serial, .. } = self.seen.as_ref()?;
        Some(Selector::Id { id: *id, serial: serial.clone() })
    }
}

impl ObservedDevice {
    /// A device as it is now.
    pub(crate) fn of(device: &HostDevice) -> ObservedDevice {
        ObservedDevice {
            id: device.id,
            serial: device.serial.clone(),
            port: device.bus_id.clone(),
            address: device.bus_address,
        }
    }
}

/// Where the device that was given as `host` is now. `devices` are those of its machine.
///
/// # Errors
/// There is no identity, and the selector or one of the other ids matches several devices.
pub(crate) fn presence(
    identity: Option<&HostIdentity>,
    host: &HostRef,
    devices: &DeviceList,
) -> Result<Presence, SelectError> {
    let Some(identity) = identity else {
        return match select_in_any_mode(devices, host) {
            Ok(device) => Ok(Presence::Here(device.clone())),
            Err(SelectError::Absent { .. }) => Ok(Presence::Absent),
            Err(error) => Err(error),
        };
    };
    // The two buses of one xHCI have the same paths, so a path can be that of two ports.
    let at_place = || devices.at_place(&identity.place);
    let same_bus = |it: &&HostDevice| {
        identity.seen.as_ref().is_some_and(|seen| seen.port.bus() == it.bus_id.bus())
    };
    let accepted = || at_place().filter(|it| identity.accepts(it, &host.selector));
    if let Some(device) = accepted().find(same_bus).or_else(|| accepted().next()) {
        return Ok(Presence::Here(device.clone()));
    }
    let elsewhere = || devices.iter().filter(|it| it.matches(&host.selector));
    if let Selector::Id { serial: Some(_), .. } = &host.selector {
        let mut same = elsewhere();
        if let (Some(device), None) = (same.next(), same.next()) {
            return Ok(Presence::Moved(device.clone()));
        }
    }
    if let Some(device) = at_place().find(same_bus).or_else(|| at_place().next()) {
        return Ok(Presence::Replaced(device.clone()));
    }
    Ok(elsewhere().next().cloned().map_or(Presence::Absent, Presence::Elsewhere))
}

/// The one device that the selector matches. If it matches none and consists of ids, the one device
/// with the first of the other ids of `host` that any device has.
///
/// # Errors
/// No device matches, or several do.
pub(crate) fn select_in_any_mode<'a>(
    devices: &'a [HostDevice],
    host: &HostRef,
) -> Result<&'a HostDevice, SelectError> {
    let found = select(devices, &host.selector);
    if !matches!((&found, &host.selector), (Err(SelectError::Absent { .. }), Selector::Id { .. })) {
        return found;
    }
    let other = |id: &UsbId| match select(devices, &Selector::Id { id: *id, serial: None }) {
        Err(SelectError::Absent { .. }) => None,
        found => Some(found),
    };
    host.also.iter().find_map(other).unwrap_or(found)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use vusb_model::speed::SpeedSet;

    /// A device in port `1-{port}`.
    pub(crate) fn device(port: u8, id: &str, serial: &str) -> HostDevice {
        HostDevice {
            bus_id: format!("1-{port}").parse().unwrap(),
            bus_address: BusAddress { bus: 1, address: port + 10 },
            id: id.parse().unwrap(),
            serial: (!serial.is_empty()).then(|| serial.to_owned()),
            manufacturer: None,
            product: None,
            speed: None,
            speeds: SpeedSet::NONE,
            class: 0,
            configuration: None,
            interfaces: Vec::new(),
            path: format!("pci-0000:00:14.0-usb-0:{port}").parse().ok(),
            protection: Vec::new(),
            used_by: None,
            is_hub: false,
            is_authorized: true,
        }
    }

    fn find(identity: &HostIdentity, selector: &str, devices: &[HostDevice]) -> Presence {
        let host = HostRef::new(selector.parse().unwrap());
        presence(Some(identity), &host, &devices.to_vec().into()).unwrap()
    }

    #[test]
    fn the_device_that_was_given_is_found_at_its_port() {
        let given = HostIdentity::of(&device(4, "0781:5581", "A1"));
        let [a1, a2] = [device(4, "0781:5581", "A1"), device(5, "0781:5581", "A2")];
        let both = [a1.clone(), a2.clone()];
        assert_eq!(find(&given, "0781:5581", &both), Presence::Here(a1));
        assert_eq!(find(&given, "0781:5581", &both[1..]), Presence::Elsewhere(a2));
        assert_eq!(find(&given, "1-4", &both[1..]), Presence::Absent);
    }

    #[test]
    fn another_device_in_the_port_is_not_accepted_unless_the_record_allows_it() {
        let mut given = HostIdentity::of(&device(4, "0781:5581", "A1"));
        for other in [device(4, "0781:5581", "A2"), device(4, "0483:df11", "")] {
            let found = find(&given, "1-4", std::slice::from_ref(&other));
            assert_eq!(found, Presence::Replaced(other));
        }
        given.also.insert("0483:df11".parse().unwrap());
        let loader = device(4, "0483:df11", "9");
        let found = find(&given, "1-4", std::slice::from_ref(&loader));
        assert_eq!(found, Presence::Here(loader));
    }

    #[test]
    fn an_absent_device_may_be_one_in_another_mode() {
        let host = |selector: &str, also: &[&str]| {
            let mut host = HostRef::new(selector.parse().unwrap());
            host.also.extend(also.iter().map(|it| it.parse::<UsbId>().unwrap()));
            host
        };
        let given = host("0483:5740", &["0483:df11"]);
        let given = HostIdentity::given(&given, &device(4, "0483:5740", "7"));
        assert!(given.may_be(&host("0483:5740", &[])));
        assert!(given.may_be(&host("0483:df11", &[])));
        assert!(given.may_be(&host("0483:0001", &["0483:5740"])));
        assert!(!given.may_be(&host("0483:0001", &[])));
        // The boot loader of another board.
        assert!(!given.may_be(&host("0483:0001", &["0483:df11"])));
    }

    #[test]
    fn a_device_first_seen_in_another_mode_is_found_by_its_ids_in_that_mode() {
        let mut host = HostRef::new("0483:5740".parse().unwrap());
        let [other, loader, usual] =
            [device(3, "0781:5581", "A1"), device(4, "0483:df11", ""), device(4, "0483:5740", "7")];
        let devices = |it: &HostDevice| [other.clone(), it.clone()].to_vec().into();
        assert_eq!(presence(None, &host, &devices(&loader)), Ok(Presence::Absent));
        host.also.insert("0483:df11".parse().unwrap());
        let found = presence(None, &host, &devices(&loader));
        assert_eq!(found, Ok(Presence::Here(loader.clone())));
        // The device changes to the mode that it was selected by, and back.
        let given = HostIdentity::given(&host, &loader);
        for it in [&usual, &loader] {
            let found = presence(Some(&given), &host, &devices(it));
            assert_eq!(found, Ok(Presence::Here(it.clone())));
        }
        let replaced = device(4, "0483:0001", "");
        let found = presence(Some(&given), &host, &devices(&replaced));
        assert_eq!(found, Ok(Presence::Replaced(replaced)));
        // A device in its usual mode does not get more ids.
        assert_eq!(HostIdentity::given(&host, &usual).also, host.also);
        // Two devices in the other mode are ambiguous.
        let two: DeviceList = [loader.clone(), device(5, "0483:df11", "")].to_vec().into();
        assert!(presence(None, &host, &two).is_err());
    }

    #[test]
    fn a_device_given_by_serial_number_is_followed_to_another_port() {
        let given = HostIdentity::of(&device(4, "0781:5581", "A1"));
        let [other, moved] = [device(4, "0781:5581", "A2"), device(5, "0781:5581", "A1")];
        let devices = [other, moved.clone()];
        assert_eq!(find(&given, "0781:5581:A1", &devices), Presence::Moved(moved));
        // A serial number that two devices have names neither of them.
        let copies = [device(5, "0781:5581", "A1"), device(6, "0781:5581", "A1")];
        assert!(matches!(find(&given, "0781:5581:A1", &copies), Presence::Elsewhere(_)));
    }

    #[test]
    fn a_record_with_the_port_alone_takes_what_the_selector_names_there() {
        let place = "pci-0000:00:14.0-usb-0:4".to_owned();
        let given = HostIdentity { place, seen: None, also: BTreeSet::new() };
        let devices = [device(4, "0781:5581", "A1"), device(5, "0781:5581", "A2")];
        assert_eq!(find(&given, "0781:5581", &devices), Presence::Here(devices[0].clone()));
        assert!(matches!(find(&given, "0781:5581", &devices[1..]), Presence::Elsewhere(_)));
        let host = HostRef::new("0781:5581".parse().unwrap());
        assert!(presence(None, &host, &devices.to_vec().into()).is_err());
        assert_eq!(presence(None, &host, &DeviceList::default()), Ok(Presence::Absent));
    }

    #[test]
    fn an_identity_is_named_by_every_selector_that_named_the_device() {
        let given = HostIdentity::of(&device(4, "0781:5581", "A1"));
        for text in ["0781:5581", "0781:5581:A1", "1-4", "001.014", "pci-0000:00:14.0-usb-0:4"] {
            assert!(given.is_named_by(&text.parse().unwrap()), "{text}");
        }
        for text in ["0781:5582", "0781:5581:A2", "1-5", "001.015", "pci-0000:00:14.0-usb-0:5"] {
            assert!(!given.is_named_by(&text.parse().unwrap()), "{text}");
        }
    }

    /// The USB 2 and the USB 3 port of one socket have the same path on some machines.
    #[test]
    fn if_two_ports_have_the_same_path_the_one_on_the_recorded_bus_is_taken() {
        let first = device(4, "0781:5581", "A1");
        let second = HostDevice { bus_id: "2-4".parse().unwrap(), ..first.clone() };
        let devices = [first.clone(), second.clone()];
        for it in [first, second] {
            let given = HostIdentity::of(&it);
            assert_eq!(find(&given, "0781:5581", &devices), Presence::Here(it));
        }
    }
}
