use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};

use vusb_host::Host;

use super::*;
use crate::context::Context;
use crate::options::Options;
use crate::state::StateDir;

/// A process that has ended.
fn ended_process() -> Process {
    Process { start: u64::MAX, ..Process::with_id(std::process::id() as i32).unwrap() }
}

fn own_process() -> Process {
    Process::with_id(std::process::id() as i32).unwrap()
}

fn claimant(domain: &str, process: Option<Process>) -> Claimant {
    Claimant {
        domain: domain.to_owned(),
        display_name: domain.to_owned(),
        guest: process.map(|it| GuestIdentity::of_process(&domain.replace('/', "-"), &it)),
    }
}

fn stick(shared: bool) -> Resource {
    Resource::new("usb", "pci-0000:00:14.0-usb-0:4", shared)
}

fn host(selector: &str) -> HostRef {
    HostRef::new(selector.parse().unwrap())
}

fn claim(own: &Claimant) -> Claim {
    own.claim("host:0781:5581".to_owned(), "stick".parse().unwrap(), "hci0:1".to_owned(), None)
}

struct Folder {
    dir: tempfile::TempDir,
    context: Context,
}

impl Folder {
    fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("state"));
        let context = Context::with_builtin_drivers(state, Host::new(dir.path()));
        Folder { dir, context }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("run/vusb/claims")
    }

    fn files(&self) -> ClaimFiles {
        ClaimFiles::at(&self.path())
    }

    /// Claims the resource if it is free.
    fn take(&self, own: &Claimant, resource: &Resource) -> Result<bool, Error> {
        let options = Options::default();
        let (call, files) = (Call::new(&self.context, &options), self.files());
        let locked = files.lock(&call)?;
        let free = files.rival(own, resource)?.is_none();
        if free {
            locked.take(own, resource, &claim(own))?;
        }
        Ok(free)
    }

    fn release(&self, own: &Claimant, resource: &Resource) {
        let options = Options::default();
        let (call, files) = (Call::new(&self.context, &options), self.files());
        files.lock(&call).unwrap().release(own, &BTreeSet::from([resource.name().to_owned()]));
    }

    fn file_count(&self) -> usize {
        fs::read_dir(self.path()).unwrap().count()
    }
}

#[test]
fn a_claim_is_exclusive_until_it_is_released() {
    let folder = Folder::new();
    let [a, b] = ["qemu:/run/a", "qemu:/run/b"].map(|it| claimant(it, Some(own_process())));
    assert!(folder.take(&a, &stick(false)).unwrap());
    assert!(folder.take(&a, &stick(false)).unwrap(), "its own");
    assert!(!folder.take(&b, &stick(false)).unwrap());
    let rival = folder.files().rival(&b, &stick(false)).unwrap().unwrap();
    assert_eq!((rival.domain.as_str(), rival.pid()), ("qemu:/run/a", Some(own_process().pid)));
    folder.release(&b, &stick(false));
    assert!(!folder.take(&b, &stick(false)).unwrap(), "it is not b's to release");
    folder.release(&a, &stick(false));
    assert!(folder.take(&b, &stick(false)).unwrap());
    assert_eq!(folder.file_count(), 1);
    let mode = fs::metadata(folder.path()).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o1777);
}

/// A second reader of an image, in a folder that an earlier version has written to.
#[test]
fn a_second_claim_of_an_earlier_version_counts_until_it_is_released() {
    let folder = Folder::new();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|it| claimant(it, None));
    assert!(folder.take(&a, &stick(true)).unwrap());
    assert!(folder.take(&b, &stick(true)).unwrap());
    let path = |end: &str| folder.path().join(format!("{}{end}", stick(true).name()));
    fs::rename(path(".1"), path(".9f8e7d6c5b4a")).unwrap();
    for end in ["", ".9f8e7d6c5b4a"] {
        let mut claim: serde_json::Value =
            serde_json::from_slice(&fs::read(path(end)).unwrap()).unwrap();
        assert_eq!(claim.as_object_mut().unwrap().remove("numbered"), Some(true.into()));
        fs::write(path(end), claim.to_string()).unwrap();
    }
    let rival = |own: &Claimant| {
        let rival = folder.files().rival(own, &stick(false)).unwrap();
        rival.map(|it| it.domain)
    };
    assert_eq!(rival(&a).as_deref(), Some("b"));
    // The second claim stays visible, whoever changes the first one.
    folder.release(&a, &stick(true));
    assert_eq!(rival(&a).as_deref(), Some("b"));
    assert!(folder.take(&c, &stick(true)).unwrap());
    assert_eq!(rival(&c).as_deref(), Some("b"));
    assert!(!folder.take(&d, &stick(false)).unwrap());
    folder.release(&c, &stick(true));
    let options = Options::default();
    let (call, files) = (Call::new(&folder.context, &options), folder.files());
    files.lock(&call).unwrap().release_all(&b, &BTreeSet::new()).unwrap();
    assert_eq!(folder.file_count(), 0);
    assert!(folder.take(&d, &stick(false)).unwrap());
}

#[test]
fn a_claim_ends_with_its_process() {
    let folder = Folder::new();
    let [a, b] = [claimant("qemu:/run/a", Some(ended_process())), claimant("qemu:/run/b", None)];
    assert!(folder.take(&a, &stick(false)).unwrap());
    assert!(folder.take(&b, &stick(false)).unwrap());
    assert_eq!(folder.file_count(), 1);
    // A guest without a process of its own keeps its claim.
    assert!(!folder.take(&a, &stick(false)).unwrap());
}

#[test]
fn a_process_of_another_pid_namespace_counts_as_alive() {
    let folder = Folder::new();
    let a = claimant("qemu:/run/a", Some(ended_process()));
    folder.take(&a, &stick(false)).unwrap();
    assert!(pid_namespace().starts_with("pid:["), "{}", pid_namespace());
    let path = folder.path().join(stick(false).name());
    let text = fs::read_to_string(&path).unwrap().replace(&pid_namespace(), "pid:[1]");
    fs::write(&path, text).unwrap();
    assert!(!folder.take(&claimant("qemu:/run/b", None), &stick(false)).unwrap());
}

#[test]
fn readers_share_and_a_writer_does_not() {
    let folder = Folder::new();
    let [a, b, c] = ["a", "b", "c"].map(|it| claimant(it, None));
    assert!(folder.take(&a, &stick(true)).unwrap());
    assert!(folder.take(&b, &stick(true)).unwrap());
    assert_eq!(folder.file_count(), 2);
    assert!(!folder.take(&c, &stick(false)).unwrap());
    folder.release(&a, &stick(true));
    assert!(!folder.take(&c, &stick(false)).unwrap());
    let fourth = claimant("d", None);
    assert!(folder.take(&fourth, &stick(true)).unwrap());
    folder.release(&fourth, &stick(true));
    folder.release(&b, &stick(true));
    assert_eq!(folder.file_count(), 0);
    assert!(folder.take(&c, &stick(false)).unwrap());
    assert!(!folder.take(&a, &stick(true)).unwrap());
}

#[test]
fn a_file_that_is_not_a_claim_is_an_error_and_stays() {
    let folder = Folder::new();
    let a = claimant("a", None);
    folder.take(&a, &stick(false)).unwrap();
    let path = folder.path().join(stick(false).name());
    for content in ["", "{}", "{\"vusb\": 2}", "nothing"] {
        fs::write(&path, content).unwrap();
        let error = folder.take(&a, &stick(false)).unwrap_err();
        assert!(matches!(&error, Error::Claim { path: it, .. } if *it == path), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    fs::remove_file(&path).unwrap();
    let target = folder.dir.path().join("target");
    fs::write(&target, "kept").unwrap();
    symlink(&target, &path).unwrap();
    assert!(matches!(folder.take(&a, &stick(false)), Err(Error::Claim { .. })));
    assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    // A link in place of an unfinished claim is not followed either.
    fs::remove_file(&path).unwrap();
    let user = rustix::process::geteuid().as_raw();
    symlink(&target, folder.path().join(format!("{UNFINISHED}{user}"))).unwrap();
    assert!(folder.take(&a, &stick(false)).unwrap());
    assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
}

#[test]
fn a_folder_in_which_others_can_replace_claims_is_not_used() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path()).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let error = folder.take(&claimant("a", None), &stick(false)).unwrap_err();
    assert!(error.to_string().contains("not sticky"), "{error}");
}

#[test]
fn one_of_many_concurrent_claims_succeeds() {
    let folder = Folder::new();
    for _ in 0..20 {
        let won = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (folder, won) = (&folder, &won);
                scope.spawn(move || {
                    let own = claimant(&format!("qemu:/run/{number}"), Some(own_process()));
                    if folder.take(&own, &stick(false)).unwrap() {
                        won.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(won.into_inner(), 1);
        fs::remove_file(folder.path().join(stick(false).name())).unwrap();
    }
}

#[test]
fn a_name_is_readable_and_safe() {
    let name = stick(false).name;
    assert!(name.starts_with("usb-pci-0000_00_14.0-usb-0_4-"), "{name}");
    let name = Resource::new("usb", &format!("../{}\n", "x".repeat(300)), false).name;
    assert!(name.len() < 100 && !name.contains(['/', '\n']), "{name}");
}

#[test]
fn without_a_folder_for_all_users_claims_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let files = ClaimFiles::of_machine(dir.path(), &state);
    assert_eq!((files.private(), &files.folder), (None, &dir.path().join("run/vusb/claims")));
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let files = ClaimFiles::of_machine(&file, &state);
    let private = files.private().unwrap();
    assert!(private.ends_with("claims") && !private.starts_with(&file), "{private:?}");
}

#[test]
fn without_a_folder_nothing_is_claimed() {
    let folder = Folder::new();
    let (files, own) = (folder.files(), claimant("a", None));
    assert!(files.by_domain().unwrap().is_empty());
    assert_eq!(files.rival(&own, &stick(false)).unwrap(), None);
    assert_eq!(files.holder(&stick(false)).unwrap(), None);
    assert_eq!(files.rival_by_selector(&own, &host("1-4")).unwrap(), None);
}

#[test]
fn a_file_or_a_link_in_place_of_the_folder_is_not_used() {
    let folder = Folder::new();
    let [parent, other] = ["run/vusb", "other"].map(|it| folder.dir.path().join(it));
    fs::create_dir_all(&parent).unwrap();
    fs::create_dir(&other).unwrap();
    let a = claimant("a", None);
    fs::write(folder.path(), "").unwrap();
    let error = folder.take(&a, &stick(false)).unwrap_err();
    assert!(matches!(error, Error::Io { doing: "open", .. }), "{error}");
    fs::remove_file(folder.path()).unwrap();
    symlink(&other, folder.path()).unwrap();
    folder.take(&a, &stick(false)).unwrap_err();
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
}

#[test]
fn a_private_folder_is_closed_to_other_users() {
    let folder = Folder::new();
    let files = ClaimFiles { folder: folder.path(), private: true };
    let options = Options::default();
    drop(files.lock(&Call::new(&folder.context, &options)).unwrap());
    assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn each_reader_has_a_claim_of_its_own_until_it_ends() {
    let folder = Folder::new();
    let [a, b, c] = ["a", "b", "c"].map(|it| claimant(it, None));
    let stale = claimant("qemu:/run/d", Some(ended_process()));
    for own in [&a, &stale, &b] {
        assert!(folder.take(own, &stick(true)).unwrap());
    }
    assert_eq!(folder.file_count(), 2, "the stale claim was replaced");
    assert!(folder.take(&c, &stick(true)).unwrap());
    // A domain that repeats its claim changes nothing.
    assert!(folder.take(&c, &stick(true)).unwrap());
    assert_eq!(folder.file_count(), 3);
    let writer = claimant("e", None);
    for own in [&a, &b, &c] {
        assert!(folder.files().rival(&writer, &stick(false)).unwrap().is_some());
        folder.release(own, &stick(true));
    }
    assert_eq!(folder.file_count(), 0);
}

/// A person may delete a claim that is not the last one.
#[test]
fn a_claim_is_found_although_one_with_a_lower_number_was_deleted() {
    let folder = Folder::new();
    let [a, b, c] = ["a", "b", "c"].map(|it| claimant(it, None));
    for own in [&a, &b, &c] {
        assert!(folder.take(own, &stick(true)).unwrap());
    }
    fs::remove_file(folder.path().join(stick(true).name())).unwrap();
    fs::remove_file(folder.path().join(format!("{}.1", stick(true).name()))).unwrap();
    assert!(!folder.take(&a, &stick(false)).unwrap());
    assert!(folder.take(&a, &stick(true)).unwrap());
    assert_eq!(folder.file_count(), 2);
    folder.release(&c, &stick(true));
    assert_eq!(folder.file_count(), 1);
    folder.release(&a, &stick(true));
    assert_eq!(folder.file_count(), 0);
}

/// The time for one resource must not depend on the number of other claims.
#[test]
fn the_folder_is_not_listed_for_a_claim() {
    let folder = Folder::new();
    let own = claimant("a", None);
    assert!(folder.take(&own, &stick(true)).unwrap());
    let user = rustix::process::geteuid();
    let unreadable = fs::Permissions::from_mode(0o300);
    fs::set_permissions(folder.path(), unreadable).unwrap();
    // Root may list every folder.
    if !user.is_root() {
        fs::read_dir(folder.path()).unwrap_err();
    }
    let files = folder.files();
    assert!(files.holder(&stick(true)).unwrap().is_some());
    assert!(files.rival(&claimant("b", None), &stick(false)).unwrap().is_some());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
}

#[test]
fn all_claims_of_a_domain_and_no_others_are_released() {
    let folder = Folder::new();
    let [a, b] = ["a", "b"].map(|it| claimant(it, None));
    let other = Resource::new("file", "2049:4711", false);
    for (own, resource) in [(&a, &stick(true)), (&b, &stick(true)), (&b, &other)] {
        assert!(folder.take(own, resource).unwrap());
    }
    let release_all = |own: &Claimant| {
        let options = Options::default();
        let (call, files) = (Call::new(&folder.context, &options), folder.files());
        files.lock(&call).unwrap().release_all(own, &BTreeSet::new()).unwrap();
    };
    release_all(&b);
    let holder = |resource: &Resource| folder.files().holder(resource).unwrap();
    assert_eq!(holder(&other), None);
    assert_eq!(holder(&stick(false)).map(|it| it.domain), Some("a".to_owned()));
    assert_eq!(folder.file_count(), 1);
    // The second claim is found after the first one was released.
    assert!(folder.take(&b, &stick(true)).unwrap());
    release_all(&a);
    assert_eq!(holder(&stick(false)).map(|it| it.domain), Some("b".to_owned()));
    release_all(&b);
    assert_eq!(folder.file_count(), 0);
}

#[test]
fn the_claims_of_each_domain_are_listed_without_stale_ones() {
    let folder = Folder::new();
    let [a, b] = ["a", "b"].map(|it| claimant(it, None));
    let stale = claimant("qemu:/run/c", Some(ended_process()));
    let keys = ["1", "2", "3", "4"].map(|it| Resource::new("file", it, false));
    for (own, resource) in [(&a, &keys[0]), (&a, &keys[1]), (&b, &keys[2]), (&stale, &keys[3])] {
        assert!(folder.take(own, resource).unwrap());
    }
    fs::write(folder.path().join("damaged"), "nothing").unwrap();
    let all = folder.files().by_domain().unwrap();
    let what = vec!["host:0781:5581".to_owned()];
    assert_eq!(all, BTreeMap::from([("a".to_owned(), what.clone()), ("b".to_owned(), what)]));
}

#[test]
fn a_claim_of_another_user_is_a_rival_and_says_who_made_it() {
    let folder = Folder::new();
    let [a, b] = ["a", "b"].map(|it| claimant(it, None));
    assert!(folder.take(&a, &stick(false)).unwrap());
    let path = folder.path().join(stick(false).name());
    let own = rustix::process::geteuid().as_raw();
    assert_eq!(folder.files().holder(&stick(false)).unwrap().map(|it| it.uid), Some(own));
    // Only root can give a file away.
    if std::os::unix::fs::chown(&path, Some(65534), None).is_err() {
        return;
    }
    let rival = folder.files().rival(&b, &stick(false)).unwrap().unwrap();
    assert_eq!((rival.domain.as_str(), rival.uid), ("a", 65534));
}

#[test]
fn a_device_that_is_not_plugged_in_is_found_by_what_it_was() {
    let folder = Folder::new();
    let [a, b] = ["a", "b"].map(|it| claimant(it, None));
    let identity = HostIdentity {
        place: "pci-0000:00:14.0-usb-0:4".to_owned(),
        seen: Some(ObservedDevice {
            id: "0781:5581".parse().unwrap(),
            serial: Some("A1".to_owned()),
            port: "1-4".parse().unwrap(),
            address: vusb_model::selector::BusAddress { bus: 1, address: 14 },
        }),
        also: BTreeSet::from(["0781:0001".parse().unwrap()]),
    };
    let options = Options::default();
    let (call, files) = (Call::new(&folder.context, &options), folder.files());
    let (place, also) = (Some(identity.place), identity.also);
    let claim = Claim { place, also, seen: identity.seen, ..claim(&a) };
    let rival = |own: &Claimant, selector: &str| {
        files.rival_by_selector(own, &host(selector)).unwrap().map(|it| it.domain)
    };
    // A device of a backend domain, in a port that this machine has too.
    let elsewhere = Resource::new("usb", "usbvm/pci-0000:00:14.0-usb-0:4", false);
    files.lock(&call).unwrap().take(&a, &elsewhere, &claim).unwrap();
    assert_eq!(rival(&b, "0781:5581"), None);
    files.lock(&call).unwrap().take(&a, &stick(false), &claim).unwrap();
    assert_eq!(rival(&b, "0781:0001"), Some("a".to_owned()), "it may return with this id");
    for selector in ["0781:5581", "0781:5581:A1", "1-4", "pci-0000:00:14.0-usb-0:4"] {
        assert_eq!(rival(&b, selector), Some("a".to_owned()), "{selector}");
        assert_eq!(rival(&a, selector), None, "its own");
    }
    assert_eq!(rival(&b, "0781:5581:A2"), None);
    folder.release(&a, &stick(false));
    assert_eq!(rival(&b, "0781:5581"), None);
}
