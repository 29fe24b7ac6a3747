//! How other tools name a USB device, and the selector for each name.
//!
//! | text | where from | selector |
//! |---|---|---|
//! | `/dev/bus/usb/001/004` | the node, and QEMU's `hostdevice` | `001.004`, accepted |
//! | `/sys/bus/usb/devices/1-4.2` | sysfs | `1-4.2`, accepted |
//! | `001:004`, `1/4`, `01.04` | | `001.004` |
//! | `Bus 001 Device 004: ID 0781:5581 SanDisk` | `lsusb` | `0781:5581` or `001.004` |
//! | `0x0781:0x5581`, `781:5581`, `0781-5581`, `07815581` | VirtualBox, VMware | `0781:5581` |
//! | `hostbus=1,hostaddr=4`, `hostbus=1,hostport=4.2` | QEMU, xl | `001.004`, `1-4.2` |
//! | `vendorid=0x0781,productid=0x5581` | QEMU | `0781:5581` |
//! | `01-4`, `1-04.2`, `usb-1-4` | | `1-4`, `1-4.2` |
//! | `1-4.2:1.0` | an interface, in sysfs and in the kernel's messages | `1-4.2` |
//!
//! What is not a selector could mean several things: a number with a leading zero is octal
//! elsewhere, and `0010:0011` may be bus and address or vendor and product. So the other forms are
//! only answered with the selector that was probably meant.

use super::{BusAddress, Selector, UsbId, bus_address, port_chain};

/// A path that names one USB device: its node in `/dev/bus/usb`, or its entry in sysfs. Both are
/// written by the kernel in one form only.
pub(super) fn path(text: &str) -> Option<Selector> {
    if let Some(node) = text.strip_prefix("/dev/bus/usb/") {
        let (bus, address) = node.split_once('/')?;
        let padded = bus.len() == 3 && address.len() == 3;
        return padded
            .then(|| bus_address(&format!("{bus}.{address}")))
            .flatten()
            .map(Selector::Address);
    }
    let entry = text.strip_prefix("/sys/bus/usb/devices/")?;
    entry.parse().ok().map(Selector::Port)
}

/// The selectors that a text of another form probably means, the most probable one first.
pub(super) fn meant(text: &str) -> Vec<Selector> {
    let text = text.trim();
    let text = text.strip_prefix("host:").or_else(|| text.strip_prefix("usb-")).unwrap_or(text);
    let all = [lsusb(text), assignments(text), ports(text), interface(text), pair(text)];
    let mut meant: Vec<Selector> = all.into_iter().flatten().flatten().collect();
    meant.dedup();
    meant
}

/// `Bus 001 Device 004: ID 0781:5581 SanDisk Corp.`
fn lsusb(text: &str) -> Option<Vec<Selector>> {
    let mut words = text.split_whitespace();
    let mut after = |word: &str| {
        let is = words.next()?.eq_ignore_ascii_case(word);
        is.then(|| words.next()).flatten()
    };
    let bus = after("bus")?;
    let address = after("device")?.trim_end_matches(':');
    let id = after("id").and_then(|id| id.parse().ok());
    Some(id.into_iter().chain(at(decimal(bus)?, decimal(address)?)).collect())
}

/// `hostbus=1,hostaddr=4`, `vendorid=0x0781,productid=0x5581` and the like.
fn assignments(text: &str) -> Option<Vec<Selector>> {
    let value = |keys: &[&str]| {
        let mut pairs = text.split(',').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(key, _)| keys.contains(key)).map(|(_, value)| value)
    };
    let bus = || value(&["hostbus", "bus"]).and_then(decimal);
    let id = value(&["vendorid", "vendor", "vid"]).and_then(hex).and_then(|vendor| {
        let product = value(&["productid", "product", "pid"]).and_then(hex)?;
        Some(Selector::Id { id: UsbId { vendor, product }, serial: None })
    });
    let port = || {
        let chain = value(&["hostport", "port"])?;
        format!("{}-{chain}", bus()?).parse().ok().map(Selector::Port)
    };
    let address = || at(bus()?, decimal(value(&["hostaddr", "addr", "device", "dev"])?)?);
    let selector = id.or_else(port).or_else(address)?;
    Some(vec![selector])
}

/// Two numbers, as bus and address or as vendor and product.
fn pair(text: &str) -> Option<Vec<Selector>> {
    let is_separator = |it: char| matches!(it, ':' | '-' | '.' | '/' | '_' | ' ' | ',');
    let (first, second) = match text.split_once(is_separator) {
        Some(parts) => parts,
        None if text.len() == 8 => text.split_at_checked(4)?,
        None => return None,
    };
    let short = first.len() <= 3 && second.len() <= 3;
    let numbers = if short { decimal(first).zip(decimal(second)) } else { None };
    if let Some((bus, address)) = numbers {
        return Some(at(bus, address).into_iter().collect());
    }
    let id = UsbId { vendor: hex(first)?, product: hex(second)? };
    let long = first.len() >= 3 && second.len() >= 3;
    long.then(|| vec![Selector::Id { id, serial: None }])
}

/// A bus and a chain of ports, with or without leading zeros.
fn ports(text: &str) -> Option<Vec<Selector>> {
    let (bus, chain) = text.split_once('-')?;
    let chain: Vec<u16> = chain.split('.').map(decimal).collect::<Option<_>>()?;
    let chain = chain.iter().map(u16::to_string).collect::<Vec<_>>().join(".");
    port_chain(&chain)?;
    let id = format!("{}-{chain}", decimal(bus)?).parse().ok()?;
    Some(vec![Selector::Port(id)])
}

/// The interface of a device: its port, then configuration and number.
fn interface(text: &str) -> Option<Vec<Selector>> {
    let (port, interface) = text.split_once(':')?;
    let (configuration, number) = interface.split_once('.')?;
    decimal(configuration).and(decimal(number)).and_then(|_| ports(port))
}

fn at(bus: u16, address: u16) -> Option<Selector> {
    let address = u8::try_from(address).ok().filter(|it| (1..=127).contains(it))?;
    (bus > 0).then_some(Selector::Address(BusAddress { bus, address }))
}

/// A decimal number, with or without leading zeros.
fn decimal(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// One to four hexadecimal digits, with or without `0x`.
fn hex(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let strict = (1..=4).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_hexdigit());
    if strict { u16::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(text: &str) -> String {
        let meant: Vec<String> = meant(text).iter().map(Selector::to_string).collect();
        meant.join(" ")
    }

    #[test]
    fn other_spellings_are_answered_with_the_right_one() {
        for (text, selector) in [
            ("001:004", "001.004"),
            ("1:4", "001.004"),
            ("1/4", "001.004"),
            ("01.04", "001.004"),
            ("0x0781:0x5581", "0781:5581"),
            ("0x781:0x5581", "0781:5581"),
            ("781:5581", "0781:5581"),
            ("0781-5581", "0781:5581"),
            ("0781.5581", "0781:5581"),
            ("07815581", "0781:5581"),
            ("0A5C:0X21e8", "0a5c:21e8"),
            ("hostbus=1,hostaddr=4", "001.004"),
            ("hostbus=1,hostport=4.2", "1-4.2"),
            ("vendorid=0x0781,productid=0x5581", "0781:5581"),
            ("type=hostdev, hostbus=1, hostaddr=4", "001.004"),
            ("Bus 001 Device 004: ID 0781:5581 SanDisk Corp.", "0781:5581 001.004"),
            ("bus 1 device 4", "001.004"),
            ("01-4", "1-4 001.004"),
            ("1-04.2", "1-4.2"),
            ("usb-1-04.2", "1-4.2"),
            ("1-4.2:1.0", "1-4.2"),
        ] {
            assert_eq!(answer(text), selector, "{text}");
        }
        for text in ["", "stick", "1", "1:200", "0:4", "1-0.2", "07:81:55", "bus 1", "hostbus=1"] {
            assert_eq!(answer(text), "", "{text}");
        }
    }

    #[test]
    fn paths_are_strict() {
        let read = |text: &str| path(text).map(|it| it.to_string());
        assert_eq!(read("/dev/bus/usb/001/004").as_deref(), Some("001.004"));
        assert_eq!(read("/sys/bus/usb/devices/1-4.2").as_deref(), Some("1-4.2"));
        for text in [
            "/dev/bus/usb/1/4",
            "/dev/bus/usb/001/128",
            "/dev/bus/usb/001/004/",
            "/dev/bus/usb/001",
            "/sys/bus/usb/devices/usb1",
            "/sys/bus/usb/devices/1-4:1.0",
            "dev/bus/usb/001/004",
            "/dev/sdb",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_answer_is_a_selector(text in "[0-9a-fx:=., /-]{0,24}") {
            for selector in meant(&text) {
                prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
            }
        }
    }
}
