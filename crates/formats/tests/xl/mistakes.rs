//! What is wrong with a configuration, and how that is shown.

use insta::assert_snapshot;
use vusb_formats::Format;
use vusb_model::hardware::Hardware;
use vusb_model::resolve::resolve;

use crate::support::{capabilities, error, read};

/// What resolving a text refuses, shown in it.
fn refused(text: &str) -> String {
    let config = read(text);
    let refused = resolve(&Hardware::new(), &config.spec, &capabilities(&config)).unwrap_err();
    config.show(&refused, text, "web1.cfg").unwrap().to_string()
}

#[test]
fn a_wrong_model() {
    assert_snapshot!(error("name = 'web1'\nusbctrl = [ 'type=pv,version=3' ]\n"), @r#"
    error: a pv controller cannot have version 3: it is 1 or 2
     --> web1.cfg:2:22
      |
    2 | usbctrl = [ 'type=pv,version=3' ]
      |                      ^^^^^^^^^
      |
      = help: xl says: USB version for paravirtualized devices must be 1 or 2
    "#);
    assert_snapshot!(error("usbctrl = [ 'type=ehci' ]\n"), @r#"
    error: `ehci` is no type of a controller: it is auto, pv, qusb or devicemodel
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
    for (text, says) in [
        ("usbctrl=['ports=32']", "1 to 31"),
        ("usbctrl=['ports=-1']", "1 to 31"),
        ("type='hvm'\nusbctrl=['version=1,ports=4']", "exactly 2"),
        ("type='hvm'\nusbctrl=['version=3,ports=16']", "1 to 15"),
    ] {
        assert!(error(text).contains(&format!("it has {says}")), "{}", error(text));
        assert!(error(text).contains("xl says: Number of ports for USB controller"), "{text}");
    }
}

#[test]
fn a_port_of_no_controller() {
    assert_snapshot!(error("usbctrl = [ '' ]\nusbdev = [ 'type=hostdev,hostbus=1,hostaddr=2,port=1' ]\n"), @r#"
    error: this port is of no controller
     --> web1.cfg:2:47
      |
    2 | usbdev = [ 'type=hostdev,hostbus=1,hostaddr=2,port=1' ]
      |                                               ^^^^^^
      |
      = help: add controller=0, or the number of another; xl says: USB controller must be specified if you specify port
    "#);
}

#[test]
fn a_port_that_is_not_there() {
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
    error: port 1 of pv0 is in use by host:001.002, which leaves its port open and came to this one; take another port or remove that first
     --> web1.cfg:3:60
      |
    3 |            'type=hostdev,hostbus=1,hostaddr=3,controller=0,port=1' ]
      |                                                            ^^^^^^
      |
      = help: xl says: The controller port isn't available
    "#);
}

#[test]
fn a_controller_that_is_not_there() {
    assert_snapshot!(refused("usbdev = [ 'type=hostdev,hostbus=1,hostaddr=2,controller=3,port=1' ]\n"), @r#"
    error: there is no controller 3: the domain has no USB controller; add one first, or leave the controller out and one is added
     --> web1.cfg:1:47
      |
    1 | usbdev = [ 'type=hostdev,hostbus=1,hostaddr=2,controller=3,port=1' ]
      |                                               ^^^^^^^^^^^^
    "#);
}

#[test]
fn two_families_at_once() {
    assert_snapshot!(error("type = 'hvm'\nusbversion = 2\nusbdevice = 'tablet'\n"), @r#"
    error: `usbversion` and `spiceusbredirection` exclude `usb` and `usbdevice`
     --> web1.cfg:2:14
      |
    2 | usbversion = 2
      |              ^
    3 | usbdevice = 'tablet'
      |             -------- QEMU's own controller is asked for here
      |
      = help: keep one of the two, and take the other out, an empty list too; a controller of usbctrl goes with both; xl says: usbversion and/or usbredirection cannot be enabled with usb and/or usbdevice parameters.
    "#);
    // An empty list is one, too.
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
fn no_such_device() {
    assert_snapshot!(error("usbdev = [ 'type=hostdev,hostbus=001,hostaddr=009' ]\n"), @r#"
    error: no device is at bus 1, address 0
     --> web1.cfg:1:26
      |
    1 | usbdev = [ 'type=hostdev,hostbus=001,hostaddr=009' ]
      |                          ^^^^^^^^^^^^^^^^^^^^^^^^ xl reads `009` as 0, for a zero in front makes it octal
      |
      = help: hostbus is 1 to 255 and hostaddr 1 to 127, both in decimal without zeros in front, as `lsusb` numbers them; xl says: USB device is not assignable.
    "#);
    assert!(error("usbdev = [ 'type=hostdev' ]\n").contains("no device is at bus 0, address 0"));
    assert!(
        error("usbdev = [ 'hostbus=1,hostaddr=200' ]\n")
            .contains("no device is at bus 1, address 200")
    );
}

#[test]
fn an_unknown_part_of_an_entry() {
    assert_snapshot!(error("usbdev = [ 'type=hostdev, bus=1' ]\n"), @r#"
    error: `bus=1` is nothing that an entry of usbdev has: it has type, hostbus, hostaddr, controller and port, each with an `=`
     --> web1.cfg:1:27
      |
    1 | usbdev = [ 'type=hostdev, bus=1' ]
      |                           ^^^^^
      |
      = help: spaces count, but for those after a comma; xl says: Unknown string `bus=1' in usbdev spec
    "#);
    assert!(error("usbctrl = [ 'version' ]").contains("Unknown string `version' in usbctrl spec"));
    assert!(error("usbctrl = [ 'version=2, ' ]").contains("Unknown string `' in usbctrl spec"));
    assert!(error("usbdev = [ 'type=storage' ]").contains("Invalid usb device type: storage"));
}

#[test]
fn a_type_of_guest_that_there_is_not() {
    assert_snapshot!(error("type = 'linux'\n"), @r#"
    error: `linux` is no type of a guest: it is hvm, pv or pvh
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
fn what_xl_does_not_read() {
    assert_snapshot!(error("name = \"web1\nvcpus = 2\n"), @r#"
    error: this text has no quote at its end
     --> web1.cfg:1:8
      |
    1 | name = "web1
      |        ^^^^^
      |
      = help: a text ends on its line, with the quote that it starts with; xl says: lexical error
    "#);
    assert_snapshot!(error("usbctrl = [ 'a' 'b' ]\n"), @r#"
    error: between two entries of a list is a comma
     --> web1.cfg:1:17
      |
    1 | usbctrl = [ 'a' 'b' ]
      |           -     ^^^
      |           |
      |           the list starts here
      |
      = help: xl says: syntax error, expecting ']'
    "#);
    for (text, says) in [
        ("a = 1\r\nb = 2\r\n", "carriage return"),
        ("Name = 'x'", "small letters"),
        ("a = -1", "put the value in quotes"),
        ("a = 1 # no newline", "a comment at the very end has no newline after it"),
        ("a = [ 1", "not closed"),
        ("a\n= 1", "has no `=` after it on its line"),
        ("a =\n1", "a value is a text in quotes"),
        ("a = 1 b = 2", "more on this line"),
        ("= 1", "starts with a key"),
        ("a = '\\q'", "nothing that xl reads in a text"),
        ("a = '\\x41'", "numbers wrongly"),
        ("a = 'x'\na += [ 1 ]", "is a list in one place and none in the other"),
        ("\u{feff}a = 1", "byte order mark"),
        ("a = 'x\0'", "no quote at its end"),
    ] {
        assert!(error(text).contains(says), "{}", error(text));
    }
}

/// Depth and size are bounded.
#[test]
fn bounds() {
    for text in [
        "a = ".to_owned() + &"[".repeat(1_000_000),
        format!("a = {}1{}", "[".repeat(33), "]".repeat(33)),
    ] {
        assert!(error(&text).contains("more than 32 deep"));
    }
    assert!(error(&" ".repeat((16 << 20) + 1)).contains("larger than 16 MiB"));
    let long = format!("usbdev = [ '{}' ]", "x".repeat(1_000_000));
    assert!(error(&long).len() < 2000);
    assert!(Format::Xl.read(&format!("a = [ {} ]", "1,".repeat(1_000_000)), "x").is_ok());
}
