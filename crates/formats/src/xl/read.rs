//! From xl's settings to what they say of the guest and its USB.

use std::borrow::Cow;
use std::ops::Range;

use vusb_model::guest::{Guest, Hypervisor, Virtualization};

use super::entry::{Pair, pairs};
use super::grammar::{Value, What, short};
use super::number::{Read, byte, decimal, whole};
use super::settings::{Found, Settings};
use crate::config::{Field, Place};
use crate::error::Problem;
use crate::libxl::usb::{Ctrl, CtrlType, Dev, Own, Said, Usb};

/// The keys that are about USB, in the order in which they are best read.
pub(super) const KEYS: [&str; 6] =
    ["usb", "usbversion", "usbdevice", "spiceusbredirection", "usbctrl", "usbdev"];

/// What a text says.
///
/// # Errors
/// xl refuses it.
pub(super) fn usb(text: &str) -> Result<Usb, Problem> {
    let settings = Settings::read(text)?;
    let mut reader = Reader { text, settings: &settings, warnings: Vec::new() };
    let guest = reader.guest()?;
    let own = reader.own()?;
    let ctrls = reader.entries("usbctrl", ctrl)?;
    let devs = reader.entries("usbdev", dev)?;
    for key in KEYS {
        if let Some((void, last)) = settings.void(key) {
            let what = format!("this is void: `{key}` is set again, and xl takes the last");
            reader.warnings.push(
                Problem::new(void.span(), what)
                    .other(last.key_span.clone(), "this is what counts")
                    .help("`+=` adds to a list"),
            );
        }
    }
    Ok(Usb { guest, ctrls, devs, own, warnings: reader.warnings })
}

struct Reader<'s, 't> {
    text: &'t str,
    settings: &'s Settings<'t>,
    warnings: Vec<Problem>,
}

impl<'s, 't> Reader<'s, 't> {
    fn guest(&mut self) -> Result<Guest, Problem> {
        let memory = self.number("memory").and_then(|said| u64::try_from(said.value).ok());
        let vcpus = self.number("vcpus").and_then(|said| u32::try_from(said.value).ok());
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

    /// `type`, or `builder` as it was called before Xen 4.10. Of a word that is cut short xl takes the first that starts so.
    fn virtualization(&mut self) -> Result<Virtualization, Problem> {
        const TYPES: [(&str, Virtualization); 3] = [
            ("hvm", Virtualization::Hvm),
            ("pv", Virtualization::Pv),
            ("pvh", Virtualization::Pvh),
        ];
        const BUILDERS: [(&str, Virtualization); 2] =
            [("hvm", Virtualization::Hvm), ("generic", Virtualization::Pv)];
        let of = |said: Option<(Cow<'_, str>, Range<usize>)>,
                  words: &[(&str, Virtualization)],
                  known: &str| {
            let Some((text, span)) = said else { return Ok(None) };
            match words.iter().find(|(word, _)| word.starts_with(text.as_ref())) {
                Some((_, it)) => Ok(Some((*it, span))),
                None => Err(Problem::new(
                    span,
                    format!("`{}` is no type of a guest: {known}", short(&text)),
                )
                .help(format!("xl says: Invalid domain type {}.", short(&text)))),
            }
        };
        let kind = of(self.string("type"), &TYPES, "it is hvm, pv or pvh")?;
        let builder = of(self.string("builder"), &BUILDERS, "builder is hvm or generic")?;
        match (kind, builder) {
            (Some((kind, span)), Some((builder, other))) if kind != builder => {
                Err(Problem::new(other, "`builder` and `type` contradict each other")
                    .other(span, "this is the type")
                    .help(
                        "take `builder` out: it is what `type` was called before; xl says: Contradicting \"builder\" and \"type\" options \
                         specified.",
                    ))
            }
            (Some((kind, _)), _) | (None, Some((kind, _))) => Ok(kind),
            (None, None) => Ok(Virtualization::Pv),
        }
    }

    fn own(&mut self) -> Result<Own, Problem> {
        let usb = self.number("usb");
        let mut own = Own {
            usb: usb.map(|said| Said { value: said.value != 0, span: said.span }),
            usbversion: self.number("usbversion"),
            redirection: self.number("spiceusbredirection"),
            spice: self.number("spice").is_some_and(|said| said.value != 0),
            ..Own::default()
        };
        if let Some(found) = self.settings.get("usbdevice") {
            let span = found.span();
            match (found.text(), found.list()) {
                (Some(text), _) => own.device = Some(Said { value: text.into_owned(), span }),
                (None, list) => {
                    let value = self.texts("usbdevice", list.unwrap_or_default());
                    let said = |(text, span): (&str, _)| Said { value: text.to_owned(), span };
                    let value = value.into_iter().map(said).collect();
                    own.list = Some(Said { value, span });
                }
            }
        }
        Ok(own)
    }

    /// What a key has as a text, and where.
    fn string(&mut self, key: &str) -> Option<(Cow<'s, str>, Range<usize>)> {
        let found = self.settings.get(key)?;
        let text = found.text();
        if text.is_none() {
            let what =
                format!("xl passes this over: `{key}` is a list and should be a single value");
            self.warnings.push(Problem::new(found.span(), what));
        }
        Some((text?, found.span()))
    }

    /// What a key has as a number.
    fn number(&mut self, key: &str) -> Option<Said<i64>> {
        let (text, span) = self.string(key)?;
        let found: Found<'_, '_> = self.settings.get(key)?;
        let value = whole(&text).filter(|_| !found.is_sum());
        let Some(value) = value else {
            let what = format!("xl passes this over: it reads no number for `{key}`");
            let help = if found.is_sum() {
                "a number is set with `=`, not with `+=`"
            } else {
                "for yes and no it is 1 and 0"
            };
            self.warnings.push(Problem::new(span, what).help(help));
            return None;
        };
        let octal =
            text.starts_with('0') && text.parse().is_ok_and(|decimal: i64| decimal != value);
        if octal {
            let what = format!(
                "xl reads `{}` as {value}, for a zero in front makes it octal",
                short(&text)
            );
            self.warnings.push(Problem::new(span.clone(), what));
        }
        Some(Said { value, span })
    }

    /// The entries of a list of texts.
    fn entries<T>(
        &mut self,
        key: &str,
        one: impl Fn(&Entry<'_>, &mut Vec<Problem>) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Problem> {
        let Some(found) = self.settings.get(key) else { return Ok(Vec::new()) };
        let Some(list) = found.list() else {
            let what =
                format!("xl passes this over: `{key}` is a single value and should be a list");
            self.warnings.push(Problem::new(found.span(), what).help("put it in [ ]"));
            return Ok(Vec::new());
        };
        let texts = self.texts(key, list);
        let mut all = Vec::with_capacity(texts.len());
        for (text, span) in texts {
            let entry = Entry { text, plain: inner(self.text, &span) == Some(text), span };
            all.push(one(&entry, &mut self.warnings)?);
        }
        Ok(all)
    }

    /// The texts of a list, up to the first list in it: there xl stops.
    fn texts(&mut self, key: &str, list: Vec<&'s Value<'t>>) -> Vec<(&'s str, Range<usize>)> {
        let mut all = Vec::with_capacity(list.len());
        for value in list {
            match &value.what {
                What::Atom(text) => all.push((text.as_ref(), value.span.clone())),
                What::List(_) => {
                    let what = format!(
                        "xl reads `{key}` up to here alone: this is a list, and not a text"
                    );
                    self.warnings.push(Problem::new(value.span.clone(), what));
                    break;
                }
            }
        }
        all
    }
}

/// What is between the quotes.
fn inner<'t>(text: &'t str, span: &Range<usize>) -> Option<&'t str> {
    text.get(span.start + 1..span.end.checked_sub(1)?)
}

/// An entry of `usbctrl` or `usbdev`.
struct Entry<'a> {
    text: &'a str,
    /// With its quotes.
    span: Range<usize>,
    /// Whether it stands in the text as it is, without anything escaped.
    plain: bool,
}

impl Entry<'_> {
    /// Where a part of the entry is; of an entry with something escaped it is only known where all of it is.
    fn at(&self, part: &Range<usize>) -> Range<usize> {
        let start = self.span.start + 1;
        if self.plain { start + part.start..start + part.end } else { self.span.clone() }
    }

    /// A number, and the warning if it is most likely not the one that was meant.
    fn number<N>(&self, pair: &Pair<'_>, read: Read<N>, warnings: &mut Vec<Problem>) -> N {
        if let Some(doubt) = read.doubt {
            let help =
                format!("write `{}=` with a decimal number, without zeros in front", pair.key);
            warnings.push(Problem::new(self.at(&pair.at), doubt).help(help));
        }
        read.number
    }

    fn unknown(&self, pair: &Pair<'_>, key: &str, known: &str) -> Problem {
        let what = format!("`{}` is nothing that an entry of {key} has: {known}", short(pair.text));
        Problem::new(self.at(&pair.at), what).help(format!(
            "spaces count, but for those after a comma; xl says: Unknown string `{}' in {key} spec",
            short(pair.text)
        ))
    }
}

fn ctrl(entry: &Entry<'_>, warnings: &mut Vec<Problem>) -> Result<Ctrl, Problem> {
    let mut ctrl =
        Ctrl { place: Place { span: entry.span.clone(), ..Place::default() }, ..Ctrl::default() };
    for pair in pairs(entry.text) {
        let value = pair.value.unwrap_or_default();
        let field = match (pair.key, pair.value) {
            ("type", Some(_)) => {
                ctrl.kind = CtrlType::of_name(value).ok_or_else(|| {
                    let what = format!(
                        "`{}` is no type of a controller: it is auto, pv, qusb or devicemodel",
                        short(value)
                    );
                    Problem::new(entry.at(&pair.at), what)
                        .help(format!("xl says: Invalid usb controller type '{}'", short(value)))
                })?;
                Field::Model
            }
            ("version", Some(_)) => {
                ctrl.version = entry.number(&pair, decimal(value), warnings);
                Field::Model
            }
            ("ports", Some(_)) => {
                ctrl.ports = entry.number(&pair, decimal(value), warnings);
                Field::Ports
            }
            _ => {
                return Err(entry.unknown(
                    &pair,
                    "usbctrl",
                    "it has type, version and ports, each with an `=`",
                ));
            }
        };
        ctrl.place.fields.insert(field, entry.at(&pair.at));
    }
    if ctrl.kind == CtrlType::Pv {
        ctrl.place
            .remarks
            .push("type pv: the kernel of the backend domain carries it, not QEMU".to_owned());
    }
    Ok(ctrl)
}

fn dev(entry: &Entry<'_>, warnings: &mut Vec<Problem>) -> Result<Dev, Problem> {
    let mut dev =
        Dev { place: Place { span: entry.span.clone(), ..Place::default() }, ..Dev::default() };
    for pair in pairs(entry.text) {
        let value = pair.value.unwrap_or_default();
        let field = match (pair.key, pair.value) {
            ("type", Some(_)) => {
                if !value.eq_ignore_ascii_case("hostdev") {
                    let what = format!(
                        "`{}` is no type of a USB device: there is hostdev alone",
                        short(value)
                    );
                    return Err(Problem::new(entry.at(&pair.at), what)
                        .help(format!("xl says: Invalid usb device type: {}", short(value))));
                }
                dev.typed = true;
                continue;
            }
            ("hostbus", Some(_)) => {
                let read = byte(value);
                dev.doubt = dev.doubt.or(read.doubt.clone());
                dev.hostbus = entry.number(&pair, read, warnings);
                Field::What
            }
            ("hostaddr", Some(_)) => {
                let read = byte(value);
                dev.doubt = dev.doubt.or(read.doubt.clone());
                dev.hostaddr = entry.number(&pair, read, warnings);
                Field::What
            }
            ("controller", Some(_)) => {
                dev.ctrl = entry.number(&pair, decimal(value), warnings);
                Field::Controller
            }
            ("port", Some(_)) => {
                dev.port = entry.number(&pair, decimal(value), warnings);
                Field::Port
            }
            _ => {
                let known = "it has type, hostbus, hostaddr, controller and port, each with an `=`";
                return Err(entry.unknown(&pair, "usbdev", known));
            }
        };
        let at = entry.at(&pair.at);
        // Bus and address are one thing in two words.
        let before = dev.place.fields.get(&field).filter(|_| field == Field::What);
        let span = before.map_or(at.clone(), |it| it.start.min(at.start)..it.end.max(at.end));
        dev.place.fields.insert(field, span);
    }
    Ok(dev)
}
