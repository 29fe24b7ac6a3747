//! The directory for everything that is slow to create: the unpacked kernel, images, other QEMUs.
//!
//! An entry is created under a temporary name and renamed when it is complete, so an interrupted
//! run never leaves an incomplete entry. A lock file per entry makes concurrent tests wait for the
//! one that creates it.

use crate::error::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A directory of complete entries.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The directory in `VUSB_RIG_CACHE`, by default `rig` in cargo's target directory:
    /// `CARGO_TARGET_DIR`, or `target` of this workspace. Created if missing.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be created.
    pub fn open() -> Result<Self> {
        let root = match std::env::var_os("VUSB_RIG_CACHE") {
            Some(dir) => PathBuf::from(dir),
            None => {
                let target =
                    std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
                Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(target).join("rig")
            }
        };
        Self::at(&root)
    }

    /// A cache in the given directory.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be created.
    pub fn at(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(Error::io("make the folder", root))?;
        let root = root.canonicalize().map_err(Error::io("find", root))?;
        Ok(Self { root })
    }

    /// The path of an entry. If it is missing, `create` must create a file or directory at the path
    /// that it is called with.
    ///
    /// # Errors
    /// The error of `create`, or [`Error::Io`].
    pub fn entry(&self, name: &str, create: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let done = self.root.join(name);
        if done.exists() {
            return Ok(done);
        }
        let lock_path = self.root.join(format!(".{name}.lock"));
        let lock = File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|errno| Error::io("lock", &lock_path)(errno.into()))?;
        if done.exists() {
            return Ok(done);
        }
        let half = self.root.join(format!(".{name}.half"));
        remove(&half)?;
        create(&half)?;
        fs::rename(&half, &done).map_err(Error::io("rename", &half))?;
        Ok(done)
    }
}

/// Removes a file or a directory if it exists.
fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_created_once() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let path = cache.entry("a", |p| fs::write(p, "1").map_err(Error::io("write", p))).unwrap();
        let again = cache.entry("a", |_| panic!("created twice")).unwrap();
        assert_eq!(path, again);
        assert_eq!(fs::read_to_string(path).unwrap(), "1");
    }

    #[test]
    fn an_incomplete_entry_is_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let failed = cache.entry("a", |p| {
            fs::create_dir(p).map_err(Error::io("create", p))?;
            Err(Error::Unusable("interrupted".into()))
        });
        assert!(failed.is_err());
        assert!(!dir.path().join("a").exists());
        let path = cache.entry("a", |p| fs::write(p, "2").map_err(Error::io("write", p))).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "2");
    }
}
