//! The list of formats: lookup, recognition, and registration by another crate.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use vusb_formats::config::{Config, Edit, Generated, Inexpressible, ItemSource};
use vusb_formats::splice::{Splices, line_end};
use vusb_formats::{ConfigFormat, Format, FormatError, Formats, HostNaming, Problem, VusbSpec};
use vusb_model::address::{Address, Index};
use vusb_model::device::{HostRef, Kind};
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Model, RootPorts};
use vusb_model::profile::Profile;
use vusb_model::resolve::resolve;
use vusb_model::selector::Selector;
use vusb_model::spec::{DeviceSpec, Spec};

/// A format with one device on each line below the word `toy`: `tablet`, `storage:a.img`.
#[derive(Debug)]
struct Toy;

impl ConfigFormat for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn title(&self) -> &'static str {
        "a list of devices"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["toy", "cfg"]
    }

    fn recognizes(&self, text: &str) -> bool {
        text.lines().next() == Some("toy")
    }

    fn profile(&self) -> Profile {
        Profile::Vusb1
    }

    fn host_naming(&self) -> HostNaming {
        HostNaming::AddressOnly
    }

    fn hypervisor(&self, _guest: &Guest) -> &'static str {
        "a toy"
    }

    fn read(&self, text: &str, origin: &str) -> Result<Config, FormatError> {
        let mut config = Config::default();
        let mut start = 0;
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let span = start..start + line.trim_end().len();
            start += line.len();
            if number == 0 {
                continue;
            }
            let kind: Kind = line.trim_end().parse().map_err(|_| {
                Problem::new(span.clone(), "this is not a device")
                    .help("write tablet or storage:FILE")
                    .in_text(text, origin)
            })?;
            config.spec.devices.push(DeviceSpec::new(kind));
            config.devices.push(ItemSource { span, ..ItemSource::default() });
        }
        Ok(config)
    }

    fn edit(&self, text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
        let cannot = |what: &str| Inexpressible {
            what: what.to_owned(),
            why: "a toy has one controller".into(),
        };
        let config = self.read(text, "toy").map_err(|error| cannot(error.brief()))?;
        let mut splices = Splices::default();
        for edit in edits {
            match edit {
                Edit::AddDevice(_, device) => {
                    splices.insert(text.len(), format!("{}\n", device.kind));
                }
                Edit::RemoveDevice(number) => {
                    let start = config.devices[*number].span.start;
                    splices.remove(start..line_end(text, start));
                }
                other => return Err(cannot(&format!("{other:?}"))),
            }
        }
        Ok(splices.apply(text))
    }

    fn write(&self, _guest: &Guest, hardware: &Hardware) -> Generated {
        let devices = hardware.devices().map(|(_, device)| format!("{}\n", device.kind));
        Generated { text: format!("toy\n{}", devices.collect::<String>()), lost: Vec::new() }
    }
}

fn with_toy() -> Formats {
    let mut formats = Formats::builtin();
    formats.register(Toy);
    formats
}

fn device(kind: &str) -> Device {
    Device { name: "new".parse().unwrap(), kind: kind.parse().unwrap() }
}

fn at(bus: u16, port: &str) -> Address {
    Address { bus: bus.to_string().parse().unwrap(), port: port.parse().unwrap() }
}

#[test]
fn a_format_of_another_crate_is_read_edited_and_written_through_the_registry() {
    let toy = with_toy().named("toy").unwrap();
    let text = "toy\ntablet\nstorage:a.img\n";
    let config = toy.read(text, "web1.toy").unwrap();
    assert_eq!(config.spec.devices.len(), 2);

    let error = toy.read("toy\ntablte\n", "web1.toy").unwrap_err();
    assert_eq!(error.brief(), "web1.toy:2:1: this is not a device");

    let stick = device("storage:b.img");
    let edits = [Edit::AddDevice(at(0, "3"), &stick), Edit::RemoveDevice(0)];
    assert_eq!(toy.edit(text, &edits).unwrap(), "toy\nstorage:a.img\nstorage:b.img\n");
    assert_eq!(toy.edit(text, &[Edit::NoUsb]).unwrap_err().what, "NoUsb");

    let capabilities = toy.capabilities(&config.guest);
    assert_eq!(capabilities.hypervisor, "a toy");
    let hardware = resolve(&Hardware::new(), &config.spec, &capabilities).unwrap().hardware;
    assert_eq!(toy.write(&config.guest, &hardware).text, text);
}

#[test]
fn a_format_is_found_by_name_by_path_and_by_content() {
    let formats = with_toy();
    assert_eq!(
        formats.names(),
        ["vusb", "libvirt", "xl", "json", "vmx", "pve", "qemu-args", "vbox", "toy"]
    );
    let path = |path: &str| formats.for_path(Path::new(path)).map(|it| it.to_string());
    assert_eq!(path("web1.toy").as_deref(), Some("toy"));
    assert_eq!(path("/etc/web1.xml").as_deref(), Some("libvirt"));
    assert_eq!(path("/etc/pve/qemu-server/100.conf").as_deref(), Some("pve"));
    assert_eq!(formats.recognize("#a note\nostype: l26\n").unwrap().name(), "pve");
    assert_eq!(path("web1.cfg").as_deref(), Some("toy"), "the last that was registered");
    for format in &Formats::builtin() {
        for extension in format.extensions() {
            for extension in [extension.to_uppercase(), extension.replace('m', "M")] {
                let found = Formats::builtin().for_path(Path::new(&format!("WEB1.{extension}")));
                assert_eq!(found.as_ref(), Some(format), "{extension}");
            }
        }
    }
    assert_eq!((path("web1"), path("web1.ova"), path(".xml")), (None, None, None));
    assert_eq!(formats.recognize("toy\n").unwrap().name(), "toy");
    assert_eq!(formats.recognize("").as_ref(), None);
    assert_eq!(formats.named("ova"), None);
}

#[test]
fn a_format_replaces_one_of_the_same_name_and_copies_of_the_list_are_independent() {
    let mut formats = with_toy();
    let before = formats.clone();
    formats.register(Toy);
    assert_eq!(formats.names(), before.names());
    let none = Formats::none();
    assert_eq!((none.names().len(), none.recognize("toy\n")), (0, None));
    assert_eq!(formats.named("toy"), Some(Format::new(Toy)));
}

/// Every text in the repository that is a file of one format, with the name of that format.
fn fixtures() -> Vec<(PathBuf, String, Format)> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let folders = [tests.join("fixtures"), tests.join("golden")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let format = Formats::builtin().for_path(&path)?;
        // The JSON files in `golden` are expected results, not configurations.
        let is_golden_json = path.parent()?.ends_with("golden") && format.name() == "json";
        let text = fs::read_to_string(&path).unwrap();
        (!is_golden_json).then_some((path, text, format))
    };
    files.filter_map(read).collect()
}

/// The names of the formats that recognize a text.
fn recognized(text: &str) -> Vec<&'static str> {
    let all = Formats::builtin();
    all.iter().filter(|format| format.recognizes(text)).map(|format| format.name()).collect()
}

#[test]
fn every_fixture_is_recognized_by_exactly_its_own_format() {
    let fixtures = fixtures();
    assert!(fixtures.len() > 100, "{}", fixtures.len());
    for (path, text, format) in fixtures {
        assert_eq!(recognized(&text), [format.name()], "{}", path.display());
        let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        assert_eq!(recognized(&windows), [format.name()], "{} of Windows", path.display());
    }
}

#[test]
fn every_fixture_can_be_read_and_has_the_profile_of_its_format() {
    for (path, text, format) in fixtures() {
        let config = match format.read(&text, &path.display().to_string()) {
            Ok(config) => config,
            // Some golden files are specs that must be refused.
            Err(_) if format == Format::new(VusbSpec) => continue,
            Err(error) => panic!("{error}"),
        };
        let own = text.lines().any(|line| line.starts_with("profile"));
        assert!(own || config.spec.profile == format.profile(), "{}", path.display());
    }
}

#[test]
fn what_a_format_generates_is_recognized_by_exactly_that_format() {
    let mut hardware = Hardware::new();
    hardware.add_controller(controller()).unwrap();
    hardware.plug(at(0, "1"), device("mouse")).unwrap();
    let xen = Guest {
        hypervisor: Hypervisor::Xen,
        virtualization: Virtualization::Hvm,
        ..Guest::default()
    };
    for format in &Formats::builtin() {
        for hardware in [&hardware, &Hardware::new()] {
            for guest in [&Guest { name: Some("web1".to_owned()), ..Guest::default() }, &xen] {
                let text = format.write(guest, hardware).text;
                let nothing = text.lines().all(|line| line.is_empty() || line.starts_with('#'));
                assert!(nothing || recognized(&text) == [format.name()], "{format}:\n{text}");
            }
        }
    }
}

fn controller() -> Controller {
    let ports = RootPorts::uniform(Model::QemuXhci, NonZeroU8::new(15).unwrap());
    Controller::new(Index::new(0).unwrap(), "hci0".parse().unwrap(), Model::QemuXhci, ports)
}

#[test]
fn texts_of_other_tools_are_not_recognized() {
    for text in [
        "",
        "\n \n",
        "<domainsnapshot><name>a</name></domainsnapshot>",
        "<network/>",
        "<?xml version=\"1.0\"?><VirtualBox xmlns=\"http://www.virtualbox.org/\"/>",
        "<!-- <domain> -->",
        "<domain",
        "{ \"name\": \"web1\" }",
        "[]",
        "[package]\nname = \"vusb\"\n",
        "#!/bin/sh\nexec qemu-system-x86_64\n",
        "Dear all,\nthe domain = the machine\n",
    ] {
        assert_eq!(recognized(text), [""; 0], "{text}");
    }
}

#[test]
fn host_devices_are_named_as_the_format_can_name_them() {
    let address: Selector = "003.014".parse().unwrap();
    let id: Selector = "0781:5581".parse().unwrap();
    let path: Selector = "pci-0000:00:14.0-usb-0:4".parse().unwrap();
    let Selector::Address(plugged_in) = address.clone() else { panic!() };
    let found = HostRef { bus_address: Some(plugged_in), ..HostRef::new(path.clone()) };
    let absent = HostRef::new(id.clone());
    for (naming, by_address, by_id, when_absent) in [
        (HostNaming::Durable, &path, &path, &id),
        (HostNaming::KeepsSelector, &path, &path, &id),
        (HostNaming::AddressKept, &address, &path, &id),
        (HostNaming::Id, &path, &id, &id),
        (HostNaming::AddressOnly, &address, &address, &id),
        (HostNaming::IdOrPort, &path, &id, &id),
    ] {
        assert_eq!(naming.selector(&address, &found), *by_address, "{naming:?}");
        assert_eq!(naming.selector(&id, &found), *by_id, "{naming:?}");
        assert_eq!(naming.selector(&id, &absent), *when_absent, "{naming:?}");
    }
    assert!(!HostNaming::Durable.keeps_written() && HostNaming::KeepsSelector.keeps_written());
}

#[test]
fn only_a_spec_names_a_running_domain_and_only_libvirt_has_its_own_style() {
    for format in &Formats::builtin() {
        assert_eq!(format.names_running_domain(), format.name() == "vusb", "{format}");
        let style = (format.name() == "libvirt").then_some("libvirt");
        assert_eq!(format.argument_style(), style, "{format}");
        assert!(!format.title().is_empty() && !format.extensions().is_empty(), "{format}");
        assert_eq!(format!("{format:?}"), format!("Format({format})"));
    }
    assert_eq!(Spec::default().profile, VusbSpec.profile());
}

proptest! {
    #[test]
    fn recognition_of_any_text_does_not_panic(text in any::<String>()) {
        recognized(&text);
    }

    #[test]
    fn recognition_of_a_mutilated_fixture_does_not_panic(
        which in any::<prop::sample::Index>(),
        start in any::<prop::sample::Index>(),
        junk in "[<>!?\\-\\[\\]{}=\"'#\u{feff}ä\r\n ]{0,6}",
    ) {
        let all = fixtures();
        let text = &which.get(&all).1;
        let cut: Vec<char> = text.chars().collect();
        let (before, after) = cut.split_at(start.index(cut.len()));
        let text: String = before.iter().copied().chain(junk.chars()).collect();
        recognized(&text);
        let text: String = junk.chars().chain(after.iter().copied()).collect();
        recognized(&text);
    }
}
