//! Reading rule files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use vusb_formats::Problem;
use vusb_formats::rules::{RuleFile, read};
use vusb_model::rules::{Finding, ProtectionKind, Rule, RuleSet, Unmatched, check};

use crate::error::Error;

/// The default folders of the rule files, below the root of the machine. A file in a later one
/// replaces the file with the same name in an earlier one.
pub(crate) const FOLDERS: [&str; 2] = ["usr/lib/vusb/rules.d", "etc/vusb/rules.d"];

/// The rules of all files, without a mistake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedRules {
    /// The rules.
    pub set: RuleSet,
    /// The files that they are from.
    pub files: Vec<PathBuf>,
    /// Probable mistakes: rules that never decide. Each warning shows the line of its rule.
    pub warnings: Vec<String>,
}

/// A file with its text.
struct Source {
    path: PathBuf,
    text: String,
    file: RuleFile,
}

/// Reads the rule files `*.toml` of these folders. A file in a later folder replaces one with the
/// same name in an earlier folder; a link to `/dev/null` removes it. A folder that does not exist
/// has no rules. A path that is a file is read as it is.
///
/// # Errors
/// [`Error::Rules`]: files cannot be read or parsed, or else contradict each other; it has all
/// mistakes of that sort. [`Error::Io`]: a folder cannot be read.
pub fn load(folders: &[PathBuf]) -> Result<LoadedRules, Error> {
    let (mut sources, mut mistakes) = (Vec::new(), Vec::new());
    for path in files(folders)? {
        match source(path) {
            Ok(source) => sources.push(source),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if !mistakes.is_empty() {
        return Err(Error::Rules { mistakes });
    }
    checked(sources)
}

/// Looks for mistakes in the text of a rule file, by itself. `origin` is its name in messages.
/// Returns the warnings.
///
/// # Errors
/// [`Error::Rules`]: it has mistakes.
pub fn check_text(text: &str, origin: &str) -> Result<Vec<String>, Error> {
    let file = read(text, origin);
    let file = file.map_err(|mistake| Error::Rules { mistakes: vec![mistake.to_string()] })?;
    let source = Source { path: origin.into(), text: text.to_owned(), file };
    Ok(checked(vec![source])?.warnings)
}

/// The rules of these files together.
fn checked(sources: Vec<Source>) -> Result<LoadedRules, Error> {
    let mut mistakes = Vec::new();
    let (lifted, unmatched) = settings(&sources, &mut mistakes);
    let rules: Vec<Rule> = sources.iter().flat_map(|it| it.file.rules.iter().cloned()).collect();
    let mut warnings = Vec::new();
    for finding in check(&rules) {
        let shown = shown(&finding, &rules, &sources);
        if finding.is_error() { mistakes.push(shown) } else { warnings.push(shown) }
    }
    if !mistakes.is_empty() {
        return Err(Error::Rules { mistakes });
    }
    let files = sources.into_iter().map(|it| it.path).collect();
    Ok(LoadedRules { set: RuleSet { rules, lifted, unmatched }, files, warnings })
}

/// The rule files of the folders, by name.
fn files(folders: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut named: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for folder in folders {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                named.insert(folder.clone().into_os_string(), folder.clone());
                continue;
            }
            Err(error) => return Err(Error::io("read", folder, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| Error::io("read", folder, error))?;
            let name = entry.file_name();
            // Editors keep their copies in hidden files.
            let is_hidden = name.to_string_lossy().starts_with('.');
            if entry.path().extension().is_some_and(|it| it == "toml") && !is_hidden {
                named.insert(name, entry.path());
            }
        }
    }
    let is_masked =
        |path: &PathBuf| fs::canonicalize(path).is_ok_and(|it| it == Path::new("/dev/null"));
    Ok(named.into_values().filter(|path| !is_masked(path)).collect())
}

fn source(path: PathBuf) -> Result<Source, String> {
    let origin = path.display().to_string();
    let text = vusb_drivers::text::read(&path)
        .map_err(|error| format!("cannot read {origin}: {error}"))?;
    let file = read(&text, &origin).map_err(|mistake| mistake.to_string())?;
    Ok(Source { path, text, file })
}

/// The protections that are lifted, and what applies where there is no rule. Two files that say
/// opposite things are a mistake: the order of files has no effect.
fn settings(sources: &[Source], mistakes: &mut Vec<String>) -> (Vec<ProtectionKind>, Unmatched) {
    let mut lifted = BTreeSet::new();
    for kind in ProtectionKind::ALL {
        let of = |it: &Source| Some((it.path.display().to_string(), *it.file.builtin.get(&kind)?));
        let settings: Vec<(String, bool)> = sources.iter().filter_map(of).collect();
        mistakes.extend(opposite(&format!("`{kind}` in [builtin]"), &settings));
        if settings.iter().any(|(_, in_force)| !in_force) {
            lifted.insert(kind);
        }
    }
    let of = |it: &Source| {
        let deny = it.file.unmatched? == Unmatched::Deny;
        Some((it.path.display().to_string(), deny))
    };
    let settings: Vec<(String, bool)> = sources.iter().filter_map(of).collect();
    mistakes.extend(opposite("`unmatched`", &settings));
    let deny = settings.iter().any(|(_, deny)| *deny);
    let unmatched = if deny { Unmatched::Deny } else { Unmatched::Allow };
    (lifted.into_iter().collect(), unmatched)
}

/// The mistake that two files say opposite things.
fn opposite(what: &str, settings: &[(String, bool)]) -> Option<String> {
    let (first, value) = settings.first()?;
    let (other, _) = settings.iter().find(|(_, it)| it != value)?;
    Some(format!("error: {what} has one value in {first} and another in {other}"))
}

/// A finding, with the line that it is about.
fn shown(finding: &Finding, rules: &[Rule], sources: &[Source]) -> String {
    let rule = |number: usize| rules.get(number).map(|it| it.name.as_str()).unwrap_or_default();
    let line = |number: usize| {
        let rule = rules.get(number);
        rule.and_then(|it| Some(format!("{}:{}", it.file.as_ref()?, it.line))).unwrap_or_default()
    };
    match finding {
        Finding::SameName { first, second } => {
            let what = format!("there is another rule `{}`, at {}", rule(*second), line(*first));
            in_file(*second, sources, |span| {
                Problem::new(span, what).help("give each rule its own name")
            })
        }
        Finding::Contradiction { first, second } => {
            let what = format!(
                "`{}` and `{}` ({}) match the same devices, and only one of them can have its way",
                rule(*second),
                rule(*first),
                line(*first)
            );
            let help = "delete one, make one more specific, or use one rule with ask";
            in_file(*second, sources, |span| Problem::new(span, what).help(help))
        }
        Finding::NeverDecides { rule: this, by } => {
            let by: Vec<String> = by.iter().map(|it| format!("`{it}`")).collect();
            let what = format!("`{}` never decides: {} always does", rule(*this), by.join(" or "));
            let help = "make it more specific, or delete it";
            in_file(*this, sources, |span| Problem::new(span, what).help(help).warning())
        }
    }
}

/// A problem with the rule at this position, in the text of its file.
fn in_file(
    position: usize,
    sources: &[Source],
    problem: impl FnOnce(std::ops::Range<usize>) -> Problem,
) -> String {
    let mut position = position;
    for Source { path, text, file } in sources {
        if let Some(span) = file.names.get(position) {
            let origin = path.display().to_string();
            return problem(span.clone()).in_text(text, &origin).to_string();
        }
        position = position.saturating_sub(file.names.len());
    }
    problem(0..0).in_text("", "").to_string()
}
