//! Common mistakes in a VMX file, and the complete error for each.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use insta::assert_snapshot;
use vusb_formats::{ConfigFormat as _, Vmx, raw_bytes};
use vusb_model::capabilities::Capabilities;
use vusb_model::hardware::Hardware;
use vusb_model::resolve::resolve;

fn error(text: &str) -> String {
    Vmx.read(text, "web1.vmx").unwrap_err().to_string()
}

/// The refusal of the resolver for a text, shown at its position.
fn refusal(text: &str) -> String {
    let config = Vmx.read(text, "web1.vmx").unwrap();
    let refused = resolve(&Hardware::new(), &config.spec, &Capabilities::everything()).unwrap_err();
    config.show(&refused, text, "web1.vmx").unwrap().to_string()
}

#[test]
fn a_duplicate_key() {
    assert_snapshot!(error("usb.present = \"TRUE\"\nmemsize = \"512\"\nUSB.present = \"FALSE\"\n"), @r#"
    error: `USB.present` is defined twice
     --> web1.vmx:3:1
      |
    1 | usb.present = "TRUE"
      | ----------- the first time
    2 | memsize = "512"
    3 | USB.present = "FALSE"
      | ^^^^^^^^^^^ the second time
      |
      = help: remove one of the two lines: VMware does not open a file with a key that is already defined
    "#);
}

#[test]
fn a_quote_is_not_closed() {
    assert_snapshot!(error("usb.present = \"TRUE\nehci.present = \"TRUE\"\n"), @r#"
    error: this value has no closing quote
     --> web1.vmx:1:15
      |
    1 | usb.present = "TRUE
      |               ^^^^^
    "#);
}

#[test]
fn two_keys_on_one_line() {
    assert_snapshot!(error("numvcpus = \"4\"usb.present = \"TRUE\"\n"), @r#"
    error: there is something after the value
     --> web1.vmx:1:15
      |
    1 | numvcpus = "4"usb.present = "TRUE"
      |               ^^^^^^^^^^^^^^^^^^^^
      |
      = help: a quote in a value is written |22; a comment starts with #
    "#);
}

#[test]
fn a_line_without_a_key() {
    assert_snapshot!(error("usb.present\n"), @r#"
    error: this line is not `key = "value"`
     --> web1.vmx:1:1
      |
    1 | usb.present
      | ^^^^^^^^^^^
      |
      = help: a comment starts with #; a value is on one line
    "#);
    assert_snapshot!(error("usb present = \"TRUE\"\n"), @r#"
    error: `usb present` is not a key
     --> web1.vmx:1:1
      |
    1 | usb present = "TRUE"
      | ^^^^^^^^^^^^^^^^^^^^
      |
      = help: write key = "value"; a comment starts with #
    "#);
}

/// Typographic quotes are part of the value.
#[test]
fn typographic_quotes() {
    assert_snapshot!(error("usb.present = “TRUE”\n"), @r#"
    error: `usb.present` must be "TRUE" or "FALSE"
     --> web1.vmx:1:15
      |
    1 | usb.present = “TRUE”
      |               ^^^^^^
    "#);
}

#[test]
fn a_bad_escape() {
    assert_snapshot!(error("displayName = \"50|50\"\ndisplayname.x = \"a|\"\nuuid.bios = \"a|2g\"\n"), @r#"
    error: a `|` in a value must be followed by two hexadecimal digits
     --> web1.vmx:3:14
      |
    3 | uuid.bios = "a|2g"
      |              ^^^^
      |
      = help: |7C is the bar itself, |22 a quote
    "#);
}

#[test]
fn a_name_in_another_encoding_is_unknown() {
    let name = |text: &str| Vmx.read(text, "web1.vmx").unwrap().guest.name;
    assert_eq!(name(".encoding = \"windows-1252\"\ndisplayName = \"B\u{c3}\u{bc}ro\"\n"), None);
    let raw = raw_bytes::decode(b".encoding = \"GBK\"\ndisplayName = \"\xb2|\"\n".to_vec());
    assert_eq!(name(&raw.unwrap()), None);
    // Plain ASCII is the same in all of them.
    let plain = ".encoding = \"Shift_JIS\"\ndisplayName = \"Buero\"\n";
    assert_eq!(name(plain).as_deref(), Some("Buero"));
}

#[test]
fn a_missing_port() {
    let text = "usb.present = \"TRUE\"\nusb:0.present = \"TRUE\"\nusb:0.deviceType = \"hid\"\nusb:0.port = \"5\"\n";
    assert_snapshot!(refusal(text), @r#"
    error: there is no port 6 on hci0: it has ports 1 to 2
     --> web1.vmx:4:15
      |
    4 | usb:0.port = "5"
      |               ^
    "#);
}

#[test]
fn two_devices_on_one_port() {
    let text = "usb.present = \"TRUE\"\nusb:0.present = \"TRUE\"\nusb:0.deviceType = \"hid\"\nusb:0.port = \"1\"\n\
                usb:1.present = \"TRUE\"\nusb:1.deviceType = \"hid\"\nusb:1.port = \"1\"\n";
    assert_snapshot!(refusal(text), @r#"
    error: port 2 of 0 is requested twice; leave one of the two out or change it
     --> web1.vmx:7:15
      |
    7 | usb:1.port = "1"
      |               ^
    "#);
}

#[test]
fn a_file_that_is_too_long() {
    let text = "#".repeat((2 << 20) + 1);
    let error = error(&text);
    assert!(
        error.starts_with("error: this is larger than 2 MiB, the limit for a VMX file"),
        "{error}"
    );
}

/// A cycle of hubs is detected.
#[test]
fn a_cycle_of_hubs() {
    let hub = |number: u8, parent: u8| {
        format!(
            "usb:{number}.present = TRUE\nusb:{number}.deviceType = hub\nusb:{number}.port = 0\nusb:{number}.parent = {parent}\n"
        )
    };
    let text = format!("usb.present = TRUE\n{}{}", hub(1, 2), hub(2, 1));
    let config = Vmx.read(&text, "web1.vmx").unwrap();
    assert_eq!(config.warnings.len(), 2);
    assert!(config.warnings[0].to_string().contains("it is behind more than three hubs"));
}

/// VMware numbers the ports of an xHCI from 4 today, and once did from 0.
#[test]
fn an_item_on_the_port_of_another_is_left_unchanged() {
    let hub = |number: u8| {
        format!(
            "usb_xhci:{number}.present = \"TRUE\"\nusb_xhci:{number}.deviceType = \"hub\"\n\
             usb_xhci:{number}.port = \"{number}\"\nusb_xhci:{number}.parent = \"-1\"\n"
        )
    };
    let text = format!("usb_xhci.present = \"TRUE\"\n{}{}", hub(3), hub(7));
    let config = Vmx.read(&text, "web1.vmx").unwrap();
    assert_eq!(config.spec.devices.len(), 1);
    let warning = config.warnings[0].to_string();
    assert!(warning.contains("usb_xhci:7 is on the port of usb_xhci:3"), "{warning}");
}
