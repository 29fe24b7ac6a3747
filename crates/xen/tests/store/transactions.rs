//! Changes that take effect together or not at all.

use vusb_xen::store::fake::Xenstored;
use vusb_xen::store::{Error, Nodes, Store};

#[test]
fn other_clients_see_all_changes_or_none() {
    let xenstored = Xenstored::start();
    let (mut one, mut other) = (xenstored.client(), xenstored.client());
    one.transaction(|tx| {
        tx.write("/a", "1")?;
        assert_eq!(tx.read("/a")?.as_deref(), Some("1"));
        assert_eq!(other.read("/a")?, None);
        tx.write("/b", "2")
    })
    .unwrap();
    assert_eq!(
        (other.read("/a").unwrap().unwrap(), other.read("/b").unwrap().unwrap()),
        ("1".into(), "2".into())
    );
}

#[test]
fn a_transaction_that_fails_is_aborted() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    let result: Result<(), Error> = store.transaction(|tx| {
        tx.write("/a", "1")?;
        tx.write("no path", "2")
    });
    assert!(matches!(result, Err(Error::InvalidPath { .. })));
    assert!(xenstored.tree().is_empty());
    store.write("/a", "the connection is still usable").unwrap();
}

/// Two clients increment the same node concurrently: no increment is lost.
#[test]
fn a_transaction_with_a_conflict_is_retried() {
    let xenstored = Xenstored::start();
    xenstored.write("/count", "0");
    let count = |mut store: Store| {
        move || {
            for _ in 0..50 {
                store
                    .transaction(|tx| {
                        let count: u32 = tx.read("/count")?.unwrap().parse().unwrap();
                        tx.write("/count", &(count + 1).to_string())
                    })
                    .unwrap();
            }
        }
    };
    let threads =
        [xenstored.client(), xenstored.client()].map(|store| std::thread::spawn(count(store)));
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(xenstored.tree()["/count"], "100");
}

#[test]
fn retries_succeed_after_some_conflicts_and_end_after_too_many() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    xenstored.cause_conflicts(3);
    let mut runs = 0;
    store
        .transaction(|tx| {
            runs += 1;
            tx.write("/a", "1")
        })
        .unwrap();
    assert_eq!(runs, 4);
    xenstored.cause_conflicts(u32::MAX);
    assert!(matches!(
        store.transaction(|tx| tx.write("/a", "2")),
        Err(Error::Conflict { attempts: 64 })
    ));
    assert_eq!(xenstored.tree()["/a"], "1");
}
