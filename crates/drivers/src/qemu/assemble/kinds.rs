//! What kind each device is, from its driver and properties in QEMU.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;

use serde_json::Value;
use vusb_model::device::{
    Audio, Chardev, HostRef, Hub, Input, Kind, Media, Mtp, Net, NetBackend, Other, Redir, Serial,
    Storage,
};
use vusb_model::models::UsbVersion;
use vusb_model::selector::{BusAddress, Pattern, Selector};

use super::super::details::Details;
use super::super::names::{CD_BRIDGE, CD_DRIVE, parse_device_id};
use super::super::passed_files;
use super::super::qtree::Dev;

/// The kind of a device. What QEMU does not know or show (such as the selector of a host device) is
/// taken from `recorded`, the kind of the recorded device of the same name at the same address.
pub(super) fn kind(dev: &Dev, recorded: Option<&Kind>, details: &Details) -> Kind {
    let input = || {
        let high = dev.number("usb_version").is_none_or(|version| version >= 2);
        Input { usbversion: if high { UsbVersion::V2 } else { UsbVersion::V1 } }
    };
    let chardev = || chardev(dev.property("chardev").unwrap_or_default(), recorded, details);
    match dev.driver.as_str() {
        "usb-tablet" => Kind::Tablet(input()),
        "usb-mouse" => Kind::Mouse(input()),
        "usb-kbd" => Kind::Keyboard(input()),
        "usb-hub" => Kind::Hub(Hub { ports: hub_ports(dev) }),
        "usb-serial" => Kind::Serial(Serial { chardev: chardev() }),
        "usb-redir" => Kind::Redir(Redir { chardev: chardev() }),
        "usb-audio" => Kind::Audio(audio(dev, recorded)),
        "usb-net" => Kind::Net(net(dev, recorded)),
        "usb-mtp" => Kind::Mtp(mtp(dev)),
        "usb-ccid" => Kind::Ccid,
        "usb-storage" | CD_BRIDGE => storage(dev, details),
        "usb-host" => host(dev, recorded, &details.passed_paths),
        driver => Kind::Other(Other { driver: driver.to_owned() }),
    }
}

/// A disk or a CD drive. It is shown by its driver if it cannot be described: it has no image or
/// several drives, its image, format or serial number is unknown to the model, or it is a disk
/// behind `usb-bot`.
fn storage(dev: &Dev, details: &Details) -> Kind {
    let known = || {
        let mut drives = dev.buses.iter().flat_map(|bus| &bus.devices);
        let drive = drives.next().filter(|_| drives.next().is_none())?;
        let media = match (dev.driver.as_str(), drive.driver.as_str()) {
            (_, CD_DRIVE) => Media::Cdrom,
            // The guest sees the same disk as with `usb-storage`, but QEMU has two devices for
            // it.
            (CD_BRIDGE, _) => return None,
            _ => Media::Disk,
        };
        let node = drive.property("drive").filter(|node| !node.is_empty())?;
        let mut blocks = details.blocks.iter();
        let block = blocks.find(|block| block.names.iter().any(|name| name == node))?;
        let serial = |of: &Dev| of.property("serial").filter(|it| !it.is_empty()).map(str::parse);
        let storage = Storage {
            readonly: block.readonly,
            serial: serial(dev).or_else(|| serial(drive)).transpose().ok()?,
            removable: drive.property("removable") == Some("true"),
            ..Storage::new(block.file.as_str(), block.format.parse().ok()?)
        };
        Some(storage.with_media(media))
    };
    known().map_or_else(|| Kind::Other(Other { driver: dev.driver.clone() }), Kind::Storage)
}

/// The recorded character device, or else the one with this id in QEMU.
fn chardev(id: &str, recorded: Option<&Kind>, details: &Details) -> Chardev {
    if let Some(Kind::Serial(Serial { chardev }) | Kind::Redir(Redir { chardev })) = recorded {
        return chardev.clone();
    }
    let existing = || Chardev::Existing(id.to_owned());
    let Some(text) = details.chardevs.get(id) else { return existing() };
    parse_chardev(text, details.addresses.get(id)).unwrap_or_else(existing)
}

/// Parses the `filename` of a `query-chardev` answer, and the address if it is a socket. QEMU
/// prints `pty:/dev/pts/3`, `unix:/run/s,server=on`, `disconnected:tcp:::1:4000`, or with a peer
/// `tcp:127.0.0.1:4000,server=on <-> 127.0.0.1:5234`.
fn parse_chardev(text: &str, address: Option<&Value>) -> Option<Chardev> {
    let text = text.strip_prefix("disconnected:").unwrap_or(text);
    let (local, peer) =
        text.split_once(" <-> ").map_or((text, None), |(local, peer)| (local, Some(peer)));
    // A path may contain commas: only the endings that QEMU appends are options.
    let (endpoint, server) =
        match local.strip_suffix(",server=on").or_else(|| local.strip_suffix(",server")) {
            Some(endpoint) => (endpoint, true),
            None => (local, false),
        };
    if let Some(socket) = address.and_then(|address| parse_socket_address(address, server)) {
        return Some(socket);
    }
    match endpoint.split_once(':') {
        Some(("pty", _)) => Some(Chardev::Pty),
        Some(("unix", path)) if !path.is_empty() => {
            Some(Chardev::Unix { path: path.to_owned(), server })
        }
        Some(("tcp", local)) => {
            // A client's local port is arbitrary: the configured address is the peer's.
            let (host, port) = peer.filter(|_| !server).unwrap_or(local).rsplit_once(':')?;
            Some(Chardev::Tcp { host: bracketed(host), port: port.parse().ok()?, server })
        }
        None if endpoint == "null" => Some(Chardev::Null),
        None if endpoint == "spicevmc" => Some(Chardev::Spicevmc),
        _ => None,
    }
}

/// Parses a `SocketAddress`: `{"type": "inet", "host": "::1", "port": "4000"}`, `{"type": "unix",
/// "path": "/run/s"}`.
fn parse_socket_address(address: &Value, server: bool) -> Option<Chardev> {
    let text = |key: &str| address.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    match text("type")? {
        "inet" => {
            let (host, port) = (bracketed(text("host")?), text("port")?.parse().ok()?);
            Some(Chardev::Tcp { host, port, server })
        }
        "unix" => Some(Chardev::Unix { path: text("path")?.to_owned(), server }),
        _ => None,
    }
}

/// Puts an IPv6 address in brackets, as it is written before a port.
fn bracketed(host: &str) -> String {
    let bare = host.contains(':') && !host.starts_with('[');
    if bare { format!("[{host}]") } else { host.to_owned() }
}

fn hub_ports(dev: &Dev) -> u8 {
    dev.number("ports")
        .and_then(|ports| u8::try_from(ports).ok())
        .unwrap_or(vusb_model::device::HUB_PORTS)
}

/// The names that QEMU gives to its default audio back end: those of its audio drivers
/// (`audio_drivers` and the modules in its `audio` directory).
const DEFAULT_AUDIO: [&str; 12] = [
    "alsa",
    "coreaudio",
    "dbus",
    "dsound",
    "jack",
    "none",
    "oss",
    "pa",
    "pipewire",
    "sdl",
    "sndio",
    "spice",
];

/// The audio back end. For vusb's own device it is the recorded one, because QEMU shows the name of
/// its default back end if none was configured.
fn audio(dev: &Dev, recorded: Option<&Kind>) -> Audio {
    if let Some(Kind::Audio(audio)) = recorded {
        return audio.clone();
    }
    let configured = |id: &&str| !id.is_empty() && !DEFAULT_AUDIO.contains(id);
    Audio { audiodev: dev.property("audiodev").filter(configured).map(str::to_owned) }
}

fn net(dev: &Dev, recorded: Option<&Kind>) -> Net {
    let mac = dev.property("mac").and_then(|mac| mac.parse().ok());
    let backend = match (recorded, dev.property("netdev").unwrap_or_default()) {
        (Some(Kind::Net(net)), _) => net.backend.clone(),
        (_, "") => NetBackend::None,
        (_, id) if parse_device_id(id).is_some() => NetBackend::User,
        (_, id) => NetBackend::Existing(id.to_owned()),
    };
    Net { backend, mac }
}

fn mtp(dev: &Dev) -> Mtp {
    Mtp {
        dir: dev.property("rootdir").unwrap_or_default().to_owned(),
        writable: dev.property("readonly") == Some("false"),
    }
}

/// A host device. Only the record has the selector that it was requested by. Without a record, the
/// selector has the conditions that QEMU was given. The device is shown by its driver if QEMU can
/// never find it: the conditions are out of range.
fn host(dev: &Dev, recorded: Option<&Kind>, passed: &HashMap<String, String>) -> Kind {
    let given = given_selector(dev, passed);
    let bus_address = match &given {
        Some(Selector::Address(address)) => Some(*address),
        Some(Selector::Pattern(pattern)) => pattern.bus_address(),
        _ => None,
    };
    let selector = match recorded {
        Some(Kind::Host(host)) => Some(host.selector.clone()),
        _ => given,
    };
    match selector {
        Some(selector) => Kind::Host(HostRef { bus_address, ..HostRef::new(selector) }),
        None => Kind::Other(Other { driver: dev.driver.clone() }),
    }
}

/// The conditions that QEMU was given. `None` if it can never find a device. `passed` has the paths
/// of the nodes that were passed to it.
pub(super) fn given_selector(dev: &Dev, passed: &HashMap<String, String>) -> Option<Selector> {
    // With `hostdevice`, QEMU ignores the others (`usb_host_realize` in its `host-libusb.c`).
    if let Some(node) = dev.property("hostdevice").filter(|node| !node.is_empty()) {
        let node = passed_files::on_this_machine(node, passed);
        return node_address(&node).map(Selector::Address);
    }
    let mut pattern = Pattern::default();
    for property in ["hostbus", "hostaddr", "vendorid", "productid"] {
        // QEMU shows 0 for a property that was not set.
        let Some(number) = dev.number(property).filter(|number| *number > 0) else { continue };
        let value = match property {
            "hostbus" | "hostaddr" => number.to_string(),
            _ => format!("{number:#06x}"),
        };
        pattern = pattern.with(property, &value)?;
    }
    if let Some(port) = dev.property("hostport").filter(|port| !port.is_empty()) {
        pattern = pattern.with("hostport", port)?;
    }
    Some(pattern.selector())
}

/// The address of the device with this node: `/dev/bus/usb/001/004`, or a link to it as udev's
/// rules create them.
fn node_address(node: &Path) -> Option<BusAddress> {
    let parsed = |node: &Path| {
        let mut parts = node.strip_prefix("/dev/bus/usb").ok()?.iter().map(OsStr::to_str);
        let (bus, address) = (parts.next()??.parse().ok()?, parts.next()??.parse().ok()?);
        Some(BusAddress { bus, address }).filter(|at| at.bus > 0 && at.address > 0)
    };
    parsed(node).or_else(|| parsed(&std::fs::canonicalize(node).ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::details::Block;
    use super::super::super::qtree::Bus;
    use super::super::tests::dev;
    use super::*;

    /// The address is known even if QEMU was also given other conditions.
    #[test]
    fn a_host_device_with_further_conditions_has_its_address() {
        let conditions = [("hostbus", "1"), ("hostaddr", "4"), ("vendorid", "1921 (0x781)")];
        for (given, expected) in
            [(&conditions[..2], true), (&conditions, true), (&conditions[1..], false)]
        {
            let Kind::Host(host) = host(&dev("usb-host", given), None, &HashMap::new()) else {
                panic!("{given:?}")
            };
            let address = BusAddress { bus: 1, address: 4 };
            assert_eq!(host.bus_address, expected.then_some(address), "{given:?}");
        }
    }

    /// A USB device with one drive of each of these drivers, all with the node `n`.
    fn with_drives(driver: &str, serial: &str, drives: &[(&str, &[(&str, &str)])]) -> Dev {
        let drive = |(driver, properties): &(&str, &[(&str, &str)])| {
            let node = [("drive", "\"n\"")];
            dev(driver, &[&node[..], properties].concat())
        };
        let devices = drives.iter().map(drive).collect();
        let buses = vec![Bus { devices, ..Bus::default() }];
        Dev { buses, ..dev(driver, &[("serial", serial)]) }
    }

    /// The properties as QEMU prints them: of the USB device, and of what is on its bus.
    #[test]
    fn disks_and_cd_drives_are_told_apart() {
        let block = |readonly| Block {
            names: ["n".to_owned(), String::new()],
            format: "raw".to_owned(),
            file: "/a".to_owned(),
            readonly,
        };
        let kind = |dev: &Dev, readonly| {
            let details = Details { blocks: vec![block(readonly)], ..Details::default() };
            storage(dev, &details).to_string()
        };
        let disk = ("scsi-hd", &[("removable", "false"), ("serial", "\"\"")][..]);
        let removable = ("scsi-hd", &[("removable", "true"), ("serial", "\"SN 1\"")][..]);
        let cd = ("scsi-cd", &[("serial", "\"CD\"")][..]);
        let strange = ("scsi-hd", &[("serial", "\"a,b\"")][..]);
        for (driver, serial, drives, expected) in [
            ("usb-storage", "\"\"", vec![disk], "storage:/a"),
            ("usb-storage", "\"SN 1\"", vec![removable], "storage:/a,serial=SN 1,removable=on"),
            // QEMU makes it of a `-drive` with `media=cdrom`.
            ("usb-storage", "\"\"", vec![cd], "storage:/a,media=cdrom,serial=CD"),
            ("usb-bot", "\"CD\"", vec![cd], "storage:/a,media=cdrom,serial=CD"),
            ("usb-bot", "\"\"", vec![disk], "other:usb-bot"),
            ("usb-bot", "\"\"", vec![cd, cd], "other:usb-bot"),
            ("usb-bot", "\"\"", vec![], "other:usb-bot"),
            ("usb-storage", "\"\"", vec![strange], "other:usb-storage"),
        ] {
            let dev = with_drives(driver, serial, &drives);
            assert_eq!(kind(&dev, false), expected, "{driver} {drives:?}");
        }
        let dev = with_drives("usb-storage", "\"\"", &[disk]);
        assert_eq!(kind(&dev, true), "storage:/a,readonly");
    }

    /// The text that QEMU prints for each form, and the configuration that it means.
    #[test]
    fn a_printed_character_device_is_parsed() {
        for (text, expected) in [
            ("pty:/dev/pts/3", Some("pty")),
            ("null", Some("null")),
            ("spicevmc", Some("spicevmc")),
            ("unix:/run/s", Some("unix:/run/s")),
            ("unix:/run/a,b,server=on", Some("unix:/run/a,b,server")),
            ("disconnected:unix:/run/s,server", Some("unix:/run/s,server")),
            ("unix:", None),
            ("tcp:127.0.0.1:4000", Some("tcp:127.0.0.1:4000")),
            ("disconnected:tcp:::1:4000,server=on", Some("tcp:[::1]:4000,server")),
            ("tcp:127.0.0.1:4000,server=on <-> 127.0.0.1:5234", Some("tcp:127.0.0.1:4000,server")),
            ("tcp:127.0.0.1:5234 <-> 127.0.0.1:4000", Some("tcp:127.0.0.1:4000")),
            ("tcp:127.0.0.1:many", None),
            ("tcp:nowhere", None),
            ("file", None),
            ("vc", None),
            ("udp:127.0.0.1:4000", None),
        ] {
            let parsed = parse_chardev(text, None).map(|chardev| chardev.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }

    /// The configured address is right even if the printed one is that of the connection.
    #[test]
    fn a_socket_has_its_configured_address() {
        let unix = json!({"type": "unix", "path": "/run/s"});
        let inet = json!({"type": "inet", "host": "::1", "port": "4000"});
        let name = json!({"type": "inet", "host": "localhost", "port": "4000"});
        for (text, address, expected) in [
            ("unix:", &unix, Some("unix:/run/s")),
            ("unix:,server=on", &unix, Some("unix:/run/s,server")),
            ("tcp:::1:5234 <-> ::1:4000", &inet, Some("tcp:[::1]:4000")),
            ("tcp:127.0.0.1:5234 <-> 127.0.0.1:4000", &name, Some("tcp:localhost:4000")),
            // An address of another form is not used.
            ("unix:/run/t", &json!({"type": "vsock", "cid": "1"}), Some("unix:/run/t")),
            ("unix:/run/t", &json!({"type": "unix", "path": ""}), Some("unix:/run/t")),
            ("unix:/run/t", &json!({"type": "inet", "host": "", "port": "1"}), Some("unix:/run/t")),
        ] {
            let parsed = parse_chardev(text, Some(address)).map(|chardev| chardev.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text} {address}");
        }
        assert_eq!(bracketed("[::1]"), "[::1]");
    }

    /// QEMU shows 0 for each number that was not set.
    #[test]
    fn a_host_device_is_identified_by_its_properties() {
        for (properties, expected) in [
            (vec![("hostbus", "1 (0x1)"), ("hostaddr", "4 (0x4)")], "host:001.004"),
            (
                vec![
                    ("hostbus", "0"),
                    ("hostaddr", "0"),
                    ("hostdevice", "\"/dev/bus/usb/003/077\""),
                ],
                "host:003.077",
            ),
            (
                vec![
                    ("hostbus", "1"),
                    ("hostaddr", "0"),
                    ("vendorid", "1921 (0x781)"),
                    ("productid", "21889"),
                ],
                "host:hostbus=1,vendorid=0x0781,productid=0x5581",
            ),
            (
                vec![("hostbus", "0"), ("hostaddr", "4"), ("vendorid", "1921"), ("productid", "0")],
                "host:hostaddr=4,vendorid=0x0781",
            ),
            (vec![("vendorid", "1921"), ("productid", "21889")], "host:0781:5581"),
            (vec![("hostbus", "1"), ("hostport", "\"8.2\"")], "host:1-8.2"),
            (vec![("hostbus", "0"), ("hostport", "\"8.2\"")], "host:hostport=8.2"),
            (
                vec![("hostbus", "1"), ("hostport", "\"8.2\""), ("vendorid", "1921")],
                "host:hostbus=1,hostport=8.2,vendorid=0x0781",
            ),
            (vec![("hostbus", "3"), ("hostaddr", "0"), ("hostport", "\"\"")], "host:hostbus=3"),
            (vec![("vendorid", "0"), ("productid", "21889")], "host:productid=0x5581"),
            // The node alone counts.
            (
                vec![("hostdevice", "\"/dev/bus/usb/003/077\""), ("vendorid", "1921")],
                "host:003.077",
            ),
            (vec![("hostbus", "1"), ("hostport", "\"any\"")], "other:usb-host"),
            (vec![("hostaddr", "128")], "other:usb-host"),
            (vec![("vendorid", "70000")], "other:usb-host"),
            (vec![("hostdevice", "\"/dev/bus/usb/000/001\"")], "other:usb-host"),
            (vec![("hostdevice", "\"/dev/bus/usb/001/000\"")], "other:usb-host"),
            (vec![("hostdevice", "\"/dev/ttyUSB0\"")], "other:usb-host"),
            (vec![("hostbus", "70000"), ("hostaddr", "4")], "other:usb-host"),
            (vec![], "host:hostbus=any"),
        ] {
            assert_eq!(
                host(&dev("usb-host", &properties), None, &HashMap::new()).to_string(),
                expected
            );
        }
        let recorded: Kind = "host:1-4.2".parse().unwrap();
        let given = [("hostbus", "1"), ("hostaddr", "4")];
        let Kind::Host(found) = host(&dev("usb-host", &given), Some(&recorded), &HashMap::new())
        else {
            panic!()
        };
        assert_eq!(found.selector.to_string(), "1-4.2");
        assert_eq!(found.bus_address, Some(BusAddress { bus: 1, address: 4 }));
    }

    /// A link to the node of a device, which a udev rule created.
    #[test]
    fn a_node_may_be_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("stick");
        assert_eq!(node_address(&link), None);
        let Ok(node) = std::fs::canonicalize("/dev/bus/usb/001/001") else { return };
        std::os::unix::fs::symlink(node, &link).unwrap();
        assert_eq!(node_address(&link), Some(BusAddress { bus: 1, address: 1 }));
    }

    #[test]
    fn an_audio_back_end_that_was_not_configured_is_not_shown() {
        let audiodev = |id: &str| audio(&dev("usb-audio", &[("audiodev", id)]), None).audiodev;
        assert_eq!(audiodev("\"snd\""), Some("snd".to_owned()));
        assert_eq!(audiodev("\"none\""), None);
        assert_eq!(audiodev("\"pipewire\""), None);
        assert_eq!(audiodev("\"\""), None);
        let recorded = Kind::Audio(Audio { audiodev: Some("own".to_owned()) });
        let shown = audio(&dev("usb-audio", &[("audiodev", "\"none\"")]), Some(&recorded));
        assert_eq!(shown.audiodev, Some("own".to_owned()));
    }

    #[test]
    fn a_network_back_end_is_recognized() {
        let backend = |id: &str, recorded: Option<&Kind>| {
            net(&dev("usb-net", &[("netdev", id)]), recorded).backend
        };
        assert_eq!(backend("\"\"", None), NetBackend::None);
        assert_eq!(backend("\"vusb-net0\"", None), NetBackend::User);
        assert_eq!(backend("\"n0\"", None), NetBackend::Existing("n0".to_owned()));
        let recorded = Kind::Net(Net { backend: NetBackend::None, mac: None });
        assert_eq!(backend("\"n0\"", Some(&recorded)), NetBackend::None);
    }

    #[test]
    fn a_hub_without_a_number_of_ports_has_eight() {
        assert_eq!(hub_ports(&dev("usb-hub", &[("ports", "4 (0x4)")])), 4);
        assert_eq!(hub_ports(&dev("usb-hub", &[("ports", "300")])), 8);
        assert_eq!(hub_ports(&dev("usb-hub", &[])), 8);
    }
}
