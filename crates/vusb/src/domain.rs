//! Which domain is meant.
//!
//! | text | means |
//! |---|---|
//! | `qemu:SOCKET` | a running QEMU with its QMP socket there |
//! | `sim:FILE` | a simulated hypervisor, for learning and for tests |
//! | `xen:NAME-or-ID` | a guest of Xen that runs; one that is given by its number is known by its name |
//! | `FILE.toml`, `.xml`, `.cfg`, `.json`, `.vmx` | a guest that does not run, by its configuration: a spec, libvirt's, xl's, libxl's JSON, VMware's |
//! | anything else | the name of a domain that has a record |

use std::fmt;
use std::path::{Component, Path, PathBuf};

use vusb_formats::Format;

use crate::error::Error;

/// A domain, by its address. [`Vusb::domain`](crate::Vusb::domain) makes one of what a person writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DomainId {
    /// A running QEMU, by its QMP socket: an absolute path.
    Qemu(PathBuf),
    /// A simulated hypervisor, by its file: an absolute path.
    Sim(PathBuf),
    /// A guest of Xen, by its name; by its number if it has none.
    Xen(String),
    /// A guest that does not run, by its configuration: an absolute path, and the format that its name promises.
    File(PathBuf, Format),
}

impl DomainId {
    /// Reads an address. Relative paths are relative to `folder`. `None` if the text is none and may be a domain's name.
    ///
    /// # Errors
    /// It is an address without a path or a name.
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
            Some(("xen", rest)) => return xen(text, rest).map(Some),
            _ => {}
        }
        match Format::of_path(Path::new(text)) {
            Some(format) => path(text).map(|path| Some(DomainId::File(path, format))),
            None => Ok(None),
        }
    }

    /// The same, a file by the name that all links to it lead to: another link to it names the same domain.
    pub(crate) fn followed(&self) -> DomainId {
        match self {
            DomainId::File(path, format) => {
                DomainId::File(path.canonicalize().unwrap_or_else(|_| path.clone()), *format)
            }
            other => other.clone(),
        }
    }

    /// Whether it is a file, and no guest that runs.
    pub const fn is_file(&self) -> bool {
        matches!(self, DomainId::File(..))
    }
}

/// A guest of Xen by its name or number: any text in one line.
fn xen(text: &str, name: &str) -> Result<DomainId, Error> {
    let hint = "write xen:NAME or xen:ID, as `xl list` shows them";
    if name.is_empty() {
        return Err(Error::usage(format!("`{text}` names no domain: the name is missing"), hint));
    }
    if name.chars().any(char::is_control) || name.contains('/') {
        return Err(Error::usage(format!("`{}` is no domain's name", name.escape_debug()), hint));
    }
    Ok(DomainId::Xen(name.to_owned()))
}

/// The path without `.` and with its folder's symbolic links followed, as far as the folder exists: one socket has one
/// address, whichever way it is named, and also when it is gone with the folder that it was in. The last name is kept as it
/// is, for a socket may be replaced by another at each start.
fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = path.ancestors().skip(1).find_map(|folder| {
        let rest = path.strip_prefix(folder).ok()?;
        // What a `..` leads to is not known where the folder before it is not there.
        let plain = rest.components().all(|it| matches!(it, Component::Normal(_)));
        plain.then_some(())?;
        Some(folder.canonicalize().ok()?.join(rest))
    });
    real.unwrap_or(path)
}

impl fmt::Display for DomainId {
    /// As a person writes it: `qemu:/run/web1.qmp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DomainId::Qemu(socket) => write!(f, "qemu:{}", socket.display()),
            DomainId::Sim(file) => write!(f, "sim:{}", file.display()),
            DomainId::Xen(name) => write!(f, "xen:{name}"),
            DomainId::File(file, _) => write!(f, "{}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_socket_has_one_address() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("run")).unwrap();
        std::os::unix::fs::symlink("run", real.join("link")).unwrap();
        let parse = |text: &str| DomainId::parse(text, &real).unwrap().unwrap().to_string();
        let address = |path: &str| format!("qemu:{}", real.join(path).display());
        for text in ["qemu:run/a", "qemu:./link/a", "qemu:link/../run/a"] {
            assert_eq!(parse(text), address("run/a"), "{text}");
        }
        assert_eq!(parse(&address("link/gone/a")), address("run/gone/a"));
        assert_eq!(DomainId::parse("web1", &real).unwrap(), None);
        assert_eq!(parse("xen:web1"), "xen:web1");
        std::fs::write(real.join("web1.cfg"), "").unwrap();
        std::os::unix::fs::symlink("web1.cfg", real.join("auto.cfg")).unwrap();
        let file = |text: &str| DomainId::parse(text, &real).unwrap().unwrap();
        assert_eq!(file("auto.cfg").followed(), file("web1.cfg"));
        assert_eq!(file("none.cfg").followed(), file("none.cfg"));
        for text in ["xen:", "xen:a\nb", "xen:a/b"] {
            assert!(DomainId::parse(text, &real).is_err(), "{text:?}");
        }
    }
}
