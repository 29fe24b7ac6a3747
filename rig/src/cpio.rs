//! Writes initramfs archives: the "newc" format of cpio, as the kernel reads it
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Each entry is a header of ASCII hexadecimal fields, the name and the data. Name and data are
//! padded to 4 bytes. Archives can be concatenated: the kernel unpacks all of them.

use std::io::{self, Write};

/// File type bits of `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// An archive being written. It must be completed with [`Archive::finish`].
#[derive(Debug)]
pub struct Archive<W: Write> {
    out: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self { out, entries: 0 }
    }

    /// Adds a directory. Its parents must have been added before.
    ///
    /// # Errors
    /// The error of the writer.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY | 0o755, &[])
    }

    /// Adds a file; `permissions` like `0o644`.
    ///
    /// # Errors
    /// The error of the writer; `InvalidInput` if the data has 4 GiB or more.
    pub fn file(&mut self, path: &str, permissions: u32, data: &[u8]) -> io::Result<()> {
        self.entry(path, REGULAR | permissions, data)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// The error of the writer.
    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, SYMLINK | 0o777, target.as_bytes())
    }

    /// Completes the archive.
    ///
    /// # Errors
    /// The error of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        let name = path.trim_start_matches('/');
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let size = u32::try_from(data.len()).map_err(too_long)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_long)?;
        self.entries += 1;
        // ino, mode, uid, gid, nlink, mtime, filesize, major, minor, rmajor, rminor, namesize,
        // check
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        write!(self.out, "070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        // The header has 110 bytes, 2 more than a multiple of 4.
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(110 + name.len() + 1)?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    fn pad(&mut self, length: usize) -> io::Result<()> {
        let zeros = length.next_multiple_of(4) - length;
        self.out.write_all([0u8; 3].get(..zeros).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busybox_unpacks_an_archive() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::new(Vec::new());
        archive.directory("etc").unwrap();
        archive.file("/etc/name", 0o644, b"rig\n").unwrap();
        archive.symlink("etc/link", "name").unwrap();
        let packed = dir.path().join("a.cpio");
        std::fs::write(&packed, archive.finish().unwrap()).unwrap();
        let command = ["cpio", "-idF", packed.to_str().unwrap()];
        crate::command::run_in(dir.path(), "busybox", &command).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("etc/link")).unwrap(), "rig\n");
    }
}
