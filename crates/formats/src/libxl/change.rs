//! Changes to the JSON, and a whole one.

use vusb_model::guest::{Guest, Virtualization};
use vusb_model::hardware::Hardware;

use super::edit::{Number, Text};
use super::json::{Node, Tree, pretty, push, remove_element, remove_member, set};
use super::say::{CtrlWords, DevWords, OwnPlan, plan};
use super::usb::{CtrlType, Usb};
use super::{meaning, read};
use crate::config::Written;

/// A configuration that is being changed.
pub(super) struct Json(pub(super) String);

/// The way to an object in the configuration.
type Path = &'static [&'static str];

const CONFIG: Path = &[];
const HVM: Path = &["b_info", "type.hvm"];
const SPICE: Path = &["b_info", "type.hvm", "spice"];

impl Text for Json {
    const NUMBERED: bool = true;

    fn usb(&self) -> Result<Usb, String> {
        let read = || read::usb(&self.0).map_err(|problem| meaning::in_a_line(problem, &self.0));
        match meaning::refused(read()?, &self.0) {
            Some(refused) => Err(refused),
            None => read(),
        }
    }

    fn add_ctrl(&mut self, number: u16, words: CtrlWords) {
        self.push(CONFIG, "usbctrls", ctrl_tree(number, words));
    }

    fn set_ctrl(&mut self, entry: usize, words: CtrlWords) {
        let CtrlWords { kind, version, ports } = words;
        let is_pv = |kind: CtrlType| matches!(kind, CtrlType::Pv | CtrlType::Qusb);
        let there = read::usb(&self.0).ok().and_then(|usb| Some(usb.ctrls.get(entry)?.kind));
        if !(is_pv(kind) && there.is_some_and(is_pv)) {
            self.set_in("usbctrls", entry, "type", Tree::Text(kind.name().to_owned()));
        }
        self.set_in("usbctrls", entry, "version", Tree::Number(version.into()));
        self.set_in("usbctrls", entry, "ports", Tree::Number(ports.into()));
    }

    fn remove_ctrl(&mut self, entry: usize) {
        self.remove("usbctrls", entry);
    }

    fn add_dev(&mut self, words: DevWords) {
        self.push(CONFIG, "usbdevs", dev_tree(words));
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
        // An empty list is not what none is: libxl takes it for one.
        if list.elements(&self.0).len() == 1 {
            remove_member(&mut self.0, &hvm, "usbdevice_list");
        } else {
            remove_element(&mut self.0, &list, entry);
        }
    }

    fn set(&mut self, number: Number, value: Option<i64>) {
        let (path, key) = match number {
            Number::Usb => (HVM, "usb"),
            Number::Usbversion => (HVM, "usbversion"),
            Number::Redirection => (SPICE, "usbredirection"),
        };
        let new = match (number, value) {
            (_, None) => {
                if let Some(object) = self.object(path) {
                    remove_member(&mut self.0, &object, key);
                }
                return;
            }
            (Number::Usb, Some(_)) => Tree::Text("True".to_owned()),
            (_, Some(value)) => Tree::Number(value),
        };
        self.make(path);
        if let Some(object) = self.object(path) {
            set_unless_so(&mut self.0, &object, key, &new);
        }
    }
}

/// Sets a member, unless it has the value already: then not even its white space is touched.
fn set_unless_so(text: &mut String, object: &Node, key: &str, new: &Tree) {
    let there = object.get(text, key);
    let same = there.is_some_and(|there| match new {
        Tree::Number(number) => there.integer(text) == Some(*number),
        Tree::Text(word) => there.string(text).as_ref() == Some(word),
        Tree::List(_) | Tree::Object(_) => false,
    });
    if !same {
        set(text, object, key, new);
    }
}

impl Json {
    fn object(&self, path: Path) -> Option<Node> {
        let config = read::config(&self.0).ok()?;
        path.iter().try_fold(config, |object, key| object.get(&self.0, key))
    }

    /// Makes the objects on the way that are not there.
    fn make(&mut self, path: Path) {
        for length in 1..=path.len() {
            let Some((way, [.., key])) = path.get(..length - 1).zip(path.get(..length)) else {
                return;
            };
            let Some(object) = self.object(way) else { return };
            if object.get(&self.0, key).is_none() {
                set(&mut self.0, &object, key, &Tree::Object(Vec::new()));
            }
        }
    }

    /// One entry more in a list, which is begun if there is none.
    fn push(&mut self, path: Path, key: &str, new: Tree) {
        self.make(path);
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
            set_unless_so(&mut self.0, &object, key, &new);
        }
    }

    fn remove(&mut self, list: &str, entry: usize) {
        let list = self.object(CONFIG).and_then(|config| config.get(&self.0, list));
        if let Some(list) = list {
            remove_element(&mut self.0, &list, entry);
        }
    }

    /// A list in place of a text.
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

/// The guest, as far as it is known, and its USB: one domain's configuration.
pub(super) fn write(guest: &Guest, hardware: &Hardware) -> Written {
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
    build.extend(plan.own.as_ref().map(|own| ("type.hvm", own_tree(own))));
    let mut config = vec![("c_info", Tree::Object(create)), ("b_info", Tree::Object(build))];
    let ctrls: Vec<Tree> =
        (0..).zip(plan.ctrls).map(|(devid, words)| ctrl_tree(devid, words)).collect();
    let devs: Vec<Tree> = plan.devs.into_iter().map(dev_tree).collect();
    for (key, list) in [("usbctrls", ctrls), ("usbdevs", devs)] {
        // What has its default is left out.
        if !list.is_empty() {
            config.push((key, Tree::List(list)));
        }
    }
    Written { text: pretty(&Tree::Object(config)), lost: plan.lost }
}

fn text(text: &str) -> Tree {
    Tree::Text(text.to_owned())
}

fn ctrl_tree(number: u16, words: CtrlWords) -> Tree {
    let CtrlWords { kind, version, ports } = words;
    Tree::Object(vec![
        ("type", text(kind.name())),
        ("devid", Tree::Number(number.into())),
        ("version", Tree::Number(version.into())),
        ("ports", Tree::Number(ports.into())),
    ])
}

fn dev_tree(words: DevWords) -> Tree {
    let DevWords { hostbus, hostaddr, ctrl, port } = words;
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

fn own_tree(own: &OwnPlan) -> Tree {
    let mut hvm = vec![match own.version {
        None => ("usb", text("True")),
        Some(version) => ("usbversion", Tree::Number(u8::from(version).into())),
    }];
    if !own.devices.is_empty() {
        let list = own.devices.iter().map(|word| text(word)).collect();
        hvm.push(("usbdevice_list", Tree::List(list)));
    }
    if let Some(count) = i64::try_from(own.redirected).ok().filter(|count| *count > 0) {
        let spice = vec![("enable", text("True")), ("usbredirection", Tree::Number(count))];
        hvm.push(("spice", Tree::Object(spice)));
    }
    Tree::Object(hvm)
}
