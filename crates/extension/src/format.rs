//! A list of devices: the word `shelf` on the first line, then one device on each line.

use vusb::formats::config::{Config, Edit, Generated, Inexpressible, ItemSource};
use vusb::formats::splice::{Splices, line_end};
use vusb::formats::{ConfigFormat, FormatError, HostNaming, Problem};
use vusb::model::device::Kind;
use vusb::model::guest::Guest;
use vusb::model::hardware::Hardware;
use vusb::model::profile::Profile;
use vusb::model::spec::DeviceSpec;

/// Files with the extension `.shelf`.
#[derive(Clone, Copy, Debug)]
pub struct ShelfFormat;

impl ConfigFormat for ShelfFormat {
    fn name(&self) -> &'static str {
        "shelf"
    }

    fn title(&self) -> &'static str {
        "a list of devices"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["shelf"]
    }

    fn recognizes(&self, text: &str) -> bool {
        text.lines().next() == Some("shelf")
    }

    fn profile(&self) -> Profile {
        Profile::Vusb1
    }

    fn host_naming(&self) -> HostNaming {
        HostNaming::KeepsSelector
    }

    fn hypervisor(&self, _: &Guest) -> &'static str {
        "the shelf"
    }

    fn read(&self, text: &str, origin: &str) -> Result<Config, FormatError> {
        let mut config = Config::default();
        let mut start = 0;
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let span = start..start + line.trim_end().len();
            start += line.len();
            if number == 0 {
                continue;
            }
            let kind: Kind = line.trim_end().parse().map_err(|_| {
                Problem::new(span.clone(), "this is not a device").in_text(text, origin)
            })?;
            config.spec.devices.push(DeviceSpec::new(kind));
            config.devices.push(ItemSource { span, ..ItemSource::default() });
        }
        Ok(config)
    }

    fn edit(&self, text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
        let inexpressible =
            |what: String| Inexpressible { what, why: "a shelf has one controller".into() };
        let config = self.read(text, "").map_err(|it| inexpressible(it.brief().to_owned()))?;
        let mut splices = Splices::default();
        for edit in edits {
            match edit {
                // The controller that the devices need is implied.
                Edit::AddController(_) => {}
                Edit::AddDevice(_, device) => {
                    splices.insert(text.len(), format!("{}\n", device.kind));
                }
                Edit::RemoveDevice(number) => {
                    let Some(source) = config.devices.get(*number) else { continue };
                    splices.remove(source.span.start..line_end(text, source.span.start));
                }
                other => return Err(inexpressible(format!("{other:?}"))),
            }
        }
        Ok(splices.apply(text))
    }

    fn write(&self, _: &Guest, hardware: &Hardware) -> Generated {
        let devices = hardware.devices().map(|(_, device)| format!("{}\n", device.kind));
        Generated { text: format!("shelf\n{}", devices.collect::<String>()), lost: Vec::new() }
    }
}
