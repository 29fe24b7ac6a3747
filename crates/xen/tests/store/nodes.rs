//! Reading and writing.

use std::collections::BTreeSet;
use std::path::Path;

use vusb_xen::DomId;
use vusb_xen::store::fake::Xenstored;
use vusb_xen::store::{Access, Error, Nodes, Perms, Store};

#[test]
fn what_is_written_is_read() {
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
fn removing_takes_all_below_and_can_be_done_twice() {
    let mut store = Xenstored::start().client_kept();
    store.1.write("/a/b/c", "1").unwrap();
    store.1.remove("/a").unwrap();
    store.1.remove("/a").unwrap();
    assert_eq!(store.1.list("/a").unwrap(), Vec::<String>::new());
    assert!(!store.1.exists("/a/b/c").unwrap());
}

trait Kept {
    fn client_kept(self) -> (Self, Store)
    where
        Self: Sized;
}

impl Kept for Xenstored {
    fn client_kept(self) -> (Self, Store) {
        let store = self.client();
        (self, store)
    }
}

#[test]
fn a_folder_of_any_length_can_be_listed() {
    let (xenstored, mut store) = Xenstored::start().client_kept();
    let names: BTreeSet<String> = (0..3000).map(|number| format!("child-{number}")).collect();
    for name in &names {
        xenstored.write(&format!("/long/{name}"), "");
    }
    assert_eq!(store.list("/long").unwrap().into_iter().collect::<BTreeSet<_>>(), names);
    let same = store.transaction(|tx| tx.list("/long")).unwrap();
    assert_eq!(same.len(), 3000);
}

#[test]
fn permissions_are_kept() {
    let (_xenstored, mut store) = Xenstored::start().client_kept();
    let guest = DomId::new(5).unwrap();
    let perms = Perms::readable_by(guest, DomId::ZERO);
    assert!(matches!(store.set_permissions("/a", &perms), Err(Error::NotFound { .. })));
    assert_eq!(store.permissions("/a").unwrap(), None);
    store.write("/a", "").unwrap();
    store.set_permissions("/a", &perms).unwrap();
    assert_eq!(store.permissions("/a").unwrap(), Some(perms));
}

#[test]
fn what_a_guest_makes_is_its_own() {
    let xenstored = Xenstored::start();
    let guest = DomId::new(5).unwrap();
    let mut store = xenstored.client_of(guest);
    store.write("/local/domain/5/x", "1").unwrap();
    let perms = xenstored.permissions("/local/domain/5/x").unwrap();
    assert_eq!((perms.owner, perms.default), (guest, Access::Read));
    assert_eq!(store.domain_path(guest).unwrap(), "/local/domain/5");
}

#[test]
fn what_cannot_be_sent_is_refused_before_it_is() {
    let (_xenstored, mut store) = Xenstored::start().client_kept();
    for path in ["relative", "/a\0b", "/device/1-4.2", "/a/"] {
        assert!(matches!(store.write(path, "x"), Err(Error::InvalidPath { .. })), "{path:?}");
    }
    // Header, path, zero byte and value: 4096 together.
    assert!(matches!(
        store.write("/a", &"x".repeat(4078)),
        Err(Error::TooLong { bytes: 4081, .. })
    ));
    store.write("/a", &"x".repeat(4077)).unwrap();
    assert_eq!(store.read("/a").unwrap().unwrap().len(), 4077);
}

#[test]
fn where_there_is_no_xenstored_it_is_said() {
    let error = Store::from_socket(Path::new("/nonexistent/socket")).unwrap_err();
    assert!(matches!(error, Error::NoStore { .. }));
    assert!(error.to_string().contains("/nonexistent/socket"), "{error}");
}
