//! The library's context, from options and environment.

use std::path::{Path, PathBuf};

use vusb::drivers::Locations;
use vusb::{Context, Host, Registry, StateDir};

/// The folder of the records, if the environment names one.
const STATE_DIR: &str = "VUSB_STATE_DIR";

/// The user's runtime directory, where the daemons of a session have their sockets.
const RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";

/// The socket of xenstored, if the environment names one: libxenstore's own variable
/// (`xs_daemon_socket` of `xs.c`).
const XENSTORED_PATH: &str = "XENSTORED_PATH";

/// The runtime directory of a user whose environment does not name one.
fn default_runtime_dir() -> Option<PathBuf> {
    Some(PathBuf::from(format!("/run/user/{}", rustix::process::getuid().as_raw())))
}

/// The path in an environment variable, unless it is empty.
fn environment(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Whether the environment names the folder of the records.
pub(crate) fn has_state_dir() -> bool {
    environment(STATE_DIR).is_some()
}

/// The records and the machine that options name, or those of the environment.
pub(crate) fn context(
    state_dir: Option<PathBuf>,
    host_root: Option<&Path>,
    from: Option<&str>,
) -> Context {
    let state = state_dir.or_else(|| environment(STATE_DIR));
    let state = state.map_or_else(|| StateDir::of_user(environment), StateDir::new);
    let host = host_root.map_or_else(Host::system, Host::new);
    let runtime = environment(RUNTIME_DIR).or_else(default_runtime_dir);
    let xenstored = environment(XENSTORED_PATH);
    let locations = Locations { xenstored, runtime, ..host.clone().into() };
    let registry = Registry::builtin(locations);
    let from = from.and_then(|from| registry.formats().named(from));
    let registry = match from {
        Some(format) => registry.reading_files_as(format),
        None => registry,
    };
    Context::new(state, host, registry)
}
