//! From JSON to libxl's structures.
//!
//! ```text
//! [ { "domid": 3, "config": CONFIG } ]       as `xl list -l NAME` prints it; or CONFIG alone
//!
//! CONFIG = { "c_info":   { "type": "hvm", "name": .., "uuid": .. },
//!            "b_info":   { "max_vcpus": .., "target_memkb": ..,
//!                          "type.hvm": { "usb": "True", "usbversion": .., "usbdevice": .., "usbdevice_list": [ .. ],
//!                                        "spice": { "enable": "True", "usbredirection": .. } } },
//!            "usbctrls": [ { "type": "qusb", "devid": 0, "version": 2, "ports": 8 } ],
//!            "usbdevs":  [ { "ctrl": 0, "port": 1, "type.hostdev": { "hostbus": 1, "hostaddr": 3 } } ] }
//! ```
//!
//! What has its default is left out. Of a device that was said without `type=hostdev`, bus and address are left out too.

use std::ops::Range;

use vusb_model::guest::{Guest, Hypervisor, Virtualization};

use super::json::Node;
use super::usb::{Ctrl, CtrlType, Dev, Own, Said, Usb};
use crate::config::{Field, Place};
use crate::error::Problem;
use crate::spec::MAX_BYTES;

/// What a text says.
///
/// # Errors
/// It is no JSON, or not of that shape.
pub(super) fn usb(text: &str) -> Result<Usb, Problem> {
    let config = Reader { text, at: config(text)? };
    let guest = guest(&config)?;
    let build = config.get("b_info", "an object", Node::is_object)?;
    let hvm =
        build.map(|it| it.get("type.hvm", "an object", Node::is_object)).transpose()?.flatten();
    Ok(Usb {
        guest,
        ctrls: all(&config, "usbctrls", ctrl)?,
        devs: all(&config, "usbdevs", dev)?,
        own: hvm.map(|hvm| own(&hvm)).transpose()?.unwrap_or_default(),
        warnings: Vec::new(),
    })
}

/// The configuration of the one domain that the text is about.
///
/// # Errors
/// There is none, or more than one.
pub(super) fn config(text: &str) -> Result<Node, Problem> {
    if text.len() > MAX_BYTES {
        return Err(Problem::new(0..0, format!("this is larger than {} MiB", MAX_BYTES >> 20)));
    }
    let whole = Node::whole(text)?;
    let domain = if whole.is_array(text) {
        let mut domains = whole.elements(text).into_iter();
        match (domains.next(), domains.next()) {
            (Some(one), None) => one,
            (None, _) => return Err(Problem::new(whole.0, "no domain is listed here")),
            (Some(_), Some(second)) => {
                let count = domains.len() + 2;
                let what = format!("{count} domains are listed here, and it takes one at a time");
                return Err(Problem::new(second.0, what)
                    .label("the second")
                    .help("ask for one: xl list -l NAME"));
            }
        }
    } else {
        whole
    };
    let config = domain.get(text, "config").unwrap_or(domain);
    if config.is_object(text) {
        Ok(config)
    } else {
        Err(Problem::new(config.0, "a domain is an object, with c_info and b_info in it"))
    }
}

/// An object that is being read.
struct Reader<'t> {
    text: &'t str,
    at: Node,
}

impl<'t> Reader<'t> {
    fn value<T>(
        &self,
        key: &str,
        what: &str,
        read: impl Fn(&Node, &str) -> Option<T>,
    ) -> Result<Option<Said<T>>, Problem> {
        let Some(node) = self.at.get(self.text, key) else { return Ok(None) };
        match read(&node, self.text) {
            Some(value) => Ok(Some(Said { value, span: node.0 })),
            None => Err(Problem::new(node.0, format!("`{key}` is {what}"))),
        }
    }

    fn get(
        &self,
        key: &str,
        what: &str,
        good: impl Fn(&Node, &str) -> bool,
    ) -> Result<Option<Reader<'t>>, Problem> {
        let found = self.value(key, what, |node, text| good(node, text).then(|| node.clone()))?;
        Ok(found.map(|said| Reader { text: self.text, at: said.value }))
    }

    fn integer(&self, key: &str) -> Result<Option<Said<i64>>, Problem> {
        self.value(key, "a whole number", Node::integer)
    }

    fn string(&self, key: &str) -> Result<Option<Said<String>>, Problem> {
        self.value(key, "a text", Node::string)
    }

    /// A `libxl_defbool`; its default is none.
    fn flag(&self, key: &str) -> Result<Option<Said<bool>>, Problem> {
        let flag = |node: &Node, text: &str| match node.string(text)?.as_str() {
            "True" => Some(Some(true)),
            "False" => Some(Some(false)),
            "<default>" => Some(None),
            _ => None,
        };
        let said = self.value(key, "\"True\", \"False\" or \"<default>\"", flag)?;
        Ok(said.and_then(|said| Some(Said { value: said.value?, span: said.span })))
    }
}

fn guest(config: &Reader<'_>) -> Result<Guest, Problem> {
    let create = config.get("c_info", "an object", Node::is_object)?;
    let build = config.get("b_info", "an object", Node::is_object)?;
    let string = |key| create.as_ref().map_or(Ok(None), |create| create.string(key));
    let number = |key| build.as_ref().map_or(Ok(None), |build| build.integer(key));
    let memory = match number("target_memkb")? {
        Some(memory) => Some(memory),
        None => number("max_memkb")?,
    };
    let virtualization =
        match string("type")? {
            Some(said) => match said.value.as_str() {
                "hvm" => Virtualization::Hvm,
                "pv" => Virtualization::Pv,
                "pvh" => Virtualization::Pvh,
                _ => return Err(Problem::new(said.span, "`type` is \"hvm\", \"pv\" or \"pvh\"")),
            },
            None => return Err(Problem::new(
                config.at.0.clone(),
                "this does not say what type of guest it is",
            )
            .help(
                "\"c_info\": { \"type\": \"hvm\" }, pv or pvh; libxl says: domain type unspecified",
            )),
        };
    Ok(Guest {
        name: string("name")?.map(|said| said.value),
        uuid: string("uuid")?.map(|said| said.value),
        hypervisor: Hypervisor::Xen,
        virtualization,
        memory_kib: memory.and_then(|said| u64::try_from(said.value).ok()),
        vcpus: number("max_vcpus")?.and_then(|said| u32::try_from(said.value).ok()),
        ..Guest::default()
    })
}

/// All of a list of objects.
fn all<T>(
    config: &Reader<'_>,
    key: &str,
    one: impl Fn(&Reader<'_>) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    let Some(list) = config.get(key, "a list", Node::is_array)? else { return Ok(Vec::new()) };
    let object = |node: Node| {
        if node.is_object(config.text) {
            one(&Reader { text: config.text, at: node })
        } else {
            Err(Problem::new(node.0, format!("an entry of `{key}` is an object")))
        }
    };
    list.at.elements(config.text).into_iter().map(object).collect()
}

/// A place that takes note of where its values are.
struct Noting(Place);

impl Noting {
    fn new(span: &Range<usize>) -> Noting {
        Noting(Place { span: span.clone(), ..Place::default() })
    }

    fn note<T>(&mut self, field: Field, said: Option<Said<T>>) -> Option<T> {
        let said = said?;
        self.0.fields.insert(field, said.span);
        Some(said.value)
    }
}

fn ctrl(entry: &Reader<'_>) -> Result<Ctrl, Problem> {
    let mut place = Noting::new(&entry.at.0);
    let kind = |node: &Node, text: &str| CtrlType::of_name(&node.string(text)?);
    let kind = entry.value("type", "\"auto\", \"pv\", \"qusb\" or \"devicemodel\"", kind)?;
    let kind = place.note(Field::Model, kind).unwrap_or_default();
    let devid = place.note(Field::Index, entry.integer("devid")?).filter(|devid| *devid != -1);
    let version = place.note(Field::Model, entry.integer("version")?).unwrap_or(0);
    let ports = place.note(Field::Ports, entry.integer("ports")?).unwrap_or(0);
    let domid = entry.integer("backend_domid")?.map(|said| said.value).filter(|domid| *domid != 0);
    let name = entry.string("backend_domname")?.map(|said| said.value);
    let backend = name.filter(|name| !name.is_empty()).or(domid.map(|domid| domid.to_string()));
    if kind == CtrlType::Pv {
        place
            .0
            .remarks
            .push("type pv: the kernel of the backend domain carries it, not QEMU".to_owned());
    }
    Ok(Ctrl { kind, devid, version, ports, backend, place: place.0 })
}

fn dev(entry: &Reader<'_>) -> Result<Dev, Problem> {
    let mut place = Noting::new(&entry.at.0);
    let host = entry.get("type.hostdev", "an object", Node::is_object)?;
    let byte = |key| {
        let read =
            |node: &Node, text: &str| node.integer(text).and_then(|it| u8::try_from(it).ok());
        host.as_ref().map_or(Ok(None), |host| host.value(key, "a number of 0 to 255", read))
    };
    let hostbus = byte("hostbus")?.map_or(0, |said| said.value);
    let hostaddr = place.note(Field::What, byte("hostaddr")?).unwrap_or(0);
    let doubt = host.is_none().then(|| {
        "libxl's record has neither bus nor address: the device was said without type=hostdev"
            .to_owned()
    });
    let ctrl = place.note(Field::Controller, entry.integer("ctrl")?).unwrap_or(-1);
    let port = place.note(Field::Port, entry.integer("port")?).unwrap_or(0);
    Ok(Dev { typed: true, hostbus, hostaddr, doubt, ctrl, port, place: place.0 })
}

fn own(hvm: &Reader<'_>) -> Result<Own, Problem> {
    let spice = hvm.get("spice", "an object", Node::is_object)?;
    let enabled = spice.as_ref().map_or(Ok(None), |spice| spice.flag("enable"))?;
    let list = |node: &Node, text: &str| {
        let texts = node
            .elements(text)
            .into_iter()
            .map(|element| Some(Said { value: element.string(text)?, span: element.0.clone() }));
        node.is_array(text).then(|| texts.collect::<Option<Vec<_>>>()).flatten()
    };
    Ok(Own {
        usb: hvm.flag("usb")?,
        usbversion: hvm.integer("usbversion")?,
        redirection: spice.as_ref().map_or(Ok(None), |spice| spice.integer("usbredirection"))?,
        spice: enabled.is_some_and(|said| said.value),
        device: hvm.string("usbdevice")?,
        list: hvm.value("usbdevice_list", "a list of texts", list)?,
    })
}
