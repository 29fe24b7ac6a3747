//! Compares the header with the Rust types and functions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::mem::{offset_of, size_of};

use vusb_capi::controllers::{VUSB_TYPE_AUTO, VUSB_TYPE_EMULATED, VUSB_TYPE_PV, VusbController};
use vusb_capi::devices::VusbDevice;
use vusb_capi::error::{VUSB_ALREADY, VUSB_DONE, VUSB_E_INTERNAL};
use vusb_capi::handle::{
    VUSB_DRY_RUN, VUSB_FORCE, VUSB_NEXT, VUSB_NOW, VUSB_WHEN_THERE, VusbHow, VusbOptions,
};
use vusb_rig::command::run;

use super::{C11, capi, compile, installed};

/// The declarations of the functions in a header, each without its semicolon.
pub(crate) fn declarations(header: &str) -> Vec<String> {
    let mut code = String::new();
    for (number, part) in header.split("/*").enumerate() {
        code.push_str(if number == 0 { part } else { part.split_once("*/").unwrap().1 });
    }
    let code: String = code.lines().filter(|line| !line.starts_with('#')).collect();
    let functions = code.split(';').filter(|it| it.contains('(') && !it.contains('{'));
    functions.map(str::to_owned).collect()
}

/// The text of the header.
pub(crate) fn text() -> String {
    std::fs::read_to_string(capi().join("include/vusb.h")).unwrap()
}

/// The prototypes of the header, by function: the type of the result and of each parameter, without
/// the names.
pub(crate) fn prototypes() -> BTreeMap<String, String> {
    let declarations = declarations(&text());
    let mut all = BTreeMap::new();
    for declaration in &declarations {
        let (start, parameters) = declaration.split_once('(').unwrap();
        let name_at = start.rfind("vusb_").unwrap();
        let (result, name) = start.split_at(name_at);
        let parameters = parameters.trim_end_matches(')').split(',').map(|parameter| {
            let parameter = parameter.trim();
            let type_end = parameter.trim_end_matches(|it: char| it.is_alphanumeric() || it == '_');
            if parameter == "void" { String::new() } else { normalized(type_end) }
        });
        let signature =
            format!("{}({})", normalized(result), parameters.collect::<Vec<_>>().join(","));
        all.insert(name.trim().to_owned(), signature);
    }
    all
}

/// A type with single spaces, and none before `*`.
fn normalized(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace(" *", "*")
}

/// The functions of the Rust sources, in the form of [`prototypes`].
pub(crate) fn functions() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(capi().join("src")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for part in text.split("#[unsafe(no_mangle)]").skip(1) {
            let declaration = part.split_once("fn ").unwrap().1.split_once('{').unwrap().0;
            let (name, rest) = declaration.split_once('(').unwrap();
            let (parameters, result) = rest.rsplit_once(')').unwrap();
            let types = parameters.split(',').filter_map(|it| it.split_once(':'));
            let types: Vec<String> = types.map(|(_, it)| c_type(it.trim())).collect();
            let result = result.trim().strip_prefix("-> ").map_or("void".to_owned(), c_type);
            all.insert(name.to_owned(), format!("{result}({})", types.join(",")));
        }
    }
    all
}

/// A Rust type as C writes it.
fn c_type(of: &str) -> String {
    if let Some(target) = of.strip_prefix("*mut ") {
        return format!("{}*", c_type(target));
    }
    if let Some(target) = of.strip_prefix("*const ") {
        return format!("const {}*", c_type(target));
    }
    let name = match of {
        "c_int" => "int",
        "c_char" => "char",
        "c_void" => "void",
        "usize" => "size_t",
        "Vusb" => "vusb",
        other => {
            let name = other.strip_prefix("Vusb").unwrap_or_else(|| panic!("{other}"));
            return format!("vusb_{}", name.to_lowercase());
        }
    };
    name.to_owned()
}

#[test]
fn the_prototypes_match_the_functions() {
    assert_eq!(prototypes(), functions());
}

macro_rules! layout {
    ($text:ident, $name:literal, $type:ty, $($field:ident),+) => {
        writeln!($text, "{} {}", $name, size_of::<$type>()).unwrap();
        $(writeln!($text, "{}.{} {}", $name, stringify!($field).trim_start_matches("r#"),
            offset_of!($type, $field)).unwrap();)+
    };
}

macro_rules! values {
    ($text:ident, $($name:ident),+) => {
        $(writeln!($text, "{} {}", stringify!($name), $name).unwrap();)+
    };
}

#[test]
fn structures_and_values_match_the_header() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("layout");
    let include = format!("-I{}", installed().join("include").display());
    compile(C11, &capi().join("tests/c/layout.c"), &program, &[include]);
    let found = run::<&str>(program.to_str().unwrap(), &[]).unwrap();
    let mut text = String::new();
    layout!(
        text,
        "vusb_options",
        VusbOptions,
        state_dir,
        claims_dir,
        rules_dir,
        host_root,
        reserved
    );
    layout!(text, "vusb_how", VusbHow, flags, wait_ms, deadline_ms, folder, cancel);
    layout!(
        text,
        "vusb_controller",
        VusbController,
        name,
        r#type,
        usbversion,
        numports,
        index,
        model,
        backend,
        state
    );
    layout!(text, "vusb_device", VusbDevice, name, what, controller, port, bus, state);
    values!(text, VUSB_DONE, VUSB_ALREADY, VUSB_E_INTERNAL);
    values!(text, VUSB_DRY_RUN, VUSB_FORCE, VUSB_NOW, VUSB_NEXT, VUSB_WHEN_THERE);
    values!(text, VUSB_TYPE_AUTO, VUSB_TYPE_PV, VUSB_TYPE_EMULATED);
    let failures = [
        "FAILED",
        "USAGE",
        "NOT_FOUND",
        "BUSY",
        "DENIED",
        "NO_ROOM",
        "UNREACHABLE",
        "TIMED_OUT",
        "NOT_IMPLEMENTED",
    ];
    // The exit codes, negated.
    for (number, name) in failures.iter().enumerate() {
        writeln!(text, "VUSB_E_{name} -{}", number + 1).unwrap();
    }
    assert_eq!(found, text);
}
