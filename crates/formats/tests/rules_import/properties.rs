//! No device is granted by imported rules that the original rules deny: compared with a plain
//! interpretation of each tool's rules.

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use vusb_formats::rules::import::{Tool, import};
use vusb_formats::rules::read;
use vusb_model::rules::{
    DeviceFacts, Domain, Effect, InterfacePattern, Removable, RuleSet, Verdict, decide,
};

type Codes = [u8; 3];

/// A device, with more properties than rules know.
#[derive(Clone, Debug)]
struct Device {
    vendor: u16,
    product: u16,
    release: u16,
    serial: Option<&'static str>,
    name: Option<&'static str>,
    port: &'static str,
    interfaces: Vec<Codes>,
    connect_type: &'static str,
    /// Whether it is removable, if its port has no type.
    removable: Removable,
    hash: &'static str,
}

const CODES: [u8; 3] = [1, 2, 3];
const PORTS: [&str; 3] = ["1-4", "1-4.2", "2-1"];
const SERIALS: [&str; 2] = ["A", "B_C"];
const NAMES: [&str; 2] = ["Ultra", "Ultra Fit"];
const TYPES: [&str; 5] = ["hotplug", "hardwired", "not used", "unknown", ""];

fn device() -> impl Strategy<Value = Device> {
    let removable = select(vec![Removable::Removable, Removable::Fixed, Removable::Unknown]);
    let ids = (1..3_u16, 1..3_u16, 1..3_u16);
    let texts = (option::of(select(&SERIALS)), option::of(select(&NAMES)), select(&PORTS));
    let interfaces = btree_set([select(&CODES), select(&CODES), select(&CODES)], 1..4);
    let rest = (select(&TYPES), removable, select(&["h1", "h2"]));
    (ids, texts, interfaces, rest).prop_map(|(ids, texts, interfaces, rest)| Device {
        vendor: ids.0,
        product: ids.1,
        release: ids.2,
        serial: texts.0,
        name: texts.1,
        port: texts.2,
        interfaces: interfaces.into_iter().collect(),
        connect_type: rest.0,
        removable: rest.1,
        hash: rest.2,
    })
}

impl Device {
    fn facts(&self) -> DeviceFacts {
        let interfaces =
            self.interfaces.iter().map(|[a, b, c]| InterfacePattern::exact(*a, *b, *c));
        let removable = match self.connect_type {
            "hotplug" => Removable::Removable,
            "hardwired" | "not used" => Removable::Fixed,
            _ => self.removable,
        };
        DeviceFacts {
            id: Some(format!("{:04x}:{:04x}", self.vendor, self.product).parse().unwrap()),
            serial: self.serial.map(str::to_owned),
            port: Some(self.port.parse().unwrap()),
            interfaces: Some(interfaces.collect()),
            text: Some(format!("SanDisk {}", self.name.unwrap_or("from the database"))),
            removable: Some(removable),
            ..DeviceFacts::default()
        }
    }
}

fn rules(tool: Tool, text: &str) -> RuleSet {
    let made = import(text, "the file", tool).unwrap();
    let file = read(&made.text, "made").unwrap();
    let unmatched = file.unmatched.unwrap_or_default();
    RuleSet { rules: file.rules, unmatched, ..RuleSet::default() }
}

fn is_allowed(rules: &RuleSet, device: &Device) -> bool {
    let decision = decide(&device.facts(), rules, &[Domain::named("web1")]);
    decision.permission("web1").unwrap().verdict == Verdict::Allowed
}

/// A value of a list, or any.
fn wild<T: Copy + std::fmt::Debug + 'static>(
    values: impl Into<std::borrow::Cow<'static, [T]>>,
) -> impl Strategy<Value = Option<T>> {
    option::weighted(0.6, select(values))
}

fn hex<T: Into<u16>>(value: Option<T>, digits: usize) -> String {
    value.map_or("*".to_owned(), |it| format!("{:0digits$x}", it.into()))
}

/// Interfaces in a rule; `None` is any code.
type Kind = (u8, Option<u8>, Option<u8>);

fn kind() -> impl Strategy<Value = Kind> {
    (select(&CODES), wild(&CODES[..]), wild(&CODES[..]))
}

fn covers((class, subclass, protocol): Kind, [a, b, c]: Codes) -> bool {
    class == a && subclass.is_none_or(|it| it == b) && protocol.is_none_or(|it| it == c)
}

mod usbguard {
    use super::*;

    /// An attribute: its text, and which devices meet it.
    #[derive(Clone, Debug)]
    enum Attribute {
        Id(&'static str, Vec<(Option<u16>, Option<u16>)>),
        Serial(&'static str),
        Name(&'static str),
        Hash(&'static str),
        Port(&'static str, Vec<&'static str>),
        Interface(&'static str, Vec<Kind>),
        ConnectType(&'static str),
        Label,
        If(&'static str),
    }

    const OPERATORS: [&str; 7] =
        ["", "equals", "equals-ordered", "all-of", "one-of", "none-of", "match-all"];

    fn attribute() -> impl Strategy<Value = Attribute> {
        use Attribute::*;
        let id = || (wild(&[1_u16, 2][..]), wild(&[1_u16, 2][..]));
        let id = id().prop_filter("a product has a vendor", |(a, b)| a.is_some() || b.is_none());
        prop_oneof![
            (select(&["", "one-of"]), vec(id, 1..3)).prop_map(|(a, b)| Id(a, b)),
            select(&["A", "B_C", "", "A\\x01"]).prop_map(Serial),
            select(&["Ultra", "Ultra Fit", ""]).prop_map(Name),
            select(&["h1", "h2"]).prop_map(Hash),
            (select(&OPERATORS), vec(select(&PORTS), 1..3)).prop_map(|(a, b)| Port(a, b)),
            (select(&OPERATORS), vec(kind(), 1..4)).prop_map(|(a, b)| Interface(a, b)),
            (select(&OPERATORS), vec(kind(), 1..2)).prop_map(|(a, b)| Interface(a, b)),
            select(&TYPES).prop_map(ConnectType),
            Just(Label),
            select(&["true", "false", "!allowed-matches(with-interface 01:01:01)"]).prop_map(If),
        ]
    }

    fn list(operator: &str, values: Vec<String>) -> String {
        match values.as_slice() {
            [one] if operator.is_empty() => one.clone(),
            several => format!("{operator} {{ {} }}", several.join(" ")),
        }
    }

    /// How USBGuard compares the values of a rule with those of a device.
    fn solve<R, D>(operator: &str, rule: &[R], device: &[D], is: impl Fn(&R, &D) -> bool) -> bool {
        let found = |it: &R| device.iter().any(|own| is(it, own));
        match operator {
            "all-of" => rule.iter().all(found),
            "one-of" => rule.iter().any(found),
            "none-of" => !rule.iter().any(found),
            "match-all" => device.iter().all(|own| rule.iter().any(|it| is(it, own))),
            "equals-ordered" => {
                rule.len() == device.len() && rule.iter().zip(device).all(|(a, b)| is(a, b))
            }
            _ => rule.len() == device.len() && rule.iter().all(found),
        }
    }

    impl Attribute {
        fn key(&self) -> std::mem::Discriminant<Attribute> {
            std::mem::discriminant(self)
        }

        fn text(&self) -> String {
            let quoted = |it: &&str| format!("\"{it}\"");
            match self {
                Attribute::Id(operator, all) => {
                    let id = |it: &(Option<u16>, Option<u16>)| {
                        format!("{}:{}", hex(it.0, 4), hex(it.1, 4))
                    };
                    format!("id {}", list(operator, all.iter().map(id).collect()))
                }
                Attribute::Serial(it) => format!("serial \"{it}\""),
                Attribute::Name(it) => format!("name \"{it}\""),
                Attribute::Hash(it) => format!("hash \"{it}\""),
                Attribute::Port(operator, all) => {
                    format!("via-port {}", list(operator, all.iter().map(quoted).collect()))
                }
                Attribute::Interface(operator, all) => {
                    let kind = |(a, b, c): &Kind| format!("{a:02x}:{}:{}", hex(*b, 2), hex(*c, 2));
                    format!("with-interface {}", list(operator, all.iter().map(kind).collect()))
                }
                Attribute::ConnectType(it) => format!("with-connect-type \"{it}\""),
                Attribute::Label => "label \"x\"".to_owned(),
                Attribute::If(it) => format!("if {it}"),
            }
        }

        /// Whether the device may meet the condition.
        fn holds(&self, device: &Device) -> bool {
            match self {
                Attribute::Id(operator, all) => {
                    let device = [(device.vendor, device.product)];
                    solve(operator, all, &device, |a, b| {
                        a.0.is_none_or(|it| it == b.0) && a.1.is_none_or(|it| it == b.1)
                    })
                }
                Attribute::Serial(it) => *it == device.serial.unwrap_or_default(),
                Attribute::Name(it) => *it == device.name.unwrap_or_default(),
                Attribute::Hash(it) => *it == device.hash,
                Attribute::Port(operator, all) => {
                    solve(operator, all, &[device.port], |a, b| a == b)
                }
                Attribute::Interface(operator, all) => {
                    // Rules know which kinds there are, not how many of each.
                    let mut kinds = all.clone();
                    kinds.sort_unstable();
                    kinds.dedup();
                    solve(operator, &kinds, &device.interfaces, |a, b| covers(*a, *b))
                }
                Attribute::ConnectType(it) => *it == device.connect_type,
                Attribute::Label => true,
                Attribute::If(it) => *it == "true",
            }
        }
    }

    type Rule = (&'static str, Vec<Attribute>);

    fn rule() -> impl Strategy<Value = Rule> {
        (select(&["allow", "allow", "block", "reject"]), vec(attribute(), 0..3)).prop_map(
            |(action, all)| {
                let mut attributes: Vec<Attribute> = Vec::new();
                for attribute in all {
                    if attributes.iter().all(|it| it.key() != attribute.key()) {
                        attributes.push(attribute);
                    }
                }
                (action, attributes)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn imported_usbguard_rules_allow_nothing_more(
            file in vec(rule(), 1..5),
            devices in vec(device(), 20),
        ) {
            let line = |(action, all): &Rule| {
                let all = all.iter().map(Attribute::text);
                std::iter::once((*action).to_owned()).chain(all).collect::<Vec<_>>().join(" ")
            };
            let text = file.iter().map(line).collect::<Vec<_>>().join("\n");
            let rules = rules(Tool::UsbGuard, &text);
            for device in devices {
                let first = file.iter().find(|(_, all)| all.iter().all(|it| it.holds(&device)));
                let allows = first.is_some_and(|(action, _)| *action == "allow");
                prop_assert!(allows || !is_allowed(&rules, &device), "{}\n{:?}", text, device);
            }
        }
    }
}

mod xapi {
    use super::*;

    /// Whether it allows, then vendor, product, release, class, subclass and protocol.
    type Line = (bool, [Option<u16>; 6]);

    fn line() -> impl Strategy<Value = Line> {
        let value = || option::weighted(0.25, 1..3_u16);
        let values = [value(), value(), value(), value(), value(), value()];
        (any::<bool>(), values)
    }

    fn matches(values: &[Option<u16>; 6], device: &Device, [a, b, c]: Codes) -> bool {
        let own = [device.vendor, device.product, device.release, a.into(), b.into(), c.into()];
        values.iter().zip(own).all(|(value, own)| value.is_none_or(|it| it == own))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn an_imported_usb_policy_allows_nothing_more(
            file in vec(line(), 1..6),
            devices in vec(device(), 20),
        ) {
            let mut text = String::new();
            for (allows, values) in &file {
                text += if *allows { "ALLOW:" } else { "DENY:" };
                let keys = ["vid", "pid", "rel", "class", "subclass", "prot"];
                for (at, (key, value)) in keys.iter().zip(values).enumerate() {
                    let digits = if at < 3 { 4 } else { 2 };
                    text += &value.map_or(String::new(), |it| format!(" {key}={it:0digits$x}"));
                }
                text += "\n";
            }
            let rules = rules(Tool::Xapi, &text);
            for device in devices {
                let allows = device.interfaces.iter().all(|interface| {
                    let first = file.iter().find(|(_, it)| matches(it, &device, *interface));
                    first.is_some_and(|(allows, _)| *allows)
                });
                prop_assert!(allows || !is_allowed(&rules, &device), "{}\n{:?}", text, device);
            }
        }
    }
}

/// The domain that a device is attached to.
fn attached(rules: &RuleSet, device: &Device) -> Option<String> {
    match decide(&device.facts(), rules, &[Domain::named("a"), Domain::named("b")]).effect {
        Effect::Attach { domain, .. } => Some(domain),
        _ => None,
    }
}

mod vhotplug {
    use super::*;
    use serde_json::{Value, json};

    /// What an entry is about; any of it is enough.
    #[derive(Clone, Debug)]
    struct Entry {
        id: Option<(u16, u16)>,
        kind: Option<Kind>,
        port: Option<u8>,
        name: Option<&'static str>,
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let id = option::weighted(0.4, (1..3_u16, 1..3_u16));
        let port = option::weighted(0.2, select(&[1_u8, 4]));
        let name = option::weighted(0.2, select(&["ultra", ".*fit.*", "a|b"]));
        (id, option::weighted(0.5, kind()), port, name).prop_map(|(id, kind, port, name)| Entry {
            id,
            kind,
            port,
            name,
        })
    }

    impl Entry {
        fn json(&self) -> Value {
            let mut all = json!({});
            if let Some((vendor, product)) = self.id {
                all["vendorId"] = format!("{vendor:04x}").into();
                all["productId"] = format!("{product:04x}").into();
            }
            if let Some((class, subclass, protocol)) = self.kind {
                all["class"] = class.into();
                all["subclass"] = subclass.unwrap_or(0).into();
                all["protocol"] = protocol.unwrap_or(0).into();
            }
            if let Some(port) = self.port {
                all["bus"] = 1.into();
                all["port"] = port.into();
            }
            if let Some(name) = self.name {
                all["productName"] = name.into();
            }
            all
        }

        fn matches(&self, device: &Device) -> bool {
            let root_port = device.port.split('.').next().unwrap();
            let name = device.name.unwrap_or_default().to_lowercase();
            let named = |it: &str| match it {
                "a|b" => false,
                ".*fit.*" => name.contains("fit"),
                it => name.starts_with(it),
            };
            self.id.is_some_and(|it| it == (device.vendor, device.product))
                || self.kind.is_some_and(|it| device.interfaces.iter().any(|own| covers(it, *own)))
                || self.port.is_some_and(|it| root_port == format!("1-{it}"))
                || self.name.is_some_and(named)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn imported_vhotplug_entries_attach_nothing_more(
            file in vec((select(&["a", "b"]), entry(), vec(entry(), 0..3)), 1..4),
            devices in vec(device(), 20),
        ) {
            let guest = |(name, entry, ignored): &(&str, Entry, Vec<Entry>)| {
                let mut entry = entry.json();
                entry["ignore"] = ignored.iter().map(Entry::json).collect();
                json!({"name": name, "usbPassthrough": [entry]})
            };
            let text = json!({"vms": file.iter().map(guest).collect::<Value>()}).to_string();
            let rules = rules(Tool::Vhotplug, &text);
            for device in devices {
                let Some(domain) = attached(&rules, &device) else { continue };
                let attaches = file.iter().any(|(name, entry, ignored)| {
                    *name == domain
                        && entry.matches(&device)
                        && !ignored.iter().any(|it| it.matches(&device))
                });
                prop_assert!(attaches, "{}\n{}\n{:?}", text, domain, device);
            }
        }
    }
}

mod qubes {
    use super::*;
    use std::fmt::Write as _;

    /// A qube: its name, the kinds that it may not have, and its assignments.
    type Qube = (&'static str, Vec<Kind>, Vec<Assignment>);

    #[derive(Clone, Debug)]
    struct Assignment {
        port: Option<&'static str>,
        /// Vendor, product, serial number and interfaces.
        identity: Option<(u16, u16, Option<&'static str>, Vec<Codes>)>,
    }

    fn assignment() -> impl Strategy<Value = Assignment> {
        let interfaces = btree_set([select(&CODES), select(&CODES), select(&CODES)], 1..3);
        let interfaces = interfaces.prop_map(|it| it.into_iter().collect());
        let identity = (1..3_u16, 1..3_u16, option::of(select(&SERIALS)), interfaces);
        (wild(&PORTS[..]), option::weighted(0.7, identity))
            .prop_map(|(port, identity)| Assignment { port, identity })
    }

    impl Assignment {
        fn matches(&self, device: &Device) -> bool {
            let own = (device.vendor, device.product, device.serial, device.interfaces.clone());
            self.port.is_none_or(|it| it == device.port)
                && self.identity.as_ref().is_none_or(|it| *it == own)
        }
    }

    fn text(file: &[Qube]) -> String {
        let mut text = "<qubes><domains>".to_owned();
        for (name, denied, all) in file {
            let code = |it: Option<u8>| it.map_or("**".to_owned(), |it| format!("{it:02x}"));
            let kind = |(a, b, c): &Kind| format!("u{a:02x}{}{}", code(*b), code(*c));
            let denied: String = denied.iter().map(kind).collect();
            let _ = write!(
                text,
                "<domain><properties><property name='name'>{name}</property>\
                 <property name='devices_denied'>{denied}</property></properties>\
                 <devices class='usb'>"
            );
            for it in all {
                let identity =
                    it.identity.as_ref().map_or("*".to_owned(), |(a, b, serial, all)| {
                        let interface = |[a, b, c]: &Codes| format!("u{a:02x}{b:02x}{c:02x}");
                        let all: String = all.iter().map(interface).collect();
                        format!("{a:04x}:{b:04x}:{}:{all}", serial.unwrap_or_default())
                    });
                let port = it.port.unwrap_or("*");
                let _ =
                    write!(text, "<device id='{port}' identity='{identity}' mode='auto-attach'/>");
            }
            text += "</devices></domain>";
        }
        text + "</domains></qubes>"
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn imported_qubes_assignments_attach_nothing_more(
            file in vec((select(&["a", "b"]), vec(kind(), 0..2), vec(assignment(), 0..4)), 1..3),
            devices in vec(device(), 20),
        ) {
            let text = text(&file);
            let rules = rules(Tool::Qubes, &text);
            for device in devices {
                let Some(domain) = attached(&rules, &device) else { continue };
                let is_denied = |kinds: &[Kind]| {
                    device.interfaces.iter().any(|own| kinds.iter().any(|it| covers(*it, *own)))
                };
                let own = || file.iter().filter(|(name, ..)| *name == domain);
                let attaches = own().any(|(_, _, all)| all.iter().any(|it| it.matches(&device)))
                    && !own().any(|(_, denied, _)| is_denied(denied));
                prop_assert!(attaches, "{}\n{}\n{:?}", text, domain, device);
            }
        }
    }
}
