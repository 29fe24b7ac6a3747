//! Reads texts that users name: specs and configurations.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::string::FromUtf8Error;

use thiserror::Error;
use vusb_formats::{MAX_BYTES, raw_bytes};
use vusb_host::safe_file::{self, OpenError};

/// Why a text cannot be read.
#[derive(Debug, Error)]
pub enum TextError {
    /// It does not exist.
    #[error("there is no such file")]
    Missing,
    /// It is not a file: `a folder`, `a pipe`, `a socket`, `a device`.
    #[error("it is {0}, not a regular file")]
    NotAFile(&'static str),
    /// It is longer than any text that is parsed.
    #[error("it is larger than {} MiB; is it a configuration?", MAX_BYTES >> 20)]
    TooLarge,
    /// It is not UTF-8.
    #[error("it is not UTF-8 text: {0}")]
    NotText(#[from] FromUtf8Error),
    /// It cannot be opened or read.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for TextError {
    fn from(error: io::Error) -> TextError {
        match error.kind() {
            io::ErrorKind::NotFound => TextError::Missing,
            _ => TextError::Io(error),
        }
    }
}

/// The text of a file. Anything other than a regular file is refused without being opened: opening
/// a FIFO would block, and opening a device can have effects.
///
/// # Errors
/// See [`TextError`].
pub fn read(path: &Path) -> Result<String, TextError> {
    text(&open(path)?)
}

/// As [`read`], but the path may also be a pipe that this process was given: `/dev/stdin`, or
/// `/dev/fd/63`, which a shell writes for `<(command)`.
///
/// # Errors
/// See [`TextError`].
pub fn read_or_pipe(path: &Path) -> Result<String, TextError> {
    let given = ["/dev/fd", "/proc/self/fd"].iter().any(|it| path.starts_with(it))
        || path == Path::new("/dev/stdin");
    if given && fs::metadata(path)?.file_type().is_fifo() {
        return text(&File::open(path)?);
    }
    read(path)
}

/// Opens a regular file. Nothing else is opened, even if the path is replaced in the meantime.
///
/// # Errors
/// See [`TextError`].
pub(crate) fn open(path: &Path) -> Result<File, TextError> {
    safe_file::regular(path, false).map_err(|error| match error {
        OpenError::WrongType(found) => TextError::NotAFile(safe_file::name_of(found)),
        OpenError::Io(error) => error.into(),
    })
}

fn text(file: &File) -> Result<String, TextError> {
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(TextError::TooLarge);
    }
    Ok(raw_bytes::decode(bytes)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_a_regular_file_of_limited_size_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let [file, fifo, socket] = ["file", "fifo", "socket"].map(|it| dir.path().join(it));
        assert!(matches!(read(&file), Err(TextError::Missing)));
        fs::write(&file, "text").unwrap();
        assert_eq!(read(&file).unwrap(), "text");
        fs::write(&file, b"\xff").unwrap();
        assert!(matches!(read(&file), Err(TextError::NotText(_))));
        fs::write(&file, " ".repeat(MAX_BYTES)).unwrap();
        assert_eq!(read(&file).unwrap().len(), MAX_BYTES);
        fs::write(&file, " ".repeat(MAX_BYTES + 1)).unwrap();
        assert!(matches!(read(&file), Err(TextError::TooLarge)));
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let _listener = UnixListener::bind(&socket).unwrap();
        for (path, is) in [
            (dir.path(), "a folder"),
            (&fifo, "a pipe"),
            (&socket, "a socket"),
            (Path::new("/dev/null"), "a device"),
        ] {
            let error = read_or_pipe(path).unwrap_err().to_string();
            assert_eq!(error, format!("it is {is}, not a regular file"));
        }
    }

    #[test]
    fn a_pipe_that_the_process_was_given_is_read() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&writer, b"text").unwrap();
        drop(writer);
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        assert_eq!(read_or_pipe(Path::new(&path)).unwrap(), "text");
        assert!(matches!(read(Path::new(&path)), Err(TextError::NotAFile("a pipe"))));
    }
}
