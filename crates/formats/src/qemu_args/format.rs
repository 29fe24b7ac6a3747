//! QEMU's command line as a [`ConfigFormat`].

use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::hardware::Hardware;
use vusb_model::profile::Profile;
use vusb_model::remedy::Reason;
use vusb_model::spec::Spec;

use super::options::Options;
use super::{hardware, readconfig, words};
use crate::config::{Config, Edit, Generated, Inexpressible};
use crate::error::{FormatError, Problem};
use crate::format::{ConfigFormat, HostNaming};
use crate::recognize::trimmed;

/// A script or another text that starts a QEMU. It can only be read.
#[derive(Clone, Copy, Debug)]
pub struct QemuArgs;

/// The maximum number of warnings. The time for showing one grows with the size of the text.
const MAX_WARNINGS: usize = 20;

/// The reason why a command line is not written.
const ONLY_READ: &str = "a command line is only read: change it by hand, or convert it";

impl ConfigFormat for QemuArgs {
    fn name(&self) -> &'static str {
        "qemu-args"
    }

    fn title(&self) -> &'static str {
        "a QEMU command line"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["args"]
    }

    fn recognizes(&self, text: &str) -> bool {
        let starts_otherwise = trimmed(text).starts_with(['<', '{', '[']);
        !starts_otherwise && !words::qemu(text).is_empty()
    }

    fn profile(&self) -> Profile {
        Profile::Vusb1
    }

    fn host_naming(&self) -> HostNaming {
        HostNaming::KeepsSelector
    }

    fn hypervisors(&self) -> &'static [Hypervisor] {
        &[Hypervisor::Qemu]
    }

    fn hypervisor(&self, _guest: &Guest) -> &'static str {
        "QEMU"
    }

    fn read(&self, text: &str, origin: &str) -> Result<Config, FormatError> {
        let words = words::qemu(text);
        if words.is_empty() {
            let what = "this text does not start a QEMU";
            let help = "write `qemu-system-ARCH` and its options, or the options alone";
            return Err(Problem::new(0..0, what).help(help).in_text(text, origin));
        }
        let mut options = Options::read(&words);
        let fixed = hardware::from_options(&mut options);
        let warnings = options.warnings.into_iter().take(MAX_WARNINGS);
        let warnings = warnings.map(|it| it.warning().in_text(text, origin));
        let domain = options.guest.name.as_deref().and_then(|name| name.parse().ok());
        Ok(Config {
            spec: Spec { domain, ..Spec::default() },
            warnings: warnings.collect(),
            guest: options.guest,
            fixed,
            ..Config::default()
        })
    }

    fn expanded(&self, text: String, load: &dyn Fn(&str) -> Option<String>) -> String {
        readconfig::expanded(&text, load).text
    }

    fn edit(&self, _text: &str, _edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
        Err(Inexpressible { what: "this edit".to_owned(), why: Reason::from(ONLY_READ) })
    }

    fn write(&self, _guest: &Guest, _hardware: &Hardware) -> Generated {
        let what = "a command line".to_owned();
        let lost = vec![Inexpressible { what, why: Reason::from(ONLY_READ) }];
        Generated { text: String::new(), lost }
    }
}
