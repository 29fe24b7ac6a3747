//! `io.github.vusb.Manager`: what `vusbd` and its callers have to agree on.
//!
//! The interface is described in `io.github.vusb.Manager.varlink`. The protocol is
//! [Varlink](https://varlink.org), which the crate `varlink` speaks for the daemon, and
//! [`connection`] for callers. [`hints`] contains the sentences that say what a person can do about
//! an error.

#![forbid(unsafe_code)]

pub mod connection;
pub mod hints;

use vusb::ExitCode;

/// The name of the interface.
pub const NAME: &str = "io.github.vusb.Manager";

/// The socket at which the service listens.
pub const SOCKET: &str = "/run/vusb/io.github.vusb.Manager";

/// The description of the interface, in Varlink's language.
pub const DESCRIPTION: &str = include_str!("io.github.vusb.Manager.varlink");

/// Who may call a method. The superuser and the user that the daemon runs as may call all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every user.
    Anyone,
    /// Members of the group.
    Group,
    /// Members of the group, for devices of this machine, for domains that the daemon knows, and
    /// without force.
    GroupForHostDevices,
    /// Only the superuser and the user that the daemon runs as.
    Superuser,
}

/// The group whose members may call methods.
pub const GROUP: &str = "vusb";

/// A method of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Who may call it.
    pub access: Access,
}

const fn method(name: &'static str, access: Access) -> Method {
    Method { name, access }
}

/// All methods, in the order of the description.
pub const METHODS: [Method; 25] = [
    method("GetAccess", Access::Anyone),
    method("ListDomains", Access::Group),
    method("Describe", Access::Group),
    method("DescribeHost", Access::Group),
    method("ListDevices", Access::Group),
    method("ListRules", Access::Group),
    method("Reload", Access::Superuser),
    method("CheckRules", Access::Group),
    method("Explain", Access::Group),
    method("DescribeEffects", Access::Group),
    method("AddController", Access::Superuser),
    method("RemoveController", Access::Superuser),
    method("AddDevice", Access::GroupForHostDevices),
    method("AddDevices", Access::GroupForHostDevices),
    method("RemoveDevice", Access::GroupForHostDevices),
    method("RemoveDevices", Access::GroupForHostDevices),
    method("MoveDevice", Access::Superuser),
    method("Plan", Access::Superuser),
    method("Apply", Access::Superuser),
    method("Suspend", Access::Superuser),
    method("Answer", Access::GroupForHostDevices),
    method("Resume", Access::Superuser),
    method("LiftHolds", Access::GroupForHostDevices),
    method("Metrics", Access::Group),
    method("Watch", Access::Group),
];

/// The method with this name.
pub fn method_named(name: &str) -> Option<Method> {
    METHODS.into_iter().find(|it| it.name == name)
}

/// The name of the error for each kind of failure.
const ERRORS: [(ExitCode, &str); 9] = [
    (ExitCode::Failed, "Failed"),
    (ExitCode::Usage, "InvalidRequest"),
    (ExitCode::NotFound, "NotFound"),
    (ExitCode::Busy, "Busy"),
    (ExitCode::Policy, "Denied"),
    (ExitCode::NoRoom, "NoRoom"),
    (ExitCode::Unreachable, "HypervisorUnreachable"),
    (ExitCode::TimedOut, "TimedOut"),
    (ExitCode::NotImplemented, "NotImplemented"),
];

/// The error for rules that have mistakes.
pub const INVALID_RULES: &str = "InvalidRules";

/// The error for a list without entries, because each reply has to contain an entry.
pub const NOTHING_LISTED: &str = "NothingListed";

/// The full name of a method or an error of the interface.
pub fn full(name: &str) -> String {
    format!("{NAME}.{name}")
}

/// The name of the error for a kind of failure.
pub fn error_name(kind: ExitCode) -> &'static str {
    ERRORS.iter().find(|(it, _)| *it == kind).map_or("Failed", |(_, name)| name)
}

/// The kind of failure that an error with this full name stands for.
pub fn error_kind(name: &str) -> ExitCode {
    if name == "org.varlink.service.PermissionDenied" {
        return ExitCode::Policy;
    }
    let own = name.strip_prefix(NAME).and_then(|it| it.strip_prefix('.'));
    if own == Some(INVALID_RULES) {
        return ExitCode::Usage;
    }
    let known = ERRORS.iter().find(|(_, it)| own == Some(*it));
    known.map_or(ExitCode::Failed, |(kind, _)| *kind)
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    fn described() -> Vec<&'static str> {
        let methods = DESCRIPTION.lines().filter_map(|line| line.strip_prefix("method "));
        methods.filter_map(|it| it.split('(').next()).collect()
    }

    #[test]
    fn the_methods_are_those_of_the_description() {
        assert_eq!(METHODS.map(|it| it.name).to_vec(), described());
    }

    /// The table in docs/vusbd.md has the rights of the code.
    #[test]
    fn the_rights_are_documented() {
        let page = include_str!("../../../docs/vusbd.md");
        for Method { name, access } in METHODS {
            let who = match access {
                Access::Anyone => "every user",
                Access::Group => "the group",
                Access::GroupForHostDevices => "the group, for host devices",
                Access::Superuser => "the superuser",
            };
            let row = page.lines().find(|it| it.starts_with(&format!("| `{name}` |")));
            let row = row.unwrap_or_else(|| panic!("{name} is not in docs/vusbd.md"));
            assert!(row.contains(&format!("| {who} |")), "{name}: {who}: {row}");
        }
    }

    #[test]
    fn each_kind_of_failure_has_an_error_that_stands_for_it() {
        for (kind, name) in ERRORS {
            assert_eq!(error_kind(&full(name)), kind);
            assert_eq!(error_name(kind), name);
            assert!(DESCRIPTION.contains(&format!("\nerror {name} (")), "{name}");
        }
        assert_eq!(error_kind(&full(INVALID_RULES)), ExitCode::Usage);
        assert_eq!(error_kind("org.varlink.service.PermissionDenied"), ExitCode::Policy);
        assert_eq!(error_kind("io.github.vusb.ManagerBusy"), ExitCode::Failed);
    }
}
