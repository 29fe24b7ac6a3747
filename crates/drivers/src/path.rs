//! Paths in addresses.

use std::path::{Component, Path, PathBuf};

use crate::scheme::AddressError;

/// Reads the path of an address: absolute, without `.`, and with its folder's symbolic links
/// followed as far as the folder exists. So one file has one address, however it is named, even
/// after the folder is gone. The last component is kept: a socket may be replaced at each start.
pub(crate) fn parse(
    scheme: &str,
    operand: &str,
    folder: &Path,
    expected: &str,
) -> Result<String, AddressError> {
    let wrong = |problem: String| AddressError { problem, expected: expected.to_owned() };
    if operand.is_empty() {
        return Err(wrong(format!("`{scheme}` does not name a domain: the path is missing")));
    }
    if operand.contains('\0') {
        return Err(wrong(format!("`{}` is not a path", operand.escape_debug())));
    }
    let path = absolute(&folder.join(operand));
    path.into_os_string().into_string().map_err(|path| {
        wrong(format!("{} is not a path in UTF-8", path.to_string_lossy().escape_debug()))
    })
}

fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = path.ancestors().skip(1).find_map(|folder| {
        let rest = path.strip_prefix(folder).ok()?;
        // Where a `..` leads is unknown if the folder before it does not exist.
        let plain = rest.components().all(|it| matches!(it, Component::Normal(_)));
        plain.then_some(())?;
        Some(folder.canonicalize().ok()?.join(rest))
    });
    real.unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_socket_has_one_address() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("run")).unwrap();
        std::os::unix::fs::symlink("run", real.join("link")).unwrap();
        let read = |text: &str| parse("qemu:", text, &real, "write a path").unwrap();
        let path = |name: &str| real.join(name).to_str().unwrap().to_owned();
        for text in ["run/a", "./link/a", "link/../run/a"] {
            assert_eq!(read(text), path("run/a"), "{text}");
        }
        assert_eq!(read(&path("link/gone/a")), path("run/gone/a"));
        for text in ["", "a\0b"] {
            assert!(parse("qemu:", text, &real, "").is_err(), "{text:?}");
        }
    }
}
