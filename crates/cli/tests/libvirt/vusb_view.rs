//! vusb's interpretation of a domain.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::libvirt_view::{in_order, is_audio_back_end, is_usb};
use crate::{Controller, Hardware};

/// Runs `vusb` on an XML file. Returns its output, or its error.
fn vusb(xml: &str, words: &[&str]) -> Result<Value, String> {
    vusb_on("domain.xml", xml, words)
}

/// Runs `vusb` on a file whose name determines the format.
fn vusb_on(name: &str, text: &str, words: &[&str]) -> Result<Value, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vusb"));
    command.args(words).arg(&path).arg("--state-dir").arg(dir.path());
    let output = command.output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let output = command.arg("--json").output().unwrap();
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

/// The controllers and devices of `vusb plan`.
pub(crate) fn hardware(xml: &str) -> Result<Hardware, String> {
    let plan = vusb(xml, &["plan"])?;
    let mut hardware = Hardware::default();
    for it in plan["controllers"].as_array().unwrap() {
        hardware.controllers.push(controller(it));
        for device in it["devices"].as_array().unwrap() {
            let bus = it["index"].as_u64().unwrap();
            hardware.devices.push((what(device), bus, device["port"].as_str().unwrap().to_owned()));
        }
    }
    hardware.devices.sort();
    Ok(hardware)
}

fn controller(it: &Value) -> Controller {
    let model = it["model"].as_str().unwrap().to_owned();
    // Only an xHCI has a number of ports in libvirt's XML, unless it is QEMU's default.
    let ports = it["ports"].as_u64().filter(|ports| model.contains("xhci") && *ports != 4);
    let companions = it["companions"].as_array().cloned().unwrap_or_default();
    let companion =
        |it: &Value| (it["model"].as_str().unwrap().to_owned(), it["first_port"].as_u64().unwrap());
    (it["index"].as_u64().unwrap(), model, ports, companions.iter().map(companion).collect())
}

/// libvirt's name for a device.
fn what(device: &Value) -> String {
    match device["kind"].as_str().unwrap() {
        "host" => "hostdev",
        "storage" => "disk",
        "audio" => "sound",
        "net" => "interface",
        "mtp" => "filesystem",
        "redir" => "redirdev",
        other => other,
    }
    .to_owned()
}

/// The `-device` arguments of `vusb qemu-args`.
pub(crate) fn usb_devices(xml: &str) -> Result<Vec<Value>, String> {
    Ok(in_order(arguments(xml)?.into_iter().filter(is_usb).collect()))
}

/// The `-audiodev` arguments of `vusb qemu-args`.
pub(crate) fn audio_back_ends(xml: &str) -> Result<Vec<Value>, String> {
    Ok(arguments(xml)?.into_iter().filter(is_audio_back_end).collect())
}

/// The arguments of `vusb qemu-args` that are in JSON.
fn arguments(xml: &str) -> Result<Vec<Value>, String> {
    let output = vusb(xml, &["qemu-args"])?;
    let words = output["arguments"].as_array().unwrap();
    Ok(words.iter().filter_map(|word| serde_json::from_str(word.as_str()?).ok()).collect())
}

/// A configuration in another format.
pub(crate) fn converted(name: &str, text: &str, to: &str) -> String {
    let output = vusb_on(name, text, &["convert", "--to", to]).unwrap();
    output["text"].as_str().unwrap().to_owned()
}

/// The digest of a configuration.
pub(crate) fn digest(name: &str, text: &str) -> String {
    vusb_on(name, text, &["digest"]).unwrap()["digest"].as_str().unwrap().to_owned()
}
