//! The figures in docs/reliability.md. The table of a part is between two comments:
//!
//! ```text
//! <!-- attack: NAME -->
//! | | |
//! ...
//! <!-- end -->
//! ```

use std::fs;

use crate::cargo::{Result, workspace};

const END: &str = "<!-- end -->";

/// Replaces the table of a part.
pub(super) fn write(name: &str, table: &str) -> Result<()> {
    let path = workspace().join("docs/reliability.md");
    let text = fs::read_to_string(&path)?;
    let replaced = replace(&text, name, table)
        .ok_or_else(|| format!("{} has no table for {name}", path.display()))?;
    Ok(fs::write(&path, replaced)?)
}

fn replace(page: &str, name: &str, table: &str) -> Option<String> {
    let begin = format!("<!-- attack: {name} -->\n");
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_of_the_part_is_replaced() {
        let page =
            "a\n<!-- attack: one -->\nold\n<!-- end -->\nb\n<!-- attack: two -->\n<!-- end -->\n";
        let expected = page.replace("old", "new");
        assert_eq!(replace(page, "one", "new\n"), Some(expected));
        assert_eq!(replace(page, "three", "new\n"), None);
    }
}
