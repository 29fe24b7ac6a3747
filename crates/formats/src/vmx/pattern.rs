//! The patterns of `usb.autoConnect.deviceN`: which devices of the host VMware connects by itself.
//!
//! | pattern | means |
//! |---|---|
//! | `vid:0781 pid:5581` | vendor and product, hexadecimal |
//! | `0x0781:0x5581` | the same, as Workstation wrote it before 5.5 |
//! | `path:1/3/0` | bus 1, port 4, and port 1 of the hub there: buses as Linux counts them, ports from 0 |
//! | `hostId:..`, `speed:high`, `autoclean:1`, `name:..` | on that host alone; at that speed; VMware forgets the line when the device goes |
//! | `deviceType:virtual-smartcard` | no device of the host: one that VMware makes up |
//!
//! Pairs are apart by blanks and a device has to fit all of them; `\` takes the meaning from a blank or a backslash.
//!
//! Sources: VMware's knowledge base, article 1648; `VirtualUSBUSBBackingInfo` of the vSphere API; and what VMware wrote into files beside what
//! Linux logged: `path:4/0` was the device that Linux called `4-1`.

use vusb_model::selector::{Selector, UsbId};

use super::dictionary::shown;

/// What a pattern says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The device.
    pub(super) selector: Selector,
    /// What else VMware looks at or does.
    pub(super) remarks: Vec<String>,
}

/// Reads a pattern. `None` is a line that VMware emptied.
///
/// # Errors
/// It names no device of the host: why.
pub(super) fn read(text: &str) -> Result<Option<Pattern>, String> {
    let (mut vendor, mut product, mut path) = (None, None, None);
    let mut remarks = Vec::new();
    let pairs = pairs(text);
    if pairs.is_empty() {
        return Ok(None);
    }
    for (name, value) in pairs {
        match name.to_ascii_lowercase().as_str() {
            "vid" => vendor = Some(hex(&value).ok_or_else(|| no_id(&value))?),
            "pid" => product = Some(hex(&value).ok_or_else(|| no_id(&value))?),
            "path" => path = Some(value),
            "hostid" => remarks.push(format!("on the host {} alone", shown(&value))),
            "speed" => remarks.push(format!("at {} speed alone", shown(&value))),
            "autoclean" if value == "0" => {}
            "autoclean" => remarks.push("VMware forgets it when it is pulled out".to_owned()),
            "devicetype" => {
                return Err(format!("{} is a device that VMware makes up", shown(&value)));
            }
            old if old.starts_with("0x") => {
                vendor = Some(hex(old).ok_or_else(|| no_id(old))?);
                product = Some(hex(&value).ok_or_else(|| no_id(&value))?);
            }
            other => {
                remarks.push(format!("VMware looks at its {}: {}", shown(other), shown(&value)));
            }
        }
    }
    let selector = match (vendor, product, path) {
        (Some(vendor), Some(product), path) => {
            remarks.extend(path.map(|path| format!("at path {} alone", shown(&path))));
            Selector::Id { id: UsbId { vendor, product }, serial: None }
        }
        (None, None, Some(path)) => {
            port(&path).ok_or_else(|| format!("`{}` is no path such as 1/3/0", shown(&path)))?
        }
        _ => return Err("it has neither a vid and a pid nor a path".to_owned()),
    };
    Ok(Some(Pattern { selector, remarks }))
}

/// The pattern for a device.
///
/// # Errors
/// VMware has no words for it: why.
pub(super) fn write(selector: &Selector) -> Result<String, &'static str> {
    match selector {
        Selector::Id { id, serial: None } => {
            Ok(format!("vid:{:04x} pid:{:04x}", id.vendor, id.product))
        }
        Selector::Id { serial: Some(_), .. } => Err(
            "VMware does not look at serial numbers; name it by vendor and product, or by its port",
        ),
        Selector::Port(at) => {
            let ports = at.chain().iter().map(|port| (port.saturating_sub(1)).to_string());
            let path: Vec<String> = std::iter::once(at.bus().to_string()).chain(ports).collect();
            Ok(format!("path:{}", path.join("/")))
        }
        Selector::Address(_) => Err(
            "VMware does not go by the address, which is another at each plug; name it by vendor and product, or by its port",
        ),
        Selector::Path(_) => Err(
            "VMware counts buses and does not know where their controllers are; name it by vendor and product, or by its port (1-4.2)",
        ),
    }
}

fn no_id(text: &str) -> String {
    format!("`{}` is no id of one to four hexadecimal digits", shown(text))
}

/// One to four hexadecimal digits, with or without `0x`.
fn hex(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let strict = (1..=4).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_hexdigit());
    if strict { u16::from_str_radix(digits, 16).ok() } else { None }
}

/// `1/3/0` as `1-4.1`.
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
    fn patterns_of_all_ages() {
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
    fn what_is_looked_at_beside_the_device_is_remarked() {
        let pattern = read("path:1/3/0 hostId:44\\ 45 vid:0781 pid:5581 speed:high autoclean:1");
        assert_eq!(
            pattern.unwrap().unwrap().remarks,
            [
                "on the host 44 45 alone",
                "at high speed alone",
                "VMware forgets it when it is pulled out",
                "at path 1/3/0 alone",
            ]
        );
    }

    #[test]
    fn what_is_no_device_of_the_host() {
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
