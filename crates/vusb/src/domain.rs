//! Which domain is meant.
//!
//! | text | means |
//! |---|---|
//! | `qemu:SOCKET` | a running QEMU with its QMP socket there |
//! | `sim:FILE` | a simulated hypervisor, for learning and for tests |
//! | `xen:NAME-or-ID` | a Xen guest: not in this build yet |
//! | `FILE.toml` | a spec: for what needs no running guest |
//! | `FILE.xml`, `.cfg`, `.vmx` | another tool's configuration: not in this build yet |
//! | anything else | the name of a domain that has a record |

use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::error::Error;

/// A domain, by its address. [`Vusb::domain`](crate::Vusb::domain) makes one of what a person writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DomainId {
    /// A running QEMU, by its QMP socket: an absolute path.
    Qemu(PathBuf),
    /// A simulated hypervisor, by its file: an absolute path.
    Sim(PathBuf),
    /// A spec, by its file: no domain that runs.
    Spec(PathBuf),
}

impl DomainId {
    /// Reads an address. Relative paths are relative to `folder`. `None` if the text is none and may be a domain's name.
    ///
    /// # Errors
    /// It is an address of a sort that this build has no driver for, or one without a path.
    pub fn parse(text: &str, folder: &Path) -> Result<Option<DomainId>, Error> {
        let path = |rest: &str| {
            if rest.is_empty() {
                let hint = "write qemu:SOCKET, where SOCKET is the path that QEMU was given with -qmp unix:SOCKET,server=on,wait=off";
                return Err(Error::usage(
                    format!("`{text}` names no domain: the path is missing"),
                    hint,
                ));
            }
            if rest.contains('\0') {
                return Err(Error::usage(
                    format!("`{}` is no path", rest.escape_debug()),
                    "write a path",
                ));
            }
            Ok(absolute(&folder.join(rest)))
        };
        match text.split_once(':') {
            Some(("qemu", rest)) => return path(rest).map(DomainId::Qemu).map(Some),
            Some(("sim", rest)) => return path(rest).map(DomainId::Sim).map(Some),
            Some(("xen", _)) => return Err(not_yet(text, "xen support is not in this build yet")),
            _ => {}
        }
        match Path::new(text).extension().and_then(|extension| extension.to_str()) {
            Some("toml") => path(text).map(DomainId::Spec).map(Some),
            Some("xml") => Err(not_yet(text, "libvirt's XML files are not read by this build yet")),
            Some("cfg") => {
                Err(not_yet(text, "xl's configuration files are not read by this build yet"))
            }
            Some("vmx") => {
                Err(not_yet(text, "VMware's configuration files are not read by this build yet"))
            }
            _ => Ok(None),
        }
    }
}

fn not_yet(what: &str, why: &str) -> Error {
    Error::NotImplemented { what: what.to_owned(), why: why.to_owned() }
}

/// The path without `.` and with its folder's symbolic links followed, where the folder exists: one socket has one address,
/// whichever way it is named. The last name is kept, for a socket may be replaced by another at each start.
fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (
        path.parent().and_then(|folder| folder.canonicalize().ok()),
        path.components().next_back(),
    ) {
        (Some(folder), Some(Component::Normal(name))) => folder.join(name),
        _ => path,
    }
}

impl fmt::Display for DomainId {
    /// As a person writes it: `qemu:/run/web1.qmp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DomainId::Qemu(socket) => write!(f, "qemu:{}", socket.display()),
            DomainId::Sim(file) => write!(f, "sim:{}", file.display()),
            DomainId::Spec(file) => write!(f, "{}", file.display()),
        }
    }
}
