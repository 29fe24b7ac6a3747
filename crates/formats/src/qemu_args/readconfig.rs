//! Files of `-readconfig`: options in sections.
//!
//! ```text
//! [device "stick"]
//!   driver = "usb-storage"
//!   drive = "d"
//!
//! [machine]
//!   usb = "on"
//! ```

use std::collections::BTreeMap;

use super::words;

/// How many `-readconfig` are replaced. Proxmox VE and Incus pass one.
const MAX_FILES: usize = 16;

/// How much the files may add to a text, in bytes. Proxmox VE's for q35 adds 2 KiB. Any user can
/// name the same long file thousands of times in the arguments of a process.
const MAX_ADDED: usize = 1 << 20;

/// A text with the options of files.
#[derive(Debug)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// Whether a `-readconfig` stays because there are too many, or because the files are too long.
    pub(crate) is_cut: bool,
}

/// The text, with the options of the file in place of each `-readconfig`. `load` returns the
/// content of a file; if it returns `None`, the `-readconfig` stays. Each file is loaded once.
pub(crate) fn expanded(text: &str, load: &dyn Fn(&str) -> Option<String>) -> Expanded {
    let words = words::qemu(text);
    let is_separated = text.contains('\0');
    let mut expanded = Expanded { text: String::new(), is_cut: false };
    let mut known: BTreeMap<&str, Option<String>> = BTreeMap::new();
    let (mut copied, mut added) = (0, 0);
    let pairs = words.windows(2).filter_map(|pair| match pair {
        [option, file] if !file.opaque => Some((option, file)),
        _ => None,
    });
    let mut pairs =
        pairs.filter(|(it, _)| matches!(it.text.as_str(), "-readconfig" | "--readconfig"));
    for (option, file) in pairs.by_ref().take(MAX_FILES) {
        let of_file = || load(&file.text).map(|content| joined(options(&content), is_separated));
        let Some(options) = known.entry(&file.text).or_insert_with(of_file) else { continue };
        if options.len() > MAX_ADDED - added {
            expanded.is_cut = true;
            continue;
        }
        added += options.len();
        expanded.text += text.get(copied..option.span.start).unwrap_or_default();
        expanded.text += options;
        copied = file.span.end;
    }
    expanded.is_cut |= pairs.next().is_some();
    expanded.text += text.get(copied..).unwrap_or_default();
    expanded
}

/// The options as a part of a command line.
fn joined(options: Vec<(String, String)>, is_separated: bool) -> String {
    let options = options.into_iter().flat_map(|(option, value)| [option, value]);
    let options: Vec<String> = match is_separated {
        true => options.collect(),
        false => options.map(|it| quoted(&it)).collect(),
    };
    options.join(if is_separated { "\0" } else { " " })
}

/// The options of a file, each with its value.
fn options(content: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for line in content.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            let (group, id) = match header.split_once(' ') {
                Some((group, id)) => (group, id.trim().trim_matches('"')),
                None => (header, ""),
            };
            let id = (!id.is_empty()).then(|| format!("id={}", escaped(id)));
            all.push((option_of(group), id.into_iter().collect()));
        } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            let value = value.trim();
            let value =
                value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value);
            if let Some((_, properties)) = all.last_mut() {
                properties.push(format!("{}={}", key.trim(), escaped(value)));
            }
        }
    }
    all.into_iter().map(|(option, properties)| (option, properties.join(","))).collect()
}

/// The option that a section stands for. The names differ for a few sections.
fn option_of(group: &str) -> String {
    match group {
        "memory" => "-m".to_owned(),
        "smp-opts" => "-smp".to_owned(),
        other => format!("-{other}"),
    }
}

/// A value as a part of an option: its commas are doubled.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_file_replaces_its_option() {
        let file = "# devices\n[device \"a,b\"]\n  driver = \"usb-mouse\"\n  port = \"1\"\n\n[machine]\n  usb = \"on\"\n[memory]\n size = \"1G\"\n";
        let load = |name: &str| (name == "usb.cfg").then(|| file.to_owned());
        let expanded = |text: &str, load| {
            let expanded = super::expanded(text, load);
            assert!(!expanded.is_cut);
            expanded.text
        };
        assert_eq!(
            expanded("kvm -S -readconfig usb.cfg -usb", &load),
            "kvm -S '-device' 'id=a,,b,driver=usb-mouse,port=1' '-machine' 'usb=on' '-m' 'size=1G' -usb"
        );
        assert_eq!(
            expanded("kvm\0-readconfig\0usb.cfg\0", &load),
            "kvm\0-device\0id=a,,b,driver=usb-mouse,port=1\0-machine\0usb=on\0-m\0size=1G\0"
        );
        for same in ["kvm -readconfig none.cfg", "kvm -readconfig $F -usb", "kvm -usb", ""] {
            assert_eq!(expanded(same, &load), same);
        }
    }

    #[test]
    fn files_add_a_limited_amount_and_each_is_loaded_once() {
        let loaded = Cell::new(0);
        let load = |name: &str| {
            loaded.set(loaded.get() + 1);
            Some(format!("[device]\n driver = \"{}\"\n", "a".repeat(name.parse().unwrap())))
        };
        let expanded = |files: &[usize]| {
            loaded.set(0);
            let options: Vec<String> =
                files.iter().map(|it| format!("-readconfig\0{it}\0")).collect();
            let text = format!("kvm\0{}-usb\0", options.concat());
            let expanded = super::expanded(&text, &load);
            assert!(expanded.text.len() <= text.len() + MAX_ADDED);
            assert!(expanded.text.starts_with("kvm\0") && expanded.text.ends_with("-usb\0"));
            let replaced = expanded.text.matches("driver=a").count();
            (expanded.is_cut, replaced, loaded.get())
        };
        assert_eq!(expanded(&[1; 16]), (false, 16, 1));
        assert_eq!(expanded(&[1; 17]), (true, 16, 1));
        assert_eq!(expanded(&[1; 50_000]), (true, 16, 1));
        let different: Vec<usize> = (1..50_000).collect();
        assert_eq!(expanded(&different), (true, 16, 16));
        // A file that does not fit is left out, and the next one that fits is not.
        assert_eq!(expanded(&[500_000, 500_000, 500_000, 1]), (true, 3, 2));
        assert_eq!(expanded(&[MAX_ADDED, 1]), (true, 1, 2));
    }
}
