//! Any text can be read as a Proxmox VE configuration. An empty edit changes nothing, and a
//! device that is removed is gone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_formats::config::Edit;
use vusb_formats::{ConfigFormat as _, Pve};

fuzz_target!(|text: &str| {
    let Ok(config) = Pve.read(text, "fuzz.conf") else { return };
    assert_eq!(Pve.edit(text, &[]).as_deref(), Ok(text));
    for (number, device) in config.spec.devices.iter().enumerate() {
        let Ok(edited) = Pve.edit(text, &[Edit::RemoveDevice(number)]) else { continue };
        let after = Pve.read(&edited, "edited.conf").expect("an edited text can be read");
        assert!(after.spec.devices.iter().all(|it| it.name != device.name));
    }
});
