//! Properties of every VMX text and every guest.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use vusb_formats::config::Edit;
use vusb_formats::{ConfigFormat as _, Vmx};
use vusb_model::address::{Address, Index};
use vusb_model::capabilities::Capabilities;
use vusb_model::device::{HostRef, Kind};
use vusb_model::digest::digest;
use vusb_model::guest::Guest;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Model, RootPorts};
use vusb_model::resolve::resolve;
use vusb_model::spec::{DeviceSpec, Spec};

/// Lines of VMX files, and some invalid ones.
fn line() -> impl Strategy<Value = String> {
    let stem = select(vec!["usb", "ehci", "usb_xhci", "USB"]);
    let flag = select(vec!["TRUE", "FALSE", "true", ""]);
    let item =
        (stem.clone(), 0u8..5, select(vec!["present", "deviceType", "port", "parent", "speed"]));
    let value = select(vec!["TRUE", "hid", "hub", "video", "-1", "0", "1", "2", "4", "7", "300"]);
    let pattern = "(vid:0781 pid:558[0-3]|0x781:0x5581|path:[1-3]/[0-3]|deviceType:x|name:a\\\\ b|)( autoclean:[01])?";
    prop_oneof![
        (stem, flag).prop_map(|(stem, flag)| format!("{stem}.present = \"{flag}\"")),
        (item, value).prop_map(|((stem, n, key), value)| format!("{stem}:{n}.{key} = \"{value}\"")),
        (0u8..4, pattern).prop_map(|(n, text)| format!("usb.autoConnect.device{n} = \"{text}\"")),
        Just("keyboard.vusb.enable = TRUE".to_owned()),
        "# \\PC{0,9}",
        "(  )?[a-z]{1,5}[0-9:.]{0,3} ?= ?\"[a-z|#0-9]{0,5}\" ?",
    ]
}

/// A text without duplicate keys.
fn text() -> impl Strategy<Value = String> {
    (vec(line(), 0..25), select(vec!["\n", "\r\n"]), any::<bool>()).prop_map(
        |(lines, end, closed)| {
            let mut keys = std::collections::HashSet::new();
            let key =
                |line: &str| line.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
            let mut lines = lines;
            lines.retain(|line| line.starts_with('#') || keys.insert(key(line)));
            lines.join(end) + if closed && !lines.is_empty() { end } else { "" }
        },
    )
}

/// Hardware that VMware could have, placed by profile `vmx`.
fn hardware() -> impl Strategy<Value = Hardware> {
    let models = prop_oneof![
        Just(vec![Model::Piix4Uhci]),
        Just(vec![Model::Piix4Uhci, Model::Ehci]),
        Just(vec![Model::QemuXhci]),
        Just(vec![Model::Piix4Uhci, Model::Ehci, Model::QemuXhci]),
    ];
    let kinds =
        vec!["hub:ports=7", "mouse", "mouse", "keyboard", "0781:5581", "046d:0825", "1-4.1"];
    (models, subsequence(kinds, 0..=7)).prop_filter_map("they do not fit", |(models, kinds)| {
        let mut base = Hardware::new();
        for (number, model) in (0u16..).zip(models) {
            let name = format!("hci{number}").parse().unwrap();
            let ports = if model.is_xhci() { 4 } else { *model.port_range().end() };
            let ports = RootPorts::uniform(model, ports.try_into().unwrap());
            base.add_controller(Controller::new(Index::new(number).unwrap(), name, model, ports))
                .unwrap();
        }
        let devices = kinds.iter().map(|kind| DeviceSpec::new(kind.parse().unwrap()));
        let spec = Spec { devices: devices.collect(), ..Spec::default() };
        let resolved = resolve(&base, &spec, &Capabilities::everything()).unwrap();
        resolved.added.is_empty().then_some(resolved.hardware)
    })
}

fn resolved(text: &str) -> Hardware {
    let config = Vmx.read(text, "x.vmx").unwrap();
    resolve(&Hardware::new(), &config.spec, &Capabilities::everything()).unwrap().hardware
}

/// Checks that everything that is read has a source in the text, and that an empty list of edits
/// leaves the text as it is; or that the error has a line of the text.
fn check(text: &str) -> Result<(), TestCaseError> {
    match Vmx.read(text, "x.vmx") {
        Ok(config) => {
            prop_assert_eq!(config.controllers.len(), config.spec.controllers.len());
            prop_assert_eq!(config.devices.len(), config.spec.devices.len());
            for source in config.controllers.iter().chain(&config.devices) {
                prop_assert!(text.get(source.span.clone()).is_some());
            }
            prop_assert_eq!(Vmx.edit(text, &[]).unwrap(), text);
        }
        Err(error) => prop_assert!((1..=text.matches('\n').count() + 1).contains(&error.line())),
    }
    Ok(())
}

proptest! {
    /// A generated text reads back as the same hardware, except for what is reported as lost.
    #[test]
    fn generated_text_reads_back(hardware in hardware()) {
        let written = Vmx.write(&Guest::default(), &hardware);
        if written.lost.is_empty() {
            prop_assert_eq!(digest(&resolved(&written.text)), digest(&hardware), "{}", written.text);
        } else {
            prop_assert!(written.lost.iter().all(|it| it.what.starts_with("the port of ")), "{:?}", written.lost);
        }
    }

    #[test]
    fn any_text_is_read_or_rejected(text in "\\PC{0,200}") {
        check(&text)?;
    }

    #[test]
    fn almost_valid_text_is_read_or_rejected(text in text()) {
        check(&text)?;
    }

    /// An added device exists, and every line without `autoConnect` is kept. After the device is
    /// removed, the text reads as before.
    #[test]
    fn adding_and_removing_a_device(text in text(), mouse in any::<bool>(), bus in 0u16..3, port in 1u8..5) {
        let Ok(config) = Vmx.read(&text, "x.vmx") else { return Ok(()) };
        let kind: Kind = if mouse { "mouse".parse().unwrap() } else { Kind::Host(HostRef::new("abcd:1234".parse().unwrap())) };
        let name = format!("{}9", kind.name()).parse().unwrap();
        let device = Device { name, kind: kind.clone() };
        let at = Address { bus: Index::new(bus).unwrap(), port: port.to_string().parse().unwrap() };
        let Ok(more) = Vmx.edit(&text, &[Edit::AddDevice(at, &device)]) else { return Ok(()) };
        let added = Vmx.read(&more, "x.vmx").unwrap();
        prop_assert_eq!(added.spec.devices.len(), config.spec.devices.len() + 1, "{}", more);
        for line in text.lines().filter(|line| !line.to_ascii_lowercase().contains("autoconnect")) {
            prop_assert!(more.lines().any(|other| other == line), "{:?} is gone from {}", line, more);
        }
        let count = |config: &vusb_formats::config::Config| config.spec.devices.iter().filter(|it| it.kind == kind).count();
        prop_assert_eq!(count(&added), count(&config) + 1);
        let new = added.spec.devices.iter().position(|it| it.kind == kind && !config.spec.devices.contains(it)).unwrap();
        let less = Vmx.edit(&more, &[Edit::RemoveDevice(new)]).unwrap();
        prop_assert_eq!(Vmx.read(&less, "x.vmx").unwrap().spec, config.spec);
    }
}
