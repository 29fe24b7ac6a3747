//! A guest that does not run, by its file: listed, and edited in place.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use insta::assert_snapshot;

use crate::environment::Environment;

const WEB1: &str = "\
# The web server.
domain = \"web1\"

# At the front.
[[device]]        # the stick
host = \"0781:5581\"
";

#[test]
fn a_spec_is_edited_and_all_else_in_it_stays() {
    let env = Environment::new();
    env.write("web1.toml", WEB1);
    env.run("device add web1.toml mouse").prints("hci0:2");
    assert_snapshot!(env.read("web1.toml"), @r#"
    # The web server.
    domain = "web1"

    # At the front.
    [[device]]        # the stick
    host = "0781:5581"

    [[device]]
    kind = "mouse"
    controller = 0
    port = "2"
    name = "mouse0"

    [[controller]]
    index = 0
    name = "hci0"
    model = "qemu-xhci"
    ports = 15
    "#);
    assert_snapshot!(env.run("list web1.toml").snapshot(), @"
    web1 (web1.toml)
    PLACE  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  qemu-xhci  2/15  present
      1  host0  host  0781:5581  absent
      2  mouse0  mouse  configured
    ");
    env.run("device remove web1.toml mouse0").prints("");
    env.run("controller remove web1.toml hci0").fails(4);
    assert!(env.read("web1.toml").starts_with(WEB1));
}

#[test]
fn what_is_asked_for_again_is_already_so_and_the_file_stays() {
    let env = Environment::new();
    let path = env.write("web1.toml", WEB1);
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    env.run("device add web1.toml 0781:5581").prints("hci0:1").says("already");
    env.run("device add web1.toml tablet --dry-run").prints("plug tablet0 (tablet) into 0:2");
    assert_eq!(env.read("web1.toml"), WEB1);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
}

#[test]
fn an_edit_keeps_links_and_modes_and_fails_as_a_whole() {
    let env = Environment::new();
    let path = env.write("real.toml", WEB1);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real.toml", env.path("web1.toml")).unwrap();
    env.run("device add web1.toml mouse").prints("hci0:2");
    assert!(fs::symlink_metadata(env.path("web1.toml")).unwrap().is_symlink());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
    let before = env.read("real.toml");
    env.run("device add web1.toml mouse --port 2").fails(4).says("port 2 of hci0 is in use");
    env.run("device add web1.toml tablet --port 16").fails(3).says("has ports 1 to 15");
    assert_eq!(env.read("real.toml"), before);
}

#[test]
fn a_mistake_in_a_file_is_shown_where_it_is() {
    let env = Environment::new();
    env.write("web1.toml", "[[controller]]\nmodel = \"piix3-uhci\"\n\n[[device]]\nkind = \"mouse\"\ncontroller = 0\nport = \"3\"\n");
    assert_snapshot!(env.run("list web1.toml").snapshot(), @r#"
    ---- stderr
    error: there is no port 3 on hci0: it has ports 1 to 2
     --> web1.toml:7:8
      |
    7 | port = "3"
      |  ^^^
    ---- exit 3
    "#);
    env.run("plan web1.toml").fails(3).says("web1.toml:7:8");
}

/// QEMU's own controller has two ports: the second device is behind a hub, which no line of the file says.
const WEB2: &str = "\
type = \"hvm\"
usb = 1
usbdevice = [ 'tablet', 'host:0781:5581' ]
";

#[test]
fn a_hub_that_xl_adds_by_itself_goes_with_what_is_behind_it() {
    let env = Environment::new();
    env.write("web2.cfg", WEB2);
    assert!(env.run("device list web2.cfg").stdout.contains("hci0:2.1"));
    env.run("device remove web2.cfg 0781:5581").prints("").says("removed hci0:2.1 (host0)");
    assert_eq!(env.read("web2.cfg"), WEB2.replace(", 'host:0781:5581'", ""));
    env.write("web2.cfg", WEB2);
    env.run("device remove web2.cfg hub0").fails(4).says("with devices behind it");
    env.run("device remove web2.cfg hub0 --force").prints("");
    assert_eq!(env.read("web2.cfg"), WEB2.replace(", 'host:0781:5581'", ""));
    env.write("web2.cfg", WEB2);
    env.run("controller remove web2.cfg hci0 --force").prints("");
    assert_eq!(env.read("web2.cfg"), "type = \"hvm\"\n");
}

#[test]
fn hubs_that_libvirt_adds_go_with_their_controller() {
    let env = Environment::new();
    let three = "<domain type='kvm'>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <controller type='usb' model='piix3-uhci'/>
    <input type='mouse' bus='usb'/>
    <input type='mouse' bus='usb'/>
    <input type='mouse' bus='usb'/>
  </devices>
</domain>
";
    env.write("web3.xml", three);
    assert!(env.run("device list web3.xml").stdout.contains("hub0"));
    env.run("controller remove web3.xml usb --force").prints("");
    assert!(
        env.read("web3.xml")
            .contains("<devices>\n    <controller type='usb' model='none'/>\n  </devices>")
    );
}

#[test]
fn a_vmx_without_usb_gets_the_controller_that_vmware_has() {
    let env = Environment::new();
    env.write("web4.vmx", "displayName = \"web4\"\n");
    env.run("controller add web4.vmx").prints("hci0");
    assert_eq!(env.read("web4.vmx"), "displayName = \"web4\"\nusb_xhci.present = \"TRUE\"\n");
    assert!(env.run("list web4.vmx").stdout.contains("0/4"));
    env.write("web4.vmx", "displayName = \"web4\"\n");
    env.run("device add web4.vmx 0781:5581").prints("hci0:1").says("added controller hci0");
    env.run("controller add web4.vmx --ports 5").fails(9).says("VMware's has 4");
}

/// libxl knows addresses alone, and libvirt takes one; neither has this project's names that outlast the next plug.
#[test]
fn a_host_device_is_named_as_the_tool_of_the_file_names_it() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.write("web1.cfg", "name = 'web1'\ntype = 'pv'\nusbctrl = [ 'ports=4' ]\n");
    env.run("device add web1.cfg 0781:5581 --port 2").prints("pv0:2");
    let entry = "usbdev = [ 'type=hostdev,hostbus=1,hostaddr=2,controller=0,port=2' ]";
    assert_eq!(env.read("web1.cfg").lines().last(), Some(entry));
    env.run("device add web1.cfg 1-4").prints("pv0:2").says("already");
    env.run("device remove web1.cfg 1-4").prints("");

    let xml = "<domain type='kvm'><name>web1</name><devices>\
               <controller type='usb' model='qemu-xhci'/></devices></domain>\n";
    env.write("web1.xml", xml);
    env.run("device add web1.xml 001.002").prints("usb:1");
    let written = "<address bus='1' device='2'/>";
    assert!(env.read("web1.xml").contains(written));
    // As it is written, and not as it is plugged in now.
    let converted = env.run("convert web1.xml --to libvirt");
    assert!(converted.stdout.contains(written), "{converted:?}");
    env.run("device remove web1.xml 1-4").prints("");
    assert_eq!(env.read("web1.xml"), xml);
}

/// QEMU's own controller comes first in xl's files, whenever it came.
#[test]
fn the_place_that_is_printed_is_the_one_that_the_file_has_now() {
    let env = Environment::new();
    env.write("win1.cfg", "name = 'win1'\ntype = 'hvm'\nusbctrl = [ 'version=3' ]\n");
    env.run("device add win1.cfg tablet")
        .prints("hci0:1")
        .says("added controller hci0 (piix3-uhci, 2 ports)");
    env.run("device remove win1.cfg hci0:1").prints("");
}

/// VMX has no ports for devices of the host: VMware chooses them, so that they need not stay where they are shown.
#[test]
fn of_several_devices_in_a_vmx_any_can_go() {
    let env = Environment::new();
    let two = "usb.present = \"TRUE\"\nusb.autoConnect.device0 = \"vid:0781 pid:5581\"\n\
        usb.autoConnect.device1 = \"vid:0951 pid:1666\"\n";
    env.write("web5.vmx", two);
    env.run("device remove web5.vmx 0781:5581").prints("");
    assert_eq!(env.read("web5.vmx"), two.replace("vid:0781 pid:5581", ""));
    env.write("web5.vmx", &two.replace("usb.auto", "#usb.auto"));
    env.run("device add web5.vmx 0781:5581").prints("hci0:1");
    // VMware plugs keyboards in before devices of the host: what is printed is where it is then.
    env.run("device add web5.vmx keyboard").prints("hci0:1");
    env.run("device add web5.vmx keyboard --controller hci0 --port 1")
        .prints("hci0:1")
        .says("already");
    let kinds = env.run("device list web5.vmx").stdout;
    assert!(kinds.contains("0781:5581") && kinds.contains("keyboard"), "{kinds}");
}
