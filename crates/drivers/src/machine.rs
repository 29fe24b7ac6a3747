//! What the hypervisors of this machine can do with each model, asked of them. It needs no guest, changes nothing but xenstore's question to
//! a vusb-backend whether it is alive, and takes a bounded time.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use vusb_model::capabilities::Support;
use vusb_model::models::Model;

use crate::qemu::installed;
use crate::xenctl::{self, Reach};

/// Whether a hypervisor is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there: what it is, in a few words.
    There(String),
    /// It is not: in a few words, `not installed`.
    Absent(String),
    /// Something is there and does not do what it should: what and why.
    Unusable(String),
}

impl fmt::Display for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Presence::There(words) | Presence::Absent(words) | Presence::Unusable(words)) = self;
        f.write_str(words)
    }
}

/// What this machine's hypervisors can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offers {
    /// The QEMU that is installed.
    pub qemu: Presence,
    /// Xen, as xenstore shows it.
    pub xen: Presence,
    /// What QEMU can do with each model. None if it is not known.
    pub qemu_models: BTreeMap<Model, Support>,
    /// What Xen can do for a guest with each model; what is emulated, for a hardware-assisted one. None if it is not known.
    pub xen_models: BTreeMap<Model, Support>,
}

/// Asks the QEMU below `root`, which is the machine's, and the Xen at `reach`. Each is waited for, for `limit` at the longest.
pub fn offers(root: &Path, reach: &Reach, limit: Duration) -> Offers {
    let (qemu, qemu_models) = qemu(root, limit);
    let (xen, xen_models) = xen(reach, limit);
    Offers { qemu, xen, qemu_models, xen_models }
}

fn qemu(root: &Path, limit: Duration) -> (Presence, BTreeMap<Model, Support>) {
    let Some(program) = installed::find(root) else {
        return (Presence::Absent("not installed".to_owned()), BTreeMap::new());
    };
    match installed::ask(&program, limit) {
        Ok(qemu) => {
            (Presence::There(format!("{}, {}", qemu.version, program.display())), qemu.models)
        }
        Err(why) => {
            let why = format!("{} cannot be asked: {why}", program.display());
            (Presence::Unusable(why), BTreeMap::new())
        }
    }
}

fn xen(reach: &Reach, limit: Duration) -> (Presence, BTreeMap<Model, Support>) {
    let served = match reach.pv_served(limit) {
        Ok(Some(served)) => served,
        Ok(None) => return (Presence::Absent("not running".to_owned()), BTreeMap::new()),
        Err(error) => return (Presence::Unusable(error.to_string()), BTreeMap::new()),
    };
    let backend = if served { "a vusb-backend answers" } else { "no vusb-backend answers" };
    let models = Model::ALL.map(|model| (model, xenctl::support(model, served)));
    (Presence::There(format!("xenstored answers, {backend} in domain 0")), models.into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use vusb_host::Host;

    use super::*;

    #[test]
    fn a_machine_without_hypervisors() {
        let root = tempfile::tempdir().unwrap();
        let reach = Reach {
            xenstored: Some(root.path().join("no-socket")),
            ..Reach::system(Host::new(root.path()))
        };
        let none = offers(root.path(), &reach, Duration::from_secs(1));
        assert_eq!(none.qemu, Presence::Absent("not installed".to_owned()));
        assert_eq!(none.xen, Presence::Absent("not running".to_owned()));
        assert!(none.qemu_models.is_empty() && none.xen_models.is_empty());
    }

    #[test]
    fn a_program_that_does_not_run_is_there_and_unusable() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/bin");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("qemu-kvm"), "").unwrap();
        let (presence, models) = qemu(root.path(), Duration::from_secs(1));
        assert!(
            matches!(&presence, Presence::Unusable(why) if why.contains("qemu-kvm cannot be asked")),
            "{presence}"
        );
        assert!(models.is_empty());
    }
}
