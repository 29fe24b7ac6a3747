//! Saving a running machine to a file and restoring it, with QEMU's migration. Machines that boot
//! slowly are booted once and then kept in the cache.
//!
//! The restoring QEMU needs the same arguments as the one that saved the state, except for sockets
//! and files. Disks are not part of the state.

use crate::bare_qemu::BareQemu;
use crate::error::{Error, Result, Tail};
use crate::process::RunDir;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long saving or restoring may take; the state has about half a gigabyte.
const LIMIT: Duration = Duration::from_secs(300);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// In bytes per second. QEMU's default limit is meant for networks.
const BANDWIDTH: u64 = 1 << 40;
/// The name of the state in the run's directory, which is QEMU's working directory. It is a link,
/// so that no arbitrary path is passed to a shell.
const LINK: &str = "state";

/// Links the file that a run's state is restored from or saved to.
pub(crate) fn link(dir: &RunDir, file: &Path) -> Result<()> {
    let link = dir.join(LINK);
    std::os::unix::fs::symlink(file, &link).map_err(Error::io("link", &link))
}

/// The arguments of a QEMU that restores the linked state.
pub(crate) fn incoming() -> [String; 2] {
    ["-incoming".to_owned(), format!("exec:cat {LINK}")]
}

/// Stops a machine and saves it to the linked file.
pub(crate) fn save(qemu: &BareQemu) -> Result<()> {
    qemu.qmp("stop", json!({}))?;
    qemu.qmp("migrate-set-parameters", json!({ "max-bandwidth": BANDWIDTH }))?;
    qemu.qmp("migrate", json!({ "uri": format!("exec:cat > {LINK}") }))?;
    wait(qemu, "state saved", "query-migrate", |status| match status {
        "completed" => Some(Ok(())),
        "failed" | "cancelled" => {
            Some(Err(Error::Monitor(format!("saving the machine's state: migration {status}"))))
        }
        _ => None,
    })
}

/// Waits until a machine is restored, and resumes it.
pub(crate) fn resume(qemu: &BareQemu) -> Result<()> {
    let arrived = |status: &str| (status != "inmigrate").then_some(Ok(()));
    wait(qemu, "state restored", "query-status", arrived)?;
    qemu.qmp("cont", json!({})).map(drop)
}

/// Repeats a query until `done` returns a result for the `status` in the response.
fn wait(
    qemu: &BareQemu,
    what: &str,
    query: &str,
    done: impl Fn(&str) -> Option<Result<()>>,
) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        qemu.check(what, Tail::default)?;
        let answer = qemu.qmp(query, json!({}))?;
        let status = answer.get("status").and_then(Value::as_str).unwrap_or_default();
        if let Some(result) = done(status) {
            return result;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Err(Error::Timeout { what: what.to_owned(), limit: LIMIT, tail: Tail::default() })
}
