//! Properties of every text, every edit and all hardware that xl can have.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use vusb_formats::config::Edit;
use vusb_formats::{ConfigFormat, LibxlJson, Xl};
use vusb_model::diff::diff;
use vusb_model::digest::digest;
use vusb_model::hardware::Hardware;
use vusb_model::resolve::resolve;
use vusb_model::spec::{DeviceSpec, Spec};

use crate::support::{capabilities, edit, hardware, read};

/// An entry of `usbctrl` for a guest of any type.
fn ctrl() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        (1u8..=2, 1u8..=31)
            .prop_map(|(version, ports)| format!("type=qusb,version={version},ports={ports}")),
        (1u8..=31).prop_map(|ports| format!(" type=PV,, ports={ports}")),
        Just("version=1".to_owned()),
    ]
}

/// An entry of `usbdev`. Each `number` has a different address.
fn dev(number: usize, place: Option<(u8, Option<u8>)>, typed: bool) -> String {
    let mut text = format!("hostbus={},hostaddr={}", 1 + number / 100, 1 + number % 100);
    if typed {
        text += ",type=hostdev";
    }
    if let Some((ctrl, port)) = place {
        text += &format!(", controller={ctrl}");
        text += &port.map(|port| format!(",port={port}")).unwrap_or_default();
    }
    text
}

/// A list, in one of several common layouts.
fn list(entries: &[String], layout: u8) -> String {
    let quote = if layout % 2 == 0 { '\'' } else { '"' };
    let all: Vec<String> = entries.iter().map(|entry| format!("{quote}{entry}{quote}")).collect();
    match layout / 2 {
        0 => format!("[ {} ]", all.join(", ")),
        1 => format!("[{}]", all.join(",")),
        2 => format!(
            "[\n{}]",
            all.iter().map(|it| format!("  {it},  # it's \"quoted\"\n")).collect::<String>()
        ),
        3 => format!("[ {} ]", all.join(",\n\t   ")),
        4 => format!("[\n  {}\n]", all.join("  # x\n  ,\n  ")),
        _ => format!("[ # first\n{}\n# last\n]", all.join(" , # next\n")),
    }
}

prop_compose! {
    /// A whole file, with comments and unrelated keys.
    fn file()(
        hvm in any::<bool>(), usb in of(vec(prop_oneof![Just("tablet"), Just("mouse"), Just("host:46d:c52b")], 0..4)),
        ctrls in vec(ctrl(), 0..5), devs in vec((of((0u8..5, of(1u8..9))), any::<bool>()), 0..12),
        layouts in (0u8..12, 0u8..12, 0u8..12), order in 0usize..4, end in any::<bool>(),
    ) -> String {
        let mut host = false;
        let usb = usb.map(|words| words.into_iter().filter(|word| !word.starts_with("host") || !std::mem::replace(&mut host, true)).map(str::to_owned).collect::<Vec<_>>());
        let devs: Vec<String> = devs.into_iter().enumerate().map(|(number, (place, typed))| dev(number, place, typed)).collect();
        let mut lines = vec![
            format!("usbctrl={}", list(&ctrls, layouts.0)),
            format!("usbdev = {}", list(&devs, layouts.1)),
            "vif = [ 'bridge=xenbr0' ] ; memory = 512".to_owned(),
            format!("type = '{}'  # what it is", if hvm { "hvm" } else { "pv" }),
        ];
        if let Some(usb) = usb {
            lines.push(format!("usbdevice={}", list(&usb, layouts.2)));
        }
        let count = lines.len();
        lines.rotate_left(order % count);
        lines.push("# the end\nname = 'x'".to_owned());
        lines.join("\n\n") + if end { "\n" } else { "" }
    }
}

/// The hardware that a file specifies, if it is valid.
fn valid_hardware(text: &str) -> Option<Hardware> {
    let config = Xl.read(text, "x.cfg").ok()?;
    resolve(&Hardware::new(), &config.spec, &capabilities(&config)).ok().map(|it| it.hardware)
}

/// A text that looks like a configuration, with some mistakes.
fn almost_valid() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "(usbctrl|usbdev|usb|usbversion|usbdevice|spiceusbredirection|type|name|spice) ?\\+?= ?",
        "['\"](type=(pv|hostdev|auto)|version=[0-9]|ports=[0-9]{1,2}|controller=[0-9]|port=[0-9]|hostbus=[0-9]{1,4}|hostaddr=0?[0-9]{1,3}|tablet|hvm|,){0,4}['\"]",
        "[\\[\\],;# ]",
        "\n",
        "[0-9x]{1,4}",
        "\\PC{0,4}",
    ];
    vec(part, 0..16).prop_map(|parts| parts.concat())
}

/// Checks that each warning, or the error, has a position in the text.
fn check(format: &dyn ConfigFormat, text: &str) -> Result<(), TestCaseError> {
    let shown = match format.read(text, "x") {
        Ok(config) => config.warnings,
        Err(error) => vec![error],
    };
    for error in shown {
        prop_assert!((1..=text.matches('\n').count() + 1).contains(&error.line()));
        let line = text.split('\n').nth(error.line() - 1).unwrap_or_default();
        prop_assert!((1..=line.chars().count() + 1).contains(&error.column()), "{:?}", error);
    }
    Ok(())
}

/// Ensures that the properties below are not vacuous: random files contain much hardware.
#[test]
fn random_files_contain_hardware() {
    let mut runner = TestRunner::deterministic();
    let (mut good, mut devices, mut hubs) = (0, 0, 0);
    for _ in 0..300 {
        let Some(made) = valid_hardware(&file().new_tree(&mut runner).unwrap().current()) else {
            continue;
        };
        good += 1;
        devices += made.devices().count();
        hubs += made.devices().filter(|(_, it)| it.kind.hub_ports() > 0).count();
    }
    assert!(
        good > 80 && devices > 200 && hubs > 10,
        "{good} files, {devices} devices, {hubs} hubs"
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_rejected(text in "\\PC{0,200}") {
        check(&Xl, &text)?;
        check(&LibxlJson, &text)?;
    }

    #[test]
    fn almost_valid_text_is_read_or_rejected(text in almost_valid()) {
        check(&Xl, &text)?;
    }

    /// Adding a device and removing it leaves every other line as it was.
    #[test]
    fn an_edit_changes_nothing_else(text in file(), product in 1u8..100) {
        let Some(before) = valid_hardware(&text) else { return Ok(()) };
        let config = read(&text);
        let kind = format!("200.{product:03}").parse().unwrap();
        let spec = Spec { controllers: vec![], devices: vec![DeviceSpec::new(kind)], ..config.spec.clone() };
        let wanted = resolve(&before, &spec, &capabilities(&config)).unwrap().hardware;
        let mut edits: Vec<Edit<'_>> = Vec::new();
        edits.extend(wanted.controllers().filter(|it| before.controller(it.index).is_none()).map(Edit::AddController));
        edits.extend(wanted.devices().filter(|(at, _)| before.device(*at).is_none()).map(|(at, device)| Edit::AddDevice(at, device)));
        // A device without an address keeps its position, because the new one has an address and
        // comes after it.
        let changed = edit(&text, &edits).unwrap();
        prop_assert_eq!(diff(&wanted, &hardware(&changed)), [], "{}\n----\n{}", text, changed);
        let added = changed.len() - text.len();
        prop_assert!(added < 200, "{}", changed);
        // Everything that existed is still there, in order.
        let mut rest = changed.chars();
        prop_assert!(text.chars().all(|char| rest.any(|it| it == char)), "{}\n----\n{}", text, changed);

        // The device can be removed again.
        let config = read(&changed);
        let last = config.spec.devices.len() - 1;
        let mut gone = vec![Edit::RemoveDevice(last)];
        if edits.len() > 1 {
            gone.push(Edit::RemoveController(config.spec.controllers.len() - 1));
        }
        let back = edit(&changed, &gone).unwrap();
        prop_assert_eq!(diff(&before, &hardware(&back)), [], "{}\n----\n{}", changed, back);
    }

    /// Any host device can be removed, and the others keep their positions if those are pinned.
    #[test]
    fn removing_a_device(text in file(), pick in any::<prop::sample::Index>()) {
        let Some(before) = valid_hardware(&text) else { return Ok(()) };
        let config = read(&text);
        let resolved = resolve(&Hardware::new(), &config.spec, &capabilities(&config)).unwrap();
        if config.spec.devices.is_empty() {
            return Ok(());
        }
        let number = pick.index(config.spec.devices.len());
        let at = resolved.devices[number].address;
        if at.bus.get() == 4095 {
            return Ok(());
        }
        let mut edits = vec![Edit::RemoveDevice(number)];
        let others = (0..config.spec.devices.len()).filter(|other| *other != number);
        edits.extend(others.map(|other| (other, resolved.devices[other].address)).filter(|(_, at)| at.bus.get() != 4095)
            .map(|(other, at)| Edit::PinDevice(other, at)));
        let bare: Vec<_> = resolved.added.iter().map(|index| before.controller(*index).unwrap().without_devices()).collect();
        edits.extend(bare.iter().map(Edit::AddController));
        let Ok(changed) = edit(&text, &edits) else { return Ok(()) };
        let mut wanted = before;
        wanted.unplug(at);
        prop_assert_eq!(diff(&wanted, &hardware(&changed)), [], "{}\n----\n{}", text, changed);
    }

    /// A generated text reads back as the same hardware, in both formats.
    #[test]
    fn generated_text_reads_back(text in file()) {
        let Some(made) = valid_hardware(&text) else { return Ok(()) };
        let guest = read(&text).guest;
        for format in [&Xl as &dyn ConfigFormat, &LibxlJson] {
            let written = format.write(&guest, &made);
            prop_assert_eq!(&written.lost, &[]);
            let config = format.read(&written.text, "written").unwrap();
            prop_assert_eq!(&config.warnings, &[]);
            let again = resolve(&Hardware::new(), &config.spec, &capabilities(&config)).unwrap();
            prop_assert_eq!(digest(&again.hardware), digest(&made), "{}", written.text);
            prop_assert_eq!(&config.guest, &guest);
        }
    }
}
