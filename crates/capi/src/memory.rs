//! Strings and arrays that cross the boundary to C. What the caller gets is allocated with
//! `malloc`, so that C may also release it with `free`.

use std::ffi::{CStr, c_char, c_void};
use std::mem::{align_of, size_of};
use std::ptr;

use vusb::ExitCode;
use vusb_methods::Failure;

/// The error for a NULL where a value is required.
pub(crate) fn is_null(what: &str) -> Failure {
    Failure::own(ExitCode::Usage, format!("{what} is NULL"))
}

/// A string from the caller, which may be NULL.
///
/// # Errors
/// It is not UTF-8.
///
/// # Safety
/// `text` is NULL or a string that ends with NUL and is not changed while the result is used.
pub(crate) unsafe fn optional<'a>(
    text: *const c_char,
    what: &str,
) -> Result<Option<&'a str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: it is not NULL, and the caller guarantees the rest.
    let text = unsafe { CStr::from_ptr(text) };
    let text = text
        .to_str()
        .map_err(|error| Failure::own(ExitCode::Usage, format!("{what} is not UTF-8: {error}")))?;
    Ok(Some(text))
}

/// A string from the caller that must not be NULL.
///
/// # Errors
/// It is NULL or not UTF-8.
///
/// # Safety
/// As [`optional`].
pub(crate) unsafe fn needed<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    // SAFETY: the caller guarantees what `optional` needs.
    unsafe { optional(text, what) }?.ok_or_else(|| is_null(what))
}

/// A string for the caller. Text after a NUL would be lost, so each NUL is replaced.
pub(crate) fn string(text: &str) -> *mut c_char {
    let text = text.replace('\0', "\u{fffd}");
    let (bytes, count) = (text.as_bytes(), text.len());
    // SAFETY: any number may be requested; the result is checked.
    let copy = unsafe { libc::malloc(count + 1) }.cast::<c_char>();
    if copy.is_null() {
        std::alloc::handle_alloc_error(std::alloc::Layout::new::<u8>());
    }
    // SAFETY: `copy` has `count + 1` bytes and is new, so that nothing overlaps.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr().cast(), copy, count);
        copy.add(count).write(0);
    }
    copy
}

/// A string for the caller, or NULL.
pub(crate) fn string_or_null(text: Option<&str>) -> *mut c_char {
    text.map_or(ptr::null_mut(), string)
}

/// Replaces a string of a structure.
///
/// # Safety
/// `place` is NULL or was allocated with `malloc`.
pub(crate) unsafe fn replace(place: &mut *mut c_char, text: Option<&str>) {
    let new = string_or_null(text);
    // SAFETY: the caller guarantees that it may be released; it is not used afterwards.
    unsafe { libc::free(place.cast::<c_void>()) };
    *place = new;
}

/// An array for the caller; NULL if it is empty.
pub(crate) fn array<T>(items: Vec<T>) -> *mut T {
    if items.is_empty() {
        return ptr::null_mut();
    }
    debug_assert!(align_of::<T>() <= align_of::<libc::max_align_t>());
    // SAFETY: any number may be requested; the result is checked. The product does not overflow,
    // because a vector of this size exists.
    let copy = unsafe { libc::malloc(items.len() * size_of::<T>()) }.cast::<T>();
    if copy.is_null() {
        std::alloc::handle_alloc_error(std::alloc::Layout::new::<T>());
    }
    for (number, item) in items.into_iter().enumerate() {
        // SAFETY: `copy` has room for all items, and `malloc` aligns for every type.
        unsafe { copy.add(number).write(item) };
    }
    copy
}

/// Releases a string that a function of this library returned. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_free(memory: *mut c_void) {
    // SAFETY: it is NULL or was allocated with `malloc`, as the header says.
    unsafe { libc::free(memory) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_copied_with_a_final_nul() {
        for (text, expected) in [("", ""), ("hci0:1", "hci0:1"), ("a\0b", "a\u{fffd}b")] {
            let copy = string(text);
            // SAFETY: the string was just made, and is released once.
            unsafe {
                assert_eq!(CStr::from_ptr(copy).to_str().unwrap(), expected);
                vusb_free(copy.cast());
            }
        }
        // SAFETY: NULL may be released.
        unsafe { vusb_free(ptr::null_mut()) };
    }

    #[test]
    fn text_that_is_not_utf_8_is_an_error() {
        // SAFETY: the strings are constants.
        let (bad, good, null) = unsafe {
            (
                needed(c"a\xff".as_ptr(), "the domain"),
                needed(c"\xc3\xa9".as_ptr(), "the domain"),
                needed(ptr::null(), "the domain"),
            )
        };
        assert_eq!(good, Ok("é"));
        let text = |failure: Failure| failure.parameters["message"].to_string();
        assert!(text(bad.unwrap_err()).starts_with("\"the domain is not UTF-8"));
        assert_eq!(text(null.unwrap_err()), "\"the domain is NULL\"");
    }
}
