//! The licences and copyright notices of the crates that a program contains. Most licences require
//! that they accompany the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::build::Build;
use super::{name, results};
use crate::cargo::Result;

/// The prefixes of the names of files with licences and notices.
const FILES: [&str; 4] = ["LICENSE", "LICENCE", "COPYING", "NOTICE"];

/// The notices of all crates that `krate` consists of.
///
/// Crates that run at build time are included: some put data of their own into the program, such as
/// the USB ID database.
pub(super) fn of(build: &Build, krate: &str) -> Result<String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["metadata", "--format-version=1", "--locked", "--filter-platform"]);
    command.arg(super::build::STATIC_TARGET.replace("musl", "gnu")).current_dir(&build.source);
    let metadata: Value = serde_json::from_str(&vusb_rig::command::finish(command)?)?;
    let packages = by_id(&metadata, "/packages");
    let root = packages
        .iter()
        .find(|(_, package)| package.get("name").and_then(Value::as_str) == Some(krate))
        .map(|(id, _)| *id)
        .ok_or_else(|| format!("cargo metadata has no package {krate}"))?;
    let mut all = BTreeMap::new();
    for id in dependencies(&by_id(&metadata, "/resolve/nodes"), root) {
        if let Some(package) = packages.get(id) {
            all.extend(notice(package)?);
        }
    }
    let head = format!("Crates in {krate}, with their licences and copyright notices.\n");
    Ok(std::iter::once(head).chain(all.into_values()).collect())
}

/// The objects of an array by their `id`.
fn by_id<'a>(metadata: &'a Value, array: &str) -> BTreeMap<&'a str, &'a Value> {
    let all = metadata.pointer(array).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|it| Some((it.get("id")?.as_str()?, it))).collect()
}

/// Everything that `root` depends on, except for tests.
fn dependencies<'a>(nodes: &BTreeMap<&'a str, &'a Value>, root: &'a str) -> BTreeSet<&'a str> {
    let (mut found, mut open) = (BTreeSet::new(), vec![root]);
    while let Some(id) = open.pop() {
        if !found.insert(id) {
            continue;
        }
        let deps = nodes.get(id).and_then(|node| node.get("deps")?.as_array());
        for dep in deps.into_iter().flatten() {
            let kinds = dep.get("dep_kinds").and_then(Value::as_array).into_iter().flatten();
            let mut kinds = kinds.map(|it| it.get("kind").and_then(Value::as_str));
            if kinds.any(|kind| kind != Some("dev")) {
                open.extend(dep.get("pkg").and_then(Value::as_str));
            }
        }
    }
    found
}

/// The notice of one crate, under its name and version; `None` for a crate of this workspace.
fn notice(package: &Value) -> Result<Option<(String, String)>> {
    let text = |key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default();
    if package.get("source").is_none_or(Value::is_null) {
        return Ok(None);
    }
    let title = format!("{} {}", text("name"), text("version"));
    let mut notice = format!("\n==== {title}: {} ====\n{}\n", text("license"), text("repository"));
    let folder = Path::new(text("manifest_path")).parent().unwrap_or(Path::new("/"));
    for path in results(folder)? {
        if path.is_file() && FILES.iter().any(|start| name(&path).to_uppercase().starts_with(start))
        {
            let content = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            notice.push_str(&format!("\n---- {} ----\n{}\n", name(&path), content.trim_end()));
        }
    }
    Ok(Some((title, notice)))
}
