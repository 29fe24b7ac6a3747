//! Helpers that read and resolve in one step, and render hardware with one line per item.

use vusb_formats::config::{Config, Edit, Inexpressible};
use vusb_formats::{ConfigFormat as _, Xl};
use vusb_model::address::{Address, Index};
use vusb_model::capabilities::Capabilities;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Model, RootPorts};
use vusb_model::resolve::{Resolved, resolve};
use vusb_model::spec::{DeviceSpec, Spec};

pub(crate) fn read(text: &str) -> Config {
    Xl.read(text, "web1.cfg").unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn capabilities(config: &Config) -> Capabilities {
    Capabilities { guest: config.guest.clone(), ..Capabilities::everything() }
}

pub(crate) fn resolved(text: &str) -> Resolved {
    let config = read(text);
    resolve(&Hardware::new(), &config.spec, &capabilities(&config))
        .unwrap_or_else(|refused| panic!("{}", config.show(&refused, text, "web1.cfg").unwrap()))
}

pub(crate) fn hardware(text: &str) -> Hardware {
    resolved(text).hardware
}

/// One line for each controller and each device.
pub(crate) fn lines(hardware: &Hardware) -> Vec<String> {
    let controllers = hardware
        .controllers()
        .map(|it| format!("{} {} {} {}", it.index, it.name, it.model, it.ports.count()));
    let devices = hardware.devices().map(|(at, it)| format!("{at} {} {}", it.name, it.kind));
    controllers.chain(devices).collect()
}

/// The first lines of the warnings.
pub(crate) fn warnings(text: &str) -> Vec<String> {
    let warnings = read(text).warnings;
    warnings.iter().map(|it| it.to_string().lines().next().unwrap_or_default().to_owned()).collect()
}

pub(crate) fn error(text: &str) -> String {
    Xl.read(text, "web1.cfg").unwrap_err().to_string()
}

pub(crate) fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
    Xl.edit(text, edits)
}

pub(crate) fn device(kind: &str, name: &str) -> Device {
    Device { name: name.parse().unwrap(), kind: kind.parse().unwrap() }
}

pub(crate) fn at(text: &str) -> Address {
    let (bus, port) = text.split_once(':').unwrap();
    Address { bus: bus.parse().unwrap(), port: port.parse().unwrap() }
}

pub(crate) fn controller(index: u16, name: &str, model: Model, ports: u8) -> Controller {
    let ports = RootPorts::uniform(model, ports.try_into().unwrap());
    Controller::new(Index::new(index).unwrap(), name.parse().unwrap(), model, ports)
}

/// Adds a device as the whole program does it: resolve the request, edit the text, read it again.
pub(crate) fn with_device(text: &str, requested: DeviceSpec) -> String {
    let config = read(text);
    let before = hardware(text);
    let spec = Spec { controllers: Vec::new(), devices: vec![requested], ..config.spec.clone() };
    let target = resolve(&before, &spec, &capabilities(&config)).unwrap().hardware;
    let mut edits: Vec<Edit<'_>> = Vec::new();
    let new = |it: &Controller| before.controller(it.index).is_none();
    edits.extend(target.controllers().filter(|it| new(it)).map(Edit::AddController));
    let devices = target.devices().filter(|(at, _)| before.device(*at).is_none());
    edits.extend(devices.map(|(at, device)| Edit::AddDevice(at, device)));
    let text = edit(text, &edits).unwrap();
    assert_eq!(vusb_model::diff::diff(&target, &hardware(&text)), []);
    text
}
