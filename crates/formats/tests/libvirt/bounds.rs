//! Excessive texts: each is refused, or read in time and memory proportional to its size.

use std::time::{Duration, Instant};

use super::{domain, error, read};

/// Longer than any of these texts takes on a slow machine without optimization, and shorter than a
/// non-linear algorithm would take.
const LIMIT: Duration = Duration::from_secs(20);

fn in_time<T>(what: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = what();
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
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
    let config = in_time(|| read(&text));
    assert_eq!(config.spec.devices.len(), 10_000);
    assert_eq!(config.spec.devices[9_999].name, "hostdev9999".parse().ok());
}

#[test]
fn deeply_nested_elements() {
    let deep = "<a>".repeat(200_000);
    let text = format!("<domain type='kvm'>{deep}");
    assert!(in_time(|| error(&text)).contains("more than 256 levels deep"));
    // The deepest that is allowed; and many elements side by side.
    let text = format!("<domain type='kvm'>{}{}</domain>", "<a>".repeat(255), "</a>".repeat(255));
    read(&text);
    let text = format!("<domain type='kvm'>{}</domain>", "<a></a><b/>".repeat(1000));
    read(&text);
}

#[test]
fn too_many_attributes_and_namespaces() {
    let attributes: String = (0..100_000).map(|number| format!(" a{number}='1'")).collect();
    let text = format!("<domain type='kvm'{attributes}/>");
    assert!(in_time(|| error(&text)).contains("more than 64 attributes"));
    let spaces: String =
        (0..50_000).map(|number| format!("<a xmlns:n{number}='u{number}'/>")).collect();
    let text = format!("<domain type='kvm'>{spaces}</domain>");
    assert!(in_time(|| error(&text)).contains("more than 64 namespaces"));
}

/// Only declarations count, not texts that look like them.
#[test]
fn a_value_declares_no_namespace() {
    let value = "xmlns:a=&quot;b&quot; ".repeat(100);
    read(&format!("<domain type='kvm'><metadata note='{value}'/></domain>"));
}

#[test]
fn a_comment_cannot_hide_elements() {
    // `<!-->` does not end a comment: it continues up to the next end.
    let deep = "<a>".repeat(1000);
    let text = format!("<domain type='kvm'><!--><![CDATA[-->{deep}]]>");
    assert!(error(&text).contains("more than 256 levels deep"));
    // Elements within a comment do not count.
    let text = format!("<domain type='kvm'><!-- {deep} --><![CDATA[{deep}]]></domain>");
    read(&text);
}

#[test]
fn a_million_bytes_of_any_markup() {
    let text = "<".repeat((2 << 20) + 1);
    assert!(in_time(|| error(&text)).contains("larger than 2 MiB"));
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
        in_time(|| error(&text));
    }
}

#[test]
fn the_number_of_warnings_is_limited() {
    let host = "<hostdev type='usb'><source><address bus='1' device='010'/></source></hostdev>\n";
    let text = domain(&host.repeat(5000));
    assert_eq!(in_time(|| read(&text)).warnings.len(), 32);
}

#[test]
fn too_many_tags_and_equals_signs() {
    for part in ["<a/>", "===="] {
        let text = format!("<domain type='kvm'>{}</domain>", part.repeat((1 << 18) + 10));
        assert!(in_time(|| error(&text)).contains("more than 262144 times"));
    }
    // Text nodes count, too.
    let text = format!("<domain type='kvm'>{}</domain>", "<a/>b".repeat((1 << 17) + 10));
    assert!(in_time(|| error(&text)).contains("nodes limit reached"));
}
