//! Lists in messages: the first five entries, and how many more there are.

use std::fmt;

/// The number of entries that are shown.
pub const SHOWN: usize = 5;

/// A list in a message, separated by commas: `web0, web1, web2, web3, web4 and 4 more`.
///
/// ```
/// use vusb_model::list::few;
///
/// assert_eq!(few(&["a", "b"]), "a, b");
/// assert_eq!(few(&["a", "b", "c", "d", "e", "f"]), "a, b, c, d, e and 1 more");
/// ```
pub fn few<T: fmt::Display>(items: &[T]) -> String {
    let shown: Vec<String> = items.iter().take(SHOWN).map(T::to_string).collect();
    match items.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
