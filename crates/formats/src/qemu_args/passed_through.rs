//! The host devices that a running QEMU got from its command line.

use std::collections::BTreeSet;

use vusb_model::selector::{BusAddress, Pattern, Selector, UsbId};

use super::device::Properties;
use super::options::Options;
use super::words::Word;
use super::{kinds, readconfig, words};

/// What a command line passes through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassedThrough {
    /// The conditions of each USB device (`-device usb-host`, `-usbdevice host:`). QEMU takes any
    /// device that matches, as soon as there is one.
    pub host_devices: Vec<Selector>,
    /// The nodes of block devices that are disks of the guest: paths below `/dev`.
    pub disks: Vec<String>,
    /// Whether the command line has more than is read, so that items may be missing. Any user can
    /// start a process with such a command line; no guest needs one.
    pub is_cut: bool,
}

/// How many arguments are read, with those in the files of `-readconfig`. Long command lines have a
/// few hundred.
const MAX_ARGUMENTS: usize = 1 << 15;

/// How many host devices are read, how many `-set`, and how many disks. A guest has at most a few
/// dozen.
const MAX_ITEMS: usize = 1000;

/// A command line that contains none of these texts passes nothing through.
const NEEDED: [&str; 4] = ["usb-host", "usbdevice", "readconfig", "/dev/"];

/// Whether a command line may pass something through. Most command lines do not, and need not be
/// parsed.
pub fn may_pass_through(command_line: &str) -> bool {
    NEEDED.iter().any(|it| command_line.contains(it))
}

/// Reads a command line, with a NUL after each argument (`/proc/PID/cmdline`). `load` returns the
/// content of a file of `-readconfig`, and is called at most once for each of 16 files. The time
/// grows with the length of the command line, whatever it contains. No item is there twice.
pub fn passed_through(command_line: &str, load: &dyn Fn(&str) -> Option<String>) -> PassedThrough {
    if !may_pass_through(command_line) {
        return PassedThrough::default();
    }
    let (command_line, is_long) = first_arguments(command_line);
    let expanded = readconfig::expanded(command_line, load);
    let (arguments, is_longer) = first_arguments(&expanded.text);
    let (words, has_more) = relevant(words::qemu(arguments));
    let options = Options::read(&words);
    let devices = options.devices.iter().map(|it| &it.device);
    // With `hostdevice`, QEMU ignores the other conditions. Its value may be a descriptor or a
    // link, neither of which identifies a device that is plugged in later.
    let is_named = |it: &&Properties| {
        it.get("hostdevice").is_none_or(|node| node.is_empty() || node.parse::<Selector>().is_ok())
    };
    let hosts = devices.filter(|it| it.driver() == "usb-host");
    let by_device = hosts.filter(is_named).map(kinds::selector);
    let short = options.usbdevices.iter().filter_map(|(value, _)| {
        let (kind, conditions) = value.split_once(':')?;
        (kind == "host").then(|| short_selector(conditions))
    });
    let files = options.back_ends.blocks.values().chain(&options.drives);
    let keys = ["filename", "file.filename", "file"];
    let files = files.filter_map(|it| keys.into_iter().find_map(|key| it.get(key)));
    let files = files.chain(options.images.iter().map(String::as_str));
    let disks = files.map(|it| it.strip_prefix("host_device:").unwrap_or(it));
    let mut disks = disks.filter(|it| it.starts_with("/dev/") && !it.contains("/../"));
    let disks_read = different(disks.by_ref().map(str::to_owned).take(MAX_ITEMS));
    PassedThrough {
        host_devices: different(by_device.chain(short)),
        disks: disks_read,
        is_cut: is_long || expanded.is_cut || is_longer || has_more || disks.next().is_some(),
    }
}

/// Each item once, in their order.
fn different<T: Clone + Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut known = BTreeSet::new();
    items.filter(|it| known.insert(it.clone())).collect()
}

/// The first arguments, and whether there are more.
fn first_arguments(text: &str) -> (&str, bool) {
    let end = text.match_indices('\0').nth(MAX_ARGUMENTS - 1).map_or(text.len(), |(at, _)| at + 1);
    let (first, more) = text.split_at_checked(end).unwrap_or((text, ""));
    (first, !more.is_empty())
}

/// The words without those `-device` options that are no host devices, and whether some were too
/// many. A guest has dozens of other devices, and parsing their JSON would take most of the time.
/// What `-global` sets does not matter here either.
fn relevant(words: Vec<Word>) -> (Vec<Word>, bool) {
    let mut kept = Vec::with_capacity(words.len());
    let (mut devices, mut sets, mut is_cut) = (0, 0, false);
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let is_other = |value: &Word| !value.text.contains("usb-host");
        let option = word.text.strip_prefix('-').map(|it| it.strip_prefix('-').unwrap_or(it));
        let count = match option {
            Some("device") if words.next_if(is_other).is_some() => continue,
            Some("device" | "usbdevice") => &mut devices,
            Some("set") => &mut sets,
            Some("global") => {
                words.next();
                continue;
            }
            _ => {
                kept.push(word);
                continue;
            }
        };
        *count += 1;
        if *count <= MAX_ITEMS {
            kept.push(word);
        } else {
            words.next();
            is_cut = true;
        }
    }
    (kept, is_cut)
}

/// The conditions of `-usbdevice host:1.4` or `host:0781:5581`, which old versions of QEMU have.
/// Anything else (`auto:*.*`) matches any device.
fn short_selector(conditions: &str) -> Selector {
    let address = || {
        let (bus, address) = conditions.split_once('.')?;
        let (bus, address) = (bus.parse().ok()?, address.parse().ok()?);
        Some(Selector::Address(BusAddress { bus, address }))
    };
    let id = || {
        let (vendor, product) = conditions.split_once(':')?;
        let hex = |text| u16::from_str_radix(text, 16).ok();
        Some(Selector::Id {
            id: UsbId { vendor: hex(vendor)?, product: hex(product)? },
            serial: None,
        })
    };
    address().or_else(id).unwrap_or_else(|| Pattern::default().selector())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(line: &str) -> PassedThrough {
        let file =
            "[device \"stick\"]\n  driver = \"usb-host\"\n  hostbus = \"2\"\n  hostport = \"3\"\n";
        let load = |name: &str| (name == "usb.cfg").then(|| file.to_owned());
        passed_through(&(line.split(' ').collect::<Vec<_>>().join("\0") + "\0"), &load)
    }

    #[test]
    fn each_form_of_a_host_device() {
        for (arguments, selector) in [
            ("-device usb-host,hostbus=1,hostport=8.2", "1-8.2"),
            ("-device usb-host,vendorid=0x0781,productid=0x5581,id=x", "0781:5581"),
            ("-device usb-host,vendorid=1921,productid=21889", "0781:5581"),
            ("--device usb-host,hostbus=1,hostaddr=4", "001.004"),
            ("-device usb-host,hostdevice=/dev/bus/usb/001/004", "001.004"),
            ("-device usb-host,hostbus=1,vendorid=0x0781", "hostbus=1,vendorid=0x0781"),
            ("-device usb-host,hostport=8.2", "hostport=8.2"),
            ("-device usb-host,vendorid=0x0781", "vendorid=0x0781"),
            ("-device usb-host", "hostbus=any"),
            ("-device qemu-xhci -device usb-host,hostbus=1,hostport=2 -device a", "1-2"),
            ("-device usb-host,id=a -set device.a.hostbus=1 -set device.a.hostport=2", "1-2"),
            (r#"-device {"driver":"usb-host","hostbus":1,"hostport":"4.2"}"#, "1-4.2"),
            (r#"-device {"driver":"usb-host","vendorid":1921,"productid":21889}"#, "0781:5581"),
            (r#"-device {"driver":"usb-host","hostdevice":"/dev/bus/usb/001/004"}"#, "001.004"),
            ("-usbdevice host:1.4", "001.004"),
            ("-usbdevice host:0781:5581", "0781:5581"),
            ("-usbdevice host:auto:*.*", "hostbus=any"),
            ("-readconfig usb.cfg", "2-3"),
        ] {
            let found = passed(&format!("/usr/bin/qemu-system-x86_64 -S {arguments} -m 1G"));
            let found: Vec<_> = found.host_devices.iter().map(ToString::to_string).collect();
            assert_eq!(found, [selector], "{arguments}");
        }
        let two = passed(
            "kvm -device usb-host,hostbus=1,hostport=1 -usb -device usb-host,hostbus=1,hostport=2",
        );
        assert_eq!(two.host_devices.len(), 2);
    }

    #[test]
    fn a_command_line_without_host_devices() {
        for line in [
            "kvm -device usb-tablet -usbdevice tablet",
            "kvm -name usb-host",
            "kvm -device usb-host,hostdevice=/dev/fdset/2,vendorid=0x0781",
            "kvm -readconfig other.cfg",
            "kvm -drive file=/dev.img",
            "kvm",
            "",
        ] {
            assert_eq!(passed(line), PassedThrough::default(), "{line}");
        }
    }

    /// Any user can start a process with these arguments.
    #[test]
    fn the_work_for_a_command_line_is_limited() {
        let passed = |arguments: Vec<String>| passed(&format!("kvm {}", arguments.join(" ")));
        let counts = |it: &PassedThrough| (it.host_devices.len(), it.disks.len(), it.is_cut);
        let host = |number: usize| format!("-device usb-host,vendorid={number},productid=1");
        let disk = |number: usize| format!("-hda /dev/sd{number}");
        let set = |number: usize| format!("-set device.a.vendorid={number}");
        assert_eq!(counts(&passed((0..1000).map(host).collect())), (1000, 0, false));
        assert_eq!(counts(&passed((0..5000).map(host).collect())), (1000, 0, true));
        assert_eq!(counts(&passed((0..1000).map(disk).collect())), (0, 1000, false));
        assert_eq!(counts(&passed((0..5000).map(disk).collect())), (0, 1000, true));
        let sets =
            |count| (1..=count).map(set).chain(["-device usb-host,id=a".to_owned()]).collect();
        assert_eq!(counts(&passed(sets(1000))), (1, 0, false));
        let many = passed(sets(5000));
        assert_eq!(
            (many.host_devices[0].to_string().as_str(), many.is_cut),
            ("vendorid=0x03e8", true)
        );
        // The same item several times.
        let same = vec!["-device usb-host -hda /dev/sda".to_owned(); 900];
        assert_eq!(counts(&passed(same)), (1, 1, false));
        assert_eq!(counts(&passed(vec!["-readconfig usb.cfg".to_owned(); 16])), (1, 0, false));
        assert_eq!(counts(&passed(vec!["-readconfig usb.cfg".to_owned(); 17])), (1, 0, true));
        let unused = |count| {
            let unused = vec!["-S".to_owned(); count];
            counts(&passed([unused, vec![host(1)]].concat()))
        };
        assert_eq!(unused(MAX_ARGUMENTS - 3), (1, 0, false));
        assert_eq!(unused(MAX_ARGUMENTS), (0, 0, true));
        assert_eq!(counts(&passed(vec!["-hda /dev/../home/a".to_owned()])), (0, 0, false));
    }

    /// QEMU does not start with two devices of one id.
    #[test]
    fn a_property_is_set_once() {
        let line =
            "kvm -device usb-host,id=a -device usb-host,id=a,vendorid=1 -set device.a.hostport=2";
        let found: Vec<_> = passed(line).host_devices.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["hostport=2", "vendorid=0x0001"]);
    }

    #[test]
    fn each_form_of_a_disk() {
        for arguments in [
            "-drive file=/dev/sdb,format=raw,if=none,id=d",
            "-drive if=virtio,file=/dev/sdb",
            "-blockdev host_device,node-name=d,filename=/dev/sdb",
            r#"-blockdev {"driver":"host_device","node-name":"d","filename":"/dev/sdb"}"#,
            r#"-blockdev {"driver":"raw","node-name":"d","file":{"driver":"host_device","filename":"/dev/sdb"}}"#,
            "-hda /dev/sdb",
            "-cdrom /dev/sdb",
            "-drive file=host_device:/dev/sdb",
        ] {
            assert_eq!(passed(&format!("kvm {arguments}")).disks, ["/dev/sdb"], "{arguments}");
        }
    }
}
