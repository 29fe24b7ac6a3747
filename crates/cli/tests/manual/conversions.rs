//! What a conversion keeps, and what it refuses to drop.

use crate::environment::Environment;

/// A domain with settings that only libvirt has, and with an empty CD drive.
const GUEST: &str = "\
<domain type='kvm'>
  <name>g</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/s.img'/><target dev='sdb' bus='usb' removable='on'/><serial>SN-1</serial><boot order='1'/></disk>
    <disk type='file' device='cdrom'><target dev='sdc' bus='usb'/></disk>
    <disk type='file' device='disk'><source file='/t.img'/><target dev='sdd' bus='usb'/><transient/></disk>
    <hostdev mode='subsystem' type='usb'><source guestReset='off' startupPolicy='optional'><vendor id='0x1209'/><product id='0x0001'/></source></hostdev>
    <controller type='usb' index='0' model='qemu-xhci' ports='8'/>
    <redirdev bus='usb' type='spicevmc'/>
    <redirfilter><usbdev class='0x08' allow='yes'/><usbdev allow='no'/></redirfilter>
  </devices>
</domain>
";

#[test]
fn a_conversion_to_the_same_format_keeps_everything() {
    let env = Environment::new();
    env.write("guest.xml", GUEST);
    env.run("convert guest.xml --to libvirt").prints(GUEST.trim_end());
}

#[test]
fn what_another_format_cannot_express_is_listed_and_refused() {
    let env = Environment::new();
    env.write("guest.xml", GUEST);
    let refused = env.run("convert guest.xml --to vusb");
    refused.fails(9);
    let lossy = env.run("convert guest.xml --to vusb --lossy");
    assert_eq!(lossy.code, 0, "{lossy:?}");
    for lost in [
        "boot order 1 of usb-disk1",
        "transient of usb-disk3",
        "guestReset off of hostdev0",
        "startupPolicy optional of hostdev0",
        "redirfilter of redir0",
        "usb-disk2 (usb-storage): it is an empty CD drive",
    ] {
        refused.says(lost);
        lossy.says(lost);
    }
    assert_eq!(refused.stdout, "");
    for kept in ["serial = \"SN-1\"", "removable = true", "host = \"1209:0001\""] {
        assert!(lossy.stdout.contains(kept), "{kept}: {lossy:?}");
    }
    assert!(!lossy.stdout.contains("other"), "{lossy:?}");
}

#[test]
fn a_spec_with_a_cd_drive_becomes_a_domain_with_one() {
    let env = Environment::new();
    env.write(
        "cd.toml",
        "domain = \"cd\"\n[[device]]\ndevice = \"storage:/a.iso,media=cdrom,serial=CD-1\"\n\
         [[device]]\ndevice = \"storage:/dev/sdx,removable=on,serial=S\"\n",
    );
    let converted = env.run("convert cd.toml --to libvirt");
    assert_eq!(converted.code, 0, "{converted:?}");
    for part in [
        "<disk type='file' device='cdrom' model='usb-bot'>",
        "<serial>CD-1</serial>",
        "<disk type='block' device='disk'>",
        "<target dev='sdb' bus='usb' removable='on'/>",
    ] {
        assert!(converted.stdout.contains(part), "{part}: {converted:?}");
    }
    env.write("cd.xml", &converted.stdout);
    assert_eq!(env.run("digest cd.xml").stdout, env.run("digest cd.toml").stdout);
}

/// Only a spec has the other ids of a device (`also`) and whether it is required. A spec that is
/// made from a domain has both, although the hypervisor does not know them.
#[test]
fn what_only_vusb_knows_of_a_host_device_is_kept_or_reported() {
    let env = Environment::new();
    let device = "[[device]]\nhost = \"0483:5740\"\nalso = [\"0483:df11\"]\nrequired = true\n";
    env.write("dfu.toml", device);
    let ran = env.run("convert dfu.toml --to libvirt");
    ran.fails(9).says("the ids in `also` of host0").says("`required` of host0");
    // They are reported beside other losses too.
    let ran = env.run("convert dfu.toml --to pve");
    ran.fails(9).says("differently").says("`also` of host0").says("`required` of host0");
    let kept = |text: &str| {
        assert!(text.contains("also = [\"0483:df11\"]\nrequired = true\n"), "{text}");
    };
    kept(&env.run("convert dfu.toml --to vusb").stdout);
    // The device is not plugged in, then plugged in, then in its other mode.
    env.write("a.toml", &format!("domain = \"a\"\ndriver = \"sim:A\"\n{device}"));
    assert_eq!(env.run("apply a.toml").code, 3);
    kept(&env.run("convert a --to vusb").stdout);
    for id in ["5740", "df11"] {
        env.plug("1-4", &[("idVendor", "0483"), ("idProduct", id)]);
        assert_eq!(env.run("apply a.toml").code, 0);
        kept(&env.run("convert a --to vusb").stdout);
        env.unplug("1-4");
    }
}

/// Equal digests mean that the guest cannot tell the difference.
#[test]
fn a_digest_counts_what_the_guest_sees_of_a_disk() {
    let env = Environment::new();
    let digest = |device: &str| {
        env.write("a.toml", &format!("[[device]]\ndevice = \"{device}\"\n"));
        env.run("digest a.toml").stdout
    };
    let plain = digest("storage:/a.img");
    assert_eq!(plain, digest("storage:/b.qcow2"));
    let others =
        ["storage:/a.img,serial=1", "storage:/a.img,serial=2", "storage:/a.img,removable=on"];
    let mut all: Vec<String> = others.iter().map(|device| digest(device)).collect();
    all.extend([plain, digest("storage:/a.img,readonly"), digest("storage:/a.img,media=cdrom")]);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6);
}

/// libvirt's driver for Xen accepts no element for the UHCI of the device model, which mice and
/// tablets are on.
#[test]
fn mice_and_tablets_of_a_xen_guest_come_without_a_controller() {
    let env = Environment::new();
    let head = "name = \"hvm1\"\ntype = \"hvm\"\nmemory = 512\n";
    env.write("one.cfg", &format!("{head}usb = 1\nusbdevice = \"tablet\"\n"));
    env.write("two.cfg", &format!("{head}usb = 1\nusbdevice = [ \"tablet\", \"mouse\" ]\n"));
    for (file, inputs) in [("one", 1), ("two", 2)] {
        let ran = env.run(&format!("convert {file}.cfg --to libvirt"));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        let text = &ran.stdout;
        assert!(text.contains("<input type='tablet' bus='usb'"), "{text}");
        assert_eq!(text.matches("<input").count(), inputs, "{text}");
        for element in ["<controller", "<hub", "<address type='usb'"] {
            assert!(!text.contains(element), "{element}: {text}");
        }
        env.write(&format!("{file}.xml"), text);
        let digest = |file: String| env.run(&format!("digest {file}")).stdout;
        assert_eq!(digest(format!("{file}.xml")), digest(format!("{file}.cfg")));
    }
    // The same holds if such a device is added to a domain.
    env.write(
        "none.xml",
        "<domain type='xen'><name>hvm1</name><memory>524288</memory><os><type>hvm</type></os>\
         <devices></devices></domain>",
    );
    for device in ["tablet", "mouse"] {
        assert_eq!(env.run(&format!("device add none.xml {device}")).code, 0);
    }
    let text = env.read("none.xml");
    assert!(text.contains("<input type='tablet' bus='usb'"), "{text}");
    for element in ["<controller", "<hub", "<address type='usb'"] {
        assert!(!text.contains(element), "{element}: {text}");
    }
    // A controller that this driver refuses is lost, with the devices on it.
    env.write("xhci.cfg", &format!("{head}usbctrl = [ 'version=3,ports=15' ]\n"));
    env.run("convert xhci.cfg --to libvirt").fails(9).says("accepts only qusb1 and qusb2");
    let ran = env.run("convert xhci.cfg --to libvirt --lossy");
    env.write("xhci.xml", &ran.stdout);
    assert_eq!(env.run("list xhci.xml").code, 0);
}

/// A virtual machine of VMware: a mouse, a hub, and a host device behind it.
const VMX: &str = "\
.encoding = \"UTF-8\"
config.version = \"8\"
virtualHW.version = \"20\"
displayName = \"w\"
guestOS = \"other-64\"
usb.present = \"TRUE\"
ehci.present = \"TRUE\"
usb_xhci.present = \"TRUE\"
usb:0.present = \"TRUE\"
usb:0.deviceType = \"hid\"
usb:0.port = \"0\"
usb:0.parent = \"-1\"
usb:1.present = \"TRUE\"
usb:1.deviceType = \"hub\"
usb:1.port = \"1\"
usb:1.parent = \"-1\"
usb.autoConnect.device0 = \"vid:1234 pid:5678\"
";

/// A libvirt domain as current tools create it.
const MODERN: &str = "\
<domain type='kvm'><name>m1</name><memory>1048576</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc-q35-8.2'>hvm</type></os><devices>
<controller type='usb' index='0' model='qemu-xhci' ports='15'/>
<input type='tablet' bus='usb'><address type='usb' bus='0' port='1'/></input>
<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><product id='0x5678'/></source>
<address type='usb' bus='0' port='2'/></hostdev></devices></domain>
";

#[test]
fn the_nearest_hardware_replaces_what_a_format_lacks() {
    let env = Environment::new();
    env.write("modern.xml", MODERN);
    env.run("convert modern.xml --to xl").fails(9).says("--nearest");
    let xl = env.run("convert modern.xml --to xl --nearest");
    for line in ["usb = 1", "'tablet',", "'host:1234:5678',"] {
        assert!(xl.stdout.contains(line), "{line}: {xl:?}");
    }
    xl.says("change: usb: a qemu-xhci with 15 ports today, a piix3-uhci with 2 ports then")
        .says("change: the guest will also see a hub at port 2 of a piix3-uhci")
        .says("hostdev0: at port 2 of a qemu-xhci today, at port 2.1 of a piix3-uhci then");
    // What was written is read, and needs no further change.
    env.write("m1.cfg", &xl.stdout);
    let again = env.run("convert m1.cfg --to xl --nearest");
    assert_eq!((&again.stdout, again.stderr.contains("change")), (&xl.stdout, false), "{again:?}");

    let vmx = env.run("convert modern.xml --to vmx --nearest");
    assert!(vmx.stdout.contains("usb.autoConnect.device0 = \"vid:1234 pid:5678\""), "{vmx:?}");
    vmx.says("a qemu-xhci with 15 ports today, a qemu-xhci with 4 ports then")
        .says("input0: tablet:usbversion=2 at port 1 of a qemu-xhci today, mouse at port 1");
}

#[test]
fn a_guest_moves_to_another_hypervisor() {
    let env = Environment::new();
    env.write("w.vmx", VMX);
    let kvm = env.run("convert w.vmx --to libvirt --nearest");
    assert!(kvm.stdout.starts_with("<domain type='kvm'>"), "{kvm:?}");
    kvm.says("hub0: hub:ports=7 at port 2 of a piix4-uhci today, hub at port 2");
    let xen = env.run("convert w.vmx --to libvirt --for xen --nearest");
    assert!(xen.stdout.starts_with("<domain type='xen'>"), "{xen:?}");
    assert!(xen.stdout.contains("<vendor id='0x1234'/>"), "{xen:?}");
    let xl = env.run("convert w.vmx --to xl --nearest");
    xl.says("hub0: a hub at port 2 of a piix4-uhci today, which the guest will not see any more");
    assert!(xl.stdout.contains("'host:1234:5678'"), "{xl:?}");
    env.run("convert w.vmx --to xl --for kvm --nearest")
        .fails(2)
        .says("the format xl is for Xen, not for QEMU");
}

#[test]
fn the_nearest_hardware_leaves_no_device_out() {
    let env = Environment::new();
    let modern = MODERN.replace(
        "<hostdev",
        "<disk type='file' device='disk'><driver type='raw'/><source file='/s.img'/>\
         <target dev='sdb' bus='usb'/></disk><hostdev",
    );
    env.write("disk.xml", &modern);
    env.run("convert disk.xml --to vmx --nearest").fails(9).says("VMware has no such device");
    let lossy = env.run("convert disk.xml --to vmx --nearest --lossy");
    assert_eq!(lossy.code, 0, "{lossy:?}");
    lossy.says("lost: usb-disk1").says("change: usb");
}

/// A machine of VirtualBox: a tablet and a host device.
const VBOX: &str = "\
<?xml version=\"1.0\"?>
<VirtualBox xmlns=\"http://www.virtualbox.org/\" version=\"1.19-linux\">
  <Machine uuid=\"{2a1b5b0e-3c6f-4c1d-9a55-0d7c7a0c2f11}\" name=\"v1\" OSType=\"Other_64\">
    <Hardware>
      <CPU count=\"2\"/>
      <Memory RAMSize=\"512\"/>
      <HID Pointing=\"USBTablet\"/>
      <USB>
        <Controllers>
          <Controller name=\"OHCI\" type=\"OHCI\"/>
          <Controller name=\"EHCI\" type=\"EHCI\"/>
        </Controllers>
        <DeviceFilters>
          <DeviceFilter name=\"stick\" active=\"true\" vendorId=\"1234\" productId=\"5678\" port=\"2\"/>
        </DeviceFilters>
      </USB>
    </Hardware>
  </Machine>
</VirtualBox>
";

#[test]
fn a_machine_of_virtualbox_becomes_a_spec_and_comes_back() {
    let env = Environment::new();
    env.write("v.vbox", &VBOX.replace(" port=\"2\"", ""));
    let spec = env.run("convert v.vbox --to vusb");
    assert_eq!(spec.code, 0, "{spec:?}");
    assert!(spec.stdout.starts_with("profile = \"vbox\"\n"), "{spec:?}");
    env.write("v.toml", &spec.stdout);
    let digest = |file: &str| env.run(&format!("digest {file}")).stdout;
    assert_eq!(digest("v.toml"), digest("v.vbox"));
    let back = env.run("convert v.toml --to vbox");
    assert_eq!(back.code, 0, "{back:?}");
    assert!(back.stdout.contains("<HID Pointing=\"USBTablet\"/>"), "{back:?}");
    env.write("back.vbox", &back.stdout);
    assert_eq!(digest("back.vbox"), digest("v.vbox"));
    // QEMU's OHCI has another number of ports.
    env.run("qemu-args v.toml").fails(9).says("QEMU's pci-ohci has 3 ports, and this one 12");
}

#[test]
fn a_machine_of_virtualbox_moves_to_libvirt_and_to_vmware_and_back() {
    let env = Environment::new();
    env.write("v.vbox", VBOX);
    env.run("convert v.vbox --to libvirt")
        .fails(9)
        .says("the 12 ports of hci0 (pci-ohci)")
        .says("the condition of port 2 of host0");
    env.write("v.vbox", &VBOX.replace(" port=\"2\"", ""));
    let kvm = env.run("convert v.vbox --to libvirt --nearest");
    assert!(kvm.stdout.starts_with("<domain type='kvm'>"), "{kvm:?}");
    assert!(kvm.stdout.contains("model='pci-ohci'"), "{kvm:?}");
    assert!(kvm.stdout.contains("<vendor id='0x1234'/>"), "{kvm:?}");
    kvm.says("a pci-ohci with 12 ports today, a pci-ohci with 3 ports then");
    env.write("kvm.xml", &kvm.stdout);
    let back = env.run("convert kvm.xml --to vbox --nearest");
    assert_eq!(back.code, 0, "{back:?}");
    for part in ["type=\"OHCI\"", "type=\"EHCI\"", "vendorId=\"1234\"", "USBTablet"] {
        assert!(back.stdout.contains(part), "{part}: {back:?}");
    }
    let vmx = env.run("convert v.vbox --to vmx --nearest");
    assert_eq!(vmx.code, 0, "{vmx:?}");
    assert!(vmx.stdout.contains("usb.autoConnect.device0 = \"vid:1234 pid:5678\""), "{vmx:?}");
    env.write("v.vmx", &vmx.stdout);
    let again = env.run("convert v.vmx --to vbox --nearest");
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stdout.contains("vendorId=\"1234\" productId=\"5678\""), "{again:?}");
    env.write("modern.xml", MODERN);
    let modern = env.run("convert modern.xml --to vbox --nearest");
    assert!(modern.stdout.contains("<Controller name=\"xHCI\" type=\"XHCI\"/>"), "{modern:?}");
    env.run("convert modern.xml --to vbox --for xen")
        .fails(2)
        .says("the format vbox is for VirtualBox, not for Xen");
}
