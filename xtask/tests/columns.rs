//! Comments end at column 100. rustfmt wraps code, and no comments.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

const COLUMNS: usize = 100;

/// The sentences of comments that are too long, each with its file and its line. Tables, diagrams
/// and addresses of pages cannot be wrapped.
fn too_long(file: &Path, text: &str, found: &mut Vec<String>) {
    let markers: &[&str] = match file.extension().and_then(|it| it.to_str()) {
        Some("rs") => &["//"],
        Some("c" | "h" | "go") => &["//", "/*", "* "],
        Some("varlink" | "service" | "socket" | "sysusers" | "rules") => &["#"],
        _ => return,
    };
    let mut in_block = false;
    for (number, line) in (1..).zip(text.lines()) {
        let Some(marker) = markers.iter().find(|it| line.trim_start().starts_with(**it)) else {
            in_block = false;
            continue;
        };
        let sentence = line.trim_start().trim_start_matches(*marker);
        let sentence = sentence.trim_start_matches(['/', '!']).trim_start();
        in_block ^= sentence.starts_with("```");
        let is_prose = !in_block && !sentence.starts_with('|') && !sentence.contains("://");
        if is_prose && line.chars().count() > COLUMNS {
            found.push(format!("{}:{number}: {line}", file.display()));
        }
    }
}

fn search(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        // Sources are not links, and `target` has no sources of this workspace.
        if entry.file_type().unwrap().is_dir() {
            if !path.ends_with("target") {
                search(&path, found);
            }
        } else if let Some(text) = fs::read(&path).ok().and_then(|it| String::from_utf8(it).ok()) {
            too_long(&path, &text, found);
        }
    }
}

#[test]
fn no_comment_is_wider_than_100_columns() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for folder in ["crates", "rig", "xtask", "packaging"] {
        search(&workspace.join(folder), &mut found);
    }
    assert!(found.is_empty(), "wrap these comments at {COLUMNS} columns:\n{}", found.join("\n"));
}

#[test]
fn sentences_are_told_apart_from_tables_diagrams_and_addresses() {
    let long = "word ".repeat(21);
    let is_found = |file: &str, text: &str| {
        let mut found = Vec::new();
        too_long(Path::new(file), text, &mut found);
        !found.is_empty()
    };
    assert!(is_found("a.rs", &format!("    /// {long}")));
    assert!(is_found("a.rs", &format!("//! ```text\n//! a\n//! ```\n//! {long}")));
    assert!(is_found("a.h", &format!(" * {long}")));
    assert!(is_found("a.varlink", &format!("# {long}")));
    // A column is a character, not a byte.
    assert!(!is_found("a.rs", &format!("// {}", "─".repeat(97))));
    assert!(!is_found("a.rs", &format!("//! | {long} |")));
    assert!(!is_found("a.rs", &format!("//! ```text\n//! {long}\n//! ```")));
    assert!(!is_found("a.rs", &format!("// https://example.org/{}", "a".repeat(99))));
    assert!(!is_found("a.rs", &format!("    #[error(\"{long}\")]")));
    assert!(!is_found("a.md", &format!("# {long}")));
}
