//! Rules of other tools, as rule files of this one.
//!
//! | tool | file | an entry becomes |
//! |---|---|---|
//! | XAPI | `usb-policy.conf` | `allow` or `deny`: which devices may be given to guests |
//! | USBGuard | `rules.conf` | the same; its `allow` only says that this machine may use a device |
//! | vhotplug | `config.json` | `attach`: which guest gets a device |
//! | Qubes OS | `qubes.xml` | `attach` or `ask`: which qube gets a device; `deny`: what it may not have |
//!
//! What cannot be expressed is listed, never dropped silently. An entry that denies then denies
//! more devices than before, and an entry that allows is left out.
//!
//! In XAPI and USBGuard, the first entry that matches decides; here, the most specific rule. If the
//! results may differ for two entries, the pair is listed.

mod qubes;
mod usbguard;
mod vhotplug;
mod xapi;

use std::fmt::{self, Write as _};
use std::str::FromStr;

use crate::error::FormatError;

/// The tool that wrote a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// XAPI, of XenServer and XCP-ng.
    Xapi,
    /// USBGuard.
    UsbGuard,
    /// vhotplug, of Ghaf.
    Vhotplug,
    /// Qubes OS.
    Qubes,
}

impl Tool {
    /// All tools.
    pub const ALL: [Tool; 4] = [Tool::Xapi, Tool::UsbGuard, Tool::Vhotplug, Tool::Qubes];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Tool::Xapi => "xapi",
            Tool::UsbGuard => "usbguard",
            Tool::Vhotplug => "vhotplug",
            Tool::Qubes => "qubes",
        }
    }

    /// The tool whose file this probably is.
    pub fn recognize(text: &str) -> Option<Tool> {
        if text.trim_start().starts_with('{') {
            return Some(Tool::Vhotplug);
        }
        if text.trim_start().starts_with('<') {
            return Some(Tool::Qubes);
        }
        let mut lines = text.lines().map(str::trim).filter(|it| !it.is_empty());
        let first = lines.find(|it| !it.starts_with('#'))?;
        let word = first.split([' ', '\t', ':']).next().unwrap_or_default();
        match word {
            "ALLOW" | "DENY" => Some(Tool::Xapi),
            "allow" | "block" | "reject" | "match" => Some(Tool::UsbGuard),
            _ => None,
        }
    }
}

impl FromStr for Tool {
    type Err = UnknownTool;

    fn from_str(text: &str) -> Result<Tool, UnknownTool> {
        let found = Tool::ALL.into_iter().find(|it| it.name() == text);
        found.ok_or_else(|| UnknownTool(text.chars().take(80).collect()))
    }
}

/// A text that names no tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTool(String);

impl fmt::Display for UnknownTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Tool::ALL.map(Tool::name).to_vec();
        let known = names.join(", ");
        write!(f, "`{}` is not a tool whose rules can be read: {known}", self.0)
    }
}

impl std::error::Error for UnknownTool {}

/// The result of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// A rule file.
    pub text: String,
    /// What could not be expressed, each with its line or the name of its entry.
    pub lost: Vec<String>,
}

/// Turns the rules of another tool into a rule file. `origin` is the name of the text in errors.
///
/// # Errors
/// The text is not a file of this tool. The error shows the first mistake.
pub fn import(text: &str, origin: &str, tool: Tool) -> Result<Imported, FormatError> {
    let drafts = match tool {
        Tool::Xapi => xapi::read(text),
        Tool::UsbGuard => usbguard::read(text),
        Tool::Vhotplug => vhotplug::read(text),
        Tool::Qubes => qubes::read(text),
    };
    let mut drafts = drafts.map_err(|problem| problem.in_text(text, origin))?;
    if drafts.first_decides {
        drafts.compare();
    }
    let text = drafts.text(origin);
    // The generated text can be read. If not, this module has a bug, and the caller gets an error.
    super::read(&text, "the generated rules")?;
    Ok(Imported { text, lost: drafts.lost })
}

/// The rules that were read so far.
#[derive(Debug, Default)]
struct Drafts {
    all: Vec<Draft>,
    lost: Vec<String>,
    unmatched: Option<&'static str>,
    /// Whether the first entry that matches decides in the tool.
    first_decides: bool,
}

/// A rule.
#[derive(Clone, Debug, Default)]
struct Draft {
    /// Where it is from: `line 3`.
    from: String,
    name: String,
    id: Vec<String>,
    port: Vec<String>,
    has: Vec<String>,
    only: Vec<String>,
    text: Vec<String>,
    removable: Option<bool>,
    /// `allow`, `deny`, `ask` or `attach`.
    action: &'static str,
    /// The domains of the action; an empty list means all. `attach` has exactly one.
    domains: Vec<String>,
    /// Whether it is the exception of an entry rather than an entry.
    is_exception: bool,
}

impl Draft {
    fn new(from: String, action: &'static str) -> Draft {
        Draft { from, action, ..Draft::default() }
    }

    /// How specific it is, as the rules compare it.
    fn rank(&self) -> [bool; 6] {
        let any = |test: &dyn Fn(&String) -> bool| self.id.iter().any(test);
        [
            !self.port.is_empty(),
            any(&|it| it.matches(':').count() > 1),
            any(&|it| !it.contains('*')),
            !self.id.is_empty(),
            !self.has.is_empty() || !self.only.is_empty(),
            !self.text.is_empty() || self.removable.is_some(),
        ]
    }

    /// Whether there may be a device that matches both.
    fn overlaps(&self, other: &Draft) -> bool {
        let vendor = |it: &String| it.split(':').next().unwrap_or_default().to_owned();
        let product = |it: &String| it.split(':').nth(1).unwrap_or("*").to_owned();
        let overlap = |a: &String, b: &String| {
            let products = (product(a), product(b));
            vendor(a) == vendor(b)
                && (products.0 == products.1 || products.0 == "*" || products.1 == "*")
        };
        let any_id = self.id.is_empty() || other.id.is_empty();
        let ids = any_id || self.id.iter().any(|a| other.id.iter().any(|b| overlap(a, b)));
        // `only` applies to every interface of a device, and `has` to one of them. Both rules can
        // only match if their kinds of interfaces overlap. Two `has` may match different
        // interfaces.
        let any_kind = |a: &[String], b: &[String]| {
            let alike =
                |a: &String, b: &String| a.starts_with(b.as_str()) || b.starts_with(a.as_str());
            a.is_empty() || b.is_empty() || a.iter().any(|a| b.iter().any(|b| alike(a, b)))
        };
        ids && any_kind(&self.only, &other.only)
            && any_kind(&self.has, &other.only)
            && any_kind(&self.only, &other.has)
    }

    fn write(&self, text: &mut String, name: &str) {
        let _ = writeln!(text, "\n# {}\n[[rule]]\nname = {}", line(&self.from), quoted(name));
        let lists = [
            ("id", &self.id),
            ("port", &self.port),
            ("has", &self.has),
            ("only", &self.only),
            ("text", &self.text),
        ];
        for (key, values) in lists.into_iter().filter(|(_, values)| !values.is_empty()) {
            let _ = writeln!(text, "{key} = {}", one_or_several(values));
        }
        if let Some(removable) = self.removable {
            let _ = writeln!(text, "removable = {removable}");
        }
        let domains =
            if self.domains.is_empty() { vec!["*".to_owned()] } else { self.domains.clone() };
        let _ = writeln!(text, "{} = {}", self.action, one_or_several(&domains));
    }
}

impl Drafts {
    fn lose(&mut self, from: &str, what: impl AsRef<str>) {
        self.lost.push(format!("{from}: {}", what.as_ref()));
    }

    /// Lists the pairs of entries of which the later one decides here: in the tool, the earlier one
    /// decides.
    fn compare(&mut self) {
        let mut lost = Vec::new();
        let entries: Vec<&Draft> = self.all.iter().filter(|it| !it.is_exception).collect();
        for (at, later) in entries.iter().enumerate() {
            let earlier = entries.iter().take(at).filter(|it| it.action != later.action);
            for earlier in earlier.filter(|it| it.overlaps(later)) {
                let beats = match later.rank().cmp(&earlier.rank()) {
                    std::cmp::Ordering::Greater => true,
                    std::cmp::Ordering::Equal => later.action == "deny",
                    std::cmp::Ordering::Less => false,
                };
                if beats {
                    lost.push(format!(
                        "{}: for devices that {} matches too, {} decided because it is first; here {} decides",
                        later.from, earlier.from, earlier.from, later.from
                    ));
                }
            }
        }
        self.lost.extend(lost);
    }

    fn text(&self, origin: &str) -> String {
        let mut text = format!("# Made from {}.\n", line(origin));
        if let Some(unmatched) = self.unmatched {
            let _ = write!(text, "\nunmatched = \"{unmatched}\"\n");
        }
        let mut names: Vec<String> = Vec::new();
        for draft in &self.all {
            let base = name(&draft.name);
            let mut name = base.clone();
            let mut number = 2;
            while names.contains(&name) {
                name = format!("{base} {number}");
                number += 1;
            }
            draft.write(&mut text, &name);
            names.push(name);
        }
        text
    }
}

/// The text on one line, for a comment.
fn line(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).collect()
}

/// A valid name of a rule, made from any text.
fn name(text: &str) -> String {
    let plain = |it: char| if it.is_control() || it == ':' { ' ' } else { it };
    let text: String = text.chars().map(plain).collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    let short: String = words.join(" ").chars().take(56).collect();
    match short.trim() {
        "" | "unmatched" => "imported".to_owned(),
        name => name.to_owned(),
    }
}

/// A string of TOML, or a list of them.
fn one_or_several(values: &[String]) -> String {
    let all: Vec<String> = values.iter().map(|it| quoted(it)).collect();
    match all.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// `*text*`. `None` if the text contains a wildcard or a control character, or is empty.
fn anywhere(text: &str) -> Option<String> {
    let is_plain = !text.is_empty() && !text.chars().any(|it| it.is_control() || it == '*');
    is_plain.then(|| format!("*{text}*"))
}
