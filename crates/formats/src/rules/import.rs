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
//! more devices than before, and an entry that grants a device is left out (`entry.rs`). So no
//! device is granted that the tool denies, but for one that has several interfaces of a kind where
//! USBGuard expects one: rules do not count interfaces.
//!
//! In XAPI and USBGuard, the first entry that matches decides; here, the most specific rule. What
//! an earlier entry denies stays denied: a rule is added for each later entry that would override
//! it. If an entry denies what an earlier one allows, the pair is listed.

mod draft;
mod entry;
mod qubes;
mod usbguard;
mod vhotplug;
mod xapi;

use std::fmt;
use std::str::FromStr;

use self::draft::TooMany;
use crate::error::{FormatError, Problem};

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
    let in_text = |problem: Problem| problem.in_text(text, origin);
    let mut drafts = drafts.map_err(in_text)?;
    drafts.keep_denials().map_err(|TooMany| {
        let what =
            "too many of the rules that grant devices overlap with earlier ones that deny them";
        in_text(Problem::new(0..0, what))
    })?;
    let text = drafts.text(origin);
    // The generated text can be read. If not, this module has a bug, and the caller gets an error.
    super::read(&text, "the generated rules")?;
    Ok(Imported { text, lost: drafts.lost })
}
