//! Rules of other tools.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod properties;

use vusb_formats::rules::import::{Tool, import};
use vusb_formats::rules::read;
use vusb_model::rules::{Action, DeviceFacts, Domain, RuleSet, Verdict, decide};

/// The imported rules, what was lost, and the rules as text.
fn imported(tool: Tool, text: &str) -> (RuleSet, Vec<String>, String) {
    assert_eq!(Tool::recognize(text), Some(tool));
    let made = import(text, "the file", tool).unwrap();
    let file = read(&made.text, "made").unwrap();
    let unmatched = file.unmatched.unwrap_or_default();
    let set = RuleSet { rules: file.rules, unmatched, ..RuleSet::default() };
    (set, made.lost, made.text)
}

/// Whether a device with these interfaces may be given to a guest.
fn may(set: &RuleSet, id: &str, interfaces: &[&str]) -> bool {
    let interfaces = interfaces.iter().map(|it| {
        let class: vusb_model::rules::InterfaceClass = it.parse().unwrap();
        class.patterns()[0]
    });
    let device = DeviceFacts {
        id: Some(id.parse().unwrap()),
        interfaces: Some(interfaces.collect()),
        text: Some("SanDisk Ultra".to_owned()),
        ..DeviceFacts::default()
    };
    let decision = decide(&device, set, &[Domain::named("web1")]);
    decision.permission("web1").unwrap().verdict == Verdict::Allowed
}

/// Parts of the policy that XenServer is installed with.
const XAPI: &str = "\
# When you change this file, run 'xe pusb-scan'
ALLOW:vid=056a pid=0315 class=03 # Wacom Intuos tablet
DENY: class=03 subclass=01 prot=01 # Keyboards
DENY:vid=17e9 # All DisplayLink USB displays
DENY: class=e0 # Wireless
ALLOW: # Otherwise allow everything else
";

#[test]
fn xapi_checks_each_interface() {
    let (set, lost, text) = imported(Tool::Xapi, XAPI);
    assert_eq!(lost, Vec::<String>::new(), "{text}");
    assert!(may(&set, "0781:5581", &["08:06:50"]), "{text}");
    assert!(!may(&set, "046d:c31c", &["03:01:01"]), "{text}");
    // One denied interface denies the device.
    assert!(!may(&set, "046d:c31c", &["08:06:50", "03:01:01"]), "{text}");
    assert!(!may(&set, "17e9:0001", &["ff:00:00"]), "{text}");
    // The exception names the device.
    assert!(may(&set, "056a:0315", &["03:01:01"]), "{text}");
    // Without a line for all else, nothing else is allowed.
    let (set, _, _) = imported(Tool::Xapi, "ALLOW:class=08\n");
    assert!(may(&set, "0781:5581", &["08:06:50"]));
    assert!(!may(&set, "0781:5581", &["08:06:50", "ff:00:00"]));
    assert!(!may(&set, "0781:5581", &["ff:00:00"]));
}

#[test]
fn what_cannot_be_expressed_is_listed() {
    let text = "ALLOW:class=08\nDENY:vid=0781 rel=0100\nALLOW:vid=1234 rel=0002\n\
                ALLOW:vid=0529\nDENY:vid=0529 pid=0001\nDENY:pid=5581\nALLOW:\n";
    let (set, lost, _) = imported(Tool::Xapi, text);
    assert_eq!(
        lost,
        [
            "line 2: the release number of a device cannot be matched: more devices are denied",
            "line 3: the release number of a device cannot be matched: the rule is left out",
            "line 6: a product without its vendor cannot be matched: all other devices are denied",
            "line 7: line 6 is about every device, so the rule is never reached",
            // In XAPI, this line never decides: line 1 before it allows the same devices.
            "line 2: for devices that line 1 matches too, line 1 decided because it is first; here line 2 decides",
            "line 5: for devices that line 1 matches too, line 1 decided because it is first; here line 5 decides",
            "line 5: for devices that line 4 matches too, line 4 decided because it is first; here line 5 decides",
        ]
    );
    assert!(!may(&set, "0781:5581", &["08:06:50"]));
    assert!(!may(&set, "1234:0001", &["ff:00:00"]));
    for wrong in [
        "ALLOW:vid",
        "ALLOW:vid=xyz",
        "ALLOW:color=1",
        "ALLOW:vid=12345",
        "ALLOW:vid=12",
        "ALLOW:class=008",
        "ALLOW:vid=+123",
        "ALLOW:class=08 class=03",
        "REFUSE:",
    ] {
        let error = import(wrong, "usb-policy.conf", Tool::Xapi).unwrap_err().to_string();
        assert!(error.contains("usb-policy.conf:1"), "{error}");
    }
}

#[test]
fn usbguard_allows_and_blocks() {
    let text = "\
allow id 0781:5581 serial \"4C53\" via-port \"1-4\" label \"stick\" with-interface 08:06:50
block with-interface one-of { 03:00:* 03:01:* }
allow id 1234:* with-interface match-all { 08:*:* }
allow with-interface none-of { e0:*:* } via-port \"1-4\"
reject id 1d6b:0002 if localtime(00:00-06:00)
allow id 1d6b:0003 if true
allow 0529:0001
";
    let (set, lost, text) = imported(Tool::UsbGuard, text);
    assert_eq!(
        lost,
        [
            "line 4: a device with one of these interfaces is denied, and not left to later rules",
            "line 5: conditions cannot be matched: more devices are denied",
            "line 6: conditions cannot be matched: the rule is left out",
        ],
        "{text}"
    );
    assert!(text.contains("id = \"0781:5581:4C53\"\nport = \"1-4\""), "{text}");
    assert!(text.contains("unmatched = \"deny\""), "{text}");
    assert!(!may(&set, "046d:c31c", &["03:01:01"]), "{text}");
    // Line 2 denies it before line 7 allows it.
    assert!(!may(&set, "0529:0001", &["03:01:01"]), "{text}");
    assert!(may(&set, "0529:0001", &["08:06:50"]), "{text}");
    assert!(may(&set, "1234:0001", &["08:06:50"]), "{text}");
    assert!(!may(&set, "1d6b:0002", &["09:00:00"]), "{text}");
    for wrong in [
        "allow id",
        "allow id { 1:2",
        "permit",
        "allow name \"x",
        "allow { }",
        "allow id 1:2 id 3:4",
        "allow serial \"\\q\"",
        "allow if localtime(1",
    ] {
        assert!(import(wrong, "rules.conf", Tool::UsbGuard).is_err(), "{wrong}");
    }
}

#[test]
fn vhotplug_attaches_to_its_guests() {
    let text = r#"{"vms": [{"name": "gui-vm", "usbPassthrough": [
        {"class": 3, "protocol": 1, "description": "keyboards",
         "ignore": [{"vendorId": "046d", "productId": "c52b"}]},
        {"class": 2, "vendorId": "0b95", "productId": "772b"},
        {"productName": ".*ethernet.*"},
        {"productName": "a|b"},
        {"vendorId": "067b", "productId": "23a3", "disable": true},
        {"color": "red"}
    ]}]}"#;
    let (set, lost, text) = imported(Tool::Vhotplug, text);
    assert_eq!(lost.len(), 5, "{lost:#?}");
    assert!(lost[1].contains("names of udev"), "{lost:#?}");
    assert!(lost[2].contains("`a|b` is a regular expression"), "{lost:#?}");
    let attached: Vec<&str> = set
        .rules
        .iter()
        .filter_map(|it| match &it.action {
            Action::Attach(domain) => Some(domain.as_str()),
            _ => None,
        })
        .collect();
    // The ids or the class of the second entry are enough.
    assert_eq!(attached, ["gui-vm", "gui-vm", "gui-vm"], "{text}");
    assert!(text.contains("has = \"keyboard\"\nattach"), "{text}");
    assert!(text.contains("# text = \"*ethernet*\"\n# attach"), "{text}");
    let ignored = "id = \"046d:c52b\"\nhas = \"keyboard\"\ndeny = \"gui-vm\"";
    assert!(text.contains(ignored), "{text}");
}

/// A file like that of Qubes OS, without the parts that do not matter here.
const QUBES: &str = r#"<?xml version='1.0' encoding='utf-8'?>
<qubes><properties/><domains>
<domain id="domain-0" class="AdminVM"><properties/></domain>
<domain id="domain-5" class="AppVM">
  <properties><property name="qid">5</property><property name="name">work</property>
    <property name="devices_denied">u03****u0e01**b******</property></properties>
  <devices class="pci"><device backend-domain="dom0" id="00_14.0"/></devices>
  <devices class="usb">
    <device backend-domain="sys-usb" id="2-1_4" mode="auto-attach" identity="0951:1666:4C:53:u080650"/>
    <device backend-domain="sys-usb" id="2-2" mode="required" identity="*"/>
    <device backend-domain="sys-usb" id="*" mode="ask-to-attach" identity="046D:C31C:K1:u080101u080000"/>
    <device backend-domain="sys-usb" id="*" mode="auto-attach" identity="*"/>
  </devices>
</domain>
<domain id="domain-6" class="AppVM">
  <properties><property name="name">vault</property></properties>
  <devices class="usb">
    <device backend-domain="sys-usb" id="2-2" mode="auto-attach" identity="*"/>
    <device backend-domain="dom0" id="1-3"><option name="x">y</option></device>
  </devices>
</domain>
<domain id="domain-7" class="AppVM"><properties><property name="name">net</property>
  <property name="devices_denied">*******</property></properties></domain>
</domains></qubes>
"#;

#[test]
fn qubes_assigns_and_denies() {
    let (set, lost, text) = imported(Tool::Qubes, QUBES);
    assert_eq!(
        lost,
        [
            "work, devices_denied: `b******` is not a kind of USB interface",
            "work, device 2: the qube starts without the device too",
            "work, device 3: a device with only some of these interfaces is denied, and not left to \
             other rules",
            "work, device 4: it is about every device: it is left out",
            "vault, device 2: options are left out",
            "sys-usb: its devices and ports are those of that qube, and not of this machine: the \
             rules are for where its USB controllers are",
        ],
        "{text}"
    );
    let rules: Vec<&str> = text.split("\n\n").skip(1).collect();
    for expected in [
        "has = [\"03\", \"0e:01\"]\ndeny = \"work\"",
        "id = \"0951:1666:4C:53\"\nport = \"2-1.4\"\nonly = \"08:06:50\"\nattach = \"work\"",
        // Two qubes want the device in this port.
        "port = \"2-2\"\nask = [\"work\", \"vault\"]",
        "id = \"046d:c31c:K1\"\nonly = [\"08:01:01\", \"08:00:00\"]\nask = \"work\"",
        "id = \"046d:c31c:K1\"\nonly = \"08:00:00\"\ndeny = \"work\"",
        "id = \"046d:c31c:K1\"\nonly = \"08:01:01\"\ndeny = \"work\"",
        // What `work` may not have, it does not get by an assignment either.
        "port = \"2-2\"\nhas = [\"03\", \"0e:01\"]\ndeny = \"work\"",
        "port = \"1-3\"\nattach = \"vault\"",
        "deny = \"net\"",
    ] {
        assert!(rules.iter().any(|it| it.trim_end().ends_with(expected)), "{expected}: {text}");
    }
    assert_eq!(set.rules.len(), 9, "{text}");
    for wrong in ["<qubes>", "<other/>", "<!DOCTYPE a><qubes/>"] {
        assert!(import(wrong, "qubes.xml", Tool::Qubes).is_err(), "{wrong}");
    }
}

#[test]
fn modes_and_identities_of_qubes_are_checked() {
    let device = |attributes: &str| {
        let text = format!(
            "<qubes><domains><domain><properties><property name='name'>w</property></properties>\
             <devices class='usb'><device {attributes}/></devices></domain></domains></qubes>"
        );
        import(&text, "qubes.xml", Tool::Qubes).unwrap()
    };
    for (attributes, lost) in [
        ("id='2-1' mode='sometimes'", "the mode `sometimes` is not known"),
        ("id='*' identity='0951:16:x:u080650'", "does not identify a device"),
        ("id='*' identity='0951:1666'", "does not identify a device"),
        ("id='*' identity='0951:1666:a:u08'", "does not identify a device"),
        ("id='2-1' identity='0951:1666:a_b:u080650'", "an underscore of the serial number"),
        ("id='2-1' identity='0951:1666::u080650'", "that a device has no serial number"),
        ("id='2-1' identity='0951:1666:a:?******'", "its interfaces were not known"),
    ] {
        let made = device(attributes);
        assert!(made.lost.iter().any(|it| it.contains(lost)), "{attributes}: {:?}", made.lost);
    }
}

/// Whatever a name contains, it stays in its line.
#[test]
fn a_name_cannot_add_rules() {
    let text = r#"{"vms": [{"name": "a\n[[rule]]\nname = \"x\"\nallow = \"*\"\n#", "usbPassthrough": [
        {"vendorId": "1234", "productId": "1", "description": "b\"\n[[rule]]"}]}]}"#;
    if let Ok(made) = import(text, "c\n[[rule]]", Tool::Vhotplug) {
        assert_eq!(read(&made.text, "made").unwrap().rules.len(), 1, "{}", made.text);
    }
}

/// A condition that is not carried over makes no rule that allows more, and none that denies less.
#[test]
fn a_condition_that_cannot_be_matched_never_opens_anything() {
    for condition in [
        "hash \"x\"",
        "parent-hash \"x\"",
        "serial \"\"",
        "serial \"x\"",
        "name \"\"",
        "name \"Ultra\"",
        "via-port \"usb1\"",
        "via-port \"1-4.*\"",
        "with-connect-type \"unknown\"",
        "with-connect-type \"\"",
        "with-connect-type \"hotplug\"",
        "with-interface 08:*:50",
        "with-interface 08:*:*",
        "with-interface { 08:06:50 08:06:62 }",
        "with-interface all-of { 08:06:50 08:06:62 }",
        "id *:0001",
        "id none-of { 0781:* }",
        "label \"x\" if true",
        "if !allowed-matches(with-interface 03:00:01)",
        "color \"red\"",
    ] {
        let (set, lost, text) = imported(Tool::UsbGuard, &format!("allow {condition}\n"));
        assert!(!lost.is_empty() && set.rules.is_empty(), "{condition}: {text}");
        assert!(!may(&set, "0781:5581", &["08:06:50"]), "{condition}: {text}");
        // A deny rule still denies the device, although others may be denied too.
        let file = format!("block {condition}\nallow id 0781:5581\nallow\n");
        let (set, lost, text) = imported(Tool::UsbGuard, &file);
        assert!(!lost.is_empty(), "{condition}: {text}");
        let is_carried = ["*:50", "{ 08", "08:*:*", "hotplug", "Ultra"];
        if !is_carried.iter().any(|it| condition.contains(it)) {
            assert!(!may(&set, "0781:5581", &["08:06:50"]), "{condition}: {text}");
        }
    }
    for condition in ["pid=5581", "rel=0100", "subclass=06", "prot=50", "subclass=06 prot=50"] {
        let (set, _, text) = imported(Tool::Xapi, &format!("ALLOW: {condition}\n"));
        assert!(set.rules.is_empty(), "{condition}: {text}");
        assert!(!may(&set, "0781:5581", &["08:06:50"]), "{condition}: {text}");
        let (set, _, text) = imported(Tool::Xapi, &format!("DENY: {condition}\nALLOW:\n"));
        assert!(!may(&set, "0781:5581", &["08:06:50"]), "{condition}: {text}");
    }
    // Nothing after a line for every device is reached.
    for (tool, text) in [
        (Tool::Xapi, "DENY:\nALLOW:vid=0781\nALLOW:\n"),
        (Tool::UsbGuard, "block\nallow id 0781:5581\nallow\n"),
    ] {
        let (set, lost, text) = imported(tool, text);
        assert_eq!(lost.len(), 2, "{lost:?}");
        assert!(!may(&set, "0781:5581", &["08:06:50"]), "{text}");
    }
}

/// A rule that is left out is still in the file, as a comment that can be made a rule.
#[test]
fn a_rule_that_is_left_out_stays_as_a_comment() {
    let line = "allow id 0781:5581 serial \"4C53\" name \"Ultra \\\"Fit\\\"\" hash \"abc=\"\n";
    let (set, lost, text) = imported(Tool::UsbGuard, line);
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert!(set.rules.is_empty(), "{text}");
    let (_, comment) = text.split_once("was not about.\n").unwrap();
    let rule: String = comment.lines().map(|it| format!("{}\n", &it[2..])).collect();
    let file = read(&rule, "the rule").unwrap();
    assert_eq!(file.rules.len(), 1, "{rule}");
    assert!(rule.contains("id = \"0781:5581:4C53\"") && rule.contains("Fit"), "{rule}");
}
