//! Edits to libxl's JSON, and whole generated configurations.

use vusb_model::guest::{Guest, Virtualization};
use vusb_model::hardware::Hardware;

use super::edit::{EditableText, NumericKey};
use super::express::{BootPlan, CtrlEntry, DevEntry, plan};
use super::json::{Node, Tree, pretty, push, remove_element, remove_member, set};
use super::structs::{CtrlType, Usb};
use super::{interpret, read};
use crate::config::Generated;

/// A configuration that is being edited.
pub(super) struct Json(pub(super) String);

/// The keys that lead to an object in the configuration.
type Path = &'static [&'static str];

const CONFIG: Path = &[];
const HVM: Path = &["b_info", "type.hvm"];
const SPICE: Path = &["b_info", "type.hvm", "spice"];

impl EditableText for Json {
    const NUMBERED: bool = true;

    fn usb(&self) -> Result<Usb, String> {
        let read = || read::usb(&self.0).map_err(|problem| interpret::one_line(problem, &self.0));
        match interpret::refusal(read()?, &self.0) {
            Some(refused) => Err(refused),
            None => read(),
        }
    }

    fn add_ctrl(&mut self, number: u16, entry: CtrlEntry) {
        self.push(CONFIG, "usbctrls", ctrl_tree(number, entry));
    }

    fn set_ctrl(&mut self, position: usize, entry: CtrlEntry) {
        let CtrlEntry { ctrl_type, version, ports } = entry;
        let is_pv = |it: CtrlType| matches!(it, CtrlType::Pv | CtrlType::Qusb);
        let old = read::usb(&self.0).ok().and_then(|usb| Some(usb.ctrls.get(position)?.ctrl_type));
        if !(is_pv(ctrl_type) && old.is_some_and(is_pv)) {
            self.set_in("usbctrls", position, "type", Tree::Text(ctrl_type.name().to_owned()));
        }
        self.set_in("usbctrls", position, "version", Tree::Number(version.into()));
        self.set_in("usbctrls", position, "ports", Tree::Number(ports.into()));
    }

    fn remove_ctrl(&mut self, entry: usize) {
        self.remove("usbctrls", entry);
    }

    fn add_dev(&mut self, entry: DevEntry) {
        self.push(CONFIG, "usbdevs", dev_tree(entry));
    }

    fn set_dev(&mut self, entry: usize, ctrl: u16, port: u8) {
        self.set_in("usbdevs", entry, "ctrl", Tree::Number(ctrl.into()));
        self.set_in("usbdevs", entry, "port", Tree::Number(port.into()));
    }

    fn remove_dev(&mut self, entry: usize) {
        self.remove("usbdevs", entry);
    }

    fn add_usbdevice(&mut self, word: &str) {
        self.usbdevice_as_list();
        self.push(HVM, "usbdevice_list", Tree::Text(word.to_owned()));
    }

    fn remove_usbdevice(&mut self, entry: usize) {
        self.usbdevice_as_list();
        let Some(hvm) = self.object(HVM) else { return };
        let Some(list) = hvm.get(&self.0, "usbdevice_list") else { return };
        // libxl treats an empty list as a list, so the key is removed with the last element.
        if list.elements(&self.0).len() == 1 {
            remove_member(&mut self.0, &hvm, "usbdevice_list");
        } else {
            remove_element(&mut self.0, &list, entry);
        }
    }

    fn set(&mut self, number: NumericKey, value: Option<i64>) {
        let (path, key) = match number {
            NumericKey::Usb => (HVM, "usb"),
            NumericKey::Usbversion => (HVM, "usbversion"),
            NumericKey::Redirection => (SPICE, "usbredirection"),
        };
        let new = match (number, value) {
            (_, None) => {
                if let Some(object) = self.object(path) {
                    remove_member(&mut self.0, &object, key);
                }
                return;
            }
            (NumericKey::Usb, Some(_)) => Tree::Text("True".to_owned()),
            (_, Some(value)) => Tree::Number(value),
        };
        self.create_path(path);
        if let Some(object) = self.object(path) {
            set_if_changed(&mut self.0, &object, key, &new);
        }
    }
}

/// Sets a member unless it already has this value, so that an unchanged value keeps its formatting.
fn set_if_changed(text: &mut String, object: &Node, key: &str, new: &Tree) {
    let is_unchanged = object.get(text, key).is_some_and(|old| match new {
        Tree::Number(number) => old.integer(text) == Some(*number),
        Tree::Text(word) => old.string(text).as_ref() == Some(word),
        Tree::List(_) | Tree::Object(_) => false,
    });
    if !is_unchanged {
        set(text, object, key, new);
    }
}

impl Json {
    fn object(&self, path: Path) -> Option<Node> {
        let config = read::config(&self.0).ok()?;
        path.iter().try_fold(config, |object, key| object.get(&self.0, key))
    }

    /// Creates the missing objects on the path.
    fn create_path(&mut self, path: Path) {
        for length in 1..=path.len() {
            let Some((parent, [.., key])) = path.get(..length - 1).zip(path.get(..length)) else {
                return;
            };
            let Some(object) = self.object(parent) else { return };
            if object.get(&self.0, key).is_none() {
                set(&mut self.0, &object, key, &Tree::Object(Vec::new()));
            }
        }
    }

    /// Appends an entry to a list, which is created if it is missing.
    fn push(&mut self, path: Path, key: &str, new: Tree) {
        self.create_path(path);
        let Some(object) = self.object(path) else { return };
        match object.get(&self.0, key) {
            Some(list) => push(&mut self.0, &list, &new),
            None => set(&mut self.0, &object, key, &Tree::List(vec![new])),
        }
    }

    fn set_in(&mut self, list: &str, entry: usize, key: &str, new: Tree) {
        let list = self.object(CONFIG).and_then(|config| config.get(&self.0, list));
        let object = list.and_then(|list| list.elements(&self.0).into_iter().nth(entry));
        if let Some(object) = object {
            set_if_changed(&mut self.0, &object, key, &new);
        }
    }

    fn remove(&mut self, list: &str, entry: usize) {
        let list = self.object(CONFIG).and_then(|config| config.get(&self.0, list));
        if let Some(list) = list {
            remove_element(&mut self.0, &list, entry);
        }
    }

    /// Replaces the string `usbdevice` by a list, to which entries can be added.
    fn usbdevice_as_list(&mut self) {
        let Some(hvm) = self.object(HVM) else { return };
        let Some(word) = hvm.get(&self.0, "usbdevice").and_then(|it| it.string(&self.0)) else {
            return;
        };
        remove_member(&mut self.0, &hvm, "usbdevice");
        if let Some(hvm) = self.object(HVM) {
            set(&mut self.0, &hvm, "usbdevice_list", &Tree::List(vec![Tree::Text(word)]));
        }
    }
}

/// Generates the configuration of one domain: the guest, as far as it is known, and its USB.
pub(super) fn write(guest: &Guest, hardware: &Hardware) -> Generated {
    let plan = plan(guest, hardware);
    let kind = match guest.virtualization {
        Virtualization::Hvm => "hvm",
        Virtualization::Pv => "pv",
        Virtualization::Pvh => "pvh",
    };
    let number = |number: u64| Tree::Number(i64::try_from(number).unwrap_or(i64::MAX));
    let mut create =
        vec![("type", text(kind)), ("name", text(guest.name.as_deref().unwrap_or("guest")))];
    create.extend(guest.uuid.as_deref().map(|uuid| ("uuid", text(uuid))));
    let mut build = Vec::new();
    build.extend(guest.vcpus.map(|vcpus| ("max_vcpus", number(vcpus.into()))));
    for key in ["max_memkb", "target_memkb"] {
        build.extend(guest.memory_kib.map(|memory| (key, number(memory))));
    }
    build.extend(plan.boot.as_ref().map(|boot| ("type.hvm", boot_tree(boot))));
    let mut config = vec![("c_info", Tree::Object(create)), ("b_info", Tree::Object(build))];
    let ctrls: Vec<Tree> =
        (0..).zip(plan.ctrls).map(|(devid, entry)| ctrl_tree(devid, entry)).collect();
    let devs: Vec<Tree> = plan.devs.into_iter().map(dev_tree).collect();
    for (key, list) in [("usbctrls", ctrls), ("usbdevs", devs)] {
        // libxl omits what has its default value.
        if !list.is_empty() {
            config.push((key, Tree::List(list)));
        }
    }
    Generated { text: pretty(&Tree::Object(config)), lost: plan.lost }
}

fn text(text: &str) -> Tree {
    Tree::Text(text.to_owned())
}

fn ctrl_tree(number: u16, entry: CtrlEntry) -> Tree {
    let CtrlEntry { ctrl_type, version, ports } = entry;
    Tree::Object(vec![
        ("type", text(ctrl_type.name())),
        ("devid", Tree::Number(number.into())),
        ("version", Tree::Number(version.into())),
        ("ports", Tree::Number(ports.into())),
    ])
}

fn dev_tree(entry: DevEntry) -> Tree {
    let DevEntry { hostbus, hostaddr, ctrl, port } = entry;
    let host = vec![
        ("hostbus", Tree::Number(hostbus.into())),
        ("hostaddr", Tree::Number(hostaddr.into())),
    ];
    Tree::Object(vec![
        ("ctrl", Tree::Number(ctrl.into())),
        ("port", Tree::Number(port.into())),
        ("type.hostdev", Tree::Object(host)),
    ])
}

fn boot_tree(boot: &BootPlan) -> Tree {
    let mut hvm = vec![match boot.version {
        None => ("usb", text("True")),
        Some(version) => ("usbversion", Tree::Number(u8::from(version).into())),
    }];
    if !boot.devices.is_empty() {
        let list = boot.devices.iter().map(|word| text(word)).collect();
        hvm.push(("usbdevice_list", Tree::List(list)));
    }
    if let Some(count) = i64::try_from(boot.redirected).ok().filter(|count| *count > 0) {
        let spice = vec![("enable", text("True")), ("usbredirection", Tree::Number(count))];
        hvm.push(("spice", Tree::Object(spice)));
    }
    Tree::Object(hvm)
}
