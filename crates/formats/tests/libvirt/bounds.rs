//! Texts that are too much: each is refused, or read in a time and in memory that are in proportion to it.

use std::time::{Duration, Instant};

use super::{domain, error, read};

/// More than any of these takes on a slow machine without optimization, and less than what is not linear would take.
const SOON: Duration = Duration::from_secs(20);

fn soon<T>(what: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = what();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    done
}

#[test]
fn ten_thousand_devices() {
    let host = |number: usize| {
        format!(
            "    <hostdev mode='subsystem' type='usb'>
      <source><vendor id='0x0781'/><product id='{number:#06x}'/></source>
      <address type='usb' bus='{}' port='1.{}'/>
    </hostdev>\n",
            number / 8,
            number % 8 + 1
        )
    };
    let text = domain(&(0..10_000).map(host).collect::<String>());
    let config = soon(|| read(&text));
    assert_eq!(config.spec.devices.len(), 10_000);
    assert_eq!(config.spec.devices[9_999].name, "hostdev9999".parse().ok());
}

#[test]
fn elements_in_elements_in_elements() {
    let deep = "<a>".repeat(1_000_000);
    let text = format!("<domain type='kvm'>{deep}");
    assert!(soon(|| error(&text)).contains("more than 256 elements deep"));
    // As deep as may be; the rest is only beside each other.
    let text = format!("<domain type='kvm'>{}{}</domain>", "<a>".repeat(255), "</a>".repeat(255));
    read(&text);
    let text = format!("<domain type='kvm'>{}</domain>", "<a></a><b/>".repeat(1000));
    read(&text);
}

#[test]
fn attributes_and_namespaces_without_end() {
    let attributes: String = (0..200_000).map(|number| format!(" a{number}='1'")).collect();
    let text = format!("<domain type='kvm'{attributes}/>");
    assert!(soon(|| error(&text)).contains("more than 64 attributes"));
    let spaces: String =
        (0..100_000).map(|number| format!("<a xmlns:n{number}='u{number}'/>")).collect();
    let text = format!("<domain type='kvm'>{spaces}</domain>");
    assert!(soon(|| error(&text)).contains("more than 64 namespaces"));
}

#[test]
fn what_looks_like_a_comment_hides_nothing() {
    // `<!-->` does not end a comment: what follows is inside of it, up to the next end.
    let deep = "<a>".repeat(1000);
    let text = format!("<domain type='kvm'><!--><![CDATA[-->{deep}]]>");
    assert!(error(&text).contains("more than 256 elements deep"));
    // And what is inside of a comment is no element.
    let text = format!("<domain type='kvm'><!-- {deep} --><![CDATA[{deep}]]></domain>");
    read(&text);
}

#[test]
fn millions_of_anything() {
    let text = "<".repeat((16 << 20) + 1);
    assert!(soon(|| error(&text)).contains("16 MiB at the most"));
    for part in [
        "<a>",
        "<a/>",
        "<a b='",
        "&amp;",
        "<!--",
        "<![CDATA[",
        "<?",
        "]]>",
        "</a>",
        "'\"",
        "\n",
        "\u{1f600}",
    ] {
        let text = format!("<domain type='kvm'>{}", part.repeat((1 << 20) / part.len()));
        soon(|| error(&text));
    }
}

#[test]
fn warnings_are_counted() {
    let host = "<hostdev type='usb'><source><address bus='1' device='010'/></source></hostdev>\n";
    let text = domain(&host.repeat(5000));
    assert_eq!(soon(|| read(&text)).warnings.len(), 32);
}

#[test]
fn tags_and_attributes_without_end() {
    for part in ["<a/>", "===="] {
        let text = format!("<domain type='kvm'>{}</domain>", part.repeat((2 << 20) + 10));
        assert!(soon(|| error(&text)).contains("2097152th"));
    }
    // Texts count as nodes, too.
    let text = format!("<domain type='kvm'>{}</domain>", "<a/>b".repeat((1 << 20) + 10));
    assert!(soon(|| error(&text)).contains("nodes limit reached"));
}
