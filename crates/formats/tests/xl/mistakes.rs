//! Mistakes in a configuration, and how they are shown.

use insta::assert_snapshot;
use vusb_formats::{ConfigFormat as _, Xl};
use vusb_model::hardware::Hardware;
use vusb_model::resolve::resolve;

use crate::support::{capabilities, error, read};

/// The refusal of the resolver for a text, shown at its position.
fn refused(text: &str) -> String {
    let config = read(text);
    let refused = resolve(&Hardware::new(), &config.spec, &capabilities(&config)).unwrap_err();
    config.show(&refused, text, "web1.cfg").unwrap().to_string()
}

#[test]
fn a_wrong_model() {
    assert_snapshot!(error("name = 'web1'\nusbctrl = [ 'type=pv,version=3' ]\n"), @r#"
    error: a pv controller cannot have version 3: use 1 or 2
     --> web1.cfg:2:22
      |
    2 | usbctrl = [ 'type=pv,version=3' ]
      |                      ^^^^^^^^^
      |
      = help: xl says: USB version for paravirtualized devices must be 1 or 2
    "#);
    assert_snapshot!(error("usbctrl = [ 'type=ehci' ]\n"), @r#"
    error: `ehci` is not a controller type: use auto, pv, qusb or devicemodel
     --> web1.cfg:1:14
      |
    1 | usbctrl = [ 'type=ehci' ]
      |              ^^^^^^^^^
      |
      = help: xl says: Invalid usb controller type 'ehci'
    "#);
}

#[test]
fn too_many_ports() {
    assert_snapshot!(error("type = 'hvm'\nusbctrl = [ 'version=2,ports=8' ]\n"), @r#"
    error: this controller cannot have 8 ports: it has exactly 6
     --> web1.cfg:2:24
      |
    2 | usbctrl = [ 'version=2,ports=8' ]
      |                        ^^^^^^^
      |
      = help: xl says: Number of ports for USB controller of version 2 is always 6
    "#);
    for (text, message) in [
        ("usbctrl=['ports=32']", "1 to 31"),
        ("usbctrl=['ports=-1']", "1 to 31"),
        ("type='hvm'\nusbctrl=['version=1,ports=4']", "exactly 2"),
        ("type='hvm'\nusbctrl=['version=3,ports=16']", "1 to 15"),
    ] {
        assert!(error(text).contains(&format!("it has {message}")), "{}", error(text));
        assert!(error(text).contains("xl says: Number of ports for USB controller"), "{text}");
    }
}

#[test]
fn a_port_without_a_controller() {
    assert_snapshot!(error("usbctrl = [ '' ]\nusbdev = [ 'type=hostdev,hostbus=1,hostaddr=2,port=1' ]\n"), @r#"
    error: this port needs a controller
     --> web1.cfg:2:47
      |
    2 | usbdev = [ 'type=hostdev,hostbus=1,hostaddr=2,port=1' ]
      |                                               ^^^^^^
      |
      = help: add controller=0, or another controller's number; xl says: USB controller must be specified if you specify port
    "#);
}

#[test]
fn a_missing_port() {
    assert_snapshot!(refused("usbctrl = [ 'ports=4' ]\nusbdev = [\n    'type=hostdev,hostbus=1,hostaddr=2,controller=0,port=5',\n]\n"), @r#"
    error: there is no port 5 on pv0: it has ports 1 to 4
     --> web1.cfg:3:53
      |
    3 |     'type=hostdev,hostbus=1,hostaddr=2,controller=0,port=5',
      |                                                     ^^^^^^
    "#);
}

#[test]
fn two_devices_on_one_port() {
    let text = "usbctrl = [ '' ]\nusbdev = [ 'type=hostdev,hostbus=1,hostaddr=2',\n           'type=hostdev,hostbus=1,hostaddr=3,controller=0,port=1' ]\n";
    assert_snapshot!(refused(text), @r#"
    error: port 1 of pv0 is in use by host:001.002, which requests no port and got this one; use another port or remove that device first
     --> web1.cfg:3:60
      |
    3 |            'type=hostdev,hostbus=1,hostaddr=3,controller=0,port=1' ]
      |                                                            ^^^^^^
      |
      = help: xl says: The controller port isn't available
    "#);
}

#[test]
fn a_missing_controller() {
    assert_snapshot!(refused("usbdev = [ 'type=hostdev,hostbus=1,hostaddr=2,controller=3,port=1' ]\n"), @r#"
    error: there is no controller 3: the domain has no USB controller; add one first, or leave the controller out and one is added
     --> web1.cfg:1:47
      |
    1 | usbdev = [ 'type=hostdev,hostbus=1,hostaddr=2,controller=3,port=1' ]
      |                                               ^^^^^^^^^^^^
    "#);
}

#[test]
fn usb_and_usbversion_exclude_each_other() {
    assert_snapshot!(error("type = 'hvm'\nusbversion = 2\nusbdevice = 'tablet'\n"), @r#"
    error: `usbversion` and `spiceusbredirection` exclude `usb` and `usbdevice`
     --> web1.cfg:2:14
      |
    2 | usbversion = 2
      |              ^
    3 | usbdevice = 'tablet'
      |             -------- this requests the controller of `usb`
      |
      = help: keep one of the two and remove the other, even an empty list; controllers in usbctrl can be combined with both; xl says: usbversion and/or usbredirection cannot be enabled with usb and/or usbdevice parameters.
    "#);
    // An empty list counts, too.
    assert!(
        error("type='hvm'\nspice=1\nspiceusbredirection=1\nusbdevice=[]\n").contains("exclude")
    );
    assert!(error("type='hvm'\nusbversion=3\nusb=1\n").contains("exclude"));
}

#[test]
fn versions_and_counts() {
    assert!(error("type='hvm'\nusbversion=4\n").contains("must be between 1 and 3"));
    assert!(error("type='hvm'\nusbctrl=['version=4']\n").contains("Illegal USB version"));
    let five = error("type='hvm'\nspice=1\nspiceusbredirection=5\n");
    assert!(five.contains("it must be between 1 and 4"), "{five}");
}

#[test]
fn a_missing_device() {
    assert_snapshot!(error("usbdev = [ 'type=hostdev,hostbus=001,hostaddr=009' ]\n"), @r#"
    error: there is no device at bus 1, address 0
     --> web1.cfg:1:26
      |
    1 | usbdev = [ 'type=hostdev,hostbus=001,hostaddr=009' ]
      |                          ^^^^^^^^^^^^^^^^^^^^^^^^ xl reads `009` as 0 because a leading zero makes it octal
      |
      = help: hostbus is 1 to 255 and hostaddr is 1 to 127, both in decimal without leading zeros, as `lsusb` prints them; xl says: USB device is not assignable.
    "#);
    assert!(
        error("usbdev = [ 'type=hostdev' ]\n").contains("there is no device at bus 0, address 0")
    );
    assert!(
        error("usbdev = [ 'hostbus=1,hostaddr=200' ]\n")
            .contains("there is no device at bus 1, address 200")
    );
}

#[test]
fn an_unknown_key_in_an_entry() {
    assert_snapshot!(error("usbdev = [ 'type=hostdev, bus=1' ]\n"), @r#"
    error: `bus=1` is not valid in an entry of usbdev: it takes type, hostbus, hostaddr, controller and port, each with an `=`
     --> web1.cfg:1:27
      |
    1 | usbdev = [ 'type=hostdev, bus=1' ]
      |                           ^^^^^
      |
      = help: spaces are significant except after a comma; xl says: Unknown string `bus=1' in usbdev spec
    "#);
    assert!(error("usbctrl = [ 'version' ]").contains("Unknown string `version' in usbctrl spec"));
    assert!(error("usbctrl = [ 'version=2, ' ]").contains("Unknown string `' in usbctrl spec"));
    assert!(error("usbdev = [ 'type=storage' ]").contains("Invalid usb device type: storage"));
}

#[test]
fn an_unknown_type_of_guest() {
    assert_snapshot!(error("type = 'linux'\n"), @r#"
    error: `linux` is not a guest type: use hvm, pv or pvh
     --> web1.cfg:1:8
      |
    1 | type = 'linux'
      |        ^^^^^^^
      |
      = help: xl says: Invalid domain type linux.
    "#);
    assert!(error("type='pv'\nbuilder='hvm'\n").contains("Contradicting"));
}

#[test]
fn syntax_errors() {
    assert_snapshot!(error("name = \"web1\nvcpus = 2\n"), @r#"
    error: this string has no closing quote
     --> web1.cfg:1:8
      |
    1 | name = "web1
      |        ^^^^^
      |
      = help: a string ends on its line, with the quote that it starts with; xl says: lexical error
    "#);
    assert_snapshot!(error("usbctrl = [ 'a' 'b' ]\n"), @r#"
    error: there is no comma between two entries of a list
     --> web1.cfg:1:17
      |
    1 | usbctrl = [ 'a' 'b' ]
      |           -     ^^^
      |           |
      |           the list starts here
      |
      = help: xl says: syntax error, expecting ']'
    "#);
    for (text, message) in [
        ("a = 1\r\nb = 2\r\n", "carriage return"),
        ("Name = 'x'", "lower case"),
        ("a = -1", "put the value in quotes"),
        ("a = 1 # no newline", "the comment at the end of the file has no newline after it"),
        ("a = [ 1", "not closed"),
        ("a\n= 1", "has no `=` after it on its line"),
        ("a =\n1", "a value is a string in quotes"),
        ("a = 1 b = 2", "more than one assignment on this line"),
        ("= 1", "starts with a key"),
        ("a = '\\q'", "not an escape that xl knows"),
        ("a = '\\x41'", "misreads numbers"),
        ("a = 'x'\na += [ 1 ]", "is a list in one place and a string in the other"),
        ("\u{feff}a = 1", "byte order mark"),
        ("a = 'x\0'", "no closing quote"),
    ] {
        assert!(error(text).contains(message), "{}", error(text));
    }
}

/// Nesting and size are limited.
#[test]
fn nesting_and_size_are_limited() {
    for text in [
        "a = ".to_owned() + &"[".repeat(1_000_000),
        format!("a = {}1{}", "[".repeat(33), "]".repeat(33)),
    ] {
        assert!(error(&text).contains("more than 32 levels deep"));
    }
    assert!(error(&" ".repeat((2 << 20) + 1)).contains("larger than 2 MiB"));
    let long = format!("usbdev = [ '{}' ]", "x".repeat(1_000_000));
    assert!(error(&long).len() < 2000);
    assert!(Xl.read(&format!("a = [ {} ]", "1,".repeat(1_000_000)), "x").is_ok());
}
