//! The limit on the size of a text.

use crate::error::Problem;

/// The maximum size of a configuration, in bytes: 2 MiB. Rule files have a limit of their own. Four
/// thousand full controllers fit. In memory, a parsed text takes up to a hundred times its size.
pub const MAX_BYTES: usize = 2 << 20;

/// Checks the size of a text in a format: `a spec`, `a VMX file`.
///
/// # Errors
/// It is too long.
pub(crate) fn check(text: &str, format: &str) -> Result<(), Problem> {
    if text.len() <= MAX_BYTES {
        return Ok(());
    }
    let what = format!("this is larger than {} MiB, the limit for {format}", MAX_BYTES >> 20);
    Err(Problem::new(0..0, what).help(format!("is it {format}?")))
}
