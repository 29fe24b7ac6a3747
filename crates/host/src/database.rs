//! The USB ID database: names of vendors and products that devices do not report themselves.
//!
//! `build.rs` writes it as texts with a line for each ID, sorted: `0781 SanDisk Corp.`. They are
//! searched as they are. Nothing is read or relocated when the program starts.

use std::cmp::Ordering;

use vusb_model::selector::UsbId;

/// Lines of `VVVV NAME`.
static VENDORS: &str = include_str!(concat!(env!("OUT_DIR"), "/vendors"));
/// Lines of `VVVVPPPP NAME`.
static PRODUCTS: &str = include_str!(concat!(env!("OUT_DIR"), "/products"));

/// The vendor's name.
pub(crate) fn vendor(id: UsbId) -> Option<&'static str> {
    find(VENDORS, &format!("{:04x}", id.vendor))
}

/// The product's name.
pub(crate) fn product(id: UsbId) -> Option<&'static str> {
    find(PRODUCTS, &format!("{:04x}{:04x}", id.vendor, id.product))
}

/// The name in the line that begins with this ID, by binary search.
fn find<'a>(mut lines: &'a str, id: &str) -> Option<&'a str> {
    while !lines.is_empty() {
        // By bytes: the middle may be inside of a character.
        let before = lines.as_bytes().get(..lines.len() / 2)?;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (left, rest) = lines.split_at_checked(start)?;
        let (line, right) = rest.split_once('\n')?;
        let (key, name) = line.split_once(' ')?;
        match id.cmp(key) {
            Ordering::Less => lines = left,
            Ordering::Equal => return Some(name),
            Ordering::Greater => lines = right,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_database_is_found() {
        for (text, width) in [(VENDORS, 4), (PRODUCTS, 8)] {
            assert!(text.lines().count() > 1000);
            for line in text.lines() {
                let (id, name) = line.split_at(width);
                assert_eq!(find(text, id), name.strip_prefix(' '), "{id}");
            }
        }
    }

    #[test]
    fn known_devices_have_their_names() {
        let id = UsbId { vendor: 0x0781, product: 0x5581 };
        assert_eq!((vendor(id), product(id)), (Some("SanDisk Corp."), Some("Ultra")));
    }

    #[test]
    fn an_id_that_is_not_there_has_no_name() {
        for id in ["0000", "2222", "4444", "6666", ""] {
            assert_eq!(find("1111 one\n3333 three\n5555 fünf\n", id), None, "{id}");
        }
        assert_eq!(find("", "1111"), None);
    }
}
