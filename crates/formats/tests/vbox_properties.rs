//! Properties of every machine of VirtualBox and every guest.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use vusb_formats::config::{Config, Edit};
use vusb_formats::{ConfigFormat as _, Vbox};
use vusb_model::address::{Address, Index};
use vusb_model::device::Kind;
use vusb_model::digest::digest;
use vusb_model::guest::Guest;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::Model;
use vusb_model::resolve::resolve;
use vusb_model::spec::{DeviceSpec, Spec};

/// A part of a machine that edits must not touch.
const OTHER: &str = "<Other a='1'><USB><Controllers><Controller name='OHCI' type='OHCI'/></Controllers></USB></Other>";

/// How a file is laid out: its line ending, its unit of indentation, and its quote.
type Layout = (&'static str, &'static str, char);

fn layout() -> impl Strategy<Value = Layout> {
    let layouts = vec![("\n", "  "), ("\r\n", "\t"), ("\n", "    "), ("", "")];
    (select(layouts), select(vec!['"', '\'']))
        .prop_map(|((newline, unit), quote)| (newline, unit, quote))
}

/// An element with its children, one level of indentation per level.
fn element(tag: &str, children: &[String], (newline, unit, _): Layout) -> String {
    let name = tag.split(' ').next().unwrap();
    if children.is_empty() {
        return format!("<{tag}/>");
    }
    let indented = children.iter().map(|child| child.replace('\n', &format!("\n{unit}")));
    let lines: String = indented.map(|child| format!("{newline}{unit}{child}")).collect();
    format!("<{tag}>{lines}{newline}</{name}>")
}

/// Filters, some of which are no devices.
fn filter() -> impl Strategy<Value = String> {
    let active = select(vec!["true", "true", "false", "maybe"]);
    let remote = select(vec!["", " remote='0'", " remote='1'"]);
    let serial = select(vec!["", " serialNumber='AB'", " serialNumber='A*'"]);
    ("[a-z &;]{1,6}", active, "[0-9A-F]{1,5}", remote, serial).prop_map(
        |(name, active, product, remote, serial)| {
            let name = name.replace('&', "&amp;");
            format!(
                "DeviceFilter name='{name}' active='{active}' vendorId='0781' productId='{product}'{serial}{remote}"
            )
        },
    )
}

/// What a file has: controllers, filters, input devices, a snapshot, comments.
#[derive(Clone, Debug)]
struct Parts {
    version: u32,
    types: Vec<&'static str>,
    filters: Vec<String>,
    hid: Option<&'static str>,
    comment: bool,
    layout: Layout,
}

fn parts() -> impl Strategy<Value = Parts> {
    let types = subsequence(vec!["OHCI", "EHCI", "XHCI"], 0..=3);
    let hid = select(vec![
        None,
        Some("HID Pointing='USBTablet'"),
        Some("HID Keyboard='USBKeyboard'"),
        Some("HID Pointing='USBMouse' Keyboard='USBKeyboard'"),
        Some("HID Pointing='ComboMouse'"),
    ]);
    (16u32..=22, types, vec(filter(), 0..4), hid, any::<bool>(), layout()).prop_map(
        |(version, types, filters, hid, comment, layout)| Parts {
            version,
            types,
            filters,
            hid,
            comment,
            layout,
        },
    )
}

impl Parts {
    /// The whole file. A part of a list is only there if it has items, as VirtualBox writes it.
    fn text(&self) -> String {
        let layout = self.layout;
        let list = |tag: &str, children: Vec<String>| {
            (!children.is_empty()).then(|| element(tag, &children, layout))
        };
        let controller = |kind: &&str| format!("<Controller name='{kind}' type='{kind}'/>");
        let controllers = list("Controllers", self.types.iter().map(controller).collect());
        let filters = self.filters.iter().map(|it| format!("<{it}/>")).collect();
        let filters = list("DeviceFilters", filters);
        let usb = list("USB", controllers.into_iter().chain(filters).collect());
        let hardware = ["<Memory RAMSize='64'/>".to_owned()]
            .into_iter()
            .chain(self.hid.map(|hid| format!("<{hid}/>")))
            .chain(self.comment.then(|| "<!-- <USB/> -->".to_owned()))
            .chain(usb)
            .chain(["<Network/>".to_owned(), OTHER.to_owned()]);
        let hardware = element("Hardware", &hardware.collect::<Vec<_>>(), layout);
        let snapshot = element("Snapshot name='s'", std::slice::from_ref(&hardware), layout);
        let machine =
            "Machine uuid='{2a1b5b0e-3c6f-4c1d-9a55-0d7c7a0c2f11}' name='a' OSType='Other'";
        let machine = element(machine, &[snapshot, hardware], layout);
        let root = format!(
            "VirtualBox xmlns='http://www.virtualbox.org/' version='1.{}-linux'",
            self.version
        );
        let text = element(&root, &[machine], layout) + layout.0;
        text.replace('\'', &layout.2.to_string())
    }
}

fn resolved(text: &str) -> Hardware {
    let config = Vbox.read(text, "x.vbox").unwrap();
    resolve(&Hardware::new(), &config.spec, &Vbox.capabilities(&config.guest)).unwrap().hardware
}

/// The text before the machine's own hardware, and after its USB part. Nothing of it may change.
fn snapshot(text: &str) -> &str {
    let start = text.find("<Snapshot").unwrap();
    &text[start..text.find("</Snapshot>").unwrap()]
}

/// Hardware that VirtualBox could have, placed by profile `vbox`.
fn hardware() -> impl Strategy<Value = Hardware> {
    let models = subsequence(vec![Model::PciOhci, Model::Ehci, Model::QemuXhci], 1..=3);
    let kinds =
        vec!["tablet", "keyboard", "0781:5581", "046d:0825:A&B\"<'", "host:vendorid=0x1234"];
    (models, subsequence(kinds, 0..=5)).prop_filter_map("they do not fit", |(models, kinds)| {
        let mut base = Hardware::new();
        for (number, model) in (0u16..).zip(models) {
            base.add_controller(controller(number, model)).unwrap();
        }
        let devices = kinds.iter().map(|kind| DeviceSpec::new(kind.parse().unwrap()));
        let profile = Vbox.profile();
        let spec = Spec { profile, devices: devices.collect(), ..Spec::default() };
        let resolved = resolve(&base, &spec, &Vbox.capabilities(&Guest::default())).unwrap();
        resolved.added.is_empty().then_some(resolved.hardware)
    })
}

fn controller(index: u16, model: Model) -> Controller {
    let name = format!("hci{index}").parse().unwrap();
    let ports = model.virtualbox_ports().unwrap();
    Controller::new(Index::new(index).unwrap(), name, model, ports)
}

/// Checks that everything that is read has a source in the text, and that an empty list of edits
/// leaves the text as it is; or that the error has a line of the text.
fn check(text: &str) -> Result<(), TestCaseError> {
    match Vbox.read(text, "x.vbox") {
        Ok(config) => {
            prop_assert_eq!(config.controllers.len(), config.spec.controllers.len());
            prop_assert_eq!(config.devices.len(), config.spec.devices.len());
            for source in config.controllers.iter().chain(&config.devices) {
                prop_assert!(text.get(source.span.clone()).is_some());
            }
            prop_assert_eq!(Vbox.edit(text, &[]).unwrap(), text);
        }
        Err(error) => prop_assert!((1..=text.matches('\n').count() + 1).contains(&error.line())),
    }
    Ok(())
}

/// The number of the device in `more` that `less` does not have.
fn new_device(less: &Config, more: &Config, kind: &Kind) -> usize {
    let count = |config: &Config| config.spec.devices.iter().filter(|it| it.kind == *kind).count();
    assert_eq!(count(more), count(less) + 1);
    more.spec.devices.iter().rposition(|it| it.kind == *kind).unwrap()
}

proptest! {
    /// A generated text reads back as the same hardware, except for what is reported as lost.
    #[test]
    fn generated_text_reads_back(hardware in hardware()) {
        let written = Vbox.write(&Guest::default(), &hardware);
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
    fn a_mutilated_file_is_read_or_rejected(parts in parts(), from in 0usize..2000, length in 0usize..40, junk in "[<>/'\"&a =\\-]{0,6}") {
        let mut text: Vec<char> = parts.text().chars().collect();
        let from = from.min(text.len());
        text.splice(from..(from + length).min(text.len()), junk.chars());
        check(&text.into_iter().collect::<String>())?;
    }

    /// An added device exists. After it is removed, the text is the original one.
    #[test]
    fn adding_and_removing_a_device(parts in parts(), which in select(vec!["abcd:1234", "abcd:1234:S", "tablet", "mouse", "keyboard"])) {
        let text = parts.text();
        check(&text)?;
        let config = Vbox.read(&text, "x.vbox").unwrap();
        let kind: Kind = which.parse().unwrap();
        let device = Device { name: format!("{}9", kind.name()).parse().unwrap(), kind: kind.clone() };
        let at = Address { bus: Index::ZERO, port: "1".parse().unwrap() };
        let Ok(more) = Vbox.edit(&text, &[Edit::AddDevice(at, &device)]) else { return Ok(()) };
        prop_assert_eq!(snapshot(&more), snapshot(&text));
        prop_assert!(more.contains(OTHER.replace('\'', &parts.layout.2.to_string()).as_str()));
        let added = Vbox.read(&more, "x.vbox").unwrap();
        let number = new_device(&config, &added, &kind);
        let less = Vbox.edit(&more, &[Edit::RemoveDevice(number)]).unwrap();
        prop_assert_eq!(less, text, "{}", more);
    }

    /// An added controller exists. After it is removed, the text is the original one.
    #[test]
    fn adding_and_removing_a_controller(parts in parts(), model in select(vec![Model::PciOhci, Model::Ehci, Model::QemuXhci])) {
        let text = parts.text();
        let config = Vbox.read(&text, "x.vbox").unwrap();
        let new = controller(u16::try_from(config.controllers.len()).unwrap(), model);
        let Ok(more) = Vbox.edit(&text, &[Edit::AddController(&new)]) else { return Ok(()) };
        prop_assert_eq!(snapshot(&more), snapshot(&text));
        let added = Vbox.read(&more, "x.vbox").unwrap();
        prop_assert_eq!(added.spec.controllers.len(), config.spec.controllers.len() + 1);
        let last = Edit::RemoveController(config.spec.controllers.len());
        prop_assert_eq!(Vbox.edit(&more, &[last]).unwrap(), text, "{}", more);
    }

    /// What is removed is gone, and everything else is still there.
    #[test]
    fn removing_everything(parts in parts()) {
        let text = parts.text();
        let config = Vbox.read(&text, "x.vbox").unwrap();
        let devices = (0..config.devices.len()).map(Edit::RemoveDevice);
        let edits: Vec<Edit<'_>> = devices.chain([Edit::NoUsb]).collect();
        let bare = Vbox.edit(&text, &edits).unwrap();
        prop_assert_eq!(snapshot(&bare), snapshot(&text));
        prop_assert_eq!(resolved(&bare).controllers().len(), 0);
        let kept = text.matches("active='false'").count() + text.matches("active=\"false\"").count();
        let left = bare.matches("active='false'").count() + bare.matches("active=\"false\"").count();
        prop_assert_eq!(left, kept);
    }
}
