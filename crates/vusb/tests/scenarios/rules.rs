//! What the rules mean for devices that domains were given.

use std::fs;
use std::os::unix::fs::symlink;

use vusb::model::rules::Effect;
use vusb::model::spec::DeviceSpec;
use vusb::rules::{ExplainView, Explained, RulesView};
use vusb::{Error, Options};

use crate::sandbox::{Sandbox, Vusb};

/// What the rules mean for the device that a selector names.
pub(crate) fn explained(vusb: &Vusb, selector: &str) -> ExplainView {
    let explained = Explained::Device(selector.parse().unwrap());
    vusb.context.explain(&explained, None, &vusb.options).unwrap()
}

#[test]
fn a_device_that_a_domain_was_given_is_attached_to_that_domain_again() {
    let sandbox = Sandbox::new();
    for (port, id) in [(4, "0781:5581"), (5, "0951:1666"), (6, "046d:c52b")] {
        sandbox.plug(port, id, "");
    }
    sandbox.add("web", "1-4").unwrap();
    sandbox.add("mail", "1-5").unwrap();
    for (port, name) in [("1-4", "web"), ("1-5", "mail")] {
        let effect = explained(&sandbox.vusb(), port).effect;
        let Effect::Attach { domain, .. } = effect else { panic!("{port}: {effect:?}") };
        assert_eq!(domain, sandbox.guest(name).to_string(), "{port}");
    }
    assert_eq!(explained(&sandbox.vusb(), "1-6").effect, Effect::Nothing);
}

#[test]
fn the_effects_are_those_of_the_explanations() {
    let sandbox = Sandbox::new();
    for (port, id) in [(4, "0781:5581"), (5, "0951:1666"), (6, "046d:c52b")] {
        sandbox.plug(port, id, "");
    }
    sandbox.add("web", "1-4").unwrap();
    sandbox.add("mail", "1-5").unwrap();
    let vusb = sandbox.vusb();
    let effects = vusb.context.effects(&vusb.options).unwrap().devices;
    let ports: Vec<String> = effects.iter().map(|it| it.busid.to_string()).collect();
    assert_eq!(ports, ["1-4", "1-5", "1-6"]);
    for device in effects {
        assert_eq!(device.effect, explained(&vusb, &device.busid.to_string()).effect);
    }
}

#[test]
fn a_selector_alone_says_what_is_known_of_a_device_that_is_not_plugged_in() {
    let sandbox = Sandbox::new();
    for (selector, about) in [
        ("0781:5581:A1", "0781:5581:A1 (not plugged in)"),
        ("1-4", "at 1-4 (not plugged in)"),
        ("pci-0000:00:14.0-usb-0:4", "at pci-0000:00:14.0-usb-0:4 (not plugged in)"),
    ] {
        assert_eq!(explained(&sandbox.vusb(), selector).about, about);
    }
    // The address alone says nothing.
    let (vusb, explained) = (sandbox.vusb(), Explained::Device("001.014".parse().unwrap()));
    let error = vusb.context.explain(&explained, None, &vusb.options).unwrap_err();
    assert_eq!(error.exit_code(), vusb::ExitCode::NotFound, "{error}");
}

/// Writes a rule file of the machine.
pub(crate) fn write_rules(sandbox: &Sandbox, text: &str) {
    let folder = sandbox.at("machine/etc/vusb/rules.d");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("10.toml"), text).unwrap();
}

#[test]
fn the_refusal_of_a_denied_device_names_the_line_of_the_rule() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    write_rules(
        &sandbox,
        "[[rule]]\nname = \"no mice\"\nid = \"046d:c52b\"\ndeny = \"*\"\n\
         [[rule]]\nname = \"no sticks\"\nid = \"0781:5581\"\ndeny = \"*\"\n",
    );
    let error = sandbox.add("web", "1-4").unwrap_err();
    let Error::DeniedByRule { rule, file, .. } = &error else { panic!("{error}") };
    assert_eq!(rule.as_str(), "no sticks");
    assert!(file.as_ref().unwrap().ends_with("/10.toml:5"), "{error}");
    // Only host devices are checked.
    write_rules(&sandbox, "mistake");
    sandbox.add("web", "tablet").unwrap();
    assert!(matches!(sandbox.add("web", "1-4").unwrap_err(), Error::Rules { .. }));
    let spec = DeviceSpec::new("1-4".parse().unwrap());
    sandbox.forced().device_add(&sandbox.guest("web"), &spec).unwrap();
}

/// The rule that would have denied a device may be in a folder that cannot be read.
#[test]
fn a_folder_of_rules_that_cannot_be_read_is_not_an_empty_one() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    let folder = sandbox.at("machine/etc/vusb/rules.d");
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    symlink(&folder, &folder).unwrap();
    let error = sandbox.add("web", "1-4").unwrap_err();
    assert!(matches!(&error, Error::Io { doing: "read", path, .. } if *path == folder), "{error}");
    assert_eq!(sandbox.sim("web")["hardware"], serde_json::json!([]));
}

#[test]
fn where_no_rule_matches_the_default_of_the_machine_decides() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    write_rules(&sandbox, "unmatched = \"deny\"\n");
    let error = sandbox.add("web", "1-4").unwrap_err();
    assert!(matches!(error, Error::DeniedByRule { file: None, .. }), "{error}");
    write_rules(&sandbox, "unmatched = \"allow\"\n");
    sandbox.add("web", "1-4").unwrap();
}

#[test]
fn a_rule_is_shown_with_its_file_and_line_and_a_built_in_one_without() {
    let sandbox = Sandbox::new();
    write_rules(&sandbox, "[[rule]]\nname = \"no sticks\"\nid = \"0781:5581\"\ndeny = \"*\"\n");
    let loaded = sandbox.vusb().context.rules().unwrap();
    let view = RulesView::from(&loaded);
    let place = |name: &str| {
        let rule = view.rules.iter().find(|it| it.name == name).unwrap();
        (rule.file.is_some(), rule.line)
    };
    assert_eq!(place("no sticks"), (true, Some(1)));
    assert_eq!(place("builtin:hub"), (false, None));
}

#[test]
fn a_device_that_a_rule_attached_does_not_count_as_given_by_a_person() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    let vusb = sandbox.vusb();
    let by_rule = vusb.with_options(Options { by_rule: true, ..vusb.options.clone() });
    let spec = DeviceSpec::new("1-4".parse().unwrap());
    by_rule.device_add(&sandbox.guest("web"), &spec).unwrap();
    assert_eq!(explained(&vusb, "1-4").effect, Effect::Nothing);
    // Once a person requests the device, it counts as given by a person.
    sandbox.add("web", "1-4").unwrap();
    assert!(matches!(explained(&vusb, "1-4").effect, Effect::Attach { .. }));
}

#[test]
fn two_files_that_contradict_each_other_are_a_mistake() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    write_rules(&sandbox, "unmatched = \"deny\"\n");
    let other = sandbox.at("machine/etc/vusb/rules.d/20.toml");
    fs::write(&other, "unmatched = \"deny\"\n").unwrap();
    sandbox.vusb().context.rules().unwrap();
    fs::write(&other, "unmatched = \"allow\"\n").unwrap();
    let error = sandbox.add("web", "1-4").unwrap_err();
    assert!(matches!(error, Error::Rules { .. }), "{error}");
    assert!(error.to_string().contains("`unmatched` has one value in "), "{error}");
}
