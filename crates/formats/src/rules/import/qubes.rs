//! Qubes OS's `qubes.xml`: which qube gets which device, and which devices it may not have.
//!
//! ```xml
//! <qubes><domains><domain id="domain-5" class="AppVM">
//!   <properties>
//!     <property name="name">work</property>
//!     <property name="devices_denied">u03****u0e****</property>
//!   </properties>
//!   <devices class="usb">
//!     <device backend-domain="sys-usb" id="2-1.4" mode="auto-attach"
//!             identity="0951:1666:4C53:u080650"/>
//!   </devices>
//! </domain></domains></qubes>
//! ```
//!
//! Sources: qubes-core-admin, `qubes/vm/__init__.py` (the elements; before Qubes 4.3 without `mode`
//! and `identity`), `qubes/device_protocol.py` (the identity: vendor, product, serial number and
//! interfaces of seven characters each). `id` is the port, and `*` stands for any port or any
//! device.
//!
//! If several qubes want the same device, Qubes asks, and so does the rule that is made from them.
//! What a qube may not have, it does not get by an assignment either.

use vusb_model::rules::{IdPattern, InterfaceClass, Match};
use vusb_model::selector::BusId;

use super::draft::{Drafts, Verb};
use super::entry::{Condition, Entry};
use super::usbguard::all_of;
use crate::error::Problem;
use crate::libvirt::xml;

/// The length of an interface in characters: `u` for USB, then class, subclass and protocol.
const INTERFACE: usize = 7;

pub(super) fn read(text: &str) -> Result<Drafts, Problem> {
    let document = xml::parse(text)?;
    let root = document.root_element();
    if !xml::is(root, "qubes") {
        return Err(Problem::new(0..0, "the element `qubes` is missing: this is not a qubes.xml"));
    }
    let mut drafts = Drafts::default();
    let domains = xml::child(root, "domains").into_iter().flat_map(|it| xml::all(it, "domain"));
    let mut qubes = Vec::new();
    // Domain 0 has no name, and gets no devices.
    for domain in domains.filter(|it| it.attribute("class") != Some("AdminVM")) {
        match property(domain, "name").filter(|it| !it.is_empty()) {
            Some(name) => qubes.push((name, domain)),
            None => drafts.lose("domains", "a qube without a name is left out"),
        }
    }
    // These come first, because they hold against all assignments.
    for (name, domain) in &qubes {
        denied(&mut drafts, name, &property(*domain, "devices_denied").unwrap_or_default());
    }
    let mut backends: Vec<&str> = Vec::new();
    for (name, domain) in &qubes {
        let usb = xml::all(*domain, "devices").filter(|it| it.attribute("class") == Some("usb"));
        for (number, device) in usb.flat_map(|it| xml::all(it, "device")).enumerate() {
            let from = format!("{name}, device {}", number + 1);
            if let Some(backend) = device.attribute("backend-domain").filter(|it| *it != "dom0") {
                if !backends.contains(&backend) {
                    backends.push(backend);
                }
            }
            assigned(&mut drafts, &from, name, device);
        }
    }
    drafts.ask_if_several_want_it();
    for backend in backends {
        let what = "its devices and ports are those of that qube, and not of this machine: the \
                    rules are for where its USB controllers are";
        drafts.lose(backend, what);
    }
    Ok(drafts)
}

fn property(domain: roxmltree::Node<'_, '_>, name: &str) -> Option<String> {
    let all = xml::child(domain, "properties").into_iter();
    let mut all = all.flat_map(|it| xml::all(it, "property"));
    all.find(|it| it.attribute("name") == Some(name)).map(xml::content)
}

/// The interfaces that a qube may not have.
fn denied(drafts: &mut Drafts, qube: &str, text: &str) {
    let all: Vec<char> = text.chars().filter(|it| !it.is_whitespace()).collect();
    let from = format!("{qube}, devices_denied");
    let mut entry = Entry::new(&from, Verb::Deny, vec![qube.to_owned()]);
    entry.call(&format!("{qube} denied"));
    let (mut has, mut is_any, mut broader): (Vec<InterfaceClass>, _, _) =
        (Vec::new(), false, Vec::new());
    for pattern in all.chunks(INTERFACE) {
        let text: String = pattern.iter().collect();
        let found = match kind(&text) {
            Kind::Usb(kind) => Some(kind),
            Kind::Any => None,
            Kind::Broader(kind) => {
                broader.push(format!("`{text}`"));
                kind
            }
            Kind::Other => {
                drafts.lose(&from, format!("`{text}` is not a kind of USB interface"));
                continue;
            }
        };
        match found.and_then(|it| it.parse().ok()) {
            Some(kind) => has.push(kind),
            None => is_any = true,
        }
    }
    if has.is_empty() && !is_any {
        return;
    }
    // Without a key, the rule matches every device.
    let has = if is_any { Vec::new() } else { has };
    entry.add(Condition::Same(Match { has, ..Match::default() }));
    broader.into_iter().for_each(|it| entry.add(Condition::lost(it)));
    entry.finish(drafts);
}

/// What a pattern of seven characters stands for.
enum Kind {
    /// These interfaces: `08:06:50`, `08:06` or `08`.
    Usb(String),
    /// All of them.
    Any,
    /// Only a broader pattern can be expressed: the interfaces that begin with this, or all.
    Broader(Option<String>),
    /// Not a USB interface.
    Other,
}

fn kind(pattern: &str) -> Kind {
    let (bus, codes) = pattern.split_at(pattern.chars().next().map_or(0, char::len_utf8));
    let is_code = |it: char| it == '*' || it.is_ascii_hexdigit();
    // Other letters stand for other buses.
    if !matches!(bus, "u" | "*" | "?") && bus.bytes().all(|it| it.is_ascii_lowercase()) {
        return Kind::Other;
    }
    if codes.len() != INTERFACE - 1 || !codes.chars().all(is_code) {
        return Kind::Broader(None);
    }
    let codes = codes.to_ascii_lowercase();
    let parts: Vec<&str> = [0..2, 2..4, 4..6].into_iter().filter_map(|it| codes.get(it)).collect();
    let known = parts.iter().take_while(|it| !it.contains('*')).count();
    let is_prefix = parts.iter().skip(known).all(|it| *it == "**");
    let prefix = parts.iter().take(known).copied().collect::<Vec<_>>().join(":");
    match (known, is_prefix) {
        (0, true) => Kind::Any,
        (0, false) => Kind::Broader(None),
        (_, true) => Kind::Usb(prefix),
        (_, false) => Kind::Broader(Some(prefix)),
    }
}

/// An assignment.
fn assigned(drafts: &mut Drafts, from: &str, qube: &str, device: roxmltree::Node<'_, '_>) {
    let verb = match device.attribute("mode") {
        // Before Qubes 4.3, every stored assignment is attached when the qube starts.
        None => Verb::Attach,
        Some("auto-attach") => Verb::Attach,
        Some("required") => {
            drafts.lose(from, "the qube starts without the device too");
            Verb::Attach
        }
        Some("ask-to-attach") => Verb::Ask,
        Some("manual") => Verb::Allow,
        Some(other) => {
            drafts.lose(from, format!("the mode `{other}` is not known: it is left out"));
            return;
        }
    };
    let port = device.attribute("id").unwrap_or("*");
    let identity = device.attribute("identity").unwrap_or("*");
    if port == "*" && identity == "*" {
        drafts.lose(from, "it is about every device: it is left out");
        return;
    }
    if device.children().any(|it| xml::is(it, "option")) {
        drafts.lose(from, "options are left out");
    }
    let mut entry = Entry::new(from, verb, vec![qube.to_owned()]);
    if port != "*" {
        entry.add(in_port(port));
    }
    if identity != "*" {
        match identified(drafts, from, identity) {
            Some(conditions) => conditions.into_iter().for_each(|it| entry.add(it)),
            None => {
                let text: String = identity.chars().take(80).collect();
                entry.add(Condition::lost(format!("`{text}` does not identify a device")));
            }
        }
    }
    let keys = entry.keys();
    let ports = keys.port.iter().map(ToString::to_string);
    let words: Vec<String> = ports.chain(keys.id.iter().map(ToString::to_string)).collect();
    entry.call(&format!("{qube} {}", words.join(" ")));
    entry.finish(drafts);
}

fn in_port(text: &str) -> Condition {
    // In the names of QubesDB, an underscore stands for a dot.
    let text = text.replace('_', ".");
    let port = text.parse::<BusId>().ok().and_then(|it| it.to_string().parse().ok());
    match port {
        Some(port) => Condition::Same(Match { port: vec![port], ..Match::default() }),
        None => Condition::lost("its port is not a USB port"),
    }
}

/// Reads `0951:1666:4C53:u080650`: vendor, product, serial number and interfaces. `None` if it is
/// none.
fn identified(drafts: &mut Drafts, from: &str, identity: &str) -> Option<[Condition; 3]> {
    let mut parts = identity.splitn(3, ':');
    let (vendor, product) = (parts.next()?, parts.next()?);
    // A serial number may have a colon; an interface has none.
    let (serial, interfaces) = parts.next()?.rsplit_once(':')?;
    let id: IdPattern = format!("{vendor}:{product}").parse().ok()?;
    id.product?;
    let (id, serial) = match serial {
        "" | "unknown" => {
            (id, Condition::lost("that a device has no serial number cannot be matched"))
        }
        serial => {
            if serial.contains('_') {
                drafts.lose(
                    from,
                    "an underscore of the serial number may stand for a character that Qubes does \
                     not show",
                );
            }
            (format!("{id}:{serial}").parse().ok()?, Condition::Always)
        }
    };
    let id = Condition::Same(Match { id: vec![id], ..Match::default() });
    let mut kinds: Vec<InterfaceClass> = Vec::new();
    let all: Vec<char> = interfaces.chars().collect();
    for interface in all.chunks(INTERFACE) {
        match kind(&interface.iter().collect::<String>()) {
            Kind::Usb(kind) if kind.len() == "08:06:50".len() => {
                let kind = kind.parse().ok()?;
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            Kind::Any => {
                let unknown = Condition::lost("its interfaces were not known when it was assigned");
                return Some([id, serial, unknown]);
            }
            _ => return None,
        }
    }
    let interfaces = match kinds.as_slice() {
        [] => Condition::lost("its interfaces were not known when it was assigned"),
        [_] => Condition::Same(Match { only: kinds, ..Match::default() }),
        several => all_of(several),
    };
    Some([id, serial, interfaces])
}
