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
    assert_snapshot!(error("name = 'web1'\nusbctrl = [ 'type=pv,version=3' ]\n"), @"");
    assert_snapshot!(error("usbctrl = [ 'type=ehci' ]\n"), @"");
}

#[test]
fn too_many_ports() {
    assert_snapshot!(error("type = 'hvm'\nusbctrl = [ 'version=2,ports=8' ]\n"), @"");
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
    assert_snapshot!(error("usbctrl = [ '' ]\nusbdev = [ 'type=hostdev,hostbus=1,hostaddr=2,port=1' ]\n"), @"");
}

#[test]
fn a_port_that_is_not_there() {
    assert_snapshot!(refused("usbctrl = [ 'ports=4' ]\nusbdev = [\n    'type=hostdev,hostbus=1,hostaddr=2,controller=0,port=5',\n]\n"), @"");
}

#[test]
fn two_devices_on_one_port() {
    let text = "usbctrl = [ '' ]\nusbdev = [ 'type=hostdev,hostbus=1,hostaddr=2',\n           'type=hostdev,hostbus=1,hostaddr=3,controller=0,port=1' ]\n";
    assert_snapshot!(refused(text), @"");
}

#[test]
fn a_controller_that_is_not_there() {
    assert_snapshot!(refused("usbdev = [ 'type=hostdev,hostbus=1,hostaddr=2,controller=3,port=1' ]\n"), @"");
}

#[test]
fn two_families_at_once() {
    assert_snapshot!(error("type = 'hvm'\nusbversion = 2\nusbdevice = 'tablet'\n"), @"");
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
    assert_snapshot!(error("usbdev = [ 'type=hostdev,hostbus=001,hostaddr=009' ]\n"), @"");
    assert!(error("usbdev = [ 'type=hostdev' ]\n").contains("no device is at bus 0, address 0"));
    assert!(
        error("usbdev = [ 'hostbus=1,hostaddr=200' ]\n")
            .contains("no device is at bus 1, address 200")
    );
}

#[test]
fn an_unknown_part_of_an_entry() {
    assert_snapshot!(error("usbdev = [ 'type=hostdev, bus=1' ]\n"), @"");
    assert!(error("usbctrl = [ 'version' ]").contains("Unknown string `version' in usbctrl spec"));
    assert!(error("usbctrl = [ 'version=2, ' ]").contains("Unknown string `' in usbctrl spec"));
    assert!(error("usbdev = [ 'type=storage' ]").contains("Invalid usb device type: storage"));
}

#[test]
fn a_type_of_guest_that_there_is_not() {
    assert_snapshot!(error("type = 'linux'\n"), @"");
    assert!(error("type='pv'\nbuilder='hvm'\n").contains("Contradicting"));
}

#[test]
fn what_xl_does_not_read() {
    assert_snapshot!(error("name = \"web1\nvcpus = 2\n"), @"");
    assert_snapshot!(error("usbctrl = [ 'a' 'b' ]\n"), @"");
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
