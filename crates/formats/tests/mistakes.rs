//! Common mistakes in a spec, and the complete error for each.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use insta::assert_snapshot;
use vusb_formats::MAX_BYTES;
use vusb_formats::spec::read;

fn error(text: &str) -> String {
    read(text, "web1.toml").unwrap_err().to_string()
}

#[test]
fn an_unknown_model_lists_the_models() {
    let text = r#"[[controller]]
model = "piix3-usb-uhci"
"#;
    assert_snapshot!(error(text), @r#"
        error: `piix3-usb-uhci` is not a controller model: the models are piix3-uhci, piix4-uhci, vt82c686b-uhci, pci-ohci, ehci, ich9-ehci1, ich9-uhci1, ich9-uhci2, ich9-uhci3, nec-xhci, qemu-xhci, xenusb1, xenusb2, xenusb3
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
        error: `usbversion` must be 1 or 2 or 3
         --> web1.toml:3:14
          |
        3 | usbversion = 4
          |              ^
    "#);
}

#[test]
fn too_many_ports() {
    let text = r#"[[controller]]
ports = 32
"#;
    assert_snapshot!(error(text), @r#"
        error: `ports` must be a number from 1 to 31
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
        error: `256` is not a port: a port is one to four decimal numbers separated by dots, each 1 to 255, such as 2 or 1.4.3
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
        error: `prot` is not a key of a device of kind host
         --> web1.toml:3:1
          |
        3 | prot = "1"
          | ^^^^
          |
          = help: its keys are host, also, required, controller, port, name
    "#);
}

#[test]
fn a_misspelt_table_is_an_error() {
    let text = r#"[[controllers]]
usbversion = 3
"#;
    assert_snapshot!(error(text), @r#"
        error: `controllers` is not a key of a spec
         --> web1.toml:1:3
          |
        1 | [[controllers]]
          |   ^^^^^^^^^^^
          |
          = help: its keys are profile, domain, driver, controller, device
    "#);
}

#[test]
fn a_storage_device_needs_a_file() {
    let text = r#"[[device]]
kind = "storage"
readonly = true
"#;
    assert_snapshot!(error(text), @r#"
        error: a device of kind storage needs a `file`
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
        error: `781:5581` does not identify a host device: write 0781:5581 (vendor and product)
         --> web1.toml:2:8
          |
        2 | host = "781:5581"   # the zero is missing
          |        ^^^^^^^^^^
    "#);
}

#[test]
fn a_device_is_defined_twice() {
    let text = r#"[[device]]
host = "0781:5581"
controller = "hci0"
kind = "storage"
file = "stick.img"
"#;
    assert_snapshot!(error(text), @r#"
        error: this device is defined twice
         --> web1.toml:4:1
          |
        2 | host = "0781:5581"
          | ---- the first time
        3 | controller = "hci0"
        4 | kind = "storage"
          | ^^^^ the second time
          |
          = help: remove one of the two; two devices are two [[device]] tables
    "#);
}

#[test]
fn a_device_is_not_defined() {
    let text = r#"[[device]]
name = "stick"
file = "stick.img"
"#;
    assert_snapshot!(error(text), @r#"
        error: this device does not define what it is
         --> web1.toml:1:1
          |
        1 | [[device]]
          | ^^^^^^^^^^
          |
          = help: add host = "0781:5581" for a device of this machine, kind = "storage" (for example) for an emulated device, or the short form device = "storage:stick.img"
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
fn the_short_form_excludes_other_keys() {
    let text = r#"[[device]]
device = "storage:stick.img"
readonly = true
"#;
    assert_snapshot!(error(text), @r#"
        error: `readonly` cannot be combined with `device`, which defines everything
         --> web1.toml:3:1
          |
        3 | readonly = true
          | ^^^^^^^^
          |
          = help: use `kind` and its keys instead of `device`
    "#);
}

#[test]
fn a_port_behind_a_hub_is_in_quotes() {
    let text = r#"[[device]]
kind = "tablet"
port = 1.2
"#;
    assert_snapshot!(error(text), @r#"
        error: `port` must be a string in quotes for a port behind a hub
         --> web1.toml:3:8
          |
        3 | port = 1.2
          |        ^^^ this is a number with a fraction
          |
          = help: write port = "1.2"
    "#);
}

#[test]
fn a_list_needs_double_brackets() {
    let text = r#"[controller]
usbversion = 3
"#;
    assert_snapshot!(error(text), @r#"
        error: `controller` must be a list: write [[controller]]
         --> web1.toml:1:1
          |
        1 | [controller]
          | ^^^^^^^^^^^^ this is a table
    "#);
}

/// The ports that a companion can have are those of an EHCI.
#[test]
fn a_companion_has_two_of_six_ports() {
    let text = |port: &str| {
        format!(
            "[[controller]]\nmodel = \"ich9-ehci1\"\n\
             companions = [{{ model = \"ich9-uhci1\", first_port = {port} }}]\n"
        )
    };
    for port in ["-1", "256"] {
        let error = error(&text(port));
        assert!(error.contains("must be a number from 0 to 4: an EHCI has 6 ports"), "{error}");
    }
    let error = error(&text("'2'"));
    assert!(error.contains("a number without quotes"), "{error}");
}

#[test]
fn a_number_has_no_quotes() {
    let text = r#"[[controller]]
usbversion = "3"
"#;
    assert_snapshot!(error(text), @r#"
        error: `usbversion` must be a number without quotes
         --> web1.toml:2:14
          |
        2 | usbversion = "3"
          |              ^^^ this is a string
    "#);
}

#[test]
fn invalid_toml() {
    let text = r#"domain = "web1"
[[device]
kind = "tablet"
"#;
    assert_snapshot!(error(text), @r#"
        error: this is not TOML: unclosed array table, expected `]`
         --> web1.toml:2:10
          |
        2 | [[device]
          |          ^
    "#);
}

#[test]
fn usb2ports_and_usb3ports_go_together() {
    let text = r#"[[controller]]
model = "nec-xhci"
usb2ports = 4
"#;
    assert_snapshot!(error(text), @r#"
        error: `usb2ports` and `usb3ports` go together
         --> web1.toml:3:1
          |
        3 | usb2ports = 4
          | ^^^^^^^^^
          |
          = help: give both, or give `ports`: each of these takes USB 2 and USB 3
    "#);
}

#[test]
fn an_unknown_kind_lists_the_kinds() {
    let text = r#"[[device]]
kind = "stick"
"#;
    assert_snapshot!(error(text), @r#"
        error: `stick` is not a kind of device
         --> web1.toml:2:8
          |
        2 | kind = "stick"
          |        ^^^^^^^
          |
          = help: the kinds are host, storage, tablet, mouse, keyboard, hub, serial, audio, net, mtp, ccid, redir
    "#);
}

#[test]
fn a_mouse_is_not_a_usb_3_device() {
    let text = r#"[[device]]
kind = "mouse"
usbversion = 3
"#;
    assert_snapshot!(error(text), @r#"
        error: `usbversion` must be 1 or 2
         --> web1.toml:3:14
          |
        3 | usbversion = 3
          |              ^
    "#);
}

#[test]
fn an_error_has_a_position() {
    let error =
        read("domain = \"web1\"\n[[device]]\nkind = \"täblet\"\n", "web1.toml").unwrap_err();
    assert_eq!((error.line(), error.column()), (3, 8));
    let error = read("domain = \"ä\" x = 1", "web1.toml").unwrap_err();
    assert_eq!((error.line(), error.column()), (1, 14), "{error}");
}

#[test]
fn a_text_that_is_too_long() {
    let text = format!("#{}", "\n#".repeat(MAX_BYTES / 2));
    assert_snapshot!(error(&text), @r"
    error: this is larger than 2 MiB, the limit for a spec
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

/// Each of these would take half a gigabyte or more.
#[test]
fn a_text_with_too_many_tables() {
    for part in ["a.b.c=1\n", "[a]\nb=1\n", "  [[device]]\n", "x={a={b=1}}\n", "x.y.z.a.b.c.d=1\n"]
    {
        let error = error(&part.repeat(MAX_BYTES / part.len()));
        assert!(error.contains("more than 100000 tables"), "{part:?}: {error}");
    }
    // Four thousand full controllers are read.
    let device = "[[device]]\nfile='a.b.img'\n";
    let error = error(&device.repeat(4096 * 16));
    assert!(!error.contains("tables"), "{error}");
}

/// A line of a megabyte is cut to the part around the error, and control characters are made
/// harmless.
#[test]
fn errors_are_short_and_safe_to_print() {
    let text = format!("domain = \"\\u001b[2J{}\"", "x".repeat(1 << 20));
    let error = error(&text);
    assert!(error.len() < 2000, "{}", error.len());
    assert!(!error.contains('\u{1b}'), "{error}");
}

/// Nesting is limited by the parser, not by the stack.
#[test]
fn deep_nesting_is_rejected() {
    for text in ["[".repeat(100_000), format!("a = {}", "[".repeat(100_000)), "a.".repeat(100_000)]
    {
        assert!(read(&text, "web1.toml").is_err());
    }
}
