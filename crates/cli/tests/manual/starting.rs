//! `vusb convert` and `vusb qemu-args`: of domains, and with devices that are not free.

use crate::environment::Environment;

#[test]
fn the_hardware_of_a_domain_is_converted() {
    let env = Environment::new();
    env.run("controller add sim:S --usbversion 3 --ports 4").prints("hci0");
    env.run("device add sim:S tablet:usbversion=2 hub").prints("hci0:2\nhci0:1");
    let spec = env.run("convert sim:S --to vusb");
    assert!(spec.code == 0 && spec.stdout.contains("kind = \"tablet\""), "{spec:?}");
    env.write("copy.toml", &spec.stdout);
    assert_eq!(env.run("digest copy.toml").stdout, env.run("digest sim:S").stdout);
    let libvirt = env.run("convert sim:S --to libvirt");
    assert!(libvirt.stdout.contains("tablet"), "{libvirt:?}");
    let arguments = env.run("qemu-args sim:S");
    assert!(arguments.stdout.contains("usb-tablet"), "{arguments:?}");
    env.run("convert sim:NONE --to vusb").quietly();
    env.run("convert nothing --to vusb").fails(3).says("no domain nothing");
}

#[test]
fn a_recorded_domain_that_has_ended_is_started_again() {
    let env = Environment::new();
    env.write(
        "web1.toml",
        "domain = \"web1\"\ndriver = \"sim:S\"\n[[device]]\nkind = \"tablet\"\nport = \"3\"\n[[controller]]\n",
    );
    env.run("apply web1.toml").prints("");
    std::fs::remove_file(env.path("S")).unwrap();
    let arguments = env.run("qemu-args web1");
    assert!(arguments.stdout.contains(r#""port":"3""#), "{arguments:?}");
    let spec = env.run("convert web1 --to vusb");
    assert!(spec.stdout.contains("domain = \"web1\""), "{spec:?}");
}

#[test]
fn what_another_guest_holds_is_not_given_a_second_time() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:A 0781:5581 --name stick").prints("hci0:1");
    env.write("b.toml", "domain = \"b\"\n[[device]]\nhost = \"1-4\"\n");
    env.run("qemu-args b.toml").fails(4).says("host:1-4 is held by sim:A (as stick at hci0:1)");
    let forced = env.run("qemu-args b.toml --force");
    forced.says("host0 is not free: host:1-4 is held by sim:A");
    assert!(forced.stdout.contains("usb-host"), "{forced:?}");
    let converted = env.run("convert b.toml --to vusb");
    assert_eq!(converted.code, 0);
    converted.says("host0 is not free: host:1-4 is held by sim:A (as stick at hci0:1)");
    // The domain itself does not count as another holder.
    env.run("qemu-args sim:A").quietly();
    env.write("a.toml", "driver = \"sim:A\"\n[[device]]\nhost = \"1-4\"\n");
    env.run("qemu-args a.toml").quietly();
}

#[test]
fn what_is_protected_is_not_given() {
    let env = Environment::new();
    env.plug("1-4", &[("idVendor", "1209"), ("idProduct", "0001"), ("authorized", "0")]);
    env.plug("1-5", &[("idVendor", "1d6b"), ("idProduct", "0101"), ("bDeviceClass", "09")]);
    env.write("a.toml", "[[device]]\nhost = \"1-4\"\n");
    env.run("qemu-args a.toml").fails(5).says("is protected").says("--force");
    env.run("qemu-args a.toml --force").says("host0 is not free: 1-4 (1209:0001");
    env.run("convert a.toml --to vusb").says("is protected");
    env.write("hub.toml", "[[device]]\nhost = \"1-5\"\n");
    env.run("qemu-args hub.toml --force").fails(5).says("is a hub");
}
