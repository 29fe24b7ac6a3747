//! Each example comes to what its file says, and no file is ever altered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use sha2::{Digest as _, Sha256};
use vusb_model::capabilities::KINDS;
use vusb_model::models::Model;

use crate::case::{Case, folder, lines};

#[test]
fn every_case_comes_to_what_its_file_says() {
    let mut wrong = String::new();
    for case in Case::all() {
        let outcome = case.resolve();
        let lines = lines(&outcome);
        if lines != case.expected {
            let said = outcome.err().map(|refused| refused.to_string()).unwrap_or_default();
            let (expected, lines) = (case.expected.join("\n"), lines.join("\n"));
            writeln!(
                wrong,
                "{}: expected\n{expected}\nand it comes to\n{lines}\n{said}\n",
                case.name
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
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
    let (mut wrong, mut missing) = (String::new(), String::new());
    let files = fs::read_dir(folder()).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for file in files.filter(|file| file != "FROZEN").collect::<BTreeSet<_>>() {
        let hash = format!("{:x}", Sha256::digest(fs::read(folder().join(&file)).unwrap()));
        match frozen.remove(file.as_str()) {
            Some(there) if there == hash => {}
            Some(_) => writeln!(
                wrong,
                "{file} was altered. A profile never changes: guests that were made with it would change under their \
                 users. A new idea is a new profile, with cases of its own; put this one back as it was."
            )
            .unwrap(),
            None => writeln!(missing, "{hash}  {file}").unwrap(),
        }
    }
    for file in frozen.keys() {
        writeln!(
            wrong,
            "{file} is gone. A profile never changes, nor do its examples; put it back."
        )
        .unwrap();
    }
    if !missing.is_empty() {
        writeln!(wrong, "These are new. Once they are right, append to FROZEN:\n{missing}")
            .unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The examples leave nothing out: each model that libvirt knows, each kind, each category of refusal.
#[test]
fn cases_cover_the_tables() {
    let (mut models, mut kinds, mut refusals) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut companions = BTreeSet::new();
    for case in Case::all() {
        match case.resolve() {
            Ok(resolved) => {
                for controller in resolved.hardware.controllers() {
                    models.insert(controller.model);
                    companions.extend(controller.companions.iter().map(|it| it.model.model()));
                }
                kinds.extend(resolved.hardware.devices().map(|(_, device)| device.kind.word()));
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
