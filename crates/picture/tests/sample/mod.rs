//! Machines to draw.

use serde_json::{Value, json};
use vusb::rules::EffectsView;
use vusb::view::{AllView, HostView};
use vusb_picture::{Embedding, Topology, draw};

/// The views of a machine.
pub(crate) struct Sample {
    pub(crate) host: HostView,
    pub(crate) domains: AllView,
    pub(crate) effects: EffectsView,
}

impl Sample {
    pub(crate) fn of(host: Vec<Value>, domains: Vec<Value>, effects: Vec<Value>) -> Sample {
        let parse = "a view of this version";
        let host = json!({ "api": 1, "devices": host, "notes": [] });
        let domains = json!({ "api": 1, "domains": domains, "unreachable": [], "unrecorded": [] });
        let effects = json!({ "api": 1, "devices": effects });
        Sample {
            host: serde_json::from_value(host).expect(parse),
            domains: serde_json::from_value(domains).expect(parse),
            effects: serde_json::from_value(effects).expect(parse),
        }
    }

    pub(crate) fn draw(&self, embedding: Embedding) -> String {
        let Sample { host, domains, effects } = self;
        draw(Topology { host, domains, effects: Some(effects) }, embedding)
    }
}

pub(crate) fn host(busid: &str, address: usize, id: &str, vendor: &str, product: &str) -> Value {
    let (bus, _) = busid.split_once('-').unwrap();
    json!({
        "busid": busid,
        "at": format!("{:03}.{:03}", bus.parse::<u16>().unwrap(), address % 127 + 1),
        "id": id, "vendor": vendor, "product": product, "speed": "high",
        "hub": product.contains("Hub"), "protected": [],
    })
}

pub(crate) fn with(mut value: Value, more: Value) -> Value {
    for (key, it) in more.as_object().unwrap() {
        value[key] = it.clone();
    }
    value
}

pub(crate) fn holder(domain: &str, name: &str, at: &str) -> Value {
    json!({ "holder": { "domain": domain, "name": name, "at": at } })
}

pub(crate) fn device(port: &str, name: &str, kind: Value, state: &str) -> Value {
    with(json!({ "port": port, "name": name, "state": state, "origin": "vusb" }), kind)
}

pub(crate) fn passed(selector: &str) -> Value {
    json!({ "kind": "host", "selector": selector })
}

pub(crate) fn controller(
    index: u32,
    name: &str,
    model: &str,
    ports: u8,
    devices: Vec<Value>,
) -> Value {
    let (kind, version) = match model {
        "xenusb2" => ("pv", 2),
        "piix3-uhci" => ("emulated", 1),
        "ehci" => ("emulated", 2),
        _ => ("emulated", 3),
    };
    json!({
        "index": index, "name": name, "type": kind, "model": model, "usbversion": version,
        "ports": ports, "origin": "vusb", "state": "present", "devices": devices,
    })
}

pub(crate) fn domain(name: &str, address: &str, controllers: Vec<Value>) -> Value {
    json!({
        "api": 1, "domain": name, "address": address, "state": "running", "profile": "vusb-1",
        "controllers": controllers, "foreign": [], "notes": [],
    })
}

pub(crate) fn effect(busid: &str, effect: Value, state: &str) -> Value {
    json!({ "busid": busid, "at": "001.001", "effect": effect, "state": state })
}

/// A typical machine: the picture in the README.
pub(crate) fn desk() -> Sample {
    let hosts = vec![
        host("1-1", 1, "046d:c31c", "Logitech", "Keyboard K120"),
        with(host("1-2", 2, "05e3:0610", "Genesys", "4-Port Hub"), json!({})),
        with(
            host("1-2.1", 3, "0529:0001", "Aladdin", "HASP licence dongle"),
            holder("licence", "dongle", "hci0:1"),
        ),
        with(host("1-2.2", 4, "0781:5581", "SanDisk", "Ultra"), holder("web1", "stick", "hci0:2")),
        host("1-2.4", 5, "0403:6001", "FTDI", "FT232 serial"),
        host("1-6", 6, "8087:0a2b", "Intel", "Bluetooth"),
        with(
            host("2-1", 1, "0bda:8153", "Realtek", "USB 10/100/1000 LAN"),
            holder("router", "lan", "pv0:1"),
        ),
        host("2-3", 2, "04f9:0042", "Brother", "HL-2250DN printer"),
        host("2-4", 3, "046d:0892", "Logitech", "Webcam C920"),
    ];
    let mut hosts = hosts;
    hosts[0]["protected"] = json!(["the only keyboard"]);
    hosts[0]["speed"] = json!("low");
    hosts[6]["speed"] = json!("super");
    Sample::of(hosts, desk_domains(), desk_effects())
}

fn desk_effects() -> Vec<Value> {
    let attach =
        |domain: &str, rule: &str| json!({ "do": "attach", "domain": domain, "rule": rule });
    vec![
        effect("1-2.1", attach("licence", "licence dongle"), "attached"),
        effect("1-2.2", json!({ "do": "nothing" }), "unused"),
        effect(
            "1-2.4",
            json!({ "do": "ask", "domains": ["web1", "licence"], "rules": ["serial lines"] }),
            "asking",
        ),
        effect("2-1", attach("router", "network"), "attached"),
        effect(
            "2-4",
            json!({ "do": "denied", "domains": ["web1"], "rules": ["no cameras"] }),
            "denied",
        ),
    ]
}

fn desk_domains() -> Vec<Value> {
    vec![
        domain(
            "licence",
            "qemu:/run/licence.qmp",
            vec![controller(
                0,
                "hci0",
                "qemu-xhci",
                15,
                vec![
                    device("1", "dongle", passed("0529:0001"), "attached"),
                    device(
                        "2",
                        "tablet0",
                        json!({ "kind": "tablet", "usbversion": 1 }),
                        "attached",
                    ),
                ],
            )],
        ),
        domain(
            "router",
            "xen:router",
            vec![controller(
                0,
                "pv0",
                "xenusb2",
                16,
                vec![device("1", "lan", passed("0bda:8153"), "attached")],
            )],
        ),
        domain(
            "web1",
            "qemu:/run/web1.qmp",
            vec![
                controller(
                    0,
                    "hci0",
                    "qemu-xhci",
                    15,
                    vec![
                        device("1", "hub0", json!({ "kind": "hub", "ports": 8 }), "attached"),
                        device("1.1", "backup", passed("0951:1666"), "absent"),
                        device(
                            "1.2",
                            "disk",
                            json!({ "kind": "storage", "file": "/var/lib/images/stick.img", "format": "raw", "readonly": false }),
                            "attached",
                        ),
                        device("2", "stick", passed("0781:5581"), "attached"),
                    ],
                ),
                controller(
                    1,
                    "hci1",
                    "piix3-uhci",
                    2,
                    vec![device(
                        "1",
                        "mouse0",
                        json!({ "kind": "mouse", "usbversion": 1 }),
                        "attached",
                    )],
                ),
            ],
        ),
    ]
}

/// A machine with `count` devices. Two thirds of them are attached to guests. `text` is the product
/// name of each device.
pub(crate) fn machine(count: usize, text: &str) -> Sample {
    const STATES: [&str; 7] =
        ["attached", "attached", "attached", "offered", "absent", "missing", "suspended"];
    let (mut hosts, mut effects) = (Vec::new(), Vec::new());
    let mut guests: Vec<Vec<Value>> = vec![Vec::new(); count / 6 + 1];
    let guest_count = guests.len();
    for number in 0..count {
        let (bus, port) = (number / 28 + 1, number % 28);
        let busid = match port {
            0..=6 => format!("{bus}-{}", port + 1),
            7 => format!("{bus}-8"),
            8..=14 => format!("{bus}-8.{}", port - 7),
            15 => format!("{bus}-9"),
            16 => format!("{bus}-9.1"),
            _ => format!("{bus}-9.1.{}", port - 16),
        };
        let is_hub = matches!(port, 7 | 15 | 16);
        let product = if is_hub { "Hub".to_owned() } else { text.to_owned() };
        let id = format!("{:04x}:{:04x}", 0x0400 + bus, 0x1000 + number);
        let mut it = host(&busid, number, &id, "Example Corp", &product);
        // The devices of most guests are near each other.
        let guest = (number / 6 + if number % 11 == 0 { 3 } else { 0 }) % guest_count;
        if !is_hub && number % 3 != 2 {
            let name = format!("usb{number}");
            let slot = guests[guest].len() + 1;
            let at = format!("hci0:{slot}");
            it = with(it, holder(&format!("guest{guest:03}"), &name, &at));
            let state = STATES[number % STATES.len()];
            guests[guest].push(device(&slot.to_string(), &name, passed(&id), state));
        } else if number % 4 == 0 {
            let ask = json!({ "do": "ask", "domains": [format!("guest{guest:03}")], "rules": ["sticks"] });
            effects.push(effect(&busid, ask, "asking"));
        } else if number % 5 == 0 {
            it["protected"] = json!(["disk sda: /home is mounted"]);
        }
        hosts.push(it);
    }
    let domains = guests.into_iter().enumerate().map(|(number, devices)| {
        let controller = controller(0, "hci0", "qemu-xhci", 15, devices);
        domain(
            &format!("guest{number:03}"),
            &format!("qemu:/run/guest{number:03}.qmp"),
            vec![controller],
        )
    });
    let domains = domains.collect();
    Sample::of(hosts, domains, effects)
}
