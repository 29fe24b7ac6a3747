//! Arguments as a shell reads them back: one option a line, so that a person can read them too.
//!
//! ```text
//! -device '{"driver":"qemu-xhci","id":"vusb-0-hci0","p2":15,"p3":15}' \
//! -device '{"driver":"usb-tablet","id":"vusb-tablet0","bus":"vusb-0-hci0.0","port":"1"}'
//! ```
//!
//! Quoting is POSIX's (XCU 2.2.2): within single quotes every character is itself, and a single quote is written `'\''`.

/// The arguments on lines that a shell joins. Each that begins with `-` begins a line; all lines but the last end in ` \`.
pub(crate) fn quoted(arguments: &[String]) -> String {
    let mut out = String::new();
    for (place, argument) in arguments.iter().enumerate() {
        if place > 0 {
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
    fn an_option_a_line() {
        let text = quoted(&words(&["-device", r#"{"a":1}"#, "-netdev", "user,id=n"]));
        assert_eq!(text, "-device '{\"a\":1}' \\\n-netdev user,id=n");
        assert_eq!(quoted(&[]), "");
    }

    #[test]
    fn a_shell_reads_the_same_words_back() {
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
