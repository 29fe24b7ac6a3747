//! Parses libxl's JSON into libxl's structures.
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
//! libxl omits values that are the default. For a device that was configured without
//! `type=hostdev` it omits bus and address, too.

use std::ops::Range;

use vusb_model::guest::{Guest, Hypervisor, Virtualization};

use super::json::Node;
use super::structs::{BootUsb, Ctrl, CtrlType, Dev, Spanned, Usb};
use crate::config::{Field, ItemSource};
use crate::error::Problem;
use crate::length;

/// Parses the USB configuration of a domain.
///
/// # Errors
/// The text is too long, not JSON, does not have the shape above, or does not contain exactly one
/// domain.
pub(super) fn usb(text: &str) -> Result<Usb, Problem> {
    let config = Reader { text, at: config(text)? };
    let guest = guest(&config)?;
    let build = config.get("b_info", "an object", Node::is_object)?;
    let hvm =
        build.map(|it| it.get("type.hvm", "an object", Node::is_object)).transpose()?.flatten();
    let mut warnings = Vec::new();
    let devs = all(&config, "usbdevs", dev)?.into_iter();
    let devs: Vec<Dev> =
        devs.filter_map(|dev| dev.map_err(|unaddressed| warnings.push(unaddressed)).ok()).collect();
    Ok(Usb {
        guest,
        ctrls: all(&config, "usbctrls", ctrl)?,
        devs,
        boot: hvm.map(|hvm| boot(&hvm)).transpose()?.unwrap_or_default(),
        incomplete: !warnings.is_empty(),
        warnings,
    })
}

/// The configuration of the only domain in the text.
///
/// # Errors
/// The text is too long, not JSON, or does not contain exactly one domain, which is an object.
pub(super) fn config(text: &str) -> Result<Node, Problem> {
    length::check(text, "a libxl domain")?;
    let whole = Node::whole(text)?;
    let domain = if whole.is_array(text) {
        let mut domains = whole.elements(text).into_iter();
        match (domains.next(), domains.next()) {
            (Some(one), None) => one,
            (None, _) => return Err(Problem::new(whole.0, "there is no domain in this list")),
            (Some(_), Some(second)) => {
                let count = domains.len() + 2;
                let what =
                    format!("there are {count} domains in this list, and only one can be read");
                return Err(Problem::new(second.0, what)
                    .label("the second")
                    .help("list only one: xl list -l NAME"));
            }
        }
    } else {
        whole
    };
    let config = domain.get(text, "config").unwrap_or(domain);
    if config.is_object(text) {
        Ok(config)
    } else {
        Err(Problem::new(config.0, "a domain must be an object that contains c_info and b_info"))
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
    ) -> Result<Option<Spanned<T>>, Problem> {
        let Some(node) = self.at.get(self.text, key) else { return Ok(None) };
        match read(&node, self.text) {
            Some(value) => Ok(Some(Spanned { value, span: node.0 })),
            None => Err(Problem::new(node.0, format!("`{key}` must be {what}"))),
        }
    }

    fn get(
        &self,
        key: &str,
        what: &str,
        valid: impl Fn(&Node, &str) -> bool,
    ) -> Result<Option<Reader<'t>>, Problem> {
        let found = self.value(key, what, |node, text| valid(node, text).then(|| node.clone()))?;
        Ok(found.map(|it| Reader { text: self.text, at: it.value }))
    }

    fn integer(&self, key: &str) -> Result<Option<Spanned<i64>>, Problem> {
        self.value(key, "a whole number", Node::integer)
    }

    fn string(&self, key: &str) -> Result<Option<Spanned<String>>, Problem> {
        self.value(key, "a string", Node::string)
    }

    /// A `libxl_defbool`; `<default>` is `None`.
    fn flag(&self, key: &str) -> Result<Option<Spanned<bool>>, Problem> {
        let flag = |node: &Node, text: &str| match node.string(text)?.as_str() {
            "True" => Some(Some(true)),
            "False" => Some(Some(false)),
            "<default>" => Some(None),
            _ => None,
        };
        let value = self.value(key, "\"True\", \"False\" or \"<default>\"", flag)?;
        Ok(value.and_then(|it| Some(Spanned { value: it.value?, span: it.span })))
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
            Some(value) => match value.value.as_str() {
                "hvm" => Virtualization::Hvm,
                "pv" => Virtualization::Pv,
                "pvh" => Virtualization::Pvh,
                _ => return Err(Problem::new(value.span, "`type` must be \"hvm\", \"pv\" or \"pvh\"")),
            },
            None => return Err(Problem::new(
                config.at.0.clone(),
                "the type of the guest is missing",
            )
            .help(
                "add \"c_info\": { \"type\": \"hvm\" }, or pv or pvh; libxl says: domain type unspecified",
            )),
        };
    Ok(Guest {
        name: string("name")?.map(|it| it.value),
        uuid: string("uuid")?.map(|it| it.value),
        hypervisor: Hypervisor::Xen,
        virtualization,
        memory_kib: memory.and_then(|it| u64::try_from(it.value).ok()),
        vcpus: number("max_vcpus")?.and_then(|it| u32::try_from(it.value).ok()),
        ..Guest::default()
    })
}

/// Reads all objects of a list.
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
            Err(Problem::new(node.0, format!("an entry of `{key}` must be an object")))
        }
    };
    list.at.elements(config.text).into_iter().map(object).collect()
}

/// Records where the fields of an item are in the text.
struct SourceRecorder(ItemSource);

impl SourceRecorder {
    fn new(span: &Range<usize>) -> SourceRecorder {
        SourceRecorder(ItemSource { span: span.clone(), ..ItemSource::default() })
    }

    fn record<T>(&mut self, field: Field, value: Option<Spanned<T>>) -> Option<T> {
        let value = value?;
        self.0.fields.insert(field, value.span);
        Some(value.value)
    }
}

fn ctrl(entry: &Reader<'_>) -> Result<Ctrl, Problem> {
    let mut source = SourceRecorder::new(&entry.at.0);
    let of_node = |node: &Node, text: &str| CtrlType::of_name(&node.string(text)?);
    let ctrl_type =
        entry.value("type", "\"auto\", \"pv\", \"qusb\" or \"devicemodel\"", of_node)?;
    let ctrl_type = source.record(Field::Model, ctrl_type).unwrap_or_default();
    let devid = source.record(Field::Index, entry.integer("devid")?).filter(|devid| *devid != -1);
    let version = source.record(Field::Model, entry.integer("version")?).unwrap_or(0);
    let ports = source.record(Field::Ports, entry.integer("ports")?).unwrap_or(0);
    let domid = entry.integer("backend_domid")?.map(|it| it.value).filter(|domid| *domid != 0);
    let name = entry.string("backend_domname")?.map(|it| it.value);
    let backend = name.filter(|name| !name.is_empty()).or(domid.map(|domid| domid.to_string()));
    if ctrl_type == CtrlType::Pv {
        source
            .0
            .remarks
            .push("type pv: served by the backend domain's kernel, not by QEMU".to_owned());
    }
    Ok(Ctrl { ctrl_type, devid, version, ports, backend, source: source.0 })
}

/// A device, or the warning that its entry has no address.
type DevEntry = Result<Dev, Problem>;

fn dev(entry: &Reader<'_>) -> Result<DevEntry, Problem> {
    let mut source = SourceRecorder::new(&entry.at.0);
    let host = entry.get("type.hostdev", "an object", Node::is_object)?;
    let byte = |key| {
        let read =
            |node: &Node, text: &str| node.integer(text).and_then(|it| u8::try_from(it).ok());
        host.as_ref().map_or(Ok(None), |host| host.value(key, "a number from 0 to 255", read))
    };
    let hostbus = byte("hostbus")?.map_or(0, |it| it.value);
    let hostaddr = source.record(Field::What, byte("hostaddr")?).unwrap_or(0);
    let ctrl = source.record(Field::Controller, entry.integer("ctrl")?).unwrap_or(-1);
    let port = source.record(Field::Port, entry.integer("port")?).unwrap_or(0);
    if host.is_none() {
        let shown = |number: i64| if number < 0 { "any".to_owned() } else { number.to_string() };
        let what = format!(
            "the device on port {port} of controller {} has no address; it is not listed",
            shown(ctrl)
        );
        return Ok(Err(Problem::new(entry.at.0.clone(), what).label(
            "libxl recorded neither bus nor address because the device was configured without type=hostdev",
        )));
    }
    Ok(Ok(Dev { has_type: true, hostbus, hostaddr, doubt: None, ctrl, port, source: source.0 }))
}

fn boot(hvm: &Reader<'_>) -> Result<BootUsb, Problem> {
    let spice = hvm.get("spice", "an object", Node::is_object)?;
    let enabled = spice.as_ref().map_or(Ok(None), |spice| spice.flag("enable"))?;
    let list = |node: &Node, text: &str| {
        let strings = node
            .elements(text)
            .into_iter()
            .map(|element| Some(Spanned { value: element.string(text)?, span: element.0.clone() }));
        node.is_array(text).then(|| strings.collect::<Option<Vec<_>>>()).flatten()
    };
    Ok(BootUsb {
        usb: hvm.flag("usb")?,
        usbversion: hvm.integer("usbversion")?,
        redirection: spice.as_ref().map_or(Ok(None), |spice| spice.integer("usbredirection"))?,
        spice: enabled.is_some_and(|it| it.value),
        device: hvm.string("usbdevice")?,
        list: hvm.value("usbdevice_list", "a list of strings", list)?,
    })
}
