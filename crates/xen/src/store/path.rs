//! Which paths are valid.

use super::error::Error;
use super::wire::MAX_PATH;

/// Refuses anything but the absolute path of a node. Paths are often built from texts of a guest or
/// a device, and a zero byte in one would start a second argument.
pub(super) fn check(path: &str) -> Result<(), Error> {
    let why = if path.len() > MAX_PATH {
        "it is longer than 3072 bytes"
    } else if !path.starts_with('/') {
        "it does not begin with /"
    } else if path.contains("//") || (path.len() > 1 && path.ends_with('/')) {
        "one of its names is empty"
    } else if !path.bytes().all(is_allowed) {
        "it may only contain letters, digits and - / _ @"
    } else {
        return Ok(());
    };
    Err(Error::InvalidPath { path: path.chars().take(256).collect(), why })
}

/// As [`check`], but also allows special paths such as `@releaseDomain`.
pub(super) fn check_watched(path: &str) -> Result<(), Error> {
    match path.strip_prefix('@') {
        Some(name) if !name.is_empty() && name.len() < 64 && name.bytes().all(is_allowed) => Ok(()),
        _ => check(path),
    }
}

/// The bytes that a path may contain (`docs/misc/xenstore.txt`). A dot is not one of them: a bus id
/// such as `1-4.2` can be a value but not a name.
const fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'_' | b'@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_paths_of_nodes_are_valid() {
        for path in ["/", "/a", "/local/domain/0/backend/vusb/3/0", "/vm/1-2_3@x"] {
            assert!(check(path).is_ok(), "{path:?}");
        }
        let long = format!("/{}", "a".repeat(MAX_PATH));
        for path in [
            "",
            "a",
            "a/b",
            "/a/",
            "//",
            "/a//b",
            "/a\0b",
            "/a b",
            "/ä",
            "/1-4.2",
            "@releaseDomain",
            &long,
        ] {
            assert!(check(path).is_err(), "{path:?}");
        }
        assert!(check_watched("@releaseDomain").is_ok());
        assert!(check_watched("@").is_err());
        assert!(check_watched("@a\0b").is_err());
    }
}
