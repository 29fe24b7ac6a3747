//! Reads the nodes of a controller, which [`vusb_xen::usb`] defines.
//!
//! No value is trusted before it is checked, not even in the backend's own folder, which the guest
//! cannot write to: the toolstack of a driver domain runs in another domain, and people edit
//! xenstore by hand.

use vusb_xen::State;
use vusb_xen::store::{self, Nodes, Store};
use vusb_xen::usb::{BadNode, ControllerConfig, Folder, Key, Rings};

/// The text of a node that any domain may have written; `None` if it does not exist. A guest can
/// write bytes that are not text, and can make its nodes unreadable for a driver domain: either
/// counts as an empty text.
///
/// # Errors
/// xenstored refuses the request for another reason, or the connection is lost.
pub fn text(nodes: &mut impl Nodes, path: &str) -> Result<Option<String>, store::Error> {
    match nodes.read(path) {
        Err(store::Error::NotText { .. } | store::Error::Denied { .. }) => Ok(Some(String::new())),
        read => read,
    }
}

/// The state in a folder; `None` if the node does not exist, [`State::Unknown`] if its text is not
/// a state.
///
/// # Errors
/// As [`text`].
pub fn state(nodes: &mut impl Nodes, folder: &Folder) -> Result<Option<State>, store::Error> {
    Ok(text(nodes, &folder.node(Key::State))?.as_deref().map(State::from_node))
}

/// Sets a watch. It is not an error if the watch exists: an earlier request may have timed out and
/// been executed anyway.
///
/// # Errors
/// xenstored refuses the request for another reason, or the connection is lost.
pub fn watch(store: &mut Store, path: &str, token: &str) -> Result<(), store::Error> {
    match store.watch(path, token) {
        Err(store::Error::Refused { code, .. }) if code == "EEXIST" => Ok(()),
        set => set,
    }
}

/// The configuration in the backend's folder, or why it cannot be served.
///
/// # Errors
/// As [`text`].
pub fn config(
    nodes: &mut impl Nodes,
    folder: &Folder,
) -> Result<Result<ControllerConfig, BadNode>, store::Error> {
    ControllerConfig::parse(|key| text(nodes, &folder.node(key)))
}

/// The guest's rings; `None` if a node is missing or not a number. The nodes are not read in a
/// transaction, because a guest could make it fail again and again. A guest that changes them in
/// the meantime gets a controller that does not work.
///
/// # Errors
/// As [`text`].
pub fn rings(nodes: &mut impl Nodes, frontend: &Folder) -> Result<Option<Rings>, store::Error> {
    Rings::parse(|key| text(nodes, &frontend.node(key)))
}

#[cfg(test)]
mod tests {
    use vusb_xen::DomId;
    use vusb_xen::store::fake::Xenstored;
    use vusb_xen::usb::ControllerId;

    use super::*;

    #[test]
    fn nothing_that_a_guest_writes_is_an_error() {
        let xenstored = Xenstored::start();
        let mut store = xenstored.client();
        let folder = ControllerId { guest: DomId::new(5).unwrap(), devid: 0 }.frontend();
        assert_eq!(state(&mut store, &folder).unwrap(), None);
        for bytes in [&[0xff, 0xfe][..], &[0], &[b'9'; 2000], b"4 ", b""] {
            for key in [Key::State, Key::UrbRingRef, Key::ConnRingRef, Key::EventChannel] {
                store.write_bytes(&folder.node(key), bytes).unwrap();
            }
            assert_eq!(state(&mut store, &folder).unwrap(), Some(State::Unknown), "{bytes:?}");
            assert_eq!(rings(&mut store, &folder).unwrap(), None, "{bytes:?}");
            let bad = config(&mut store, &folder).unwrap().unwrap_err();
            assert_eq!(bad.key, Key::UsbVer);
        }
    }
}
