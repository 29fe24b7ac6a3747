//! Properties of every spec and every text.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use vusb_formats::config::Edit;
use vusb_formats::spec::{SpecFile, read, write};
use vusb_formats::{ConfigFormat as _, VusbSpec};
use vusb_model::address::{Address, Index, PortPath};
use vusb_model::device::{
    Audio, Chardev, HostRef, Hub, ImageFormat, Input, Kind, Mac, Media, Mtp, Net, NetBackend,
    Other, Redir, Serial, Storage,
};
use vusb_model::hardware::{Device, PciAddress};
use vusb_model::models::{Companion, ControllerType, Model, UsbVersion};
use vusb_model::name::Name;
use vusb_model::profile::Profile;
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

/// Any text that is not empty: quotes, backslashes, newlines and control characters too.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z./]{1,12}", "\\PC{1,12}", vec(any::<char>(), 1..6).prop_map(String::from_iter)]
}

fn name() -> impl Strategy<Value = Name> {
    "[a-zA-Z][a-zA-Z0-9_.-]{0,10}".prop_map(|name| name.parse().unwrap())
}

fn index() -> impl Strategy<Value = Index> {
    (0..=Index::MAX.get()).prop_map(|index| Index::new(index).unwrap())
}

fn port() -> impl Strategy<Value = PortPath> {
    vec(1u8..=255, 1..=4).prop_map(|ports| {
        let ports: Vec<String> = ports.iter().map(u8::to_string).collect();
        ports.join(".").parse().unwrap()
    })
}

fn chardev() -> impl Strategy<Value = Chardev> {
    prop_oneof![
        Just(Chardev::Pty),
        Just(Chardev::Null),
        Just(Chardev::Spicevmc),
        "[a-z/]{1,9}".prop_map(Chardev::File),
        ("[a-z/]{1,9}", any::<bool>()).prop_map(|(path, server)| Chardev::Unix { path, server }),
        ("[a-z.:\\[\\]]{1,9}", 1u16.., any::<bool>())
            .prop_map(|(host, port, server)| Chardev::Tcp { host, port, server }),
        "[a-z0-9_]{1,9}".prop_map(Chardev::Existing),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    let version = prop_oneof![Just(UsbVersion::V1), Just(UsbVersion::V2)];
    let input = version.prop_map(|usbversion| Input { usbversion });
    let format = prop_oneof![Just(ImageFormat::Raw), Just(ImageFormat::Qcow2)];
    let selector = prop_oneof![
        "[0-9a-f]{4}:[0-9a-f]{4}(:[A-Za-z0-9 \"]{1,9})?",
        "[1-9]-[1-9](\\.[1-9]){0,3}",
        "00[1-9]\\.01[0-9]",
        "pci-0000:00:14\\.0-usb-0:[1-9]\\.[1-9]",
    ];
    let backend = prop_oneof![
        Just(NetBackend::User),
        Just(NetBackend::None),
        "[a-z0-9]{1,9}".prop_map(NetBackend::Existing)
    ];
    prop_oneof![
        selector.prop_map(|text| Kind::Host(HostRef::new(text.parse().unwrap()))),
        (text(), format, any::<[bool; 3]>(), of("[a-zA-Z0-9 ._+-]{1,9}")).prop_map(
            |(file, format, [readonly, removable, cdrom], serial)| {
                let serial = serial.map(|serial| serial.parse().unwrap());
                let media = if cdrom { Media::Cdrom } else { Media::Disk };
                let disk = Storage { readonly, serial, removable, ..Storage::new(file, format) };
                Kind::Storage(disk.with_media(media))
            }
        ),
        input.clone().prop_map(Kind::Tablet),
        input.clone().prop_map(Kind::Mouse),
        input.prop_map(Kind::Keyboard),
        (1u8..=8).prop_map(|ports| Kind::Hub(Hub { ports })),
        chardev().prop_map(|chardev| Kind::Serial(Serial { chardev })),
        chardev().prop_map(|chardev| Kind::Redir(Redir { chardev })),
        of("[a-z0-9.#_-]{1,9}").prop_map(|audiodev| Kind::Audio(Audio { audiodev })),
        (backend, of(any::<[u8; 6]>()))
            .prop_map(|(backend, mac)| Kind::Net(Net { backend, mac: mac.map(Mac) })),
        (text(), any::<bool>()).prop_map(|(dir, writable)| Kind::Mtp(Mtp { dir, writable })),
        Just(Kind::Ccid),
        text().prop_map(|driver| Kind::Other(Other { driver })),
    ]
}

fn controller() -> impl Strategy<Value = ControllerSpec> {
    let kind = prop_oneof![Just(ControllerType::Pv), Just(ControllerType::Emulated)];
    let version = prop_oneof![Just(UsbVersion::V1), Just(UsbVersion::V2), Just(UsbVersion::V3)];
    let model = proptest::sample::select(Model::ALL.to_vec());
    let halves = (0u8..=15, 0u8..=15).prop_filter("no port at all", |halves| *halves != (0, 0));
    let companions = vec(
        (0usize..3, 0u8..=29)
            .prop_map(|(n, first_port)| Companion { first_port, ..Companion::GROUP[n] }),
        0..4,
    );
    let pci = (text(), 0u8..32, 0u8..8).prop_map(|(bus, slot, function)| PciAddress {
        bus,
        slot,
        function,
    });
    let first = (of(index()), of(name()), of(kind), of(version), of(model));
    let second = (of(1u8..=31), of(halves), of(companions), of(text()), of(pci));
    (first, second).prop_map(|(first, second)| {
        let (index, name, controller_type, usbversion, model) = first;
        let (ports, halves, companions, backend, pci) = second;
        ControllerSpec {
            index,
            name,
            controller_type,
            usbversion,
            model,
            ports,
            separate_ports: halves,
            companions,
            first_port: None,
            backend,
            pci,
        }
    })
}

fn device() -> impl Strategy<Value = DeviceSpec> {
    let controller =
        prop_oneof![name().prop_map(ControllerRef::Name), index().prop_map(ControllerRef::Index)];
    (of(name()), kind(), of(controller), of(port()))
        .prop_map(|(name, kind, controller, port)| DeviceSpec { name, kind, controller, port })
}

fn spec_file() -> impl Strategy<Value = SpecFile> {
    (of(name()), of(text()), vec(controller(), 0..6), vec(device(), 0..10)).prop_map(
        |(domain, driver, controllers, devices)| SpecFile {
            spec: Spec { profile: Profile::Vusb1, domain, controllers, devices, ..Spec::default() },
            driver,
        },
    )
}

/// A text that looks like a spec, with some mistakes.
fn almost_a_spec() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("[[controller]]".to_owned()),
        Just("[[device]]".to_owned()),
        "(name|index|type|usbversion|model|ports|companions|pci|kind|host|device|file|port) = ",
        "[a-z]{1,9}",
        "\\PC{0,9}",
        "= (\"[a-z0-9:.-]{0,9}\"|[0-9]{1,4}|true|\\[\\]|\\{\\}|1\\.2|0x1f|1979-05-27)",
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
    ];
    vec(line, 0..20).prop_map(|parts| parts.concat())
}

/// Checks that a spec that is read is the same after writing, or that the error has a position in
/// the text and shows its line number.
fn check(text: &str) -> Result<(), TestCaseError> {
    match read(text, "x.toml") {
        Ok(file) => prop_assert_eq!(read(&write(&file), "written.toml"), Ok(file)),
        Err(error) => {
            prop_assert!((1..=text.matches('\n').count() + 1).contains(&error.line()));
            let line = text.split('\n').nth(error.line() - 1).unwrap_or_default();
            prop_assert!((1..=line.chars().count() + 1).contains(&error.column()), "{:?}", error);
            // The rendering counts columns by their width on a terminal.
            let position = format!("x.toml:{}:", error.line());
            prop_assert!(
                error.to_string().contains(&position),
                "{:?} is not at {}",
                error,
                position
            );
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_written_spec_reads_back(file in spec_file()) {
        let text = write(&file);
        let back = read(&text, "written.toml");
        prop_assert_eq!(back, Ok(file), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_rejected(text in "\\PC{0,200}") {
        check(&text)?;
    }

    #[test]
    fn almost_valid_text_is_read_or_rejected(text in almost_a_spec()) {
        check(&text)?;
    }

    /// One character of a valid spec is replaced by another.
    #[test]
    fn a_spec_with_a_typing_error_is_read_or_rejected(
        file in spec_file(), at in any::<proptest::sample::Index>(), new in "[\\PC\n\t\"'=\\[\\]{}0-9]",
    ) {
        let mut text: Vec<String> = write(&file).chars().map(String::from).collect();
        let at = at.index(text.len());
        text[at] = new;
        check(&text.concat())?;
    }
}

/// Text between the tables of a hand-written spec.
fn between() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(""), Just("\n"), Just("# a comment\n"), Just("\n\n  # another\n\n")]
}

proptest! {
    #[test]
    fn adding_and_removing_an_item_changes_nothing_else(
        written in (vec(controller(), 0..3), vec(device(), 0..3)),
        comments in vec(between(), 8),
        crlf in any::<bool>(),
        added in kind(),
    ) {
        let (controllers, devices) = written;
        let plain = write(&SpecFile { spec: Spec { controllers, devices, ..Spec::default() }, driver: None });
        let mut comments = comments.into_iter().cycle();
        let mut text: String = plain
            .split_inclusive('\n')
            .map(|line| if line.starts_with("[[") { format!("{}{line}", comments.next().unwrap()) } else { line.to_owned() })
            .collect();
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        let device = Device { name: "added".parse().unwrap(), kind: added };
        let at = Address { bus: Index::ZERO, port: "1".parse().unwrap() };
        let after = VusbSpec.edit(&text, &[Edit::AddDevice(at, &device)]).unwrap();
        let config = VusbSpec.read(&after, "after.toml").unwrap();
        let number = config.spec.devices.len() - 1;
        prop_assert_eq!(&config.spec.devices[number].kind, &device.kind);
        let back = VusbSpec.edit(&after, &[Edit::RemoveDevice(number)]).unwrap();
        prop_assert_eq!(back, text);
    }
}
