//! The keys under which records are found by what they claim: host devices and images.

use std::collections::BTreeSet;

use vusb_host::HostDevice;
use vusb_model::device::{HostRef, Kind};
use vusb_model::selector::Selector;

use crate::backend_domain::{BackendDomain, backend_of};
use crate::files;
use crate::host_identity::{HostIdentity, port_key};
use crate::inventory::Inventory;

/// The keys of everything that an inventory claims.
pub(crate) fn keys_of(inventory: &Inventory, has_backends: bool) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for (address, device) in inventory.hardware().devices() {
        match &device.kind {
            Kind::Storage(storage) => keys.extend(image_keys(&storage.file)),
            Kind::Host(host) => {
                let backend = backend_of(inventory.hardware(), address, has_backends);
                if let Some(identity) = inventory.identity(address) {
                    keys.insert(place_key(&backend, &identity.place));
                    let selectors = identity.selectors();
                    keys.extend(selectors.iter().map(|it| selector_key(&backend, it)));
                }
                keys.extend(selectors_of(host).iter().map(|it| selector_key(&backend, it)));
            }
            _ => {}
        }
    }
    keys
}

/// All selectors that an absent device may be known by: its own, and those of its other ids.
pub(crate) fn selectors_of(host: &HostRef) -> Vec<Selector> {
    let other = host.also.iter().map(|id| Selector::Id { id: *id, serial: None });
    std::iter::once(host.selector.clone()).chain(other).collect()
}

/// The keys of an image: its path, and its inode or device number, which all its names share.
pub(crate) fn image_keys(path: &str) -> BTreeSet<String> {
    let identity = files::FileIdentity::of(path).map(|it| format!("inode/{it}"));
    identity.into_iter().chain([format!("image/{path}")]).collect()
}

/// The keys of a device that is plugged in: the place of its port, every selector that matches it,
/// and the one key of all patterns.
pub(crate) fn device_keys(backend: &BackendDomain, device: &HostDevice) -> BTreeSet<String> {
    let selectors = HostIdentity::of(device).selectors();
    let selectors = selectors.iter().map(|selector| selector_key(backend, selector));
    let own = [place_key(backend, &port_key(device)), patterns_key(backend)];
    selectors.chain(own).collect()
}

fn place_key(backend: &BackendDomain, place: &str) -> String {
    format!("port/{}/{place}", backend.as_deref().unwrap_or_default())
}

/// The one key of all patterns. Too many patterns can match a device to look up each of them.
fn patterns_key(backend: &BackendDomain) -> String {
    format!("pattern/{}", backend.as_deref().unwrap_or_default())
}

pub(crate) fn selector_key(backend: &BackendDomain, selector: &Selector) -> String {
    if let Selector::Pattern(_) = selector {
        return patterns_key(backend);
    }
    format!("selector/{}/{selector}", backend.as_deref().unwrap_or_default())
}
