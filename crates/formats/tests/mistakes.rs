//! The mistakes that people make in a spec, and what each is answered with: the whole of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use insta::assert_snapshot;
use vusb_formats::spec::{MAX_BYTES, read};

fn error(text: &str) -> String {
    read(text, "web1.toml").unwrap_err().to_string()
}

#[test]
fn an_unknown_model_is_answered_with_the_models() {
    let text = r#"[[controller]]
model = "piix3-usb-uhci"
"#;
    assert_snapshot!(error(text), @r#"
        error: `piix3-usb-uhci` is no controller model: the models are piix3-uhci, piix4-uhci, vt82c686b-uhci, pci-ohci, ehci, ich9-ehci1, ich9-uhci1, ich9-uhci2, ich9-uhci3, nec-xhci, qemu-xhci, xenusb1, xenusb2, xenusb3; `vusb models` says what each is
         --> web1.toml:2:9
          |
        2 | model = "piix3-usb-uhci"
          |         ^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn there_are_three_usb_versions() {
    let text = r#"[[controller]]
name = "fast"
usbversion = 4
"#;
    assert_snapshot!(error(text), @r#"
        error: `usbversion` is 1 or 2 or 3
         --> web1.toml:3:14
          |
        3 | usbversion = 4
          |              ^
    "#);
}

#[test]
fn no_model_has_so_many_ports() {
    let text = r#"[[controller]]
ports = 32
"#;
    assert_snapshot!(error(text), @r#"
        error: `ports` is a number from 1 to 31
         --> web1.toml:2:9
          |
        2 | ports = 32
          |         ^^
    "#);
}

#[test]
fn a_port_is_out_of_range() {
    let text = r#"[[device]]
kind = "tablet"
port = 256
"#;
    assert_snapshot!(error(text), @r#"
        error: `256` is no port: a port is one to four decimal numbers with dots between them, each 1 to 255, such as 2 or 1.4.3
         --> web1.toml:3:8
          |
        3 | port = 256
          |        ^^^
    "#);
}

#[test]
fn a_misspelt_key_is_an_error() {
    let text = r#"[[device]]
host = "0781:5581"
prot = "1"
"#;
    assert_snapshot!(error(text), @r#"
        error: `prot` is no key of a device of kind host
         --> web1.toml:3:1
          |
        3 | prot = "1"
          | ^^^^
          |
          = help: its keys are host, controller, port, name
    "#);
}

#[test]
fn a_misspelt_table_is_an_error() {
    let text = r#"[[controllers]]
usbversion = 3
"#;
    assert_snapshot!(error(text), @r#"
        error: `controllers` is no key of a spec
         --> web1.toml:1:3
          |
        1 | [[controllers]]
          |   ^^^^^^^^^^^
          |
          = help: its keys are profile, domain, driver, controller, device
    "#);
}

#[test]
fn a_storage_device_has_a_file() {
    let text = r#"[[device]]
kind = "storage"
readonly = true
"#;
    assert_snapshot!(error(text), @r#"
        error: a device of kind storage has a `file`, and this one has none
         --> web1.toml:2:8
          |
        2 | kind = "storage"
          |        ^^^^^^^^^
          |
          = help: add file = "stick.img"
    "#);
}

#[test]
fn a_selector_is_strict() {
    let text = r#"[[device]]
host = "781:5581"   # the zero is missing
"#;
    assert_snapshot!(error(text), @r#"
        error: `781:5581` names no host device: write vendor and product (0781:5581, with :SERIAL if two are alike), bus and port (1-4.2), bus and address in decimal (003.014) or a path (pci-0000:00:14.0-usb-0:4.2); `vusb host list` shows all of them
         --> web1.toml:2:8
          |
        2 | host = "781:5581"   # the zero is missing
          |        ^^^^^^^^^^
    "#);
}

#[test]
fn a_device_is_one_thing() {
    let text = r#"[[device]]
host = "0781:5581"
controller = "hci0"
kind = "storage"
file = "stick.img"
"#;
    assert_snapshot!(error(text), @r#"
        error: this device says twice what it is
         --> web1.toml:4:1
          |
        2 | host = "0781:5581"
          | ---- here
        3 | controller = "hci0"
        4 | kind = "storage"
          | ^^^^ and here again
          |
          = help: take one of the two out; two devices are two [[device]] tables
    "#);
}

#[test]
fn a_device_is_something() {
    let text = r#"[[device]]
name = "stick"
file = "stick.img"
"#;
    assert_snapshot!(error(text), @r#"
        error: this device does not say what it is
         --> web1.toml:1:1
          |
        1 | [[device]]
          | ^^^^^^^^^^
          |
          = help: say what it is: host = "0781:5581" for a device of this machine, kind = "storage" and the like for one that is made up, or device = "storage:stick.img" as on the command line
    "#);
}

#[test]
fn a_key_belongs_to_its_kind() {
    let text = r#"[[device]]
kind = "mouse"
file = "stick.img"
"#;
    assert_snapshot!(error(text), @r#"
        error: `file` is a key of kind storage, and this device is of kind mouse
         --> web1.toml:3:1
          |
        3 | file = "stick.img"
          | ^^^^
          |
          = help: the keys of kind mouse are usbversion, controller, port, name
    "#);
}

#[test]
fn the_short_form_says_all_of_it() {
    let text = r#"[[device]]
device = "storage:stick.img"
readonly = true
"#;
    assert_snapshot!(error(text), @r#"
        error: `readonly` cannot be said next to `device`, which says all of it
         --> web1.toml:3:1
          |
        3 | readonly = true
          | ^^^^^^^^
          |
          = help: write `kind` and its keys in place of `device`
    "#);
}

#[test]
fn a_port_behind_a_hub_is_in_quotes() {
    let text = r#"[[device]]
kind = "tablet"
port = 1.2
"#;
    assert_snapshot!(error(text), @r#"
        error: `port` is a text in quotes when it goes through a hub
         --> web1.toml:3:8
          |
        3 | port = 1.2
          |        ^^^ this is a number with a fraction
          |
          = help: write port = "1.2"
    "#);
}

#[test]
fn lists_have_two_brackets() {
    let text = r#"[controller]
usbversion = 3
"#;
    assert_snapshot!(error(text), @r#"
        error: `controller` is a list: write [[controller]]
         --> web1.toml:1:1
          |
        1 | [controller]
          | ^^^^^^^^^^^^ this is a table
    "#);
}

#[test]
fn a_number_has_no_quotes() {
    let text = r#"[[controller]]
usbversion = "3"
"#;
    assert_snapshot!(error(text), @r#"
        error: `usbversion` is a number without quotes
         --> web1.toml:2:14
          |
        2 | usbversion = "3"
          |              ^^^ this is a text
    "#);
}

#[test]
fn what_is_no_toml() {
    let text = r#"domain = "web1"
[[device]
kind = "tablet"
"#;
    assert_snapshot!(error(text), @r#"
        error: this is no TOML: unclosed array table, expected `]`
         --> web1.toml:2:10
          |
        2 | [[device]
          |          ^
    "#);
}

#[test]
fn halves_come_in_pairs() {
    let text = r#"[[controller]]
model = "nec-xhci"
usb2ports = 4
"#;
    assert_snapshot!(error(text), @r#"
        error: `usb2ports` and `usb3ports` are said together
         --> web1.toml:3:1
          |
        3 | usb2ports = 4
          | ^^^^^^^^^
          |
          = help: write both, or `ports` for ports that have both halves
    "#);
}

#[test]
fn an_unknown_kind_is_answered_with_the_kinds() {
    let text = r#"[[device]]
kind = "stick"
"#;
    assert_snapshot!(error(text), @r#"
        error: `stick` is no kind of device
         --> web1.toml:2:8
          |
        2 | kind = "stick"
          |        ^^^^^^^
          |
          = help: the kinds are host, storage, tablet, mouse, keyboard, hub, serial, audio, net, mtp, ccid, redir
    "#);
}

#[test]
fn no_usb_3_mouse() {
    let text = r#"[[device]]
kind = "mouse"
usbversion = 3
"#;
    assert_snapshot!(error(text), @r#"
        error: `usbversion` is 1 or 2
         --> web1.toml:3:14
          |
        3 | usbversion = 3
          |              ^
    "#);
}

#[test]
fn an_error_says_where_it_is() {
    let error =
        read("domain = \"web1\"\n[[device]]\nkind = \"täblet\"\n", "web1.toml").unwrap_err();
    assert_eq!((error.line(), error.column()), (3, 8));
    let error = read("domain = \"ä\" x = 1", "web1.toml").unwrap_err();
    assert_eq!((error.line(), error.column()), (1, 14), "{error}");
}

#[test]
fn a_text_that_is_too_long_is_not_read() {
    let text = format!("#{}", "\n#".repeat(MAX_BYTES / 2));
    assert_snapshot!(error(&text), @r"
    error: this is 16777217 bytes long, and a spec is 16 MiB at the most
     --> web1.toml:1:1
      |
    1 | #
      | ^
      |
      = help: is it a spec?
    ");
    let text = format!("#{}", " ".repeat(MAX_BYTES - 1));
    assert!(read(&text, "web1.toml").is_ok());
}

/// A line of a megabyte is cut to what is around the place, and what a terminal would obey is made harmless.
#[test]
fn errors_are_short_and_safe_to_print() {
    let text = format!("domain = \"\\u001b[2J{}\"", "x".repeat(1 << 20));
    let error = error(&text);
    assert!(error.len() < 2000, "{}", error.len());
    assert!(!error.contains('\u{1b}'), "{error}");
}

/// Nesting is bounded by the parser, not by the stack.
#[test]
fn deep_nesting_is_refused() {
    for text in ["[".repeat(100_000), format!("a = {}", "[".repeat(100_000)), "a.".repeat(100_000)]
    {
        assert!(read(&text, "web1.toml").is_err());
    }
}
