//! vhotplug's `config.json`: the devices that each guest gets.
//!
//! ```json
//! {"vms": [{"name": "net-vm", "usbPassthrough": [
//!     {"class": 2, "subclass": 6, "description": "Ethernet", "ignore": [{"vendorId": "0b95"}]}]}]}
//! ```

use serde_json::{Map, Value};

use super::{Draft, Drafts, anywhere};
use crate::error::Problem;

/// The keys of an entry that are understood, besides `disable`.
const KEYS: [&str; 11] = [
    "class",
    "subclass",
    "protocol",
    "vendorId",
    "productId",
    "productName",
    "vendorName",
    "bus",
    "port",
    "description",
    "ignore",
];

pub(super) fn read(text: &str) -> Result<Drafts, Problem> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Problem::new(0..0, format!("this is not JSON: {error}")))?;
    let guests = value.get("vms").and_then(Value::as_array);
    let guests = guests.ok_or_else(|| Problem::new(0..0, "there is no list `vms`"))?;
    let mut drafts = Drafts::default();
    for guest in guests {
        let Some(name) = guest.get("name").and_then(Value::as_str) else {
            drafts.lose("vms", "a guest without a name is left out");
            continue;
        };
        let entries = guest.get("usbPassthrough").and_then(Value::as_array);
        for (number, entry) in entries.into_iter().flatten().enumerate() {
            let from = format!("{name}, entry {}", number + 1);
            match entry.as_object() {
                Some(entry) => passthrough(&mut drafts, &from, name, entry),
                None => drafts.lose(&from, "it is not an object, and is left out"),
            }
        }
        if guest.get("evdevPassthrough").and_then(|it| it.get("enable")) == Some(&true.into()) {
            drafts.lose(name, "input devices are not passed through by event device");
        }
    }
    Ok(drafts)
}

fn passthrough(drafts: &mut Drafts, from: &str, domain: &str, entry: &Map<String, Value>) {
    if entry.get("disable") == Some(&Value::Bool(true)) {
        drafts.lose(from, "it is disabled, and is left out");
        return;
    }
    let description = entry.get("description").and_then(Value::as_str).unwrap_or("devices");
    let mut draft = Draft {
        name: format!("{domain} {description}"),
        domains: vec![domain.to_owned()],
        ..Draft::new(from.to_owned(), "attach")
    };
    if let Err(why) = devices(&mut draft, entry) {
        drafts.lose(from, format!("{why}: it is left out"));
        return;
    }
    let ignored = entry.get("ignore").and_then(Value::as_array);
    for ignored in ignored.into_iter().flatten().filter_map(Value::as_object) {
        let mut except = Draft {
            name: format!("{domain} not {description}"),
            domains: vec![domain.to_owned()],
            ..Draft::new(format!("{from}, ignore"), "deny")
        };
        match devices(&mut except, ignored) {
            Ok(()) => {
                let what = "`ignore` is a deny rule: the device cannot be given to this guest by hand either";
                drafts.lose(from, what);
                drafts.all.push(except);
            }
            Err(why) => drafts.lose(from, format!("`ignore`: {why}: such a device is attached")),
        }
    }
    drafts.all.push(draft);
}

/// Reads which devices an entry selects.
fn devices(draft: &mut Draft, entry: &Map<String, Value>) -> Result<(), String> {
    if let Some(key) = entry.keys().find(|it| !KEYS.contains(&it.as_str()) && *it != "disable") {
        return Err(format!("`{key}` is not known"));
    }
    let number = |key: &str| match entry.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|it| u8::try_from(it).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("`{key}` is not a number up to 255")),
        },
    };
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let kind = match (number("class")?, number("subclass")?, number("protocol")?) {
        (None, None, None) => None,
        (None, ..) => return Err("a subclass or protocol without its class".to_owned()),
        (Some(class), None, None) => Some(format!("{class:02x}")),
        (Some(class), Some(subclass), None) => Some(format!("{class:02x}:{subclass:02x}")),
        (Some(class), Some(subclass), Some(protocol)) => {
            Some(format!("{class:02x}:{subclass:02x}:{protocol:02x}"))
        }
        // A HID device (class 3) has a protocol only if its subclass is 1, boot interface. So the
        // subclass need not be given.
        (Some(3), None, Some(1)) => Some("keyboard".to_owned()),
        (Some(3), None, Some(2)) => Some("mouse".to_owned()),
        (Some(_), None, Some(_)) => return Err("a protocol without its subclass".to_owned()),
    };
    draft.has.extend(kind);
    let hex = |text: &str| {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        u16::from_str_radix(digits, 16).map_err(|_| format!("`{text}` is not hexadecimal"))
    };
    match (text("vendorId"), text("productId")) {
        (None, None) => {}
        (None, Some(_)) => return Err("a product without its vendor".to_owned()),
        (Some(vendor), None) => draft.id.push(format!("{:04x}:*", hex(vendor)?)),
        (Some(vendor), Some(product)) => {
            draft.id.push(format!("{:04x}:{:04x}", hex(vendor)?, hex(product)?));
        }
    }
    for key in ["productName", "vendorName"] {
        let Some(pattern) = text(key) else { continue };
        let plain = pattern.trim_start_matches(".*").trim_end_matches(".*");
        let is_plain = !plain.contains(|it: char| "\\^$.|?*+()[]{}".contains(it));
        let glob = anywhere(plain).filter(|_| is_plain);
        draft.text.push(glob.ok_or_else(|| format!("`{pattern}` is a regular expression"))?);
    }
    if draft.text.len() > 1 {
        return Err("both names of a device, of which a rule would need only one".to_owned());
    }
    match (number("bus")?, number("port")?) {
        (None, None) => {}
        (Some(bus), Some(port)) => draft.port.push(format!("{bus}-{port}")),
        _ => return Err("a bus without a port, or a port without a bus".to_owned()),
    }
    let lists = [&draft.id, &draft.port, &draft.has, &draft.text];
    if lists.iter().all(|it| it.is_empty()) {
        return Err("it does not say which devices".to_owned());
    }
    Ok(())
}
