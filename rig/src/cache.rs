//! The folder that keeps what is slow to make: the unpacked kernel, images, other QEMUs.
//!
//! An entry is made under a temporary name and renamed when it is whole, so that a run that was
//! killed leaves nothing that looks finished. A lock file per entry lets tests that run at once
//! wait for the one that is making it.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A folder of finished entries.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The folder named by `VUSB_RIG_CACHE`, else `target/rig` of this workspace; made if missing.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be made.
    pub fn open() -> Result<Self> {
        let root = match std::env::var_os("VUSB_RIG_CACHE") {
            Some(dir) => PathBuf::from(dir),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/rig"),
        };
        Self::at(&root)
    }

    /// A cache in the given folder.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be made.
    pub fn at(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(Error::io("make the folder", root))?;
        let root = root.canonicalize().map_err(Error::io("find", root))?;
        Ok(Self { root })
    }

    /// The path of a finished entry. If it is missing, `make` is given a path that does not exist
    /// yet and has to put a file or a folder there.
    ///
    /// # Errors
    /// What `make` returned, or [`Error::Io`].
    pub fn entry(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let done = self.root.join(name);
        if done.exists() {
            return Ok(done);
        }
        let lock_path = self.root.join(format!(".{name}.lock"));
        let lock = File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
        lock.lock().map_err(Error::io("lock", &lock_path))?;
        if done.exists() {
            return Ok(done);
        }
        let half = self.root.join(format!(".{name}.half"));
        remove(&half)?;
        make(&half)?;
        fs::rename(&half, &done).map_err(Error::io("rename", &half))?;
        Ok(done)
    }
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> Result<()> {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match gone {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let path = cache.entry("a", |p| fs::write(p, "1").map_err(Error::io("write", p))).unwrap();
        let again = cache.entry("a", |_| panic!("made twice")).unwrap();
        assert_eq!(path, again);
        assert_eq!(fs::read_to_string(path).unwrap(), "1");
    }

    #[test]
    fn what_was_left_half_made_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let failed = cache.entry("a", |p| {
            fs::create_dir(p).map_err(Error::io("make", p))?;
            Err(Error::Unusable("killed here".into()))
        });
        assert!(failed.is_err());
        assert!(!dir.path().join("a").exists());
        let path = cache.entry("a", |p| fs::write(p, "2").map_err(Error::io("write", p))).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "2");
    }
}
