//! The log of a program that runs as a service: the journal if systemd has connected standard error
//! to it, and standard error otherwise.
//!
//! A field `vusb_domain` becomes `VUSB_DOMAIN` in the journal, so `journalctl VUSB_DOMAIN=…` finds
//! it. On standard error it becomes `domain`.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;

use tracing_subscriber::Layer as _;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Where a log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Lines on standard error.
    StandardError,
    /// Entries with fields in the journal.
    Journal,
}

/// Begins to log: warnings and information, with `verbose` also debug messages (1) or all (2). The
/// variable `RUST_LOG` allows finer control.
pub fn init(verbose: u8) -> Output {
    let default = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // `EnvFilter` is not used: its regular expressions would be more than a quarter of a program's
    // code.
    let requested = std::env::var("RUST_LOG").ok().and_then(|it| it.parse::<Targets>().ok());
    let filter = requested.unwrap_or_else(|| Targets::new().with_default(default));
    let journal = is_journal().then(tracing_journald::layer).and_then(Result::ok);
    let (layer, output) = match journal {
        Some(journal) => (journal.with_field_prefix(None).boxed(), Output::Journal),
        None => (lines(), Output::StandardError),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    output
}

fn lines<S>() -> Box<dyn tracing_subscriber::Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let fields = debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{value:?}"),
        name => write!(writer, "{}={value:?}", name.strip_prefix("vusb_").unwrap_or(name)),
    });
    let log = tracing_subscriber::fmt::layer()
        .fmt_fields(fields.delimited(" "))
        .with_writer(io::stderr)
        .with_target(false);
    // The collector of the lines adds its own timestamps and does not show colours.
    if io::stderr().is_terminal() {
        log.boxed()
    } else {
        log.without_time().with_ansi(false).boxed()
    }
}

/// Whether standard error is connected to the journal: systemd.exec(5), `JOURNAL_STREAM`.
fn is_journal() -> bool {
    let Ok(expected) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|it| format!("{}:{}", it.dev(), it.ino()) == expected)
}
