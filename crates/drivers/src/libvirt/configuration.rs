//! One configuration of a domain, that of the running guest or the stored one, with its hardware.

use std::collections::{BTreeMap, BTreeSet};

use vusb_formats::config::Config;
use vusb_formats::{ConfigFormat as _, Libvirt, libvirt};
use vusb_model::address::{Address, Index};
use vusb_model::device::Kind;
use vusb_model::hardware::{Device, Hardware};
use vusb_model::name::Name;
use vusb_model::resolve::{Resolved, resolve};

use crate::driver::Error;

/// The prefix, after `ua-`, of the names that vusb gives to items in libvirt.
const VUSB_PREFIX: &str = "vusb-";

/// A configuration.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) text: String,
    pub(super) config: Config,
    resolved: Resolved,
    /// The hardware. Items that vusb created have their names without the prefix.
    pub(super) hardware: Hardware,
    /// The names of the items that vusb created.
    pub(super) ours: BTreeSet<Name>,
    /// The aliases of the devices, which libvirt assigns only in a running guest.
    aliases: BTreeMap<Address, String>,
}

/// The name of an item of vusb in libvirt's configurations.
pub(super) fn prefixed(name: &Name) -> Result<Name, Error> {
    format!("{VUSB_PREFIX}{name}").parse().map_err(|_| Error::Failed {
        what: format!("naming {name} in libvirt"),
        why: "the name is too long".into(),
    })
}

impl Configuration {
    /// Reads a domain's XML. `domain` is its address, for messages.
    pub(super) fn parse(text: String, live: bool, domain: &str) -> Result<Configuration, Error> {
        let unreadable = |message: String| Error::Confused {
            domain: domain.to_owned(),
            why: format!("its XML cannot be read: {message}").into(),
        };
        let config =
            Libvirt.read(&text, domain).map_err(|error| unreadable(error.brief().to_owned()))?;
        let mut capabilities = Libvirt.capabilities(&config.guest);
        // The XML of a running guest is complete: nothing may be added to it.
        capabilities.running = live;
        let mut resolved = resolve(&Hardware::new(), &config.spec, &capabilities)
            .map_err(|refused| unreadable(refused.to_string()))?;
        config.complete(&mut resolved.hardware);
        let mut configuration = Configuration {
            text,
            config,
            hardware: resolved.hardware.clone(),
            resolved,
            ours: BTreeSet::new(),
            aliases: BTreeMap::new(),
        };
        configuration.interpret_names();
        Ok(configuration)
    }

    /// Finds the aliases, and the items that vusb created. Removes the prefix from the names of
    /// these, unless another item already has the shorter name.
    fn interpret_names(&mut self) {
        let devices = self.resolved.hardware.devices();
        let alias = |name: &Name| libvirt::alias(name).unwrap_or_else(|| name.to_string());
        self.aliases = devices.map(|(at, device)| (at, alias(&device.name))).collect();
        let controllers = self.resolved.hardware.controllers().map(|it| &it.name);
        let devices = self.resolved.hardware.devices().map(|(_, it)| &it.name);
        for name in controllers.chain(devices) {
            let Some(rest) = name.as_str().strip_prefix(VUSB_PREFIX) else { continue };
            let renamed: Option<Name> = rest.parse().ok();
            let renamed = renamed.filter(|rest| self.hardware.rename(name, rest).is_ok());
            self.ours.insert(renamed.unwrap_or_else(|| name.clone()));
        }
    }

    /// The element of the device at an address. `None` if it has none of its own.
    pub(super) fn element(&self, at: Address) -> Option<&str> {
        let source = self.config.devices.get(self.device_number(at)?)?;
        self.text.get(source.span.clone())
    }

    /// The alias of the device at an address.
    pub(super) fn alias(&self, at: Address) -> Option<&str> {
        self.aliases.get(&at).map(String::as_str)
    }

    /// Whether a device has this alias.
    pub(super) fn has_alias(&self, alias: &str) -> bool {
        self.aliases.values().any(|it| it == alias)
    }

    /// The number by which edits refer to the device at an address.
    pub(super) fn device_number(&self, at: Address) -> Option<usize> {
        self.resolved.devices.iter().position(|placed| placed.address == at)
    }

    /// The numbers by which edits refer to the elements of a controller.
    pub(super) fn controller_numbers(&self, index: Index) -> Vec<usize> {
        let all = self.resolved.controllers.iter().enumerate();
        all.filter(|(_, placed)| placed.address == index).map(|(number, _)| number).collect()
    }
}

/// Whether two devices at the same port, one of the running guest and one of the stored
/// configuration, are the same. The two may identify a host device differently.
pub(super) fn is_same(live: &Device, stored: &Device) -> bool {
    if live.kind == stored.kind {
        return true;
    }
    let is_same_kind = live.kind.name() == stored.kind.name();
    match (&live.kind, &stored.kind) {
        (Kind::Host(a), Kind::Host(b)) => {
            live.name == stored.name || (a.bus_address.is_some() && a.bus_address == b.bus_address)
        }
        // libvirt chooses the path of a socket when the guest starts.
        (Kind::Serial(_), _) | (Kind::Redir(_), _) => is_same_kind && live.name == stored.name,
        _ => false,
    }
}
