//! `docs/xenstore.md` describes exactly the nodes that exist.

use std::collections::{BTreeMap, BTreeSet};

use vusb_model::speed::{Speed, SpeedSet};
use vusb_xen::DomId;
use vusb_xen::usb::{
    BackendKind, ControllerId, ControllerPaths, Counters, DeviceIdentity, EmulatedController,
    Entry, ExportedDevice, Key, LAYOUT, LAYOUT_VERSION, MAX_PING_BYTES, NewController, PortLabel,
    PortStatus, RequestedDevice, Rings,
};

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/xenstore.md");
    std::fs::read_to_string(path).unwrap()
}

/// The texts in backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The keys of each folder, from the tables whose header is a folder's path.
fn described(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut folder = None;
    for line in page.lines() {
        let Some(first) = line.strip_prefix("| ").and_then(|it| it.split(" |").next()) else {
            if !line.starts_with('|') {
                folder = None;
            }
            continue;
        };
        let quoted = quoted(first);
        match (&folder, quoted.as_slice()) {
            (None, [path]) => folder = Some(path.trim_end_matches('/').to_owned()),
            (None, _) => panic!("a table without a folder: {line}"),
            (Some(folder), keys) => {
                let known = folders.entry(folder.clone()).or_default();
                for key in keys {
                    assert!(known.insert((*key).to_owned()), "{folder}/{key} is described twice");
                }
            }
        }
    }
    folders
}

#[test]
fn the_tables_list_the_keys_of_each_folder() {
    let layout: BTreeMap<String, BTreeSet<String>> = LAYOUT
        .iter()
        .map(|it| (it.path.to_owned(), it.keys.iter().map(|key| key.pattern()).collect()))
        .collect();
    assert_eq!(described(&page()), layout);
}

/// The keys in `LAYOUT` of the only folder whose path has this beginning and end.
fn layout(begin: &str, end: &str) -> BTreeSet<String> {
    let mut folders =
        LAYOUT.iter().filter(|it| it.path.starts_with(begin) && it.path.ends_with(end));
    let folder = folders.next().unwrap();
    assert_eq!(folders.next(), None);
    folder.keys.iter().map(|key| key.pattern()).collect()
}

fn patterns(entries: impl IntoIterator<Item = Entry>) -> BTreeSet<String> {
    entries.into_iter().map(|(key, _)| key.pattern()).collect()
}

#[test]
fn the_layout_lists_exactly_the_nodes_that_are_written() {
    let id = ControllerId { guest: DomId::new(5).unwrap(), devid: 0 };
    let paths = ControllerPaths { id, backend: DomId::ZERO, kind: BackendKind::Vusb };
    let (name, index) = ("pv0".parse().unwrap(), "1".parse().unwrap());
    let new = NewController { paths: &paths, usb_version: 2, ports: 2, name: &name, index };
    let identity = DeviceIdentity::parse("0781:5581");
    let device = RequestedDevice { bus_id: "1-4.2".parse().unwrap(), identity };
    let label = PortLabel { name: name.clone(), selector: "1-4.2".parse().unwrap() };

    let mut libxl = patterns(new.libxl_entries());
    libxl.extend(patterns(label.entries(1, &device)));
    assert_eq!(libxl, layout("/libxl", "/N"));
    let emulated = EmulatedController { id, usb_version: 3, ports: 2, index };
    assert!(patterns(emulated.libxl_entries()).is_subset(&libxl));

    let mut frontend = patterns(new.frontend_entries());
    frontend.extend(patterns(Rings { urbs: 8, connects: 9, events: 10 }.entries()));
    assert_eq!(frontend, layout("/local/domain/D", "/N"));

    let mut backend = patterns(new.backend_entries());
    backend.extend(patterns(device.entries(1)));
    // What the backend itself writes, one node at a time.
    backend.extend([Key::Status(1), Key::Stats, Key::Error].map(Key::pattern));
    assert_eq!(backend, layout("/local/domain/B", "/N"));

    let text = || Some("text".to_owned());
    let exported = ExportedDevice {
        bus_id: "1-4.2".parse().unwrap(),
        address: vusb_model::selector::BusAddress { bus: 3, address: 14 },
        id: vusb_model::selector::UsbId { vendor: 0x0781, product: 0x5581 },
        serial: text(),
        speed: Some(Speed::High),
        speeds: SpeedSet::of(&[Speed::Full, Speed::High]),
        class: 8,
        manufacturer: text(),
        product: text(),
        protection: text(),
    };
    assert_eq!(patterns(exported.entries()), layout("/local/domain/B", "/BUSID"));
    // The page's examples are what is really written.
    let page = page();
    for (key, value) in exported.entries().into_iter().filter(|(_, value)| value != "text") {
        assert!(page.contains(&format!("`{value}`")), "{key}: `{value}`");
    }
}

#[test]
fn the_page_states_the_formats_and_limits() {
    let page = page();
    let counters: String = Counters::default().to_string().replace('0', "N");
    assert!(page.contains(&format!("`{counters}`")), "{counters}");
    assert!(page.contains(&format!("| `version` | `{LAYOUT_VERSION}`")));
    assert!(page.contains(&format!("at most {MAX_PING_BYTES} bytes")));
    let diagram = page.split("`status/P` begins with one word:").nth(1).unwrap();
    for status in [
        PortStatus::Absent,
        PortStatus::Offered,
        PortStatus::Addressed,
        PortStatus::Configured,
        PortStatus::Refused(String::new()),
    ] {
        assert!(diagram.contains(status.word()), "{status}");
    }
}
