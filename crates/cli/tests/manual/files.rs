//! Guests that do not run, by file: listed, and edited in place.

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
fn an_edit_of_a_spec_changes_nothing_else() {
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
    LOCATION  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  qemu-xhci  2/15  present
      1  host0  host  0781:5581  absent
      2  mouse0  mouse  configured
    ");
    env.run("device remove web1.toml mouse0").prints("");
    env.run("controller remove web1.toml hci0").fails(4);
    assert!(env.read("web1.toml").starts_with(WEB1));
}

#[test]
fn a_repeated_request_leaves_the_file_unchanged() {
    let env = Environment::new();
    let path = env.write("web1.toml", WEB1);
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    env.run("device add web1.toml 0781:5581").prints("hci0:1").says("already");
    env.run("device add web1.toml tablet --dry-run").prints("plug tablet0 (tablet) into 0:2");
    assert_eq!(env.read("web1.toml"), WEB1);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
}

#[test]
fn an_edit_keeps_links_and_modes_and_is_atomic() {
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
fn a_mistake_in_a_file_is_shown_with_its_position() {
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

/// QEMU's boot controller has two ports: the second device is behind a hub that is not in the file.
const WEB2: &str = "\
type = \"hvm\"
usb = 1
usbdevice = [ 'tablet', 'host:0781:5581' ]
";

#[test]
fn a_hub_that_xl_adds_is_removed_with_the_devices_behind_it() {
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
fn hubs_that_libvirt_adds_are_removed_with_their_controller() {
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
fn a_vmx_without_usb_gets_a_controller_that_vmware_has() {
    let env = Environment::new();
    env.write("web4.vmx", "displayName = \"web4\"\n");
    env.run("controller add web4.vmx").prints("hci0");
    assert_eq!(env.read("web4.vmx"), "displayName = \"web4\"\nusb_xhci.present = \"TRUE\"\n");
    assert!(env.run("list web4.vmx").stdout.contains("0/4"));
    env.write("web4.vmx", "displayName = \"web4\"\n");
    env.run("device add web4.vmx 0781:5581").prints("hci0:1").says("added controller hci0");
    env.run("controller add web4.vmx --ports 5").fails(9).says("VMware's has 4");
}

/// libxl only knows addresses, and libvirt accepts them. Neither has this project's selectors,
/// which stay valid when a device is replugged.
#[test]
fn a_host_device_is_written_in_the_terms_of_the_format() {
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
    // A conversion keeps the address, whatever is plugged in there.
    let converted = env.run("convert web1.xml --to libvirt");
    assert!(converted.stdout.contains(written), "{converted:?}");
    env.run("device remove web1.xml 1-4").prints("");
    assert_eq!(env.read("web1.xml"), xml);
}

/// QEMU's boot controller comes first in xl's files, even if it was added last.
#[test]
fn the_printed_location_is_the_one_after_the_edit() {
    let env = Environment::new();
    env.write("win1.cfg", "name = 'win1'\ntype = 'hvm'\nusbctrl = [ 'version=3' ]\n");
    env.run("device add win1.cfg tablet")
        .prints("hci0:1")
        .says("added controller hci0 (piix3-uhci, 2 ports)");
    env.run("device remove win1.cfg hci0:1").prints("");
}

/// A machine of VirtualBox, with `hardware` in it.
fn vbox(hardware: &str) -> String {
    format!(
        "<VirtualBox xmlns=\"http://www.virtualbox.org/\" version=\"1.19-linux\">\n<Machine uuid=\"{{2a1b5b0e-3c6f-4c1d-9a55-0d7c7a0c2f11}}\" \
         name=\"web6\" OSType=\"Other\">\n<Hardware>\n<Memory RAMSize=\"64\"/>\n{hardware}</Hardware>\n</Machine>\n</VirtualBox>\n"
    )
}

#[test]
fn a_machine_of_virtualbox_is_edited_and_gets_its_old_bytes_back() {
    let env = Environment::new();
    let before = vbox("");
    env.write("web6.vbox", &before);
    env.run("controller add web6.vbox").prints("hci0");
    assert!(env.read("web6.vbox").contains("<Controller name=\"xHCI\" type=\"XHCI\"/>"));
    env.run("device add web6.vbox 0781:5581").prints("hci0:1");
    // VirtualBox attaches input devices first: the printed port is the one after the edit.
    env.run("device add web6.vbox tablet").prints("hci0:1");
    env.run("device add web6.vbox tablet --controller hci0 --port 1")
        .prints("hci0:1")
        .says("already");
    let list = env.run("list web6.vbox").stdout;
    assert!(list.contains("2/8") && list.contains("0781:5581"), "{list}");
    env.run("device add web6.vbox 1-4").fails(9).says("neither the bus nor the chain of ports");
    env.run("device add web6.vbox hub").fails(9).says("VirtualBox");
    env.run("controller add web6.vbox --model ehci").prints("hci1");
    env.run("controller add web6.vbox --model piix3-uhci").fails(9).says("VirtualBox");
    env.run("controller remove web6.vbox hci1").prints("");
    for device in ["tablet0", "0781:5581"] {
        env.run(&format!("device remove web6.vbox {device}")).prints("");
    }
    env.run("controller remove web6.vbox hci0").prints("");
    assert_eq!(env.read("web6.vbox"), before);
}

#[test]
fn a_saved_machine_of_virtualbox_is_listed_and_not_edited() {
    let env = Environment::new();
    let saved = vbox("").replace(" OSType", " stateFile=\"a.sav\" OSType");
    env.write("web6.vbox", &saved);
    env.run("list web6.vbox").says("the machine has a saved state");
    env.run("device add web6.vbox 0781:5581")
        .fails(9)
        .says("the saved state contains its hardware");
    assert_eq!(env.read("web6.vbox"), saved);
}

/// VMX cannot specify ports of host devices: VMware chooses them, so they may change.
#[test]
fn any_of_several_devices_can_be_removed_from_a_vmx() {
    let env = Environment::new();
    let two = "usb.present = \"TRUE\"\nusb.autoConnect.device0 = \"vid:0781 pid:5581\"\n\
        usb.autoConnect.device1 = \"vid:0951 pid:1666\"\n";
    env.write("web5.vmx", two);
    env.run("device remove web5.vmx 0781:5581").prints("");
    assert_eq!(env.read("web5.vmx"), two.replace("vid:0781 pid:5581", ""));
    env.write("web5.vmx", &two.replace("usb.auto", "#usb.auto"));
    env.run("device add web5.vmx 0781:5581").prints("hci0:1");
    // VMware plugs in keyboards before host devices: the printed port is the one after the edit.
    env.run("device add web5.vmx keyboard").prints("hci0:1");
    env.run("device add web5.vmx keyboard --controller hci0 --port 1")
        .prints("hci0:1")
        .says("already");
    let kinds = env.run("device list web5.vmx").stdout;
    assert!(kinds.contains("0781:5581") && kinds.contains("keyboard"), "{kinds}");
}

#[test]
fn an_address_is_converted_whether_its_device_is_plugged_in_or_not() {
    let env = Environment::new();
    let spec = |host: &str| {
        format!(
            "domain = \"s\"\n[[controller]]\nmodel = \"nec-xhci\"\nports = 8\n[[device]]\nhost = \"{host}\"\n"
        )
    };
    env.plug_stick("1-4");
    // Ids become the address of the device that is plugged in.
    env.write("ids.toml", &spec("0781:5581"));
    for format in ["xl", "json"] {
        let converted = env.run(&format!("convert ids.toml --to {format}"));
        assert_eq!((converted.code, converted.stderr.as_str()), (0, ""), "{converted:?}");
        assert!(converted.stdout.contains("hostaddr"), "{converted:?}");
    }
    // An address stays an address if the format has addresses.
    let address = env.json("host list")["devices"][0]["at"].as_str().unwrap().to_owned();
    env.write("address.toml", &spec(&address));
    for format in ["xl", "json", "libvirt"] {
        let converted = env.run(&format!("convert address.toml --to {format}"));
        assert_eq!(converted.code, 0, "{converted:?}");
    }
    env.unplug("1-4");
    for format in ["xl", "json", "libvirt"] {
        let converted = env.run(&format!("convert address.toml --to {format}"));
        assert_eq!(converted.code, 0, "{converted:?}");
    }
}

#[test]
fn libvirt_refuses_the_vendor_id_0_and_the_message_names_what_works() {
    let env = Environment::new();
    let domain = "<domain type='kvm'><name>g</name><memory>65536</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>\
                  <controller type='usb' index='0' model='qemu-xhci'/></devices></domain>";
    env.write("g.xml", domain);
    env.plug("1-4", &[("idVendor", "0000"), ("idProduct", "0001"), ("speed", "12")]);
    let at = env.json("host list")["devices"][0]["at"].as_str().unwrap().to_owned();
    env.run("device add g.xml 0000:0001").fails(9).says(&format!("bus and address ({at})"));
    assert_eq!(env.read("g.xml"), domain);
    env.run(&format!("device add g.xml {at}")).prints("usb:1");
}

#[test]
fn arguments_that_bypass_libvirt_are_pointed_out_by_each_command_that_decides() {
    let env = Environment::new();
    env.write(
        "g.xml",
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>g</name><memory>65536</memory>\
         <os><type arch='x86_64' machine='pc'>hvm</type></os><devices><controller type='usb' index='0' model='qemu-xhci'/></devices>\
         <qemu:commandline><qemu:arg value='-device'/><qemu:arg value='usb-mouse,bus=usb.0,port=1'/></qemu:commandline></domain>",
    );
    for command in
        ["list g.xml", "plan g.xml", "qemu-args g.xml", "device add g.xml tablet --port 2"]
    {
        env.run(command).says("bypasses libvirt");
    }
}

/// The file itself is locked: edits by users and services with different state folders wait for
/// each other, and no edit is lost.
#[test]
fn edits_from_several_state_folders_are_all_kept() {
    let env = Environment::new();
    env.write("web1.toml", WEB1);
    let edits: Vec<_> = (0..6)
        .map(|number| {
            env.start(&format!(
                "device add web1.toml mouse --name mouse{number} --state-dir state{number}"
            ))
        })
        .collect();
    for edit in edits {
        let ran = env.ran(&edit.wait_with_output().unwrap());
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let text = env.read("web1.toml");
    assert!((0..6).all(|it| text.contains(&format!("name = \"mouse{it}\""))), "{text}");
    // No hidden file, such as a temporary one, is left beside it.
    let names = fs::read_dir(env.path("")).unwrap().flatten().map(|it| it.file_name());
    assert_eq!(names.filter(|it| it.to_string_lossy().starts_with('.')).count(), 0);
}

#[test]
fn only_a_regular_file_is_a_configuration() {
    let env = Environment::new();
    let made = std::process::Command::new("mkfifo").arg(env.path("pipe.toml")).status();
    assert!(made.unwrap().success());
    symlink("/dev/zero", env.path("zero.toml")).unwrap();
    env.write("large.toml", &" ".repeat((2 << 20) + 1));
    for (file, why) in
        [("pipe.toml", "a pipe"), ("zero.toml", "a device"), ("large.toml", "larger than 2 MiB")]
    {
        for line in ["plan", "list", "convert --to xl", "device add --dry-run"] {
            let tail = if line.starts_with("device") { " mouse" } else { "" };
            env.run(&format!("{line} {file}{tail}")).fails(2).says(why);
        }
    }
}

#[test]
fn a_warning_about_a_file_is_printed_once() {
    let env = Environment::new();
    env.write(
        "g.xml",
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n  \
         <name>g</name>\n  <os><type arch='x86_64' machine='q35'>hvm</type></os>\n  <devices>\n    \
         <controller type='usb' index='0' model='qemu-xhci' ports='8'/>\n  </devices>\n  \
         <qemu:commandline>\n    <qemu:arg value='-device'/>\n    \
         <qemu:arg value='usb-audio,bus=usb.0,port=1'/>\n  </qemu:commandline>\n</domain>\n",
    );
    let ran = env.run("device add g.xml tablet");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "usb:2\n"), "{ran:?}");
    assert_eq!(ran.stderr.matches("bypasses libvirt").count(), 1, "{ran:?}");
}
