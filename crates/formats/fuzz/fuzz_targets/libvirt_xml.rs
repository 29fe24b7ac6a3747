//! Any text is a domain or causes an error with a position. A domain can still be read after all
//! devices are pinned, and after they are removed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_formats::{ConfigFormat as _, Libvirt};
use vusb_formats::config::Edit;

fuzz_target!(|text: &str| {
    let config = match Libvirt.read(text, "fuzz.xml") {
        Ok(config) => config,
        Err(error) => {
            assert!(error.line() >= 1 && error.column() >= 1 && !error.to_string().is_empty());
            return;
        }
    };
    let address = vusb_model::address::Address { bus: vusb_model::address::Index::MAX, port: "4.3.2.1".parse().unwrap() };
    let pins: Vec<Edit<'_>> = (0..config.devices.len()).map(|number| Edit::PinDevice(number, address)).collect();
    let pinned = Libvirt.edit(text, &pins).unwrap();
    let pinned = Libvirt.read(&pinned, "pinned.xml").unwrap();
    assert!(pinned.spec.devices.iter().all(|device| device.port == Some(address.port)));

    let removes = (0..config.devices.len()).map(Edit::RemoveDevice);
    let removes: Vec<Edit<'_>> = removes.chain((0..config.controllers.len()).map(Edit::RemoveController)).collect();
    // A reader that a smart card implies cannot be removed.
    if let Ok(removed) = Libvirt.edit(text, &removes) {
        let removed = Libvirt.read(&removed, "removed.xml").unwrap();
        assert!(removed.spec.devices.is_empty() && removed.spec.controllers.is_empty());
    }
});
