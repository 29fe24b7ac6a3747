//! The mistakes that people make in a VMX file, and what each is answered with: the whole of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use insta::assert_snapshot;
use vusb_formats::Format;
use vusb_model::capabilities::Capabilities;
use vusb_model::hardware::Hardware;
use vusb_model::resolve::resolve;

fn error(text: &str) -> String {
    Format::Vmx.read(text, "web1.vmx").unwrap_err().to_string()
}

/// The refusal of what the text says, at its place.
fn refusal(text: &str) -> String {
    let config = Format::Vmx.read(text, "web1.vmx").unwrap();
    let refused = resolve(&Hardware::new(), &config.spec, &Capabilities::everything()).unwrap_err();
    config.show(&refused, text, "web1.vmx").unwrap().to_string()
}

#[test]
fn a_key_is_there_twice() {
    assert_snapshot!(error("usb.present = \"TRUE\"\nmemsize = \"512\"\nUSB.present = \"FALSE\"\n"), @r#"
    error: `USB.present` is said twice
     --> web1.vmx:3:1
      |
    1 | usb.present = "TRUE"
      | ----------- here
    2 | memsize = "512"
    3 | USB.present = "FALSE"
      | ^^^^^^^^^^^ and here again
      |
      = help: take one of the two lines out: VMware does not open a file with a key that is already defined
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
    error: something comes after the value
     --> web1.vmx:1:15
      |
    1 | numvcpus = "4"usb.present = "TRUE"
      |               ^^^^^^^^^^^^^^^^^^^^
      |
      = help: a quote within a value is written |22; a comment begins with #
    "#);
}

#[test]
fn a_line_that_is_no_key() {
    assert_snapshot!(error("usb.present\n"), @r#"
    error: this line is no `key = "value"`
     --> web1.vmx:1:1
      |
    1 | usb.present
      | ^^^^^^^^^^^
      |
      = help: a comment begins with #; a value is on one line
    "#);
    assert_snapshot!(error("usb present = \"TRUE\"\n"), @r#"
    error: `usb present` is no key
     --> web1.vmx:1:1
      |
    1 | usb present = "TRUE"
      | ^^^^^^^^^^^^^^^^^^^^
      |
      = help: write key = "value"; a comment begins with #
    "#);
}

/// A word processor's quotes are part of the value.
#[test]
fn quotes_of_a_word_processor() {
    assert_snapshot!(error("usb.present = “TRUE”\n"), @r#"
    error: `usb.present` is "TRUE" or "FALSE"
     --> web1.vmx:1:15
      |
    1 | usb.present = “TRUE”
      |               ^^^^^^
    "#);
}

#[test]
fn a_bad_escape() {
    assert_snapshot!(error("displayName = \"50|50\"\ndisplayname.x = \"a|\"\nuuid.bios = \"a|2g\"\n"), @r#"
    error: a `|` in a value is followed by two hexadecimal digits
     --> web1.vmx:3:14
      |
    3 | uuid.bios = "a|2g"
      |              ^^^^
      |
      = help: |7C is the bar itself, |22 a quote
    "#);
}

#[test]
fn another_encoding() {
    assert_snapshot!(error(".encoding = \"windows-1252\"\ndisplayName = \"Büro\"\n"), @r#"
    error: this file says that it is written in windows-1252, and is read as UTF-8 alone
     --> web1.vmx:1:14
      |
    1 | .encoding = "windows-1252"
      |              ^^^^^^^^^^^^
      |
      = help: convert it, for instance with iconv, and write .encoding = "UTF-8"
    "#);
    // Plain ASCII is the same in each of them.
    let plain = ".encoding = \"Shift_JIS\"\ndisplayName = \"Buero\"\n";
    assert!(Format::Vmx.read(plain, "web1.vmx").is_ok());
}

#[test]
fn a_port_that_is_not_there() {
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
    error: port 2 of 0 is asked for twice; leave one of the two out, or give it another
     --> web1.vmx:7:15
      |
    7 | usb:1.port = "1"
      |               ^
    "#);
}

#[test]
fn a_file_that_is_too_long() {
    let text = "#".repeat((16 << 20) + 1);
    assert!(
        error(&text).starts_with(
            "error: this is 16777217 bytes long, and a VMX file is 16 MiB at the most"
        )
    );
}

/// Hubs in a circle end somewhere.
#[test]
fn hubs_behind_each_other() {
    let hub = |number: u8, parent: u8| {
        format!(
            "usb:{number}.present = TRUE\nusb:{number}.deviceType = hub\nusb:{number}.port = 0\nusb:{number}.parent = {parent}\n"
        )
    };
    let text = format!("usb.present = TRUE\n{}{}", hub(1, 2), hub(2, 1));
    let config = Format::Vmx.read(&text, "web1.vmx").unwrap();
    assert_eq!(config.warnings.len(), 2);
    assert!(config.warnings[0].to_string().contains("it is more than three hubs deep"));
}
