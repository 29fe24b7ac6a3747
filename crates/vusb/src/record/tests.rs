use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vusb_host::Host;
use vusb_model::capabilities::Capabilities;
use vusb_model::resolve::resolve;
use vusb_model::spec::{DeviceSpec, Spec};

use super::*;
use crate::context::Context;
use crate::options::Options;

fn web1(dir: &Path) -> (Records, DomainAddress) {
    let state = StateDir::new(dir.join("state"));
    let context = Context::with_builtin_drivers(state.clone(), Host::new(dir));
    let domain = context.domain("qemu:/run/web 1.qmp", &Options::default()).unwrap();
    (Records::new(&state), domain)
}

#[test]
fn a_record_is_private_readable_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (records, domain) = web1(dir.path());
    assert_eq!(records.read(domain.as_str()).unwrap(), None);
    let mut record = Record { name: "web1".parse().ok(), ..Record::new(&domain) };
    records.save(&mut record, false).unwrap();
    assert_eq!(records.read(domain.as_str()).unwrap(), Some(record));
    let path = records.path(domain.as_str(), "json");
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("qemu-web_1.qmp-"), "{name}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let folder = fs::metadata(path.parent().unwrap()).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_record_is_found_by_its_keys_until_it_loses_them() {
    let dir = tempfile::tempdir().unwrap();
    let (records, domain) = web1(dir.path());
    let mut record = Record { name: "web1".parse().ok(), ..Record::new(&domain) };
    records.save(&mut record, false).unwrap();
    assert_eq!(records.with_key(&name_key("web1")).unwrap().len(), 1);
    record.name = "web2".parse().ok();
    records.save(&mut record, false).unwrap();
    assert_eq!(records.with_key(&name_key("web1")).unwrap().len(), 0);
    assert_eq!(records.with_key(&name_key("web2")).unwrap().len(), 1);
}

#[test]
fn unknown_fields_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (records, domain) = web1(dir.path());
    records.save(&mut Record::new(&domain), false).unwrap();
    let path = records.path(domain.as_str(), "json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen('{', "{\"colour\": \"blue\",", 1)).unwrap();
    let mut record = records.read(domain.as_str()).unwrap().unwrap();
    records.save(&mut record, false).unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains("\"colour\": \"blue\""));
}

#[test]
fn only_files_named_after_their_domain_are_records() {
    let dir = tempfile::tempdir().unwrap();
    let (records, domain) = web1(dir.path());
    records.save(&mut Record::new(&domain), false).unwrap();
    let path = records.path(domain.as_str(), "json");
    let made = std::process::Command::new("mkfifo").arg(path.with_file_name("p.json")).status();
    assert!(made.unwrap().success());
    fs::create_dir(path.with_file_name("d.json")).unwrap();
    let errors = |all: &[Result<Record, Error>]| -> Vec<String> {
        all.iter().filter_map(|it| it.as_ref().err()).map(ToString::to_string).collect()
    };
    let all = records.all().unwrap();
    assert_eq!((all.len(), errors(&all).len()), (3, 2));
    for path in ["p.json", "d.json"].map(|name| path.with_file_name(name)) {
        fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
    }
    fs::copy(&path, path.with_file_name("copy.json")).unwrap();
    let all = records.all().unwrap();
    let errors = errors(&all);
    assert_eq!((all.len(), errors.len()), (2, 1));
    assert!(errors[0].contains("copy.json") && errors[0].contains("a copy?"), "{errors:?}");
    // A FIFO in place of the record itself is an error too, and is not waited for.
    fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let error = records.read(domain.as_str()).unwrap_err();
    assert!(matches!(error, Error::Record { .. }), "{error}");
    assert!(error.to_string().ends_with("it is not a regular file"), "{error}");
}

#[test]
fn a_damaged_record_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (records, domain) = web1(dir.path());
    records.create_folder().unwrap();
    let path = records.path(domain.as_str(), "json");
    for text in [
        "",
        "{",
        "{}",
        "[]",
        "{\"vusb\":2}",
        "{\"vusb\":1}",
        "{\"vusb\":1,\"domain\":\"qemu:/other\"}",
    ] {
        fs::write(&path, text).unwrap();
        let error = records.read(domain.as_str()).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

/// Versions before `base` only had the counter of changes.
#[test]
fn an_intent_of_an_older_version_is_taken_only_if_it_is_newer_than_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let (records, domain) = web1(dir.path());
    let mut record = Record::new(&domain);
    for _ in 0..2 {
        record.suspended = !record.suspended;
        records.save(&mut record, false).unwrap();
    }
    let pending = Pending {
        target: Inventory::default(),
        steps: Vec::new(),
        back: false,
        header: Some(Header { name: "web2".parse().ok(), ..record.header() }),
    };
    let intent = |change: u64, base: Option<u64>| {
        let intent = Record { change, base, pending: Some(pending.clone()), ..record.clone() };
        let text = serde_json::to_string(&intent).unwrap();
        fs::write(records.path(domain.as_str(), "intent"), text).unwrap();
        records.read(domain.as_str()).unwrap().unwrap().pending.is_some()
    };
    let now = record.change;
    assert!(now > 0);
    assert!(intent(now + 1, None));
    assert!(!intent(now, None));
    assert!(!intent(now - 1, None));
    intent(now + 1, None);
    assert_eq!(records.read(domain.as_str()).unwrap().unwrap().base, Some(now));
    // An intent that names its record belongs to that one alone.
    assert!(intent(now + 1, Some(now)));
    assert!(!intent(now + 1, Some(now - 1)));
    assert!(!intent(now + 1, Some(now + 1)));
}

#[test]
fn a_record_of_another_version_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (records, domain) = web1(dir.path());
    records.create_folder().unwrap();
    fs::write(records.path(domain.as_str(), "json"), "{\"vusb\":2}").unwrap();
    let error = records.read(domain.as_str()).unwrap_err().to_string();
    assert!(error.ends_with("its layout is version 2; this vusb reads version 1"), "{error}");
}

#[test]
fn a_record_stays_if_its_intent_cannot_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (records, domain) = web1(dir.path());
    let mut record = Record::new(&domain);
    records.save(&mut record, false).unwrap();
    fs::create_dir(records.path(domain.as_str(), "intent")).unwrap();
    let error = records.remove(&record).unwrap_err();
    assert!(matches!(error, Error::Io { doing: "delete", .. }), "{error}");
    assert!(records.path(domain.as_str(), "json").exists());
    fs::remove_dir(records.path(domain.as_str(), "intent")).unwrap();
    records.remove(&record).unwrap();
    assert_eq!(records.read(domain.as_str()).unwrap(), None);
}

/// An inventory of tablets with these names, each with the claim that is beside it.
fn tablets(all: &[(&str, &str)]) -> Inventory {
    let device = |(name, _): &(&str, &str)| DeviceSpec {
        name: name.parse().ok(),
        ..DeviceSpec::new("tablet".parse().unwrap())
    };
    let spec = Spec { devices: all.iter().map(device).collect(), ..Spec::default() };
    let resolved = resolve(&Hardware::new(), &spec, &Capabilities::everything()).unwrap();
    let mut inventory = Inventory::managed(resolved.hardware);
    for (name, claim) in all {
        let key = inventory.named(&name.parse().unwrap()).unwrap();
        inventory.facts_mut(key).claims.insert((*claim).to_owned());
    }
    inventory
}

/// While it is unknown whether a change was made, the domain may have the old items and the new
/// ones.
#[test]
fn a_record_with_a_pending_change_has_all_items_and_misses_none() {
    let dir = tempfile::tempdir().unwrap();
    let (_, domain) = web1(dir.path());
    let mut inventory = tablets(&[("stays", "old"), ("goes", "of goes")]);
    let goes = inventory.named(&"goes".parse().unwrap()).unwrap();
    inventory.facts_mut(goes).missing = true;
    let target = tablets(&[("stays", "new")]);
    let pending = Pending { target, steps: Vec::new(), back: false, header: None };
    let record = Record { inventory, pending: Some(pending), ..Record::new(&domain) };
    let combined = record.combined();
    let claims = |name: &str| -> Vec<String> {
        let key = combined.named(&name.parse().unwrap()).unwrap();
        assert!(!combined.is_missing(key), "{name}");
        combined.facts(key).claims.iter().cloned().collect()
    };
    assert_eq!(claims("stays"), ["new"], "what the change leads to takes precedence");
    assert_eq!(claims("goes"), ["of goes"]);
}

#[test]
fn an_exported_record_of_another_version_is_refused() {
    let exported = |layout: u64| {
        let text = format!("{{\"vusb\":{layout},\"domain\":\"sim:/web.sim\"}}");
        Record::imported(serde_json::from_str(&text).unwrap())
    };
    assert_eq!(exported(1).unwrap().domain, "sim:/web.sim");
    let error = exported(2).unwrap_err();
    assert_eq!(error, "its layout is version 2; this vusb reads version 1");
}

/// What is in it decides which guest is changed.
#[test]
fn a_folder_that_other_users_may_write_to_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (records, domain) = web1(dir.path());
    let mut record = Record::new(&domain);
    records.save(&mut record, false).unwrap();
    let folder = dir.path().join("state");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    records.read(domain.as_str()).unwrap_err();
    records.all().unwrap_err();
    records.with_key(&name_key("web1")).unwrap_err();
    records.save(&mut record, false).unwrap_err();
}
