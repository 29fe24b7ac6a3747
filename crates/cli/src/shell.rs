//! Arguments quoted for a shell, one option per line.
//!
//! ```text
//! -device '{"driver":"qemu-xhci","id":"vusb-0-hci0","p2":15,"p3":15}' \
//! -device '{"driver":"usb-tablet","id":"vusb-tablet0","bus":"vusb-0-hci0.0","port":"1"}'
//! ```
//!
//! The quoting is POSIX's (XCU 2.2.2): within single quotes every character stands for itself, and
//! a single quote is written `'\''`.

/// The arguments on lines that a shell joins. An argument that begins with `-` starts a new line;
/// all lines except the last end in ` \`.
pub(crate) fn quoted(arguments: &[String]) -> String {
    let mut out = String::new();
    for (index, argument) in arguments.iter().enumerate() {
        if index > 0 {
            out.push_str(if argument.starts_with('-') { " \\\n" } else { " " });
        }
        push_word(&mut out, argument);
    }
    out
}

fn push_word(out: &mut String, word: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        out.push_str(word);
        return;
    }
    out.push('\'');
    out.push_str(&word.replace('\'', r"'\''"));
    out.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn words(of: &[&str]) -> Vec<String> {
        of.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn each_option_begins_a_line() {
        let text = quoted(&words(&["-device", r#"{"a":1}"#, "-netdev", "user,id=n"]));
        assert_eq!(text, "-device '{\"a\":1}' \\\n-netdev user,id=n");
        assert_eq!(quoted(&[]), "");
    }

    #[test]
    fn a_shell_parses_the_same_words() {
        let nasty = [
            "-x",
            "",
            "it's",
            "$HOME `id` \\ \"q\"",
            "a;b|c&d",
            "*?[~]#",
            "ü\u{202e}",
            "two  blanks",
        ];
        let script = format!("printf '%s\\0' {}", quoted(&words(&nasty)));
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        let read = String::from_utf8(output.stdout).unwrap();
        assert_eq!(read.split_terminator('\0').collect::<Vec<_>>(), nasty);
    }
}
