//! What `--help` says below the options: what each thing may be, and examples.

/// `vusb --help`.
pub(crate) const TOP: &str = "\
DOMAIN, a virtual machine:
  qemu:SOCKET   a running QEMU, by its QMP socket, which it makes with
                -qmp unix:SOCKET,server=on,wait=off
  xen:NAME      a guest of Xen, by its name or id: see `xl list`
  sim:FILE      a simulated hypervisor in a file, to learn and to try things
  FILE          a guest that does not run, by its configuration: .toml (a spec),
                .xml (libvirt), .cfg (xl), .json (libxl), .vmx (VMware)
  NAME          one on record: the `domain` of a spec that was applied

Examples:
  vusb device add qemu:/run/web1.qmp storage:stick.img   a stick from a file
  vusb device add qemu:/run/web1.qmp 0781:5581           this machine's device
  vusb list qemu:/run/web1.qmp                           what the guest has
  vusb apply web1.toml                                   what a spec says
  vusb device add web1.xml 0781:5581                     for its next start
  eval \"qemu-system-x86_64 -m 1G $(vusb qemu-args web1.toml)\"

Exit codes:
  0  done, or already so            5  refused: this machine needs it (--force)
  1  failed                         6  no free port, or none of the right speed
  2  wrong usage                    7  the hypervisor cannot be reached
  3  not found                      8  it took too long
  4  busy, or another domain's      9  not implemented by this hypervisor";

/// `vusb controller --help`.
pub(crate) const CONTROLLER: &str = "\
CONTROLLER is a controller's name (hci0) or its index (0).

Examples:
  vusb controller add qemu:/run/web1.qmp --usbversion 3
  vusb controller list qemu:/run/web1.qmp
  vusb controller remove qemu:/run/web1.qmp hci0";

/// `vusb controller add --help`.
pub(crate) const CONTROLLER_ADD: &str = "\
All options may be left out: the default is a qemu-xhci for emulated, a xenusb2 for pv. The same request always \
gives the same controller. To ask for a name that the domain has already, with the same properties, is no error: \
it is already so.

  --usbversion  emulated                                     pv
  1             piix3-uhci: low and full speed               xenusb1
  2             ich9-ehci1 with 3 companions: up to high     xenusb2
  3             nec-xhci: all speeds                         none: refused

Examples:
  vusb controller add qemu:/run/web1.qmp                 prints hci0
  vusb controller add qemu:/run/web1.qmp --usbversion 3 --ports 4
  vusb controller add qemu:/run/web1.qmp --model ehci --name fast
  vusb controller add xen:web1                           prints pv0
  vusb controller add xen:web1 --backend usbvm           usbvm's devices
  vusb controller add sim:play.json --dry-run            only says what

In another tool's file, what is left open is what that tool would fill in: libvirt's model for the machine, xl's \
8 ports, VMware's xHCI.

A Xen guest that is PV or PVH gets a pv controller, which a vusb-backend in the backend domain serves; one that is \
HVM gets an emulated one unless it is asked otherwise. A pv controller takes devices of the backend's machine alone.";

/// `vusb controller remove --help`.
pub(crate) const CONTROLLER_REMOVE: &str = "\
A controller with devices on it goes with --force only, and they go with it. A pv controller goes once the guest has let go of \
it; with --force, without asking the guest.

Examples:
  vusb controller remove qemu:/run/web1.qmp hci0
  vusb controller remove qemu:/run/web1.qmp 1 --force";

/// `vusb controller list --help`.
pub(crate) const CONTROLLER_LIST: &str = "\
Examples:
  vusb controller list qemu:/run/web1.qmp
  vusb controller list web1 --json | jq -r '.controllers[].name'";

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
  0781:5581:SERIAL  and serial number
  1-4.2             by bus and chain of ports
  003.014           by bus and address, as lsusb has it: another at each plug
  pci-0000:00:14.0-usb-0:4.2
                    by its path, which a reboot does not change
  host:SELECTOR     any of the above

DEVICE, made up by the hypervisor:
  storage:FILE[,readonly][,format=raw|qcow2]
                    a stick whose content is a file
  tablet, mouse, keyboard
                    at full speed; tablet:usbversion=2 at high speed too
  hub               with 8 ports; hub:ports=4 with 4
  serial:CHARDEV    a serial adapter; its other end is pty, null, file:PATH,
                    unix:PATH[,server], tcp:HOST:PORT[,server] or id:ID
  redir:ADDRESS     usbredir from tcp:HOST:PORT, unix:PATH or spicevmc
  net[:user|none|id:ID][,mac=MAC]
                    a network card
  audio[:ID]        a sound card
  mtp:DIR[,writable]
                    a folder, as a media player
  ccid              a smart card reader

The place is printed as CONTROLLER:PORT. To ask for a device that is plugged in already is no error: it is already \
so. Disks that are mounted, the only network card and the only keyboard of this machine are refused without \
--force; hubs are always refused.

Examples:
  vusb device add qemu:/run/web1.qmp storage:stick.img   prints hci0:1
  vusb device add qemu:/run/web1.qmp 0781:5581 --name stick
  vusb device add qemu:/run/web1.qmp tablet --controller hci0 --port 3
  vusb device add qemu:/run/web1.qmp hub --port 2
  vusb device add qemu:/run/web1.qmp mouse --port 2.1    into that hub";

/// `vusb device remove --help`.
pub(crate) const DEVICE_REMOVE: &str = "\
DEVICE, as `vusb list` shows it:
  stick          by its name
  0781:5581      a host device, by any selector that names it, plugged in or not
  hci0:1         by its place: CONTROLLER:PORT

Examples:
  vusb device remove qemu:/run/web1.qmp stick
  vusb device remove qemu:/run/web1.qmp hci0:1
  vusb device remove web1 stick --force     also if web1 is gone for good";

/// `vusb device list --help`.
pub(crate) const DEVICE_LIST: &str = "\
Examples:
  vusb device list qemu:/run/web1.qmp
  vusb device list web1 --json | jq -r '.devices[].at'";

/// `vusb list --help`.
pub(crate) const LIST: &str = "\
STATE:
  attached   the guest sees it
  absent     it has its port, and is not there: it was unplugged from this
             machine, or nobody is connected
  offered    the guest was told of it and has not taken it yet
  missing    it is recorded and the guest does not have it, after a restart for
             one: `vusb apply DOMAIN` puts it back
  unknown    it is recorded, and the guest cannot be asked now, for another
             command is at work on it or the hypervisor is silent
  broken     a controller that carries nothing any more: `vusb apply DOMAIN`
             makes it anew
  configured it is in the file of a guest that does not run
What the hypervisor's command line or another tool made is marked as not vusb's.

Examples:
  vusb list
  vusb list qemu:/run/web1.qmp
  vusb list web1.xml
  vusb list web1 --json";

/// `vusb plan --help`.
pub(crate) const PLAN: &str = "\
With a `driver` in the spec: the steps that `vusb apply` would take, one a line; none if the domain is what the spec \
says. Without one: the hardware that a guest gets that is started with it. Nothing is changed.

A spec:
  domain = \"web1\"
  driver = \"qemu:/run/web1.qmp\"
  [[controller]]
  usbversion = 3
  [[device]]
  host = \"0781:5581\"            # or kind = \"storage\", file = \"stick.img\"
  controller = \"hci0\"           # controller, port and name may be left out
  port = \"1\"

Examples:
  vusb plan web1.toml
  vusb plan web1.toml --json | jq .controllers";

/// `vusb apply --help`.
pub(crate) const APPLY: &str = "\
With a spec: what is not there is added, what vusb added earlier and the spec does not have is removed, what others \
made is left alone. If a step fails, those before it are taken back.

With a domain: what is recorded of it is put back, after the guest was restarted for one.

`vusb plan --help` shows what a spec looks like.

Examples:
  vusb apply web1.toml
  vusb apply web1
  vusb apply web1.toml --dry-run";

/// `vusb host --help`.
pub(crate) const HOST: &str = "\
Examples:
  vusb host list";

/// `vusb host list --help`.
pub(crate) const HOST_LIST: &str = "\
BUSID, AT and ID are selectors: each can be given to `vusb device add`, and so can the PATH that -v adds. What a \
device says of itself need not be true.

Examples:
  vusb host list
  vusb host list -v
  vusb host list --backend usbvm       what usbvm's vusb-backend could lend
  vusb host list --json | jq -r '.devices[] | select(.holder == null).busid'";

/// `vusb models --help`.
pub(crate) const MODELS: &str = "\
The first table says what each model is and what this machine can do with it: hot is at any time, cold when the \
guest starts, no never, and - that there is nobody to ask. QEMU is the one that is installed; Xen, what is emulated for \
an HVM guest and what the vusb-backend of domain 0 serves. On q35 hot also needs a free PCI Express root port: see \
`vusb qemu-args --spare-slots`.

The second says what each is called: by QEMU's -device, by a usbctrl of xl (type and version), by libvirt, by the key of \
a VMX file, by VBoxManage. VMware's and VirtualBox's own controllers are like these models, and not the same.

Examples:
  vusb models
  vusb models --json | jq -r '.models[] | select(.here.qemu == \"hot\").name'";

/// `vusb digest --help`.
pub(crate) const DIGEST: &str = "\
Equal digests mean that the guest cannot tell the difference. Names, indexes and the files behind devices do not \
count. Where controllers sit on PCI is not known before a guest has started once, so it counts with --pci only.

Examples:
  vusb digest web1.toml
  test \"$(vusb digest web1)\" = \"$(vusb digest web1.toml)\"";

/// `vusb convert --help`.
pub(crate) const CONVERT: &str = "\
What the file leaves open is filled in as its own tool does it (libvirt, libxl), and the new text says all of it, so \
that the digest stays the same. What the other format cannot say is listed and refused, unless --lossy is given. Only \
the USB is carried over, with the guest's name, memory and processors: the rest of a configuration is another matter.

Examples:
  vusb convert web1.cfg --to libvirt > web1.xml
  vusb convert web1.xml --to vusb
  virsh dumpxml web1 | vusb convert /dev/stdin --from libvirt --to xl
  vusb convert web1.vmx --to xl --lossy > web1.cfg";

/// `vusb qemu-args --help`.
pub(crate) const QEMU_ARGS: &str = "\
The arguments are for a QEMU without USB of its own: no -usb, and -machine usb=off where the machine has one. They \
are quoted for a shell; with --json they are an array. For libvirt's XML they are as libvirt writes them, and bring \
the PCI buses that the controllers are on.

Examples:
  eval \"qemu-system-x86_64 -m 1G $(vusb qemu-args web1.toml)\"
  vusb qemu-args web1.toml --spare-slots 2
  vusb qemu-args web1.toml --json | jq -r '.arguments[]'";

/// `vusb completions --help`.
pub(crate) const COMPLETIONS: &str = "\
Examples:
  vusb completions bash > /etc/bash_completion.d/vusb
  vusb completions fish > ~/.config/fish/completions/vusb.fish";
