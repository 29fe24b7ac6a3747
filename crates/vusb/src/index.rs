//! An index over all records: which domains have a name, an identity, a device or an image.
//!
//! ```text
//!   index-1/KEY/DOMAIN     one folder for each key, with one file for each domain that has it
//!   index-1/complete       all records are indexed
//! ```
//!
//! An entry is a hint: it is added before the record that it points to is written, and removed
//! after the record no longer has the key. So the index has every key of every record, and
//! sometimes more; a reader checks the record itself. A lookup reads one folder, however many
//! records there are.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::own_files;

/// The folder of the index. The number is the version of its layout.
const FOLDER: &str = "index-1";

/// The longest address that is read from an entry, in bytes.
const MAX_ADDRESS: u64 = 8192;

/// The index of the records in a folder.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    folder: PathBuf,
}

/// The first `bytes` bytes of a hash, in hexadecimal. Twelve are enough to tell all keys of a
/// machine apart.
pub(crate) fn short_hash(text: &str, bytes: usize) -> String {
    let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    hash.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

impl Index {
    /// The index of the records in `state`.
    pub(crate) fn new(state: &std::path::Path) -> Index {
        Index { folder: state.join(FOLDER) }
    }

    fn key_folder(&self, key: &str) -> PathBuf {
        self.folder.join(short_hash(key, 12))
    }

    fn entry(&self, key: &str, domain: &str) -> PathBuf {
        self.key_folder(key).join(short_hash(domain, 12))
    }

    /// The addresses of the domains that have the key, or had it.
    pub(crate) fn lookup(&self, key: &str) -> io::Result<BTreeSet<String>> {
        let entries = match fs::read_dir(self.key_folder(key)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(error),
        };
        let mut domains = BTreeSet::new();
        for entry in entries {
            // One that is gone was removed since the folder was read.
            let Some(file) = own_files::open(&entry?.path())? else { continue };
            // Ignores what is not an address.
            let text = own_files::read(&file, MAX_ADDRESS).ok();
            domains.extend(text.and_then(|text| String::from_utf8(text).ok()));
        }
        Ok(domains)
    }

    /// Adds a domain to each of these keys.
    pub(crate) fn add<'a>(
        &self,
        domain: &str,
        keys: impl IntoIterator<Item = &'a String>,
    ) -> io::Result<()> {
        for key in keys {
            DirBuilder::new().recursive(true).mode(0o700).create(self.key_folder(key))?;
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = own_files::open_with(&mut options, &self.entry(key, domain))?;
            file.write_all(domain.as_bytes())?;
        }
        Ok(())
    }

    /// Removes a domain from each of these keys. Best effort: a leftover entry costs a lookup.
    pub(crate) fn remove<'a>(&self, domain: &str, keys: impl IntoIterator<Item = &'a String>) {
        for key in keys {
            let _ = fs::remove_file(self.entry(key, domain));
            let _ = fs::remove_dir(self.key_folder(key));
        }
    }

    /// Whether all records are indexed. Older versions of vusb did not index them.
    pub(crate) fn is_complete(&self) -> bool {
        self.folder.join("complete").exists()
    }

    /// Notes that all records are indexed.
    pub(crate) fn set_complete(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        own_files::open_with(&mut options, &self.folder.join("complete")).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_domains_that_were_added_and_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::new(dir.path());
        let keys = ["name:web1".to_owned(), "file:/a b".to_owned()];
        assert_eq!(index.lookup(&keys[0]).unwrap(), BTreeSet::new());
        index.add("qemu:/run/a", &keys).unwrap();
        index.add("qemu:/run/b", &keys[..1]).unwrap();
        index.add("qemu:/run/b", &keys[..1]).unwrap();
        let both = BTreeSet::from(["qemu:/run/a".to_owned(), "qemu:/run/b".to_owned()]);
        assert_eq!(index.lookup(&keys[0]).unwrap(), both);
        index.remove("qemu:/run/a", &keys);
        assert_eq!(index.lookup(&keys[0]).unwrap(), BTreeSet::from(["qemu:/run/b".to_owned()]));
        assert_eq!(index.lookup(&keys[1]).unwrap(), BTreeSet::new());
        assert!(!index.is_complete());
        index.set_complete().unwrap();
        assert!(index.is_complete());
    }

    #[test]
    fn an_index_that_cannot_be_read_is_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::new(dir.path());
        fs::create_dir(&index.folder).unwrap();
        fs::write(index.key_folder("name:web1"), "").unwrap();
        index.lookup("name:web1").unwrap_err();
        assert_eq!(index.lookup("name:web2").unwrap(), BTreeSet::new());
    }
}
