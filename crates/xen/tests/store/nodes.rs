//! Reading and writing nodes.

use std::collections::BTreeSet;
use std::path::Path;

use vusb_xen::DomId;
use vusb_xen::store::fake::Xenstored;
use vusb_xen::store::{Access, Error, Nodes, Perms, Store};

/// A xenstored, which runs until it is dropped, and a client of it.
fn xenstored_and_client() -> (Xenstored, Store) {
    let xenstored = Xenstored::start();
    let store = xenstored.client();
    (xenstored, store)
}

#[test]
fn a_written_value_is_read_back() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    assert_eq!(store.read("/a/b").unwrap(), None);
    store.write("/a/b", "value").unwrap();
    store.mkdir("/a/empty").unwrap();
    store.mkdir("/a/b").unwrap();
    assert_eq!(store.read("/a/b").unwrap().as_deref(), Some("value"));
    assert_eq!(store.read("/a/empty").unwrap().as_deref(), Some(""));
    assert_eq!(store.list("/a").unwrap(), ["b", "empty"]);
    assert!(store.exists("/a").unwrap());
    assert_eq!(xenstored.tree()["/a/b"], "value");
}

#[test]
fn removing_is_recursive_and_idempotent() {
    let (_xenstored, mut store) = xenstored_and_client();
    store.write("/a/b/c", "1").unwrap();
    store.remove("/a").unwrap();
    store.remove("/a").unwrap();
    assert_eq!(store.list("/a").unwrap(), Vec::<String>::new());
    assert!(!store.exists("/a/b/c").unwrap());
}

#[test]
fn a_folder_of_any_length_can_be_listed() {
    let (xenstored, mut store) = xenstored_and_client();
    let names: BTreeSet<String> = (0..3000).map(|number| format!("child-{number}")).collect();
    for name in &names {
        xenstored.write(&format!("/long/{name}"), "");
    }
    assert_eq!(store.list("/long").unwrap().into_iter().collect::<BTreeSet<_>>(), names);
    let listed = store.transaction(|tx| tx.list("/long")).unwrap();
    assert_eq!(listed.len(), 3000);
}

#[test]
fn permissions_are_stored() {
    let (_xenstored, mut store) = xenstored_and_client();
    let guest = DomId::new(5).unwrap();
    let perms = Perms::readable_by(guest, DomId::ZERO);
    assert!(matches!(store.set_permissions("/a", &perms), Err(Error::NotFound { .. })));
    assert_eq!(store.permissions("/a").unwrap(), None);
    store.write("/a", "").unwrap();
    store.set_permissions("/a", &perms).unwrap();
    assert_eq!(store.permissions("/a").unwrap(), Some(perms));
}

#[test]
fn a_guest_owns_the_nodes_it_creates() {
    let xenstored = Xenstored::start();
    let guest = DomId::new(5).unwrap();
    let mut store = xenstored.client_of(guest);
    store.write("/local/domain/5/x", "1").unwrap();
    let perms = xenstored.permissions("/local/domain/5/x").unwrap();
    assert_eq!((perms.owner, perms.default), (guest, Access::Read));
    assert_eq!(store.domain_path(guest).unwrap(), "/local/domain/5");
}

#[test]
fn invalid_requests_are_refused_before_they_are_sent() {
    let (_xenstored, mut store) = xenstored_and_client();
    for path in ["relative", "/a\0b", "/device/1-4.2", "/a/"] {
        assert!(matches!(store.write(path, "x"), Err(Error::InvalidPath { .. })), "{path:?}");
    }
    // Header, path, zero byte and value have 4096 bytes together.
    assert!(matches!(
        store.write("/a", &"x".repeat(4078)),
        Err(Error::TooLong { bytes: 4081, .. })
    ));
    store.write("/a", &"x".repeat(4077)).unwrap();
    assert_eq!(store.read("/a").unwrap().unwrap().len(), 4077);
}

#[test]
fn a_missing_xenstored_is_reported_with_the_path_that_was_tried() {
    let error = Store::from_socket(Path::new("/nonexistent/socket")).unwrap_err();
    assert!(matches!(error, Error::NoStore { .. }));
    assert!(error.to_string().contains("/nonexistent/socket"), "{error}");
}
