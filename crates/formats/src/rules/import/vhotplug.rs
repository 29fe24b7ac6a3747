//! vhotplug's `config.json`: the devices that each guest gets.
//!
//! ```json
//! {"vms": [{"name": "net-vm", "usbPassthrough": [
//!     {"class": 2, "subclass": 6, "description": "Ethernet", "ignore": [{"vendorId": "0b95"}]}]}]}
//! ```
//!
//! An entry matches a device if its ids match, or a name, or the port, or the class. So each of
//! these becomes a rule. Source: vhotplug, `vhotplug/config.py`; 0 stands for a value that is not
//! given. The names are those of udev, which prefers its database to what the device reports.

use serde_json::{Map, Value};
use vusb_model::rules::{IdPattern, InterfaceClass, Match, PortPattern};

use super::draft::{Drafts, Verb, anywhere};
use super::entry::{Condition, Entry};
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
    let conditions = alternatives(entry, Verb::Attach).and_then(|all| {
        if all.is_empty() {
            return Err("it does not say which devices".to_owned());
        }
        Ok((all, ignored(entry.get("ignore"))?))
    });
    let (conditions, ignored) = match conditions {
        Ok(conditions) => conditions,
        Err(why) => return drafts.lose(from, format!("{why}: it is left out")),
    };
    let description = entry.get("description").and_then(Value::as_str).unwrap_or("devices");
    for condition in conditions {
        let mut rule = Entry::new(from, Verb::Attach, vec![domain.to_owned()]);
        rule.call(&format!("{domain} {description}"));
        rule.add(condition);
        rule.add(Condition::Except(
            Match::default(),
            ignored.clone(),
            "`ignore` is a deny rule: the device cannot be given to this guest by hand either",
        ));
        rule.finish(drafts);
    }
}

/// The devices that an entry does not attach, and perhaps more.
///
/// # Errors
/// No rule can express them.
fn ignored(value: Option<&Value>) -> Result<Vec<Match>, String> {
    let wrong = || "`ignore` is not a list of objects".to_owned();
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(value) => value.as_array().ok_or_else(wrong)?,
    };
    let mut all = Vec::new();
    for entry in list {
        let entry = entry.as_object().ok_or_else(wrong)?;
        let why = |why: String| format!("`ignore`: {why}");
        for condition in alternatives(entry, Verb::Deny).map_err(why)? {
            match condition {
                Condition::Same(keys) => all.push(keys),
                Condition::Wider(keys, _) if !keys.is_empty() => all.push(keys),
                Condition::Wider(_, reason) => return Err(why(reason)),
                Condition::Always | Condition::Except(..) => return Err(wrong()),
            }
        }
    }
    Ok(all)
}

/// The conditions of an entry, any of which is enough.
fn alternatives(entry: &Map<String, Value>, verb: Verb) -> Result<Vec<Condition>, String> {
    if let Some(key) = entry.keys().find(|it| !KEYS.contains(&it.as_str()) && *it != "disable") {
        return Err(format!("`{key}` is not known"));
    }
    let all = [ids(entry)?, names(entry, verb)?, ports(entry, verb)?, interfaces(entry, verb)?];
    Ok(all.into_iter().flatten().collect())
}

/// A number. 0 counts as not given.
fn number(entry: &Map<String, Value>, key: &str) -> Result<Option<u8>, String> {
    match entry.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|it| u8::try_from(it).ok()) {
            Some(number) => Ok(Some(number).filter(|it| *it > 0)),
            None => Err(format!("`{key}` is not a number up to 255")),
        },
    }
}

/// A text. An empty one counts as not given.
fn text<'e>(entry: &'e Map<String, Value>, key: &str) -> Result<Option<&'e str>, String> {
    match entry.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text).filter(|it| !it.is_empty())),
            None => Err(format!("`{key}` is not a string")),
        },
    }
}

fn ids(entry: &Map<String, Value>) -> Result<Vec<Condition>, String> {
    let hex = |text: &str| {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let is_hex = digits.bytes().all(|it| it.is_ascii_hexdigit());
        let number = u16::from_str_radix(digits, 16).ok().filter(|_| is_hex);
        number.ok_or_else(|| format!("`{text}` is not hexadecimal"))
    };
    match (text(entry, "vendorId")?, text(entry, "productId")?) {
        (None, None) => Ok(Vec::new()),
        (Some(vendor), Some(product)) => {
            let (vendor, product) = (hex(vendor)?, Some(hex(product)?));
            let id = vec![IdPattern { vendor, product, serial: None }];
            Ok(vec![Condition::Same(Match { id, ..Match::default() })])
        }
        // vhotplug only matches both.
        _ => Err("a vendor without a product, or a product without its vendor".to_owned()),
    }
}

fn names(entry: &Map<String, Value>, verb: Verb) -> Result<Vec<Condition>, String> {
    let mut all = Vec::new();
    for key in ["productName", "vendorName"] {
        let Some(pattern) = text(entry, key)? else { continue };
        let plain = pattern.trim_start_matches(".*").trim_end_matches(".*");
        let is_plain = !plain.contains(|it: char| "\\^$.|?*+()[]{}".contains(it));
        let Some(glob) = anywhere(plain).filter(|_| is_plain) else {
            return Err(format!("`{pattern}` is a regular expression"));
        };
        // The names of udev may be others, so no key covers all devices that are ignored.
        let text = if verb == Verb::Deny { Vec::new() } else { vec![glob] };
        let why = format!("the names of udev, which `{key}` is about, cannot be matched");
        all.push(Condition::Wider(Match { text, ..Match::default() }, why));
    }
    Ok(all)
}

/// The port of the root hub, for the device in it and all below.
fn ports(entry: &Map<String, Value>, verb: Verb) -> Result<Vec<Condition>, String> {
    let (bus, port) = match (number(entry, "bus")?, number(entry, "port")?) {
        (None, None) => return Ok(Vec::new()),
        (Some(bus), Some(port)) => (bus, port),
        _ => return Err("a bus without a port, or a port without a bus".to_owned()),
    };
    // Whoever grants a port grants only what is plugged in there, not what is below a hub.
    let below = if verb == Verb::Deny { ".*" } else { "" };
    let port = format!("{bus}-{port}{below}").parse::<PortPattern>();
    let port = vec![port.map_err(|error| error.to_string())?];
    Ok(vec![Condition::Same(Match { port, ..Match::default() })])
}

fn interfaces(entry: &Map<String, Value>, verb: Verb) -> Result<Vec<Condition>, String> {
    let codes = (number(entry, "class")?, number(entry, "subclass")?, number(entry, "protocol")?);
    let (kind, is_wider) = match codes {
        (None, None, None) => return Ok(Vec::new()),
        (None, ..) => return Err("a subclass or protocol without its class".to_owned()),
        (Some(class), None, None) => (format!("{class:02x}"), false),
        (Some(class), Some(subclass), None) => (format!("{class:02x}:{subclass:02x}"), false),
        (Some(class), Some(subclass), Some(protocol)) => {
            (format!("{class:02x}:{subclass:02x}:{protocol:02x}"), false)
        }
        // A HID device (class 3) has a protocol only if its subclass is 1, boot interface. So the
        // subclass need not be given.
        (Some(3), None, Some(1)) if verb != Verb::Deny => ("keyboard".to_owned(), false),
        (Some(3), None, Some(2)) if verb != Verb::Deny => ("mouse".to_owned(), false),
        (Some(class), None, Some(_)) => (format!("{class:02x}"), true),
    };
    let kind: InterfaceClass = kind.parse().map_err(|error| format!("{error}"))?;
    let keys = Match { has: vec![kind], ..Match::default() };
    Ok(vec![if is_wider {
        Condition::Wider(keys, "a protocol without its subclass".to_owned())
    } else {
        Condition::Same(keys)
    }])
}
