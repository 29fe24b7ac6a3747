//! `vusb list --tree`.

use insta::assert_snapshot;

use crate::environment::Environment;

#[test]
fn one_device() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:S 0781:5581 --name stick").prints("hci0:1");
    assert_snapshot!(env.run("list sim:S --tree").snapshot(), @r"
    sim:S
    PORT  NAME  WHAT  HOST PORT  STATE
    └─ 0  hci0  qemu-xhci, 1 of 15 ports in use  present
       └─ 1  stick  host 0781:5581 SanDisk Ultra  1-4  attached

    present  the guest has it
    attached  the guest sees it
    ");
}

#[test]
fn devices_behind_hubs_on_several_controllers() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:S hub 0781:5581 tablet").prints("hci0:1\nhci0:2\nhci0:3");
    env.run("device add sim:S hub --port 1.2").prints("hci0:1.2");
    env.run("device add sim:S mouse --port 1.2.1").prints("hci0:1.2.1");
    env.run("device add sim:S mouse --port 1.4").prints("hci0:1.4");
    env.run("controller add sim:S --model ehci").prints("hci1");
    env.run("device add sim:S 1234:5678 --when-there").prints("hci0:4");
    assert_snapshot!(env.run("list sim:S --tree --ascii").snapshot(), @r"
    sim:S
    PORT  NAME  WHAT  HOST PORT  STATE
    |- 0  hci0  qemu-xhci, 4 of 15 ports in use  present
    |  |- 1  hub0  hub  attached
    |  |  |- 1.2  hub1  hub  attached
    |  |  |  `- 1.2.1  mouse0  mouse  attached
    |  |  `- 1.4  mouse1  mouse  attached
    |  |- 2  host0  host 0781:5581 SanDisk Ultra  1-4  attached
    |  |- 3  tablet0  tablet  attached
    |  `- 4  host1  host 1234:5678  absent
    `- 1  hci1  ehci, 0 of 6 ports in use  present

    present  the guest has it
    attached  the guest sees it
    absent  it has its port, but the host device is unplugged, or no peer is connected
    ");
    let all = env.run("list --tree").stdout;
    assert!(all.contains("│  │  │  └─ 1.2.1  mouse0"), "{all}");
    env.run("list sim:S --ascii").fails(2).says("--tree");
}

#[test]
fn a_guest_without_usb_needs_no_legend() {
    let env = Environment::new();
    env.run("list sim:S --tree").quietly();
}
