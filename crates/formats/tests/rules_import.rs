//! Rules of other tools.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

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
    let text = "ALLOW:class=08\nDENY:vid=0781 rel=0100\nALLOW:vid=1234 rel=2\nDENY:pid=5581\n\
                ALLOW:vid=0529\nDENY:vid=0529 pid=0001\n";
    let (set, lost, _) = imported(Tool::Xapi, text);
    assert_eq!(
        lost,
        [
            "line 2: the release number of a device cannot be matched: more devices are denied",
            "line 3: the release number of a device cannot be matched: the line is left out",
            "line 4: a product without its vendor cannot be matched: the line is left out, and \
             nothing is denied instead",
            // In XAPI, this line never decides: line 1 before it allows the same devices.
            "line 2: for devices that line 1 matches too, line 1 decided because it is first; here line 2 decides",
            "line 6: for devices that line 1 matches too, line 1 decided because it is first; here line 6 decides",
            "line 6: for devices that line 5 matches too, line 5 decided because it is first; here line 6 decides",
        ]
    );
    assert!(!may(&set, "0781:5581", &["08:06:50"]));
    assert!(!may(&set, "1234:0001", &["ff:00:00"]));
    for wrong in ["ALLOW:vid", "ALLOW:vid=xyz", "ALLOW:color=1", "ALLOW:vid=12345", "REFUSE:"] {
        let error = import(wrong, "usb-policy.conf", Tool::Xapi).unwrap_err().to_string();
        assert!(error.contains("usb-policy.conf:1"), "{error}");
    }
}

#[test]
fn usbguard_allows_and_blocks() {
    let text = "\
allow id 0781:5581 serial \"4C53\" name \"Ultra \\\"Fit\\\"\" hash \"abc=\" with-interface 08:06:50 with-connect-type \"hotplug\"
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
            "line 1: `hash` is not compared",
            "line 4: a device with one of these interfaces is denied, and not left to later rules",
            "line 5: conditions cannot be matched: more devices are denied",
            "line 6: conditions cannot be matched: the rule is left out",
            "line 4: for devices that line 2 matches too, line 2 decided because it is first; here line 4 decides",
            "line 7: for devices that line 2 matches too, line 2 decided because it is first; here line 7 decides",
        ],
        "{text}"
    );
    assert!(
        text.contains("id = \"0781:5581:4C53\"") && text.contains("removable = true"),
        "{text}"
    );
    assert!(!may(&set, "046d:c31c", &["03:01:01"]), "{text}");
    assert!(may(&set, "1234:0001", &["08:06:50"]), "{text}");
    assert!(!may(&set, "1d6b:0002", &["09:00:00"]), "{text}");
    for wrong in ["allow id", "allow id { 1:2", "permit", "allow name \"x", "allow { }"] {
        assert!(import(wrong, "rules.conf", Tool::UsbGuard).is_err(), "{wrong}");
    }
}

#[test]
fn vhotplug_attaches_to_its_guests() {
    let text = r#"{"vms": [{"name": "gui-vm", "usbPassthrough": [
        {"class": 3, "protocol": 1, "description": "keyboards",
         "ignore": [{"vendorId": "046d", "productId": "c52b"}]},
        {"productName": ".*ethernet.*"},
        {"productName": "a|b"},
        {"vendorId": "067b", "productId": "23a3", "disable": true},
        {"color": "red"}
    ]}]}"#;
    let (set, lost, text) = imported(Tool::Vhotplug, text);
    assert_eq!(lost.len(), 4, "{lost:#?}");
    assert!(lost[1].contains("`a|b` is a regular expression"), "{lost:#?}");
    let attached: Vec<&str> = set
        .rules
        .iter()
        .filter_map(|it| match &it.action {
            Action::Attach(domain) => Some(domain.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(attached, ["gui-vm", "gui-vm"], "{text}");
    assert!(
        text.contains("has = \"keyboard\"") && text.contains("text = \"*ethernet*\""),
        "{text}"
    );
    assert!(text.contains("id = \"046d:c52b\"\ndeny = \"gui-vm\""), "{text}");
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
    <device backend-domain="sys-usb" id="*" mode="ask-to-attach" identity="046D:C31C::u030101u030000"/>
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
        "id = \"046d:c31c\"\nonly = [\"03:01:01\", \"03:00:00\"]\nask = \"work\"",
        "port = \"1-3\"\nattach = \"vault\"",
        "deny = \"net\"",
    ] {
        assert!(rules.iter().any(|it| it.trim_end().ends_with(expected)), "{expected}: {text}");
    }
    assert_eq!(set.rules.len(), 6, "{text}");
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
    ] {
        let made = device(attributes);
        assert!(made.lost.iter().any(|it| it.contains(lost)), "{attributes}: {:?}", made.lost);
    }
}

/// Whatever a name contains, it stays in its line.
#[test]
fn a_name_cannot_add_rules() {
    let text = r#"{"vms": [{"name": "a\n[[rule]]\nname = \"x\"\nallow = \"*\"\n#", "usbPassthrough": [
        {"vendorId": "1234", "description": "b\"\n[[rule]]"}]}]}"#;
    if let Ok(made) = import(text, "c\n[[rule]]", Tool::Vhotplug) {
        assert_eq!(read(&made.text, "made").unwrap().rules.len(), 1, "{}", made.text);
    }
}
