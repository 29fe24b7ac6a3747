//! What `--help` prints below the options: the forms of each argument, and examples.

/// `vusb --help`.
pub(crate) const TOP: &str = "\
DOMAIN, a virtual machine:
  qemu:SOCKET   a running QEMU, by the QMP socket that it was started with:
                -qmp unix:SOCKET,server=on,wait=off
  libvirt:NAME  a libvirt domain, running or not, by its name or UUID;
                libvirt:qemu:///session/NAME for those of your own session
  xen:NAME      a running Xen guest, by its name or ID: see `xl list`
  pve:VMID      a Proxmox VE guest on this node, running or not
  sim:FILE      a simulated hypervisor in a file, for trying things out
  FILE          a guest that does not run, by its configuration: .toml (a spec),
                .xml (libvirt), .cfg (xl), .json (libxl), .vmx (VMware), .vbox
                (VirtualBox), .conf (Proxmox VE), .args (a QEMU command line);
                or any file, with --from FORMAT
  NAME          the guest's own name (QEMU's -name), or the `domain` of a spec
                that was applied

Examples:
  vusb device add qemu:/run/web1.qmp storage:stick.img   a stick from a file
  vusb device add qemu:/run/web1.qmp 0781:5581           a real device
  vusb list qemu:/run/web1.qmp                           show what it has
  vusb apply web1.toml                                   make it match a spec
  vusb device add web1.xml 0781:5581                     for its next start
  eval \"qemu-system-x86_64 -m 1G $(vusb qemu-args web1.toml)\"

Exit codes:
  0  done, or nothing to do         5  refused by policy (see --force)
  1  failed                         6  no free port, or none with that speed
  2  invalid request                7  the hypervisor is unreachable
  3  not found                      8  timed out
  4  in use, claimed or locked      9  not implemented by this hypervisor";

/// `vusb controller --help`.
pub(crate) const CONTROLLER: &str = "\
CONTROLLER is a controller's name (hci0) or its index (0).

Examples:
  vusb controller add qemu:/run/web1.qmp --usbversion 3
  vusb controller list qemu:/run/web1.qmp
  vusb controller remove qemu:/run/web1.qmp hci0";

/// `vusb controller add --help`.
pub(crate) const CONTROLLER_ADD: &str = "\
All options are optional. The default is a qemu-xhci, or for pv a xenusb2. Equal requests give \
equal controllers. If the domain already has a controller with this name and these properties, \
nothing is done and the command succeeds.

  --usbversion  emulated                                     pv
  1             piix3-uhci: low and full speed               xenusb1
  2             ich9-ehci1 with 3 companions: up to high     xenusb2
  3             nec-xhci: all speeds                         not implemented

Examples:
  vusb controller add qemu:/run/web1.qmp                 prints hci0
  vusb controller add qemu:/run/web1.qmp --usbversion 3 --ports 4
  vusb controller add qemu:/run/web1.qmp --model ehci --name fast
  vusb controller add xen:web1                           prints pv0
  vusb controller add xen:web1 --backend usbvm           usbvm's devices
  vusb controller add sim:play.json --dry-run            changes nothing

In another tool's file, the defaults are those of that tool: libvirt's model for the machine, \
xl's 8 ports, VMware's or VirtualBox's xHCI.

A Xen PV or PVH guest gets a pv controller, which the vusb-backend of the backend domain serves. \
An HVM guest gets an emulated controller by default. A pv controller carries only devices of its \
backend domain.";

/// `vusb controller remove --help`.
pub(crate) const CONTROLLER_REMOVE: &str = "\
A controller with devices is only removed with --force, together with its devices. A pv \
controller is removed when the guest has released it; with --force, without the guest's consent.

Examples:
  vusb controller remove qemu:/run/web1.qmp hci0
  vusb controller remove qemu:/run/web1.qmp 1 --force";

/// `vusb controller list --help`.
pub(crate) const CONTROLLER_LIST: &str = "\
Examples:
  vusb controller list qemu:/run/web1.qmp
  vusb controller list web1 --json | jq -r '.controllers[].name'";

/// `vusb domain --help`.
pub(crate) const DOMAIN: &str = "\
A domain is recorded when vusb first changes it. Each name belongs to one domain.

Examples:
  vusb domain list
  vusb domain rename qemu:/run/web1.qmp web1
  vusb domain forget web1";

/// `vusb domain list --help`.
pub(crate) const DOMAIN_LIST: &str = "\
STATE:
  running     the guest runs
  gone        the guest has ended; `vusb apply DOMAIN` restores it when it runs
              again, `vusb domain forget DOMAIN` deletes its record
  unknown     the hypervisor cannot be asked now

CLAIMS are the host devices and images that no other domain can have. Those of a guest that has \
ended are released.

Examples:
  vusb domain list
  vusb domain list --json | jq -r '.domains[].address'";

/// `vusb domain rename --help`.
pub(crate) const DOMAIN_RENAME: &str = "\
The guest need not run. If a spec names the domain, change its `domain` too.

Examples:
  vusb domain rename web1 shop
  vusb domain rename qemu:/run/web1.qmp web1";

/// `vusb domain export --help`.
pub(crate) const DOMAIN_EXPORT: &str = "\
Prints the record, without what is only valid on this machine. The guest need not run.

Examples:
  vusb domain export web1 > web1.record
  vusb domain export web1 | ssh other vusb domain import /dev/stdin";

/// `vusb domain import --help`.
pub(crate) const DOMAIN_IMPORT: &str = "\
`vusb apply DOMAIN` or `vusb resume DOMAIN` then gives the guest what is recorded, at the same \
places. A host device that was named by its port is named by its ids and serial number here.

Examples:
  vusb domain import web1.record
  vusb domain import web1.record --as qemu:/run/web1.qmp";

/// `vusb suspend --help`.
pub(crate) const SUSPEND: &str = "\
Takes the host devices out of a running guest, for a snapshot, a save or a migration. They keep \
their places in the record, and no other domain gets them. Nothing puts them back until `vusb \
resume`: neither `vusb apply` nor --all. If one cannot be taken out, all are put back.

Examples:
  vusb suspend web1
  virsh save web1 web1.save                the host has the devices now
  virsh restore web1.save
  vusb resume web1";

/// `vusb resume --help`.
pub(crate) const RESUME: &str = "\
Puts the host devices of a suspended domain back at the same places, and restores what else is \
recorded, for example after the guest was started again. A device that is not plugged in is \
reported; `vusb apply` restores it later. If vusbd runs, it no longer holds back the devices of the \
domain that were detached by hand, even if the domain is not suspended.

Examples:
  vusb resume web1";

/// `vusb domain forget --help`.
pub(crate) const DOMAIN_FORGET: &str = "\
For a guest that will not return. The record, an interrupted change and the claims are deleted. The \
guest itself is not changed: if it runs, the command needs --force, and says what stays plugged in.

Examples:
  vusb domain forget web1
  vusb domain forget qemu:/run/web1.qmp --force";

/// `vusb device --help`.
pub(crate) const DEVICE: &str = "\
Examples:
  vusb device add qemu:/run/web1.qmp 0781:5581 --name stick
  vusb device list qemu:/run/web1.qmp
  vusb device remove qemu:/run/web1.qmp stick";

/// `vusb device add --help`.
pub(crate) const DEVICE_ADD: &str = "\
DEVICE, a USB device of this machine (`vusb host list`):
  0781:5581         by vendor and product
  0781:5581:SERIAL  by vendor, product and serial number
  1-4.2             by bus and chain of ports
  003.014           by bus and address, as in lsusb; changes at each plug
  pci-0000:00:14.0-usb-0:4.2
                    by its port path, which does not change at a reboot
  /dev/bus/usb/003/014, /dev/sdb, /dev/ttyUSB0
                    the device with this node
  mapping:NAME      the device that a Proxmox VE cluster has this name for
  host:SELECTOR     any of the above

DEVICE, emulated by the hypervisor:
  storage:FILE[,readonly][,format=raw|qcow2][,serial=S][,removable=on]
                    a stick with the content of a file or of a block device
  storage:FILE,media=cdrom[,serial=S]
                    a CD drive with this disc
  tablet, mouse, keyboard
                    full speed; tablet:usbversion=2 is high speed as well
  hub               8 ports; hub:ports=4 has 4
  serial:CHARDEV    a serial adapter; its other end is pty, null, file:PATH,
                    unix:PATH[,server], tcp:HOST:PORT[,server] or id:ID
  redir:ADDRESS     usbredir from tcp:HOST:PORT, unix:PATH or spicevmc
  net[:user|none|id:ID][,mac=MAC]
                    a network card
  audio[:ID]        a sound card
  mtp:DIR[,writable]
                    a folder, as a media player
  ccid              a smart card reader

Prints the location of the device as CONTROLLER:PORT. If the domain already has the device there, \
nothing is done and the command succeeds. Disks in use, the network card with the default route \
and the only keyboard of this machine are protected: they are only attached with --force. Hubs of \
this machine are never attached.

Several devices are attached together or not at all; each prints its location.

With --when-there, a host device that is not plugged in is recorded, and its port is kept. Name it \
by vendor and product or by its port. `vusb apply DOMAIN` attaches it once it is plugged in.

Examples:
  vusb device add qemu:/run/web1.qmp storage:stick.img   prints hci0:1
  vusb device add qemu:/run/web1.qmp 0781:5581 --name stick
  vusb device add qemu:/run/web1.qmp tablet keyboard 1-4.2
  vusb device add qemu:/run/web1.qmp 0781:5581 --when-there
  vusb device add qemu:/run/web1.qmp tablet --controller hci0 --port 3
  vusb device add qemu:/run/web1.qmp hub --port 2
  vusb device add qemu:/run/web1.qmp mouse --port 2.1    into that hub";

/// `vusb device remove --help`.
pub(crate) const DEVICE_REMOVE: &str = "\
DEVICE, as in `vusb list`:
  stick          by its name
  0781:5581      a host device, by any selector, plugged in or not
  hci0:1         by its location: CONTROLLER:PORT

Several devices are detached together or not at all.

Examples:
  vusb device remove qemu:/run/web1.qmp stick
  vusb device remove qemu:/run/web1.qmp hci0:1 tablet0
  vusb device remove web1 stick --force     even if web1 has ended";

/// `vusb device move --help`.
pub(crate) const DEVICE_MOVE: &str = "\
Prints the new location. The guest sees the device unplugged and plugged in again. If it cannot be \
plugged in there, it is plugged in where it was. Devices behind a hub move with it. In a file, \
only the address of the device changes.

Examples:
  vusb device move qemu:/run/web1.qmp stick --controller hci1
  vusb device move qemu:/run/web1.qmp hci0:1 --port 4
  vusb device move web1.xml 0781:5581 --port 2.1     behind the hub at port 2";

/// `vusb device list --help`.
pub(crate) const DEVICE_LIST: &str = "\
Examples:
  vusb device list qemu:/run/web1.qmp
  vusb device list web1 --json | jq -r '.devices[].at'";

/// `vusb list --help`.
pub(crate) const LIST: &str = "\
STATE of a controller:
  present     the guest has it
  broken      it is disconnected; `vusb apply DOMAIN` recreates it
  missing     it is recorded, but the guest does not have it, for example after
              a restart; `vusb apply DOMAIN` restores it
  unknown     it is recorded, but the guest cannot be asked now: it is
              unreachable, or another command is changing it

STATE of a device:
  attached    the guest sees it
  absent      it has its port, but the host device is unplugged, or no peer is
              connected
  offered     the guest was notified of it and has not taken it yet
  configured  it is in the file of a guest that does not run
  missing     as for controllers
  suspended   it was taken out; `vusb resume DOMAIN` puts it back
  unknown     as for controllers

A domain whose guest has ended is marked \"gone\", and its record is shown.

Items of the hypervisor's command line or of another tool are marked \"not vusb's\": `vusb apply` \
does not change them.

With --tree, the devices are drawn as they are connected. Host devices have the port of this \
machine that they are plugged into. The states that occur are explained below.

Examples:
  vusb list
  vusb list --tree --ascii
  vusb list qemu:/run/web1.qmp
  vusb list web1.xml
  vusb list ./start-web1.sh --from qemu-args      a script that starts a QEMU
  vusb list web1 --json";

/// `vusb plan --help`.
pub(crate) const PLAN: &str = "\
If the spec has a `driver`: prints the steps that `vusb apply` would take, one per line; none if \
the domain already matches. Without a `driver`, and for other tools' files: prints the hardware of \
a guest that is started with it. For a domain: prints the steps that restore what is recorded for \
it. Nothing is changed.

A spec:
  domain = \"web1\"
  driver = \"qemu:/run/web1.qmp\"
  [[controller]]
  usbversion = 3
  [[device]]
  host = \"0781:5581\"            # or kind = \"storage\", file = \"stick.img\"
  controller = \"hci0\"           # controller, port and name are optional
  port = \"1\"

Examples:
  vusb plan web1.toml
  vusb plan web1.toml --exit-code
  vusb plan web1.toml --json | jq .controllers";

/// `vusb apply --help`.
pub(crate) const APPLY: &str = "\
With a spec: adds what the domain lacks, and removes what an earlier version of the spec had and \
this one lacks. What was added with `device add` or `controller add` is kept and reported; --prune \
removes it. An item that the spec has belongs to the spec from then on. Items of other tools are \
not touched. If a step fails, the steps before it are undone.

A spec without a `driver` is a plan for a guest that is started with it, and is refused here, even \
if a recorded domain has its name: `vusb plan` and `vusb qemu-args` take it.

With a domain: restores what is recorded for it and missing, for example after the guest was \
restarted or a host device was replugged. A device that another domain holds, or that cannot be \
attached for another reason, does not keep the others from being restored: it is reported, and the \
exit code says why. --all does this for every recorded domain whose guest runs; a domain that fails \
does not stop the others.

`vusb plan --help` shows a spec.

Examples:
  vusb apply web1.toml
  vusb apply web1
  vusb apply web1.toml --dry-run
  vusb apply --all";

/// `vusb host --help`.
pub(crate) const HOST: &str = "\
Examples:
  vusb host list";

/// `vusb host list --help`.
pub(crate) const HOST_LIST: &str = "\
BUSID, AT, ID and, with -v, PATH are selectors: `vusb device add` takes each of them. HOLDER is \
the domain that has the device, according to the records, or else the program that uses it. \
PROTECTED is why `vusb device add` needs --force. Names and serial numbers come from the devices \
themselves and may be false.

Examples:
  vusb host list
  vusb host list -v
  vusb host list --backend usbvm       what usbvm's vusb-backend can export
  vusb host list --json | jq -r '.devices[] | select(.holder == null).busid'";

/// `vusb rules --help`.
pub(crate) const RULES: &str = "\
Rules are in /usr/lib/vusb/rules.d and /etc/vusb/rules.d, in files *.toml. A file in the second \
folder replaces one with the same name in the first; a link to /dev/null removes it.

  [[rule]]
  name   = \"licence dongle\"
  id     = \"0529:*\"            also: port, has, only, text, removable
  attach = \"licence\"           or: ask, allow, deny

The most specific rule decides, whatever the order. Among equals deny beats ask, ask beats \
attach, attach beats allow. `final = true` beats everything.

Examples:
  vusb rules check
  vusb rules list
  vusb rules import usb-policy.conf
  vusb explain 1-4.2 web1";

/// `vusb rules check --help`.
pub(crate) const RULES_CHECK: &str = "\
Mistakes are errors, and the exit code is 2. A rule that can never decide is a warning.

Examples:
  vusb rules check
  vusb rules check my-rules.toml";

/// `vusb rules import --help`.
pub(crate) const RULES_IMPORT: &str = "\
Prints the rule file, and reports what could not be expressed. Read both before you use it: here \
the most specific rule decides, not the first one.

Examples:
  vusb rules import /etc/xensource/usb-policy.conf > 50-xapi.toml
  vusb rules import /etc/usbguard/rules.conf
  vusb rules import /var/lib/qubes/qubes.xml
  vusb rules import config.json --of vhotplug --json | jq -r '.lost[]'";

/// `vusb rules list --help`.
pub(crate) const RULES_LIST: &str = "\
Examples:
  vusb rules list
  vusb rules list --json | jq -r '.rules[] | select(.action == \"deny\").name'";

/// `vusb explain --help`.
pub(crate) const EXPLAIN: &str = "\
The first lines say what happens to the device automatically. The first table shows which domains \
may get it by hand. The second one shows the verdict of each rule: why the device does not match, \
or how specific the match is, and which rule beats it.

A device that is not plugged in is described by options. Properties without an option are unknown \
and match no rule.

Examples:
  vusb explain 1-4.2
  vusb explain 0781:5581 web1
  vusb explain --id 0781:5581 --has storage web1";

/// `vusb watch --help`.
pub(crate) const WATCH: &str = "\
On a terminal, all guests are drawn as by `vusb list --tree`. They are drawn again after each \
change, and the changes are marked. Everything is read again when a device is plugged in or \
unplugged, when a guest starts or ends, when vusb changes something, and at each event of vusbd, if \
it runs. Keys: q ends, r reads again, the arrow keys and the space bar scroll.

Elsewhere, and with --events, --since or --json, the events of vusbd are printed. Each is one line: \
its number, what it is, and what happened. With --json each is an object. A question is answered \
with `vusb answer`. The command ends when vusbd does. Without a terminal, --tree prints the trees \
after each change.

Examples:
  vusb watch
  vusb watch --tree > trees.txt
  vusb watch --events --since 0
  vusb watch --json | jq -r 'select(.event == \"failed\").text'";

/// `vusb web --help`.
pub(crate) const WEB: &str = "\
Prints the address of the page. It contains a secret: a user who knows it may do on the page what \
you may do. The page shows this machine, its rules and its guests, and is drawn again after each \
change. A click on a device shows what the rules mean for it, and attaches or detaches it, without \
--force; questions of vusbd are answered there too. Only programs of this machine can connect. The \
command runs until it is interrupted.

Examples:
  vusb web
  vusb web --port 8000 --read-only
  vusb web --socket ~/vusb.sock       for ssh -L 8000:vusb.sock HOST";

/// `vusb answer --help`.
pub(crate) const ANSWER: &str = "\
Prints the location of the device in the guest. Without an answer, nothing happens.

Examples:
  vusb answer 17 web1
  vusb answer 17 web1 --remember";

/// `vusb models --help`.
pub(crate) const MODELS: &str = "\
The first table shows each model, and what this machine's hypervisors can do with it: hot (at any \
time), cold (when the guest starts), no (never), or - (the hypervisor is not installed or does \
not reply). The column QEMU describes the installed QEMU. The column Xen describes the device \
model of an HVM guest and the vusb-backend of domain 0. On a q35 machine, hot also needs a free PCI \
Express root port: see `vusb qemu-args --spare-slots`.

The second table shows the name of each model: for QEMU's -device, for xl's usbctrl (type and \
version), for libvirt, as the key of a VMX file, and for VBoxManage. The controllers of VMware \
and VirtualBox are similar to these models, not identical. VirtualBox's OHCI and EHCI have 12 ports.

With DOMAIN, the tables show which controllers and devices this guest can be given now, which from \
its next start, and why not. A file and a guest that does not run get everything at the next start.

Examples:
  vusb models
  vusb models libvirt:web1
  vusb models --json | jq -r '.models[] | select(.here.qemu == \"hot\").name'";

/// `vusb digest --help`.
pub(crate) const DIGEST: &str = "\
Equal digests mean that a guest cannot tell the difference. Names, indexes and the files behind \
devices are not included. The PCI addresses of controllers are only included with --pci: they are \
unknown until the guest has started once.

Examples:
  vusb digest web1.toml
  test \"$(vusb digest web1)\" = \"$(vusb digest web1.toml)\"";

/// `vusb convert --help`.
pub(crate) const CONVERT: &str = "\
Values that the file leaves open are filled in as its own tool does. The new text specifies all of \
them, so the digest stays the same. If the new format cannot express something, the command \
lists it and fails, unless --lossy is given. Only the USB hardware, the name, the memory and the \
processors are converted; of a running guest, the USB hardware and the name.

With --nearest, the guest may get other hardware: each controller that the new format lacks becomes \
the nearest one that takes its devices, and the devices keep their ports if they can. A note lists \
each difference that the guest sees. No device is left out, except a hub that is not needed.

A note lists the host devices and images that are protected or that another domain holds.

Examples:
  vusb convert web1.cfg --to libvirt > web1.xml
  vusb convert web1.xml --to vusb
  vusb convert qemu:/run/web1.qmp --to libvirt
  virsh dumpxml web1 | vusb convert /dev/stdin --from libvirt --to xl
  vusb convert web1.vmx --to libvirt --for kvm --nearest > web1.xml
  vusb convert web1.vmx --to xl --lossy > web1.cfg
  vusb convert web1.vbox --to libvirt --for kvm --nearest > web1.xml";

/// `vusb qemu-args --help`.
pub(crate) const QEMU_ARGS: &str = "\
The arguments are for a QEMU without its own USB: no -usb, and -machine usb=off where the machine \
has USB by default. They are quoted for a shell; with --json they are an array. For a libvirt \
configuration they are those that libvirt passes, including the PCI buses that the controllers \
are on.

A host device that is not plugged in is left out with a note, and its port stays free: `vusb apply` \
attaches it later. With --strict, and for a device that libvirt requires at start (startupPolicy), \
the command fails. It also fails for a device that another domain holds or that is protected; with \
--force, that is a note.

For a domain, the arguments start a guest with the hardware that it has, or that is recorded for it.

Examples:
  eval \"qemu-system-x86_64 -m 1G $(vusb qemu-args web1.toml)\"
  vusb qemu-args web1.toml --spare-slots 2
  vusb qemu-args web1.toml --json | jq -r '.arguments[]'";

/// `vusb completions --help`.
pub(crate) const COMPLETIONS: &str = "\
Examples:
  vusb completions bash > /etc/bash_completion.d/vusb
  vusb completions fish > ~/.config/fish/completions/vusb.fish";
