//! The value of an option such as `-device` or `-drive`.

use std::collections::BTreeMap;

use serde_json::Value;

/// The value of an option: `usb-mouse,bus=usb.0,port=1`, or the same as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Reads the text. `implied` is the key of a first value that has no key: `driver`.
    pub(crate) fn read(text: &str, implied: &str) -> Properties {
        if text.trim_start().starts_with('{') {
            return Properties(json(text).unwrap_or_default());
        }
        let mut all = BTreeMap::new();
        for (number, part) in parts(text).into_iter().enumerate() {
            match part.split_once('=') {
                Some((key, value)) => all.insert(key.to_owned(), value.to_owned()),
                None if number == 0 => all.insert(implied.to_owned(), part),
                // QEMU's short form of a switch.
                None => match part.strip_prefix("no") {
                    Some(off) if !off.is_empty() => all.insert(off.to_owned(), "off".to_owned()),
                    _ => all.insert(part, "on".to_owned()),
                },
            };
        }
        Properties(all)
    }

    /// The value of a property.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Sets a property.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_owned(), value.to_owned());
    }

    /// Sets a property that has no value yet.
    pub(crate) fn set_default(&mut self, key: &str, value: &str) {
        self.0.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// Adds all of these properties. They replace earlier ones.
    pub(crate) fn merge(&mut self, more: Properties) {
        self.0.extend(more.0);
    }

    /// QEMU's name for the type of the device.
    pub(crate) fn driver(&self) -> &str {
        self.get("driver").unwrap_or_default()
    }

    /// The id; empty if there is none.
    pub(crate) fn id(&self) -> &str {
        self.get("id").unwrap_or_default()
    }

    /// A number in C's notation.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        number(self.get(key)?)
    }

    /// A switch.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            "on" | "yes" | "true" | "y" => Some(true),
            "off" | "no" | "false" | "n" => Some(false),
            _ => None,
        }
    }
}

/// A number in C's notation, without a sign.
pub(crate) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    }
}

/// The parts between single commas. Two commas in a row stand for a comma within a part.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        match (next, parts.last_mut()) {
            (',', Some(part)) if rest.next_if_eq(&',').is_some() => part.push(','),
            (',', _) => parts.push(String::new()),
            (other, Some(part)) => part.push(other),
            (_, None) => {}
        }
    }
    parts
}

/// The members of an object. Those of inner objects get a name with a dot: `file.filename`.
fn json(text: &str) -> Option<BTreeMap<String, String>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let mut all = BTreeMap::new();
    flatten(&value, "", &mut all);
    Some(all)
}

fn flatten(value: &Value, name: &str, out: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Object(members) => {
            for (key, member) in members {
                let dot = if name.is_empty() { "" } else { "." };
                flatten(member, &format!("{name}{dot}{key}"), out);
            }
            return;
        }
        Value::String(text) => text.clone(),
        Value::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
        other => other.to_string(),
    };
    out.insert(name.to_owned(), text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let text =
            Properties::read("usb-mouse,bus=usb.0,port=1,serial=a,,b,nomsos-desc,x", "driver");
        assert_eq!((text.driver(), text.get("serial")), ("usb-mouse", Some("a,b")));
        assert_eq!((text.flag("msos-desc"), text.flag("x")), (Some(false), Some(true)));
        let json = r#"{"driver":"qemu-xhci","id":"x","p2":4,"file":{"filename":"/a"},"m":true}"#;
        let json = Properties::read(json, "driver");
        assert_eq!((json.driver(), json.id(), json.number("p2")), ("qemu-xhci", "x", Some(4)));
        assert_eq!((json.get("file.filename"), json.flag("m")), (Some("/a"), Some(true)));
        assert_eq!(Properties::read("{", "driver").driver(), "");
        assert_eq!(
            [number("0x1d"), number("010"), number("7"), number("x")],
            [Some(29), Some(8), Some(7), None]
        );
    }
}
