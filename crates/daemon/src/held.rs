//! Which devices a person has detached, kept across restarts of the daemon.
//!
//! A device is known by its bus and address, which are only valid until it is unplugged or the
//! machine reboots. So the file also has the ID of the boot.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::atomic_file;
use crate::reconcile::Plug;

/// The file, in the folder of the records. Its name ends differently from those of records.
const FILE: &str = "vusbd.held";

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    boot: String,
    held: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    domain: String,
    bus: u16,
    address: u8,
}

/// What distinguishes one boot of the machine from another.
fn boot(root: &Path) -> String {
    let id = fs::read_to_string(root.join("proc/sys/kernel/random/boot_id"));
    id.unwrap_or_default().trim().to_owned()
}

/// The devices that were detached by hand since the machine was booted, with their domains. If the
/// file cannot be read, there are none.
pub(crate) fn load(folder: &Path, root: &Path) -> BTreeSet<(String, Plug)> {
    let path = folder.join(FILE);
    let stored = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str::<Stored>(&text).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeSet::new(),
        Err(error) => Err(error),
    };
    let stored = stored.unwrap_or_else(|error| {
        warn!("{}: {error}", path.display());
        Stored { boot: String::new(), held: Vec::new() }
    });
    if stored.boot != boot(root) {
        return BTreeSet::new();
    }
    let entry = |it: Entry| (it.domain, Plug { bus: it.bus, address: it.address });
    stored.held.into_iter().map(entry).collect()
}

/// Stores the devices that were detached by hand.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn save(folder: &Path, root: &Path, held: &BTreeSet<(String, Plug)>) -> io::Result<()> {
    let entry = |(domain, plug): &(String, Plug)| Entry {
        domain: domain.clone(),
        bus: plug.bus,
        address: plug.address,
    };
    let stored = Stored { boot: boot(root), held: held.iter().map(entry).collect() };
    let text = serde_json::to_string(&stored).map_err(io::Error::other)?;
    atomic_file::replace(&folder.join(FILE), &text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_detached_before_the_boot_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (state, root) = (dir.path().join("state"), dir.path().join("root"));
        let id = root.join("proc/sys/kernel/random/boot_id");
        fs::create_dir_all(id.parent().unwrap()).unwrap();
        fs::create_dir_all(&state).unwrap();
        fs::write(&id, "first\n").unwrap();
        assert_eq!(load(&state, &root), BTreeSet::new());
        let held = BTreeSet::from([("sim:/a".to_owned(), Plug { bus: 1, address: 4 })]);
        save(&state, &root, &held).unwrap();
        assert_eq!(load(&state, &root), held);
        fs::write(&id, "second\n").unwrap();
        assert_eq!(load(&state, &root), BTreeSet::new());
        fs::write(state.join(FILE), "{").unwrap();
        assert_eq!(load(&state, &root), BTreeSet::new());
    }
}
