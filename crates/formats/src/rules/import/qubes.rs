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

use vusb_model::rules::IdPattern;
use vusb_model::selector::BusId;

use super::{Draft, Drafts};
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
    let mut backends: Vec<&str> = Vec::new();
    let domains = xml::child(root, "domains").into_iter().flat_map(|it| xml::all(it, "domain"));
    for domain in domains {
        let property = |name: &str| {
            let all = xml::child(domain, "properties").into_iter();
            let mut all = all.flat_map(|it| xml::all(it, "property"));
            all.find(|it| it.attribute("name") == Some(name)).map(xml::content)
        };
        if domain.attribute("class") == Some("AdminVM") {
            // Domain 0 has no name, and gets no devices.
            continue;
        }
        let Some(name) = property("name").filter(|it| !it.is_empty()) else {
            drafts.lose("domains", "a qube without a name is left out");
            continue;
        };
        denied(&mut drafts, &name, &property("devices_denied").unwrap_or_default());
        let usb = xml::all(domain, "devices").filter(|it| it.attribute("class") == Some("usb"));
        for (number, device) in usb.flat_map(|it| xml::all(it, "device")).enumerate() {
            let from = format!("{name}, device {}", number + 1);
            if let Some(backend) = device.attribute("backend-domain").filter(|it| *it != "dom0") {
                if !backends.contains(&backend) {
                    backends.push(backend);
                }
            }
            assigned(&mut drafts, &from, &name, device);
        }
    }
    for backend in backends {
        let what = "its devices and ports are those of that qube, and not of this machine: the \
                    rules are for where its USB controllers are";
        drafts.lose(backend, what);
    }
    Ok(drafts)
}

/// The interfaces that a qube may not have.
fn denied(drafts: &mut Drafts, qube: &str, text: &str) {
    let all: Vec<char> = text.chars().filter(|it| !it.is_whitespace()).collect();
    let from = format!("{qube}, devices_denied");
    let mut draft = Draft {
        name: format!("{qube} denied"),
        domains: vec![qube.to_owned()],
        ..Draft::new(from.clone(), "deny")
    };
    let mut is_any = false;
    for pattern in all.chunks(INTERFACE) {
        let text: String = pattern.iter().collect();
        match kind(&text) {
            Kind::Usb(kind) => draft.has.push(kind),
            Kind::Any => is_any = true,
            Kind::Broader(kind) => {
                drafts.lose(&from, format!("`{text}`: more devices are denied"));
                match kind {
                    Some(kind) => draft.has.push(kind),
                    None => is_any = true,
                }
            }
            Kind::Other => drafts.lose(&from, format!("`{text}` is not a kind of USB interface")),
        }
    }
    if is_any {
        // Without a key, the rule matches every device.
        draft.has.clear();
    }
    if is_any || !draft.has.is_empty() {
        drafts.all.push(draft);
    }
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
    if !matches!(bus, "u" | "*" | "?")
        || codes.len() != INTERFACE - 1
        || !codes.chars().all(is_code)
    {
        return Kind::Other;
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
    let action = match device.attribute("mode") {
        // Before Qubes 4.3, every stored assignment is attached when the qube starts.
        None => "attach",
        Some("auto-attach") => "attach",
        Some("required") => {
            drafts.lose(from, "the qube starts without the device too");
            "attach"
        }
        Some("ask-to-attach") => "ask",
        Some("manual") => "allow",
        Some(other) => {
            drafts.lose(from, format!("the mode `{other}` is not known: it is left out"));
            return;
        }
    };
    let mut draft = Draft { domains: vec![qube.to_owned()], ..Draft::new(from.to_owned(), action) };
    let port = device.attribute("id").unwrap_or("*");
    if port != "*" {
        // In the names of QubesDB, an underscore stands for a dot.
        let port = port.replace('_', ".");
        if port.parse::<BusId>().is_err() {
            drafts.lose(from, "its port is not a USB port: it is left out");
            return;
        }
        draft.port.push(port);
    }
    let identity = device.attribute("identity").unwrap_or("*");
    if identity != "*" {
        if let Err(why) = identified(drafts, from, &mut draft, identity) {
            drafts.lose(from, format!("{why}: it is left out"));
            return;
        }
    }
    if device.children().any(|it| xml::is(it, "option")) {
        drafts.lose(from, "options are left out");
    }
    if draft.port.is_empty() && draft.id.is_empty() {
        drafts.lose(from, "it is about every device: it is left out");
        return;
    }
    draft.name = format!("{qube} {}", [draft.port.join(" "), draft.id.join(" ")].join(" "));
    add(drafts, draft);
}

/// Reads `0951:1666:4C53:u080650`: vendor, product, serial number and interfaces.
fn identified(
    drafts: &mut Drafts,
    from: &str,
    draft: &mut Draft,
    identity: &str,
) -> Result<(), String> {
    let wrong = || {
        format!("`{}` does not identify a device", identity.chars().take(80).collect::<String>())
    };
    let mut parts = identity.splitn(3, ':');
    let (vendor, product) = (parts.next().unwrap_or_default(), parts.next().ok_or_else(wrong)?);
    let is_id = |it: &str| it.len() == 4 && it.bytes().all(|it| it.is_ascii_hexdigit());
    if !is_id(vendor) || !is_id(product) {
        return Err(wrong());
    }
    // A serial number may have a colon; an interface has none.
    let (serial, interfaces) =
        parts.next().unwrap_or_default().rsplit_once(':').ok_or_else(wrong)?;
    let id = format!("{}:{}", vendor.to_ascii_lowercase(), product.to_ascii_lowercase());
    draft.id.push(match serial {
        "" | "unknown" => id,
        serial => {
            if serial.contains('_') {
                drafts.lose(
                    from,
                    "an underscore of the serial number may stand for a character that Qubes does \
                     not show",
                );
            }
            format!("{id}:{serial}")
        }
    });
    if draft.id.iter().any(|it| it.parse::<IdPattern>().is_err()) {
        return Err(wrong());
    }
    let all: Vec<char> = interfaces.chars().collect();
    for interface in all.chunks(INTERFACE) {
        match kind(&interface.iter().collect::<String>()) {
            Kind::Usb(kind) if kind.len() == "08:06:50".len() => {
                if !draft.only.contains(&kind) {
                    draft.only.push(kind);
                }
            }
            // The interface was unknown when the device was assigned.
            Kind::Any => {}
            _ => return Err(wrong()),
        }
    }
    Ok(())
}

/// Adds an assignment. Several qubes that want the same device are a question.
fn add(drafts: &mut Drafts, draft: Draft) {
    let is_same = |it: &&mut Draft| {
        it.action != "deny" && (&it.port, &it.id, &it.only) == (&draft.port, &draft.id, &draft.only)
    };
    let Some(other) = drafts.all.iter_mut().find(is_same) else {
        drafts.all.push(draft);
        return;
    };
    if other.action == "allow" && draft.action == "allow" {
        other.domains.extend(draft.domains);
        return;
    }
    // The question offers all of these qubes, including those that `allow` the device.
    other.action = "ask";
    other.domains.extend(draft.domains);
    other.from = format!("{}; {}", other.from, draft.from);
}
