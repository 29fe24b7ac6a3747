//! libvirt's errors as errors of a driver. The kind depends on the code and on what the call was
//! for, never on the text. The text is only quoted.

use vusb_libvirt::{Error as LibvirtError, RemoteError, code};

use crate::driver::Error;
use crate::limits::Limits;

/// What a call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The domain as a whole.
    Domain,
    /// A host device.
    Host,
    /// An image or a block device.
    Storage,
    /// Another device, or a controller.
    Other,
}

/// A call that failed.
pub(super) struct Failure<'a> {
    /// The domain's address.
    pub(super) domain: &'a str,
    /// What was tried, for messages: `plug tablet0 (tablet) into 0:1`.
    pub(super) doing: &'a str,
    pub(super) subject: Subject,
    /// Whether the call may have changed something.
    pub(super) changes: bool,
    pub(super) limits: &'a Limits,
}

impl Failure<'_> {
    pub(super) fn error(&self, error: LibvirtError) -> Error {
        let domain = self.domain.to_owned();
        match error {
            LibvirtError::Remote(remote) => self.remote(&remote),
            LibvirtError::TimedOut { .. } => Error::TimedOut {
                what: self.doing.to_owned(),
                limit: self.limits.single_wait(),
                why: "libvirt's daemon is busy or hangs".into(),
            },
            denied @ (LibvirtError::Permission { .. } | LibvirtError::Authentication) => {
                Error::Denied { domain, why: denied.to_string().into() }
            }
            too_long @ LibvirtError::TooLong { .. } => self.failed(too_long.to_string()),
            lost => {
                Error::Unreachable { domain, why: lost.to_string().into(), midway: self.changes }
            }
        }
    }

    fn remote(&self, error: &RemoteError) -> Error {
        let domain = self.domain.to_owned();
        let what = self.doing.to_owned();
        let message = format!("libvirt: {error}");
        match (error.code, self.subject) {
            (code::NO_DOMAIN | code::MULTIPLE_DOMAINS, _) => {
                Error::Missing { what: domain, why: message.into() }
            }
            (code::DEVICE_MISSING | code::NO_NODE_DEVICE, _)
            | (code::SYSTEM_ERROR, Subject::Host | Subject::Storage) => {
                Error::Missing { what, why: message.into() }
            }
            // A system call of the daemon failed. Where no device is concerned, that is how a
            // daemon reports that it does not reach another one: virtproxyd does not reach
            // virtqemud.
            (code::SYSTEM_ERROR, Subject::Domain) => {
                Error::Unreachable { domain, why: message.into(), midway: self.changes }
            }
            (code::RESOURCE_BUSY, _) | (code::OPERATION_INVALID, Subject::Host) => {
                Error::Busy { domain, why: message.into() }
            }
            (code::OPERATION_INVALID, _) => {
                Error::Unreachable { domain, why: message.into(), midway: false }
            }
            (
                code::ACCESS_DENIED
                | code::OPERATION_DENIED
                | code::AUTH_FAILED
                | code::AUTH_CANCELLED
                | code::AUTH_UNAVAILABLE,
                _,
            ) => Error::Denied { domain, why: message.into() },
            (code::OPERATION_UNSUPPORTED | code::NO_SUPPORT | code::ARGUMENT_UNSUPPORTED, _) => {
                Error::NotImplemented { what, by: "libvirt".to_owned(), why: message.into() }
            }
            (code::OPERATION_TIMEOUT, _) => Error::TimedOut {
                what,
                limit: self.limits.single_wait(),
                why: format!("another operation on the domain does not end; {message}").into(),
            },
            _ => self.failed(message),
        }
    }

    fn failed(&self, why: String) -> Error {
        Error::Failed { what: self.doing.to_owned(), why: why.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn error(code: i32, subject: Subject) -> Error {
        let limits = Limits::from(Duration::from_secs(1));
        let (domain, doing) = ("libvirt:web1", "plug it");
        let failure = Failure { domain, doing, subject, changes: true, limits: &limits };
        let message = "its sentence".to_owned();
        failure.error(RemoteError { code, domain: 10, message }.into())
    }

    #[test]
    fn the_code_and_the_subject_decide_the_kind_of_error() {
        let missing = |it: &Error| matches!(it, Error::Missing { .. });
        let busy = |it: &Error| matches!(it, Error::Busy { .. });
        let denied = |it: &Error| matches!(it, Error::Denied { .. });
        let unsupported = |it: &Error| matches!(it, Error::NotImplemented { .. });
        let unreachable = |it: &Error| matches!(it, Error::Unreachable { midway: false, .. });
        let lost = |it: &Error| matches!(it, Error::Unreachable { midway: true, .. });
        let failed = |it: &Error| matches!(it, Error::Failed { .. });
        let timed_out = |it: &Error| matches!(it, Error::TimedOut { .. });
        type Is<'a> = &'a dyn Fn(&Error) -> bool;
        let cases: [(i32, Subject, Is<'_>); 16] = [
            (code::NO_DOMAIN, Subject::Domain, &missing),
            (code::MULTIPLE_DOMAINS, Subject::Domain, &missing),
            (code::DEVICE_MISSING, Subject::Other, &missing),
            (code::SYSTEM_ERROR, Subject::Host, &missing),
            (code::SYSTEM_ERROR, Subject::Storage, &missing),
            (code::SYSTEM_ERROR, Subject::Domain, &lost),
            (code::SYSTEM_ERROR, Subject::Other, &failed),
            (code::OPERATION_INVALID, Subject::Host, &busy),
            (code::OPERATION_INVALID, Subject::Other, &unreachable),
            (code::RESOURCE_BUSY, Subject::Other, &busy),
            (code::ACCESS_DENIED, Subject::Domain, &denied),
            (code::AUTH_UNAVAILABLE, Subject::Domain, &denied),
            (code::OPERATION_UNSUPPORTED, Subject::Other, &unsupported),
            (code::OPERATION_TIMEOUT, Subject::Other, &timed_out),
            (code::INTERNAL, Subject::Other, &failed),
            (12_345, Subject::Other, &failed),
        ];
        for (code, subject, is) in cases {
            let error = error(code, subject);
            assert!(is(&error), "{code}: {error:?}");
            assert!(error.to_string().contains("libvirt: its sentence"), "{error}");
        }
    }

    #[test]
    fn a_lost_connection_during_a_change_leaves_its_outcome_open() {
        let limits = Limits::from(Duration::from_secs(1));
        let failure = |changes| {
            let (domain, doing, subject) = ("libvirt:web1", "plug it", Subject::Other);
            Failure { domain, doing, subject, changes, limits: &limits }.error(LibvirtError::Closed)
        };
        assert!(failure(true).is_uncertain());
        assert!(!failure(false).is_uncertain());
    }
}
