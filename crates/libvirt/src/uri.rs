//! The names of libvirt's connections, and the sockets of the daemons behind them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The name of a connection: `qemu:///system`, `qemu:///session`, `xen:///system`, with an optional
/// `?socket=PATH`.
///
/// | name | sockets, in the order in which they are tried |
/// |---|---|
/// | `qemu:///system` | `/run/libvirt/virtqemud-sock`, `/run/libvirt/libvirt-sock` |
/// | `xen:///system` | `/run/libvirt/virtxend-sock`, `/run/libvirt/libvirt-sock` |
/// | `qemu:///session` | `RUNTIME/libvirt/virtqemud-sock`, `RUNTIME/libvirt/libvirt-sock` |
///
/// RUNTIME is the user's runtime directory. Source: `remoteGetUNIXSocket` in libvirt's
/// `src/remote/remote_sockets.c`.
///
/// ```
/// use std::path::Path;
/// use vusb_libvirt::Uri;
///
/// let uri: Uri = "qemu:///session?socket=/tmp/libvirt-sock".parse()?;
/// assert_eq!(uri.sockets(None), [Path::new("/tmp/libvirt-sock")]);
/// assert_eq!(uri.name(), "qemu:///session");
/// # Ok::<(), vusb_libvirt::UriError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Uri {
    hypervisor: Hypervisor,
    session: bool,
    socket: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Hypervisor {
    Qemu,
    Xen,
}

impl Hypervisor {
    const ALL: [Hypervisor; 2] = [Hypervisor::Qemu, Hypervisor::Xen];

    const fn name(self) -> &'static str {
        match self {
            Hypervisor::Qemu => "qemu",
            Hypervisor::Xen => "xen",
        }
    }

    /// The socket of the daemon for this hypervisor alone.
    const fn socket(self) -> &'static str {
        match self {
            Hypervisor::Qemu => "virtqemud-sock",
            Hypervisor::Xen => "virtxend-sock",
        }
    }
}

/// The socket of the daemon for all hypervisors, or of the proxy that replaces this daemon.
const MONOLITHIC: &str = "libvirt-sock";

/// Why a text is not the name of a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; write qemu:///system, qemu:///session or xen:///system")]
pub struct UriError {
    problem: String,
}

impl Uri {
    /// `qemu:///system`.
    pub const QEMU_SYSTEM: Uri = Uri { hypervisor: Hypervisor::Qemu, session: false, socket: None };
    /// `qemu:///session`.
    pub const QEMU_SESSION: Uri = Uri { hypervisor: Hypervisor::Qemu, session: true, socket: None };
    /// `xen:///system`.
    pub const XEN_SYSTEM: Uri = Uri { hypervisor: Hypervisor::Xen, session: false, socket: None };

    /// The name without options, as the daemon expects it.
    pub fn name(&self) -> String {
        let path = if self.session { "session" } else { "system" };
        format!("{}:///{path}", self.hypervisor.name())
    }

    /// Whether each user has a daemon of their own behind this name.
    pub const fn is_session(&self) -> bool {
        self.session
    }

    /// Whether the socket is given.
    pub const fn has_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether the domains are Xen guests.
    pub fn is_xen(&self) -> bool {
        self.hypervisor == Hypervisor::Xen
    }

    /// The sockets to try, in this order. `runtime` is the user's runtime directory
    /// (`/run/user/UID` by default), and only needed for a session; without it, a session has no
    /// sockets.
    pub fn sockets(&self, runtime: Option<&Path>) -> Vec<PathBuf> {
        if let Some(socket) = &self.socket {
            return vec![socket.clone()];
        }
        let folder = if self.session { runtime } else { Some(Path::new("/run")) };
        let Some(folder) = folder.map(|it| it.join("libvirt")) else { return Vec::new() };
        [self.hypervisor.socket(), MONOLITHIC].map(|name| folder.join(name)).into()
    }
}

/// The sockets that only serve reading, which every user may connect to: those of the system have
/// the same names, with `-ro` after them. A session has none, because only its user reaches it.
pub(crate) fn read_only(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push("-ro");
    name.into()
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Uri, UriError> {
        let wrong = |problem: String| Err(UriError { problem });
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        let Some((scheme, rest)) = name.split_once("://") else {
            return wrong(format!("`{}` is not the name of a connection", text.escape_debug()));
        };
        let Some(hypervisor) = Hypervisor::ALL.into_iter().find(|it| it.name() == scheme) else {
            return wrong(format!("connections of `{}` are not supported", scheme.escape_debug()));
        };
        let session = match rest {
            "/system" => false,
            "/session" if hypervisor == Hypervisor::Qemu => true,
            _ if !rest.starts_with('/') => {
                return wrong(format!(
                    "`{}` names another machine, which is not supported",
                    name.escape_debug()
                ));
            }
            _ => return wrong(format!("there is no connection `{}`", name.escape_debug())),
        };
        let mut socket = None;
        for option in query.split('&').filter(|it| !it.is_empty()) {
            match option.split_once('=') {
                Some(("socket", path)) if path.starts_with('/') && !path.contains('\0') => {
                    socket = Some(PathBuf::from(path));
                }
                Some(("socket", path)) => {
                    let path = path.escape_debug();
                    return wrong(format!("the path of a socket must be absolute: `{path}`"));
                }
                _ => {
                    return wrong(format!("the option `{}` is unknown", option.escape_debug()));
                }
            }
        }
        Ok(Uri { hypervisor, session, socket })
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        match &self.socket {
            Some(socket) => write!(f, "?socket={}", socket.display()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Uri, UriError> {
        text.parse()
    }

    #[test]
    fn names_of_connections_are_parsed() {
        let runtime = Some(Path::new("/run/user/7"));
        for (text, uri, first) in [
            ("qemu:///system", Uri::QEMU_SYSTEM, "/run/libvirt/virtqemud-sock"),
            ("qemu:///session", Uri::QEMU_SESSION, "/run/user/7/libvirt/virtqemud-sock"),
            ("xen:///system", Uri::XEN_SYSTEM, "/run/libvirt/virtxend-sock"),
        ] {
            assert_eq!(parse(text), Ok(uri.clone()));
            assert_eq!(uri.to_string(), text);
            let sockets = uri.sockets(runtime);
            assert_eq!(sockets.first(), Some(&PathBuf::from(first)));
            assert!(sockets.last().is_some_and(|it| it.ends_with("libvirt/libvirt-sock")));
        }
        assert!(Uri::QEMU_SESSION.sockets(None).is_empty());
        let text = "qemu:///session?socket=/a b/s";
        let uri = parse(text).unwrap();
        assert_eq!((uri.to_string().as_str(), uri.name().as_str()), (text, "qemu:///session"));
        assert_eq!(uri.sockets(None), [PathBuf::from("/a b/s")]);
    }

    #[test]
    fn unsupported_connections_are_refused_with_the_reason() {
        for (text, part) in [
            ("", "not the name"),
            ("qemu", "not the name"),
            ("test:///default", "`test`"),
            ("xen:///session", "no connection"),
            ("qemu:///", "no connection"),
            ("qemu://host/system", "another machine"),
            ("qemu+ssh://host/system", "`qemu+ssh`"),
            ("qemu:///system?no_verify=1", "`no_verify=1`"),
            ("qemu:///system?socket=run/s", "absolute"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
