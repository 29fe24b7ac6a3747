//! The patterns of `usb.autoConnect.deviceN`, which select host devices that VMware attaches by
//! itself.
//!
//! | pattern | meaning |
//! |---|---|
//! | `vid:0781 pid:5581` | vendor and product, hexadecimal |
//! | `0x0781:0x5581` | the same, in the syntax of Workstation before 5.5 |
//! | `path:1/3/0` | bus 1, port 4, and port 1 of the hub there: buses numbered as on Linux, ports from 0 |
//! | `hostId:..`, `speed:high`, `autoclean:1`, `name:..` | only on that host; only at that speed; VMware removes the line when the device is unplugged |
//! | `deviceType:virtual-smartcard` | not a host device: VMware emulates it |
//!
//! Pairs are separated by blanks, and a device has to match all of them. `\` escapes a blank or a
//! backslash.
//!
//! Sources: VMware's knowledge base, article 1648; `VirtualUSBUSBBackingInfo` of the vSphere API;
//! and VMware's own files compared with Linux logs: `path:4/0` was the device that Linux called
//! `4-1`.

use vusb_model::selector::{Selector, UsbId};

use super::dictionary::short;

/// A parsed pattern.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The selector of the device.
    pub(super) selector: Selector,
    /// Further conditions and effects, in words for a person.
    pub(super) remarks: Vec<String>,
}

/// Parses a pattern. `None` if it is empty: VMware empties lines that it no longer needs.
///
/// # Errors
/// Why it does not select a host device.
pub(super) fn read(text: &str) -> Result<Option<Pattern>, String> {
    let (mut vendor, mut product, mut path) = (None, None, None);
    let mut remarks = Vec::new();
    let pairs = pairs(text);
    if pairs.is_empty() {
        return Ok(None);
    }
    for (name, value) in pairs {
        match name.to_ascii_lowercase().as_str() {
            "vid" => vendor = Some(hex(&value).ok_or_else(|| invalid_id(&value))?),
            "pid" => product = Some(hex(&value).ok_or_else(|| invalid_id(&value))?),
            "path" => path = Some(value),
            "hostid" => remarks.push(format!("only on the host {}", short(&value))),
            "speed" => remarks.push(format!("only at {} speed", short(&value))),
            "autoclean" if value == "0" => {}
            "autoclean" => {
                remarks.push("VMware removes it from the file when it is unplugged".to_owned());
            }
            "devicetype" => {
                return Err(format!("{} is a device that VMware emulates", short(&value)));
            }
            old if old.starts_with("0x") => {
                vendor = Some(hex(old).ok_or_else(|| invalid_id(old))?);
                product = Some(hex(&value).ok_or_else(|| invalid_id(&value))?);
            }
            other => {
                remarks.push(format!("only with {} {}", short(other), short(&value)));
            }
        }
    }
    let selector = match (vendor, product, path) {
        (Some(vendor), Some(product), path) => {
            remarks.extend(path.map(|path| format!("only at path {}", short(&path))));
            Selector::Id { id: UsbId { vendor, product }, serial: None }
        }
        (None, None, Some(path)) => {
            port(&path).ok_or_else(|| format!("`{}` is not a path such as 1/3/0", short(&path)))?
        }
        _ => return Err("it has neither vid and pid nor a path".to_owned()),
    };
    Ok(Some(Pattern { selector, remarks }))
}

/// The pattern for a selector.
///
/// # Errors
/// Why VMware has no pattern for it.
pub(super) fn write(selector: &Selector) -> Result<String, &'static str> {
    match selector {
        Selector::Id { id, serial: None } => {
            Ok(format!("vid:{:04x} pid:{:04x}", id.vendor, id.product))
        }
        Selector::Id { serial: Some(_), .. } => Err(
            "VMware does not match serial numbers; select the device by vendor and product, or by its port",
        ),
        Selector::Port(at) => {
            let ports = at.chain().iter().map(|port| (port.saturating_sub(1)).to_string());
            let path: Vec<String> = std::iter::once(at.bus().to_string()).chain(ports).collect();
            Ok(format!("path:{}", path.join("/")))
        }
        Selector::Address(_) => Err(
            "VMware does not match addresses, which change whenever a device is plugged in; select the device by vendor and product, or by its port",
        ),
        Selector::Path(_) => Err(
            "VMware numbers buses and does not match their controllers; select the device by vendor and product, or by its port (1-4.2)",
        ),
        Selector::Pattern(_) => Err(
            "this selects any device that matches; select the device by vendor and product, or by its port (1-4.2)",
        ),
    }
}

fn invalid_id(text: &str) -> String {
    format!("`{}` is not an id of one to four hexadecimal digits", short(text))
}

/// One to four hexadecimal digits, with or without `0x`.
fn hex(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let strict = (1..=4).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_hexdigit());
    if strict { u16::from_str_radix(digits, 16).ok() } else { None }
}

/// Converts `1/3/0` to `1-4.1`.
fn port(path: &str) -> Option<Selector> {
    let mut numbers = path.split('/');
    let bus = numbers.next()?;
    let ports =
        numbers.take(8).map(|number| Some(number.parse::<u8>().ok()?.checked_add(1)?.to_string()));
    let chain = ports.collect::<Option<Vec<String>>>()?.join(".");
    format!("{bus}-{chain}").parse().ok().map(Selector::Port)
}

/// The pairs of names and values. A word without a colon is a name without a value.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let literal = match character {
            '\\' => characters.next(),
            blank if blank.is_whitespace() => {
                words.push(String::new());
                continue;
            }
            other => Some(other),
        };
        if let Some(word) = words.last_mut() {
            word.extend(literal);
        }
    }
    let pair = |word: String| match word.split_once(':') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (word, String::new()),
    };
    words.into_iter().filter(|word| !word.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> String {
        read(text).unwrap().unwrap().selector.to_string()
    }

    #[test]
    fn patterns_of_all_versions() {
        assert_eq!(selector("0x0781:0x5581"), "0781:5581");
        assert_eq!(selector("0x4e8:0x81"), "04e8:0081");
        assert_eq!(selector("vid:03e7 pid:2485 autoclean:0"), "03e7:2485");
        assert_eq!(selector("path:4/0 autoclean:1"), "4-1");
        assert_eq!(
            selector("path:1/3/0 hostId:44\\ 45\\ 4c vid:0781 pid:5581 speed:high"),
            "0781:5581"
        );
        assert_eq!(read(" "), Ok(None));
    }

    #[test]
    fn further_conditions_are_remarks() {
        let pattern = read("path:1/3/0 hostId:44\\ 45 vid:0781 pid:5581 speed:high autoclean:1");
        assert_eq!(
            pattern.unwrap().unwrap().remarks,
            [
                "only on the host 44 45",
                "only at high speed",
                "VMware removes it from the file when it is unplugged",
                "only at path 1/3/0",
            ]
        );
    }

    #[test]
    fn patterns_that_select_no_host_device() {
        for text in [
            "deviceType:virtual-smartcard",
            "vid:0781",
            "vid:07812 pid:5581",
            "vid:x pid:5581",
            "path:1",
            "path:0/1",
            "path:1/255",
            "path:1/1/1/1/1/1/1/1/1",
            "name:Stick",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_read_back() {
        for text in ["0781:5581", "1-4.1", "2-1"] {
            assert_eq!(selector(&write(&text.parse().unwrap()).unwrap()), text);
        }
        assert_eq!(write(&"1-4.1".parse().unwrap()).as_deref(), Ok("path:1/3/0"));
        for text in ["0781:5581:4C53", "003.014", "pci-0000:00:14.0-usb-0:4.2"] {
            assert!(write(&text.parse().unwrap()).is_err(), "{text}");
        }
    }
}
