//! Saving a running machine to a file, and starting from there: QEMU's migration, to a file and
//! back. What is slow to boot is booted once and then kept in the cache.
//!
//! The QEMU that takes the state must have the same arguments as the one that gave it, but for
//! sockets and files. Disks are not part of the state.

use crate::bare::BareQemu;
use crate::error::{Error, Result, Tail};
use crate::process::RunDir;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long saving or restoring may take; it moves about half a gigabyte.
const LIMIT: Duration = Duration::from_secs(300);
const TICK: Duration = Duration::from_millis(20);
/// Bytes a second; QEMU's own limit is made for networks.
const BANDWIDTH: u64 = 1 << 40;
/// The state's name in the run's folder, where QEMU runs: a link, so that the shell in between
/// never sees a path that somebody chose.
const LINK: &str = "state";

/// Where a run's state comes from or goes to.
pub(crate) fn link(dir: &RunDir, file: &Path) -> Result<()> {
    let link = dir.join(LINK);
    std::os::unix::fs::symlink(file, &link).map_err(Error::io("link", &link))
}

/// Arguments of a QEMU that starts from the linked state.
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
            Some(Err(Error::Monitor(format!("saving the machine's state has {status}"))))
        }
        _ => None,
    })
}

/// Waits until a machine that starts from a state has taken it all, and lets it run.
pub(crate) fn resume(qemu: &BareQemu) -> Result<()> {
    let arrived = |status: &str| (status != "inmigrate").then_some(Ok(()));
    wait(qemu, "state restored", "query-status", arrived)?;
    qemu.qmp("cont", json!({})).map(drop)
}

/// Asks again and again until `done` has an opinion on the answer's `status`.
fn wait(
    qemu: &BareQemu,
    what: &str,
    question: &str,
    done: impl Fn(&str) -> Option<Result<()>>,
) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        qemu.check(what, Tail::default)?;
        let answer = qemu.qmp(question, json!({}))?;
        let status = answer.get("status").and_then(Value::as_str).unwrap_or_default();
        if let Some(result) = done(status) {
            return result;
        }
        std::thread::sleep(TICK);
    }
    Err(Error::Timeout { what: what.to_owned(), limit: LIMIT, tail: Tail::default() })
}
