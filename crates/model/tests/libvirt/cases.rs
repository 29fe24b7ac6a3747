//! Each case resolves to the expected result in its file, and no file ever changes, except its
//! comments: they cannot change a result (`docs/decisions/0016-comments-are-not-frozen.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use sha2::{Digest as _, Sha256};
use vusb_model::capabilities::KINDS;
use vusb_model::models::Model;

use crate::case::{Case, folder, lines};

#[test]
fn every_case_has_its_expected_result() {
    let mut wrong = String::new();
    for case in Case::all() {
        let outcome = case.resolve();
        let lines = lines(&outcome);
        if lines != case.expected {
            let message = outcome.err().map(|refused| refused.to_string()).unwrap_or_default();
            let (expected, lines) = (case.expected.join("\n"), lines.join("\n"));
            writeln!(wrong, "{}: expected\n{expected}\nfound\n{lines}\n{message}\n", case.name)
                .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// All of a case except its comments.
fn frozen_part(content: &str) -> String {
    content.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn only_comments_are_not_frozen() {
    assert_eq!(frozen_part("# Why.\nguest x86_64 pc\n#\n= 0 usb\n"), "guest x86_64 pc\n= 0 usb\n");
    assert_eq!(frozen_part("\n #\nno newline"), "\n #\nno newline");
}

#[test]
fn cases_are_frozen() {
    let list = fs::read_to_string(folder().join("FROZEN")).unwrap_or_default();
    let mut frozen: BTreeMap<&str, &str> = list
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split_once("  ").expect(line))
        .map(|(hash, file)| (file, hash))
        .collect();
    let (mut wrong, mut unlisted) = (String::new(), String::new());
    let files = fs::read_dir(folder()).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for file in files.filter(|file| file != "FROZEN").collect::<BTreeSet<_>>() {
        let content = fs::read_to_string(folder().join(&file)).unwrap();
        let hash = format!("{:x}", Sha256::digest(frozen_part(&content)));
        match frozen.remove(file.as_str()) {
            Some(expected) if expected == hash => {}
            Some(_) => writeln!(
                wrong,
                "{file} was changed. A profile never changes: it would change the hardware of existing guests. Different \
                 rules are a new profile with its own cases; restore this file."
            )
            .unwrap(),
            None => writeln!(unlisted, "{hash}  {file}").unwrap(),
        }
    }
    for file in frozen.keys() {
        writeln!(
            wrong,
            "{file} is missing. A profile and its cases never change; restore the file."
        )
        .unwrap();
    }
    if !unlisted.is_empty() {
        writeln!(
            wrong,
            "New files. Once they are correct, append these lines to FROZEN:\n{unlisted}"
        )
        .unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The cases cover each model that libvirt knows, each kind of device, and many refusals.
#[test]
fn cases_cover_models_kinds_and_refusals() {
    let (mut models, mut kinds, mut refusals) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut companions = BTreeSet::new();
    for case in Case::all() {
        match case.resolve() {
            Ok(resolved) => {
                for controller in resolved.hardware.controllers() {
                    models.insert(controller.model);
                    companions.extend(controller.companions.iter().map(|it| it.model.model()));
                }
                kinds.extend(resolved.hardware.devices().map(|(_, device)| device.kind.name()));
            }
            Err(_) => {
                refusals.extend(
                    case.expected
                        .iter()
                        .filter_map(|line| line.strip_prefix("says "))
                        .map(str::to_owned),
                );
            }
        }
    }
    models.extend(companions);
    let known = Model::ALL.into_iter().filter(|model| *model != Model::Xenusb3);
    assert_eq!(models, known.collect());
    let all: BTreeSet<&str> = KINDS.into_iter().chain(["other"]).collect();
    assert_eq!(kinds, all);
    assert!(refusals.len() >= 20, "{refusals:#?}");
}
