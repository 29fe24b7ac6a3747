//! QEMU command lines as files.

use insta::assert_snapshot;

use crate::environment::Environment;

#[test]
fn a_script_is_listed_as_qemu_would_start_it() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.write(
        "start.sh",
        "#!/bin/sh\n# The big one: -device usb-hub\nqemu-img info \"$DISK\"\nexec qemu-system-x86_64 -name web1 -M q35,usb=on \\\n  \
         -m 4G -usbdevice tablet -device usb-kbd \\\n  -device 'qemu-xhci,id=fast' -device usb-mouse,id=rat \\\n  \
         -drive if=none,id=d,file='my stick.img',format=raw -device usb-storage,drive=d,port=4 \\\n  \
         -device usb-host,vendorid=0x0781,productid=0x5581 -device u2f-passthru -cpu $CPU \"$@\" &\n",
    );
    let list = env.run("list ./start.sh");
    assert_snapshot!(list.snapshot(), @r"
    web1 (start.sh)
    LOCATION  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  ich9-ehci1 + companions  2/6  present
      1  tablet0  tablet  usbversion=2  configured
      2  keyboard0  keyboard  usbversion=2  configured
    1  fast  emulated  qemu-xhci  4/4  present
      1  rat  mouse  usbversion=2  configured
      2  host0  host  0781:5581  configured
      3  hub0  hub  configured
        3.1  other0  other  u2f-passthru  configured
      4  storage0  storage  my stick.img  configured
    ---- stderr
    start.sh:8:84: what this adds to the command line is not known
    ");
    assert_eq!(env.run("list start.sh --from qemu-args").stdout, list.stdout);
    env.run("device add ./start.sh mouse").fails(9).says("a command line is only read");
    env.run("convert ./start.sh --to libvirt").fails(9).says("u2f-passthru");
    // A conversion to the same format returns the text itself.
    let text = env.run("convert ./start.sh --to qemu-args").stdout;
    assert!(text.starts_with("#!/bin/sh\n# The big one"), "{text}");
}

#[test]
fn unknown_options_are_reported() {
    let env = Environment::new();
    env.write(
        "start.sh",
        "qemu-system-x86_64 -readconfig usb.cfg $USB -device usb-mouse,bus=$BUS -device usb-kbd,bus=x.0\n",
    );
    let list = env.run("list ./start.sh");
    list.says("start.sh:1:32: this file cannot be read").says("start.sh:1:40: what this adds");
    list.says("its place, is not known").says("QEMU does not start with this: there is no USB bus");
    env.write("usb.cfg", "[device \"rat\"]\n  driver = \"usb-mouse\"\n[machine]\n  usb = \"on\"\n");
    env.write("cfg.sh", "kvm -readconfig usb.cfg\n");
    assert!(env.run("list ./cfg.sh").stdout.contains("rat"), "the file is read");
    env.write("board.sh", "qemu-system-arm -M lm3s6965evb -usb\n");
    env.run("list ./board.sh").says("the built-in USB of this machine is unknown");
    env.write("none.txt", "echo hello\n");
    env.run("list none.txt --from qemu-args").fails(2).says("does not start a QEMU");
    env.run("list ./none.txt").fails(2).says("the format is not recognized");
}

#[test]
fn arguments_of_vusb_read_back() {
    let env = Environment::new();
    env.image("stick.img");
    env.write(
        "web1.toml",
        "[[controller]]\nusbversion = 2\n[[controller]]\nname = \"fast\"\nusbversion = 3\nports = 4\n[[device]]\nkind = \"tablet\"\n\
         [[device]]\nkind = \"storage\"\nfile = \"stick.img\"\nname = \"stick\"\n[[device]]\nkind = \"serial\"\nchardev = \"pty\"\n\
         [[device]]\nkind = \"net\"\n",
    );
    let arguments = env.run("qemu-args web1.toml").stdout;
    env.write("args", &arguments);
    let digest = env.run("digest web1.toml").stdout;
    assert_eq!(env.run("digest ./args").stdout, digest, "{arguments}");
    let list = env.run("list ./args").stdout;
    assert!(list.contains("fast") && list.contains("stick  storage"), "{list}");
}

#[test]
fn a_device_that_libvirt_passes_to_qemu_keeps_its_port() {
    let env = Environment::new();
    env.write(
        "web1.xml",
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n  <name>web1</name>\n  \
         <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>\n  <devices>\n    \
         <controller type='usb' index='0' model='qemu-xhci' ports='8'/>\n  </devices>\n  <qemu:commandline>\n    \
         <qemu:arg value='-device'/>\n    <qemu:arg value='usb-audio,bus=usb.0,port=1'/>\n    <qemu:arg value='-device'/>\n    \
         <qemu:arg value='usb-mouse,id=rat'/>\n  </qemu:commandline>\n</domain>\n",
    );
    let list = env.run("list web1.xml");
    assert_snapshot!(list.snapshot(), @r"
    web1 (web1.xml)
    LOCATION  NAME  TYPE  WHAT  PORTS  STATE
    0  usb  emulated  qemu-xhci  2/8  present
      1  audio0  audio  configured, not vusb's
      2  rat  mouse  usbversion=2  configured, not vusb's
    ---- stderr
    web1.xml:9:5: this argument bypasses libvirt, which keeps no port for it; it is not changed here
    ");
    let before = env.read("web1.xml");
    env.run("device add web1.xml tablet").prints("usb:3").says("bypasses libvirt");
    let after = env.read("web1.xml");
    assert!(after.contains("<input type='tablet' bus='usb'>"), "{after}");
    assert!(after.contains("<address type='usb' bus='0' port='3'/>"), "{after}");
    env.run("device add web1.xml keyboard --port 1").fails(4).says("in use by audio0");
    env.run("device remove web1.xml rat").fails(9).says("remove it by hand");
    env.run("device remove web1.xml input0").prints("");
    assert_eq!(env.read("web1.xml"), before);
}
