//! The tool of another hypervisor accepts what `vusb convert --nearest` writes.

use vusb_rig::Libvirt;

use crate::support::Terminal;

/// A virtual machine of VMware, and guests of Xen.
const SOURCES: [(&str, &str); 3] = [
    (
        "w.vmx",
        ".encoding = \"UTF-8\"\nconfig.version = \"8\"\nvirtualHW.version = \"20\"\n\
         displayName = \"w\"\nguestOS = \"other-64\"\nusb.present = \"TRUE\"\n\
         ehci.present = \"TRUE\"\nusb_xhci.present = \"TRUE\"\nusb:0.present = \"TRUE\"\n\
         usb:0.deviceType = \"hid\"\nusb:0.port = \"0\"\nusb:0.parent = \"-1\"\n\
         usb:1.present = \"TRUE\"\nusb:1.deviceType = \"hub\"\nusb:1.port = \"1\"\n\
         usb:1.parent = \"-1\"\nusb.autoConnect.device0 = \"vid:1234 pid:5678\"\n",
    ),
    (
        "hvm.cfg",
        "name = 'hvm'\ntype = 'hvm'\nmemory = 512\nusb = 1\nusbdevice = 'tablet'\n\
         usbctrl = ['type=devicemodel,version=3,ports=8', 'type=qusb,version=2,ports=4']\n\
         usbdev = ['type=hostdev,hostbus=1,hostaddr=2,controller=1,port=2']\n",
    ),
    (
        "pv.cfg",
        "name = 'pv'\ntype = 'pv'\nmemory = 512\nkernel = '/k'\n\
         usbctrl = ['type=qusb,version=2,ports=4']\n\
         usbdev = ['type=hostdev,hostbus=1,hostaddr=2,controller=0,port=2']\n",
    ),
];

#[test]
#[ignore = "runs libvirt's tools; run by cargo xtask test"]
fn libvirt_defines_a_guest_of_another_hypervisor() {
    let libvirt = Libvirt::start().unwrap();
    let t = Terminal::new();
    for (file, text) in SOURCES {
        t.write(file, text.as_bytes());
        let xml = t.vusb(&format!("convert {file} --to libvirt --for kvm --nearest")).ok();
        libvirt.validate(&xml).unwrap_or_else(|error| panic!("{error}\n{xml}"));
        // This machine may have no KVM.
        let xml = xml.replace("<domain type='kvm'", "<domain type='qemu'");
        libvirt.define(&xml).unwrap_or_else(|error| panic!("{error}\n{xml}"));
        let name = file.split('.').next().unwrap();
        let defined = libvirt.dump_xml(name).unwrap();
        t.write("before.xml", xml.as_bytes());
        t.write("after.xml", defined.as_bytes());
        let digest = |file: &str| t.vusb(&format!("digest {file}")).ok();
        assert_eq!(digest("before.xml"), digest("after.xml"), "{xml}\n{defined}");
    }
}
