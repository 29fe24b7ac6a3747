//! Reads the guest and its USB from xl's settings, as libxl's structures.

use std::borrow::Cow;
use std::ops::Range;

use vusb_model::guest::{Guest, Hypervisor, Virtualization};

use super::entry::{Pair, pairs};
use super::grammar::{Value, ValueKind, short};
use super::number::{ParsedNumber, atoi, strtol_exact, strtoul_u8};
use super::settings::{EffectiveValue, Settings};
use crate::config::{Field, ItemSource};
use crate::error::Problem;
use crate::libxl::structs::{BootUsb, Ctrl, CtrlType, Dev, Spanned, Usb};

/// The keys about USB, in their usual order.
pub(super) const KEYS: [&str; 6] =
    ["usb", "usbversion", "usbdevice", "spiceusbredirection", "usbctrl", "usbdev"];

/// Parses a text.
///
/// # Errors
/// xl rejects it.
pub(super) fn usb(text: &str) -> Result<Usb, Problem> {
    let settings = Settings::read(text)?;
    let mut reader = Reader { text, settings: &settings, warnings: Vec::new() };
    let guest = reader.guest()?;
    let boot = reader.boot()?;
    let ctrls = reader.entries("usbctrl", ctrl)?;
    let devs = reader.entries("usbdev", dev)?;
    for key in KEYS {
        if let Some((overridden, last)) = settings.overridden(key) {
            let what = format!(
                "this has no effect: `{key}` is set again, and xl uses the last assignment"
            );
            reader.warnings.push(
                Problem::new(overridden.span(), what)
                    .other(last.key_span.clone(), "xl uses this one")
                    .help("`+=` appends to a list"),
            );
        }
    }
    Ok(Usb { guest, ctrls, devs, boot, warnings: reader.warnings, incomplete: false })
}

struct Reader<'s, 't> {
    text: &'t str,
    settings: &'s Settings<'t>,
    warnings: Vec<Problem>,
}

impl<'s, 't> Reader<'s, 't> {
    fn guest(&mut self) -> Result<Guest, Problem> {
        let memory = self.number("memory").and_then(|it| u64::try_from(it.value).ok());
        let vcpus = self.number("vcpus").and_then(|it| u32::try_from(it.value).ok());
        Ok(Guest {
            name: self.string("name").map(|(text, _)| text.into_owned()),
            uuid: self.string("uuid").map(|(text, _)| text.into_owned()),
            hypervisor: Hypervisor::Xen,
            virtualization: self.virtualization()?,
            memory_kib: memory.and_then(|mib| mib.checked_mul(1024)),
            vcpus,
            ..Guest::default()
        })
    }

    /// `type`, or `builder`, its name before Xen 4.10. xl accepts abbreviations and uses the first
    /// word that starts with the text.
    fn virtualization(&mut self) -> Result<Virtualization, Problem> {
        const TYPES: [(&str, Virtualization); 3] = [
            ("hvm", Virtualization::Hvm),
            ("pv", Virtualization::Pv),
            ("pvh", Virtualization::Pvh),
        ];
        const BUILDERS: [(&str, Virtualization); 2] =
            [("hvm", Virtualization::Hvm), ("generic", Virtualization::Pv)];
        let of = |value: Option<(Cow<'_, str>, Range<usize>)>,
                  words: &[(&str, Virtualization)],
                  known: &str| {
            let Some((text, span)) = value else { return Ok(None) };
            match words.iter().find(|(word, _)| word.starts_with(text.as_ref())) {
                Some((_, it)) => Ok(Some((*it, span))),
                None => Err(Problem::new(
                    span,
                    format!("`{}` is not a guest type: {known}", short(&text)),
                )
                .help(format!("xl says: Invalid domain type {}.", short(&text)))),
            }
        };
        let kind = of(self.string("type"), &TYPES, "use hvm, pv or pvh")?;
        let builder = of(self.string("builder"), &BUILDERS, "use hvm or generic for builder")?;
        match (kind, builder) {
            (Some((kind, span)), Some((builder, other))) if kind != builder => {
                Err(Problem::new(other, "`builder` and `type` contradict each other")
                    .other(span, "the type")
                    .help(
                        "remove `builder`, the old name of `type`; xl says: Contradicting \"builder\" and \"type\" options \
                         specified.",
                    ))
            }
            (Some((kind, _)), _) | (None, Some((kind, _))) => Ok(kind),
            (None, None) => Ok(Virtualization::Pv),
        }
    }

    fn boot(&mut self) -> Result<BootUsb, Problem> {
        let usb = self.number("usb");
        let mut boot = BootUsb {
            usb: usb.map(|value| Spanned { value: value.value != 0, span: value.span }),
            usbversion: self.number("usbversion"),
            redirection: self.number("spiceusbredirection"),
            spice: self.number("spice").is_some_and(|it| it.value != 0),
            ..BootUsb::default()
        };
        if let Some(effective) = self.settings.get("usbdevice") {
            let span = effective.span();
            match (effective.text(), effective.list()) {
                (Some(text), _) => boot.device = Some(Spanned { value: text.into_owned(), span }),
                (None, list) => {
                    let strings = self.strings("usbdevice", list.unwrap_or_default());
                    let owned = |(text, span): (&str, _)| Spanned { value: text.to_owned(), span };
                    let value = strings.into_iter().map(owned).collect();
                    boot.list = Some(Spanned { value, span });
                }
            }
        }
        Ok(boot)
    }

    /// The value of a key as a string, with its span.
    fn string(&mut self, key: &str) -> Option<(Cow<'s, str>, Range<usize>)> {
        let effective = self.settings.get(key)?;
        let text = effective.text();
        if text.is_none() {
            let what = format!("xl ignores this: `{key}` is a list and should be a single value");
            self.warnings.push(Problem::new(effective.span(), what));
        }
        Some((text?, effective.span()))
    }

    /// The value of a key as a number.
    fn number(&mut self, key: &str) -> Option<Spanned<i64>> {
        let (text, span) = self.string(key)?;
        let effective: EffectiveValue<'_, '_> = self.settings.get(key)?;
        let value = strtol_exact(&text).filter(|_| !effective.is_appended());
        let Some(value) = value else {
            let what = format!("xl ignores this: `{key}` is not a number");
            let help = if effective.is_appended() {
                "set a number with `=`, not with `+=`"
            } else {
                "for yes and no, use 1 and 0"
            };
            self.warnings.push(Problem::new(span, what).help(help));
            return None;
        };
        let octal =
            text.starts_with('0') && text.parse().is_ok_and(|decimal: i64| decimal != value);
        if octal {
            let what = format!(
                "xl reads `{}` as {value} because a leading zero makes it octal",
                short(&text)
            );
            self.warnings.push(Problem::new(span.clone(), what));
        }
        Some(Spanned { value, span })
    }

    /// Reads the entries of a list of strings.
    fn entries<T>(
        &mut self,
        key: &str,
        one: impl Fn(&Entry<'_>, &mut Vec<Problem>) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Problem> {
        let Some(effective) = self.settings.get(key) else { return Ok(Vec::new()) };
        let Some(list) = effective.list() else {
            let what = format!("xl ignores this: `{key}` is a single value and should be a list");
            self.warnings.push(Problem::new(effective.span(), what).help("put it in [ ]"));
            return Ok(Vec::new());
        };
        let strings = self.strings(key, list);
        let mut all = Vec::with_capacity(strings.len());
        for (text, span) in strings {
            let entry = Entry { text, plain: inner(self.text, &span) == Some(text), span };
            all.push(one(&entry, &mut self.warnings)?);
        }
        Ok(all)
    }

    /// The strings of a list. xl stops at the first nested list.
    fn strings(&mut self, key: &str, list: Vec<&'s Value<'t>>) -> Vec<(&'s str, Range<usize>)> {
        let mut all = Vec::with_capacity(list.len());
        for value in list {
            match &value.kind {
                ValueKind::Atom(text) => all.push((text.as_ref(), value.span.clone())),
                ValueKind::List(_) => {
                    let what = format!(
                        "xl reads `{key}` only up to here: this is a list and not a string"
                    );
                    self.warnings.push(Problem::new(value.span.clone(), what));
                    break;
                }
            }
        }
        all
    }
}

/// The text between the quotes.
fn inner<'t>(text: &'t str, span: &Range<usize>) -> Option<&'t str> {
    text.get(span.start + 1..span.end.checked_sub(1)?)
}

/// An entry of `usbctrl` or `usbdev`.
struct Entry<'a> {
    text: &'a str,
    /// The span, including quotes.
    span: Range<usize>,
    /// Whether it contains no escapes, so that its characters are those of the text.
    plain: bool,
}

impl Entry<'_> {
    /// The span of a part of the entry. If the entry contains escapes, positions in it do not match
    /// the text, and this is the span of the whole entry.
    fn span_of(&self, part: &Range<usize>) -> Range<usize> {
        let start = self.span.start + 1;
        if self.plain { start + part.start..start + part.end } else { self.span.clone() }
    }

    /// A number. Warns if it is probably not what the user meant.
    fn number<N>(&self, pair: &Pair<'_>, read: ParsedNumber<N>, warnings: &mut Vec<Problem>) -> N {
        if let Some(doubt) = read.doubt {
            let help =
                format!("write `{}=` with a decimal number, without leading zeros", pair.key);
            warnings.push(Problem::new(self.span_of(&pair.span), doubt).help(help));
        }
        read.number
    }

    fn unknown_key(&self, pair: &Pair<'_>, key: &str, known: &str) -> Problem {
        let what = format!("`{}` is not valid in an entry of {key}: {known}", short(pair.text));
        Problem::new(self.span_of(&pair.span), what).help(format!(
            "spaces are significant except after a comma; xl says: Unknown string `{}' in {key} spec",
            short(pair.text)
        ))
    }
}

fn ctrl(entry: &Entry<'_>, warnings: &mut Vec<Problem>) -> Result<Ctrl, Problem> {
    let mut ctrl = Ctrl {
        source: ItemSource { span: entry.span.clone(), ..ItemSource::default() },
        ..Ctrl::default()
    };
    for pair in pairs(entry.text) {
        let value = pair.value.unwrap_or_default();
        let field = match (pair.key, pair.value) {
            ("type", Some(_)) => {
                ctrl.ctrl_type = CtrlType::of_name(value).ok_or_else(|| {
                    let what = format!(
                        "`{}` is not a controller type: use auto, pv, qusb or devicemodel",
                        short(value)
                    );
                    Problem::new(entry.span_of(&pair.span), what)
                        .help(format!("xl says: Invalid usb controller type '{}'", short(value)))
                })?;
                Field::Model
            }
            ("version", Some(_)) => {
                ctrl.version = entry.number(&pair, atoi(value), warnings);
                Field::Model
            }
            ("ports", Some(_)) => {
                ctrl.ports = entry.number(&pair, atoi(value), warnings);
                Field::Ports
            }
            _ => {
                return Err(entry.unknown_key(
                    &pair,
                    "usbctrl",
                    "it takes type, version and ports, each with an `=`",
                ));
            }
        };
        ctrl.source.fields.insert(field, entry.span_of(&pair.span));
    }
    if ctrl.ctrl_type == CtrlType::Pv {
        ctrl.source
            .remarks
            .push("type pv: served by the backend domain's kernel, not by QEMU".to_owned());
    }
    Ok(ctrl)
}

fn dev(entry: &Entry<'_>, warnings: &mut Vec<Problem>) -> Result<Dev, Problem> {
    let mut dev = Dev {
        source: ItemSource { span: entry.span.clone(), ..ItemSource::default() },
        ..Dev::default()
    };
    for pair in pairs(entry.text) {
        let value = pair.value.unwrap_or_default();
        let field = match (pair.key, pair.value) {
            ("type", Some(_)) => {
                if !value.eq_ignore_ascii_case("hostdev") {
                    let what = format!(
                        "`{}` is not a USB device type: the only one is hostdev",
                        short(value)
                    );
                    return Err(Problem::new(entry.span_of(&pair.span), what)
                        .help(format!("xl says: Invalid usb device type: {}", short(value))));
                }
                dev.has_type = true;
                continue;
            }
            ("hostbus", Some(_)) => {
                let read = strtoul_u8(value);
                dev.doubt = dev.doubt.or(read.doubt.clone());
                dev.hostbus = entry.number(&pair, read, warnings);
                Field::What
            }
            ("hostaddr", Some(_)) => {
                let read = strtoul_u8(value);
                dev.doubt = dev.doubt.or(read.doubt.clone());
                dev.hostaddr = entry.number(&pair, read, warnings);
                Field::What
            }
            ("controller", Some(_)) => {
                dev.ctrl = entry.number(&pair, atoi(value), warnings);
                Field::Controller
            }
            ("port", Some(_)) => {
                dev.port = entry.number(&pair, atoi(value), warnings);
                Field::Port
            }
            _ => {
                let known =
                    "it takes type, hostbus, hostaddr, controller and port, each with an `=`";
                return Err(entry.unknown_key(&pair, "usbdev", known));
            }
        };
        let span = entry.span_of(&pair.span);
        // Bus and address are two keys of one field.
        let before = dev.source.fields.get(&field).filter(|_| field == Field::What);
        let span = before.map_or(span.clone(), |it| it.start.min(span.start)..it.end.max(span.end));
        dev.source.fields.insert(field, span);
    }
    Ok(dev)
}
