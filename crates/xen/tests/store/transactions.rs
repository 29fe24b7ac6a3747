//! Together or not at all.

use vusb_xen::store::fake::Xenstored;
use vusb_xen::store::{Error, Nodes, Store};

#[test]
fn others_see_all_or_nothing() {
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
fn what_fails_half_way_is_undone() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    let result: Result<(), Error> = store.transaction(|tx| {
        tx.write("/a", "1")?;
        tx.write("no path", "2")
    });
    assert!(matches!(result, Err(Error::InvalidPath { .. })));
    assert!(xenstored.tree().is_empty());
    store.write("/a", "the connection is still of use").unwrap();
}

/// Two who count in one node at the same time: no step is lost.
#[test]
fn a_disturbed_transaction_is_run_again() {
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
fn disturbed_now_and_then_it_succeeds_and_disturbed_for_ever_it_ends() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    xenstored.disturb(3);
    let mut runs = 0;
    store
        .transaction(|tx| {
            runs += 1;
            tx.write("/a", "1")
        })
        .unwrap();
    assert_eq!(runs, 4);
    xenstored.disturb(u32::MAX);
    assert!(matches!(
        store.transaction(|tx| tx.write("/a", "2")),
        Err(Error::Conflict { attempts: 64 })
    ));
    assert_eq!(xenstored.tree()["/a"], "1");
}
