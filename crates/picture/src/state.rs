//! Each state has a colour, a symbol and a word: colour alone never distinguishes two states.

use vusb::model::rules::{Effect, RuleName};
use vusb::rules::EffectView;
use vusb::view::{ControllerState, HostDeviceView, State};

/// How a device or a controller looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    Attached,
    Offered,
    Configured,
    Free,
    Held,
    Suspended,
    Absent,
    Asking,
    Busy,
    Protected,
    Denied,
    Failing,
    Missing,
    Unknown,
}

/// The symbol of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Glyph {
    Full,
    Ring,
    Half,
    Cross,
    Bar,
    Diamond,
    Triangle,
}

impl Look {
    /// All looks, in the order of the legend.
    pub(crate) const ALL: [Look; 14] = [
        Look::Attached,
        Look::Offered,
        Look::Configured,
        Look::Free,
        Look::Held,
        Look::Suspended,
        Look::Absent,
        Look::Asking,
        Look::Busy,
        Look::Protected,
        Look::Denied,
        Look::Failing,
        Look::Missing,
        Look::Unknown,
    ];

    /// The name of its colour in the style.
    pub(crate) const fn colour(self) -> &'static str {
        match self {
            Look::Attached => "good",
            Look::Offered | Look::Configured | Look::Suspended => "wait",
            Look::Asking => "ask",
            Look::Denied | Look::Failing | Look::Missing => "bad",
            Look::Free
            | Look::Held
            | Look::Absent
            | Look::Busy
            | Look::Protected
            | Look::Unknown => "calm",
        }
    }

    pub(crate) const fn glyph(self) -> Glyph {
        match self {
            Look::Attached => Glyph::Full,
            Look::Free | Look::Held | Look::Unknown => Glyph::Ring,
            Look::Offered | Look::Configured | Look::Suspended => Glyph::Half,
            Look::Absent => Glyph::Cross,
            Look::Denied | Look::Protected | Look::Busy => Glyph::Bar,
            Look::Asking => Glyph::Diamond,
            Look::Failing | Look::Missing => Glyph::Triangle,
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Look::Attached => "attached",
            Look::Offered => "offered",
            Look::Configured => "configured",
            Look::Free => "free",
            Look::Held => "detached by hand",
            Look::Suspended => "suspended",
            Look::Absent => "absent",
            Look::Asking => "asking",
            Look::Busy => "in use",
            Look::Protected => "protected",
            Look::Denied => "denied",
            Look::Failing => "failing",
            Look::Missing => "missing",
            Look::Unknown => "unknown",
        }
    }
}

impl From<State> for Look {
    fn from(state: State) -> Look {
        match state {
            State::Attached => Look::Attached,
            State::Absent => Look::Absent,
            State::Offered => Look::Offered,
            State::Configured => Look::Configured,
            State::Missing => Look::Missing,
            State::Suspended => Look::Suspended,
            State::Unknown => Look::Unknown,
        }
    }
}

/// How a controller looks; `None` if it is present, which needs no symbol.
pub(crate) const fn of_controller(state: ControllerState) -> Option<Look> {
    match state {
        ControllerState::Present => None,
        ControllerState::Missing => Some(Look::Missing),
        ControllerState::Broken => Some(Look::Failing),
        ControllerState::Unknown => Some(Look::Unknown),
        ControllerState::Configured => Some(Look::Configured),
    }
}

/// How a device of this machine looks. `connected` is its state in the guest that has it. The
/// result is `None` for a hub.
pub(crate) fn of_host(
    device: &HostDeviceView,
    effect: Option<&EffectView>,
    connected: Option<State>,
) -> Option<Look> {
    if device.hub {
        return None;
    }
    if let Some(state) = connected {
        return Some(state.into());
    }
    let by_daemon = effect.and_then(|it| match it.state.as_deref()? {
        "asking" => Some(Look::Asking),
        "failing" => Some(Look::Failing),
        "attaching" => Some(Look::Offered),
        "held" => Some(Look::Held),
        "denied" => Some(Look::Denied),
        _ => None,
    });
    let by_rule = || match effect.map(|it| &it.effect) {
        Some(Effect::Ask { .. } | Effect::Conflict { .. }) => Some(Look::Asking),
        Some(Effect::Denied { .. }) => Some(Look::Denied),
        _ => None,
    };
    Some(if device.holder.is_some() {
        Look::Attached
    } else if let Some(look) = by_daemon {
        look
    } else if !device.protection.is_empty() {
        Look::Protected
    } else if device.used_by.is_some() {
        Look::Busy
    } else if !device.authorized {
        Look::Denied
    } else {
        by_rule().unwrap_or(Look::Free)
    })
}

/// The prefix of the name of a rule that was made from a record.
const RECORD: &str = "record:";

/// What the rules say about a device, in words; empty if they say nothing.
pub(crate) fn rule(effect: &Effect) -> String {
    let names = |names: &[RuleName]| {
        let all: Vec<&str> = names.iter().map(RuleName::as_str).collect();
        all.join(", ")
    };
    match effect {
        Effect::Nothing => String::new(),
        // A device that a person gave to a guest is in the guest's record, and that is a rule too.
        Effect::Attach { domain, rule, .. } if rule.as_str().starts_with(RECORD) => {
            format!("given to {domain}")
        }
        Effect::Attach { domain, rule, .. } => format!("rule {rule} → {domain}"),
        Effect::Ask { domains, rules } | Effect::Conflict { domains, rules } => {
            format!("rule {} → {}?", names(rules), domains.join(", "))
        }
        Effect::Denied { rules, .. } => format!("rule {}: not allowed", names(rules)),
    }
}
