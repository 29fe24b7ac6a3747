//! Properties of every domain and every text.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use vusb_formats::config::{Config, Edit, Field};
use vusb_formats::{ConfigFormat as _, Libvirt};
use vusb_model::address::Address;
use vusb_model::guest::Guest;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Companion, Model};
use vusb_model::spec::ControllerRef;

use super::edits::{at, controller, device};
use super::read;

/// Text between two elements.
const BETWEEN: [&str; 14] = [
    "\n    ",
    "\n    ",
    "\n    ",
    "\r\n\t",
    "\n",
    "",
    "  ",
    "<!-- here -->",
    " <!-- after -->\n  ",
    "\n  <!-- in\n  lines --> ",
    "\n<![CDATA[\n]]>\n",
    "\n  <unknown a=\"&gt;\" b='/>'>\n<hub type='usb'/></unknown>\n",
    "\n  <x:hub xmlns:x='urn:x' type='usb'/>",
    "<?pi\n?>",
];

/// Elements of `<devices>`, on USB and on other buses.
const ELEMENTS: [&str; 12] = [
    "<hub type='usb'/>",
    "<hub type=\"usb\"></hub>",
    "<hub\n\ttype = 'usb' ><address type='usb' bus='0' port='1'/><!-- a --></hub >",
    "<input type='tablet' bus='usb'/>",
    "<input type='mouse' bus='ps2'/>",
    "<controller type='usb' index='0' model='qemu-xhci'/>",
    "<controller type='usb'>\n      <address type='pci' slot='3'/>\n    </controller>",
    "<controller type='scsi' index='0'/>",
    "<hostdev mode='subsystem' type='usb'>\n      <source>\n        <address bus='1' device='2'/>\n      </source>\n    </hostdev>",
    "<disk type='file'><source file='/a'/><target dev='sdb' bus='usb'/></disk>",
    "<redirdev bus='usb' type='spicevmc'>\r\n</redirdev>",
    "<emulator>/usr/bin/qemu</emulator>",
];

/// A domain with unusual text everywhere and a `<devices>` that is not self-closing.
fn domain() -> impl Strategy<Value = String> {
    let part = (select(BETWEEN.to_vec()), select(ELEMENTS.to_vec()));
    let ends =
        (select(BETWEEN.to_vec()), select(BETWEEN.to_vec()), select(vec!["", "\n", "\u{feff}"]));
    (vec(part, 0..12), ends).prop_map(|(parts, (first, last, start))| {
        // Disk names and PCI addresses must be unique.
        let part = |(number, (between, element)): (usize, &(&str, &str))| {
            let name = char::from(b'a' + u8::try_from(number).unwrap());
            let element = element.replace("'sdb'", &format!("'sd{name}'"));
            let slot = format!("slot='{}'", number + 3);
            format!("{between}{}", element.replace("slot='3'", &slot))
        };
        let parts: String = parts.iter().enumerate().map(part).collect();
        let start = if start == "\n" { "" } else { start };
        format!("{start}<domain type='kvm'>{first}<devices>{parts}{last}</devices>\n</domain>")
    })
}

/// A device that libvirt can express.
fn kind() -> impl Strategy<Value = &'static str> {
    select(vec![
        "0781:5581",
        "003.014",
        "storage:/a & b",
        "tablet:usbversion=2",
        "keyboard:usbversion=2",
        "hub",
        "serial:unix:/a'b\"c,server",
        "audio",
        "net:user,mac=52:54:00:00:00:01",
        "mtp:/srv",
        "ccid",
        "redir:tcp:[::1]:4000",
    ])
}

fn new_controller() -> impl Strategy<Value = Controller> {
    let models = [Model::Piix3Uhci, Model::QemuXhci, Model::Ich9Ehci1, Model::Xenusb2];
    (select(models.to_vec()), 1u16..=999).prop_map(|(model, index)| {
        let mut one = controller(&index.to_string(), "added", model, *model.port_range().end());
        if model == Model::Ich9Ehci1 {
            one.companions = Companion::GROUP.to_vec();
        }
        one
    })
}

fn added(kinds: &[&str]) -> Vec<(Address, Device)> {
    let one = |(number, kind): (usize, &&str)| {
        let address = format!("{}:{}", number % 3, number + 1);
        (at(&address), device(&format!("added{number}"), kind))
    };
    kinds.iter().enumerate().map(one).collect()
}

fn edit(text: &str, edits: &[Edit<'_>]) -> String {
    Libvirt.edit(text, edits).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
}

/// The numbers of the devices whose names start with this.
fn named<'a>(config: &'a Config, start: &'a str) -> impl Iterator<Item = usize> + 'a {
    let names = config.spec.devices.iter().map(|device| device.name.as_ref());
    names.enumerate().filter_map(move |(at, name)| name?.as_str().starts_with(start).then_some(at))
}

proptest! {
    #[test]
    fn additions_are_read_back_and_their_removal_restores_the_text(
        text in domain(),
        one in new_controller(),
        kinds in vec(kind(), 0..6),
    ) {
        let devices = added(&kinds);
        let adds = devices.iter().map(|(address, device)| Edit::AddDevice(*address, device));
        let edits: Vec<Edit<'_>> = std::iter::once(Edit::AddController(&one)).chain(adds).collect();
        let before = read(&text);
        let more = edit(&text, &edits);
        let config = read(&more);

        let at: Vec<usize> = named(&config, "added").collect();
        prop_assert_eq!(at.len(), devices.len(), "{}", more);
        for (address, device) in &devices {
            let found = at.iter().map(|at| &config.spec.devices[*at]).find(|spec| spec.name.as_ref() == Some(&device.name));
            let found = found.unwrap();
            prop_assert_eq!(&found.kind, &device.kind);
            prop_assert_eq!(&found.controller, &Some(ControllerRef::Index(address.bus)));
            prop_assert_eq!(found.port, Some(address.port));
        }
        let new: Vec<usize> = (0..config.spec.controllers.len())
            .filter(|at| config.spec.controllers[*at].index == Some(one.index))
            .collect();
        prop_assert_eq!(new.len(), 1 + one.companions.len());
        prop_assert_eq!(config.spec.controllers.len(), before.spec.controllers.len() + new.len());

        let removes: Vec<Edit<'_>> = new
            .into_iter()
            .map(Edit::RemoveController)
            .chain(at.into_iter().map(Edit::RemoveDevice))
            .collect();
        prop_assert_eq!(edit(&more, &removes), text);
    }

    #[test]
    fn a_removal_removes_one_element_and_keeps_the_rest(text in domain(), pick: prop::sample::Index) {
        let before = read(&text);
        prop_assume!(!before.spec.devices.is_empty());
        let gone = pick.index(before.spec.devices.len());
        let after = edit(&text, &[Edit::RemoveDevice(gone)]);
        // Only the element and whitespace around it.
        let span = before.devices[gone].span.clone();
        let squeezed = |text: &str| text.split_ascii_whitespace().collect::<String>();
        let rest = squeezed(&text[..span.start]) + &squeezed(&text[span.end..]);
        prop_assert_eq!(squeezed(&after), rest);
        let kinds = |config: Config| config.spec.devices.into_iter().map(|device| device.kind).collect::<Vec<_>>();
        let mut wanted = kinds(before);
        wanted.remove(gone);
        prop_assert_eq!(kinds(read(&after)), wanted);
    }

    #[test]
    fn a_pin_sets_the_address_and_changes_nothing_else(text in domain(), pick: prop::sample::Index) {
        let before = read(&text);
        prop_assume!(!before.spec.devices.is_empty());
        let which = pick.index(before.spec.devices.len());
        let pinned = edit(&text, &[Edit::PinDevice(which, at("7:3.4"))]);
        let span = before.devices[which].span.clone();
        prop_assert!(pinned.starts_with(&text[..span.start]) && pinned.ends_with(&text[span.end..]));
        let after = read(&pinned);
        let mut wanted = before.spec.devices;
        wanted[which].controller = Some(ControllerRef::Index(at("7:3.4").bus));
        wanted[which].port = Some(at("7:3.4").port);
        prop_assert_eq!(&after.spec.devices, &wanted);
        // A second pin changes nothing.
        prop_assert_eq!(edit(&pinned, &[Edit::PinDevice(which, at("7:3.4"))]), pinned);
    }

    #[test]
    fn a_generated_domain_is_read_back_unchanged(kinds in vec(kind(), 0..30)) {
        let mut hardware = Hardware::new();
        for index in ["0", "1", "2"] {
            hardware.add_controller(controller(index, &format!("c{index}"), Model::QemuXhci, 15)).unwrap();
        }
        for (number, kind) in kinds.iter().enumerate() {
            let address = format!("{}:{}", number / 15, number % 15 + 1);
            hardware.plug(at(&address), device(&format!("added{number}"), kind)).unwrap();
        }
        let written = Libvirt.write(&Guest::default(), &hardware);
        prop_assert_eq!(&written.lost, &[]);
        let config = read(&written.text);
        prop_assert_eq!(config.spec.devices.len(), kinds.len());
        for spec in config.spec.devices {
            let Some(ControllerRef::Index(bus)) = spec.controller else { panic!() };
            let original = hardware.device(Address { bus, port: spec.port.unwrap() }).unwrap();
            prop_assert_eq!((&spec.kind, spec.name.as_ref()), (&original.kind, Some(&original.name)));
        }
        for (spec, one) in config.spec.controllers.iter().zip(hardware.controllers()) {
            prop_assert_eq!((spec.index, spec.model, spec.ports), (Some(one.index), Some(one.model), Some(15)));
        }
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_position(text in nearly_a_domain()) {
        match Libvirt.read(&text, "a.xml") {
            Ok(config) => {
                prop_assert_eq!(config.spec.devices.len(), config.devices.len());
                let sources = config.controllers.iter().chain(&config.devices);
                for source in sources {
                    prop_assert!(text.get(source.span.clone()).is_some());
                    for (field, span) in &source.fields {
                        let value = text.get(span.clone());
                        prop_assert!(value.is_some(), "{:?}", field);
                        prop_assert!(*field == Field::What || !value.unwrap_or_default().is_empty());
                    }
                }
                for number in 0..config.devices.len() {
                    let _ = Libvirt.edit(&text, &[Edit::RemoveDevice(number), Edit::PinDevice(number, at("0:1"))]);
                }
            }
            Err(error) => prop_assert!(error.line() >= 1 && error.column() >= 1),
        }
    }
}

/// A text that resembles a domain, with occasional mistakes.
fn nearly_a_domain() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => select(ELEMENTS.to_vec()).prop_map(str::to_owned),
        2 => select(BETWEEN.to_vec()).prop_map(str::to_owned),
        2 => "<(hub|input|controller|hostdev|address|source|vendor) (type|bus|port|index|id|model) ?= ?'[a-z0-9.&;]{0,6}'/?>",
        1 => "</(hub|devices|hostdev|domain)>",
        1 => "\\PC{0,8}",
        1 => "[<>&'\"/=! -]{1,3}",
    ];
    vec(part, 0..12).prop_map(|parts| {
        format!("<domain type='kvm'><devices>{}</devices></domain>", parts.concat())
    })
}
