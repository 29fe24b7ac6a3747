//! Texts in encodings other than UTF-8.
//!
//! VMware's files name their encoding in the key `.encoding`: `GBK`, `windows-1252`. All keys and
//! all values that matter here are ASCII. So such a file is read without a table of encodings: each
//! byte that is not UTF-8 becomes one character of Unicode's last private plane, and becomes the
//! same byte again when the file is written.

use std::string::FromUtf8Error;

/// The character of the byte 0; those of the other bytes follow it.
const FIRST: u32 = 0x10_ff00;

/// The text of a file.
///
/// # Errors
/// It is not UTF-8, and does not name another encoding.
pub fn decode(bytes: Vec<u8>) -> Result<String, FromUtf8Error> {
    String::from_utf8(bytes).or_else(|error| {
        if !names_encoding(error.as_bytes()) {
            return Err(error);
        }
        let mut text = String::new();
        for chunk in error.as_bytes().utf8_chunks() {
            text.push_str(chunk.valid());
            let bytes = chunk.invalid().iter();
            text.extend(bytes.filter_map(|byte| char::from_u32(FIRST + u32::from(*byte))));
        }
        Ok(text)
    })
}

/// The bytes of a text that [`decode`] made, and that may have been edited.
pub fn encode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for char in text.chars() {
        match byte_of(char) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// Whether a text has bytes in an unknown encoding.
pub(crate) fn has_raw_bytes(text: &str) -> bool {
    text.chars().any(|char| byte_of(char).is_some())
}

/// The byte that a character stands for.
fn byte_of(char: char) -> Option<u8> {
    let number = u32::from(char).checked_sub(FIRST)?;
    u8::try_from(number).ok().filter(|byte| !byte.is_ascii())
}

/// Whether a line defines VMware's key `.encoding`.
fn names_encoding(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| line.trim_ascii_start().starts_with(b".encoding"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_another_encoding_are_kept() {
        let gbk = b".encoding = \"GBK\"\ndisplayName = \"\xb2\xe2\xca\xd4 \xc3\xa9\"\n";
        let text = decode(gbk.to_vec()).unwrap();
        assert!(has_raw_bytes(&text) && text.starts_with(".encoding = \"GBK\"\n"));
        assert_eq!(encode(&text), gbk);
        decode(b"displayName = \"\xb2\"".to_vec()).unwrap_err();
        let utf8 = ".encoding = \"UTF-8\" é";
        assert_eq!(decode(utf8.as_bytes().to_vec()).unwrap(), utf8);
        assert!(!has_raw_bytes(utf8));
    }
}
