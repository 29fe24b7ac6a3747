//! A driver and a format of another crate are used like the built-in ones.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::sync::Arc;

use vusb::drivers::Registry;
use vusb::model::spec::DeviceSpec;
use vusb::view::State;
use vusb::{Advice, Context, DomainAddress, Error, ExitCode, GuestConfig, Host, Options, StateDir};
use vusb_extension::{Shelf, ShelfFormat, ShelfScheme};

struct World {
    dir: tempfile::TempDir,
    shelf: Shelf,
    context: Context,
    options: Options,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path());
    let scheme = ShelfScheme::default();
    let shelf = scheme.shelf.clone();
    let mut registry = Registry::builtin(host.clone().into());
    registry.register(Arc::new(scheme));
    registry.register_format(ShelfFormat);
    let context = Context::new(StateDir::new(dir.path().join("state")), host, registry);
    let options = Options { folder: Some(dir.path().to_owned()), ..Options::default() };
    World { dir, shelf, context, options }
}

impl World {
    fn domain(&self, text: &str) -> DomainAddress {
        self.context.domain(text, &self.options).unwrap()
    }

    fn add(&self, domain: &DomainAddress, kind: &str) -> Result<String, Error> {
        let spec = DeviceSpec::new(kind.parse().unwrap());
        let added = self.context.device_add(domain, &spec, &self.options)?;
        Ok(added.chosen.unwrap().location)
    }

    /// The names and states of the domain's devices.
    fn devices(&self, domain: &DomainAddress) -> Vec<(String, State)> {
        let view = self.context.list(domain, &self.options).unwrap();
        let devices = view.into_devices().devices.into_iter();
        devices.map(|it| (it.device.name.to_string(), it.device.state)).collect()
    }
}

#[test]
fn a_guest_of_the_new_hypervisor_takes_devices_and_gets_them_back_after_a_restart() {
    let world = world();
    world.shelf.start("web1");
    let web1 = world.domain("shelf:web1");
    assert_eq!(world.add(&web1, "tablet").unwrap(), "hci0:1");
    assert_eq!(world.devices(&web1), [("tablet0".to_owned(), State::Attached)]);
    world.shelf.end("web1");
    world.shelf.start("web1");
    assert_eq!(world.devices(&web1), [("tablet0".to_owned(), State::Missing)]);
    let restored = world.context.restore(&web1, &world.options).unwrap();
    assert_eq!(restored.steps.len(), 2);
    assert_eq!(world.devices(&web1), [("tablet0".to_owned(), State::Attached)]);
}

#[test]
fn errors_of_the_new_driver_have_their_kinds() {
    let world = world();
    let error = world.add(&world.domain("shelf:nobody"), "tablet").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Unreachable, "{error}");
    let error = world.context.domain("shelf:", &world.options).unwrap_err();
    assert_eq!(
        (error.exit_code(), error.advice()),
        (ExitCode::Usage, vec![Advice::Write { form: "shelf:NAME".to_owned() }])
    );
    let error = world.context.domain("nobody", &world.options).unwrap_err();
    let [Advice::NameDomain { addresses }] = &error.advice()[..] else { panic!("{error}") };
    assert!(addresses.contains(&"shelf:NAME".to_owned()), "{addresses:?}");
}

#[test]
fn one_guest_under_two_names_has_one_record() {
    let world = world();
    world.shelf.start("web1");
    world.add(&world.domain("shelf:web1"), "tablet").unwrap();
    world.shelf.rename("web1", "web2");
    let web2 = world.domain("shelf:web2");
    // The record was found by the guest's identity, and the new device goes into it.
    assert_eq!(world.add(&web2, "mouse").unwrap(), "hci0:2");
    let records = fs::read_dir(world.dir.path().join("state")).unwrap();
    let records =
        records.filter(|it| it.as_ref().unwrap().path().extension().is_some_and(|it| it == "json"));
    assert_eq!(records.count(), 1);
    let all = world.context.list_all(&world.options).unwrap();
    assert_eq!(all.domains.len() + all.unreachable.len(), 1);
}

#[test]
fn a_file_of_the_new_format_is_a_domain_and_can_be_converted() {
    let world = world();
    let path = world.dir.path().join("web1.shelf");
    fs::write(&path, "shelf\ntablet\n").unwrap();
    let file = world.domain(path.to_str().unwrap());
    assert_eq!(world.add(&file, "mouse").unwrap(), "hci0:2");
    assert_eq!(fs::read_to_string(&path).unwrap(), "shelf\ntablet\nmouse\n");
    assert_eq!(world.devices(&file)[1], ("mouse0".to_owned(), State::Configured));

    let config = world.context.read_config(&path).unwrap();
    let formats = world.context.registry().formats();
    let spec =
        world.context.convert(&config, &formats.named("vusb").unwrap().into(), &world.options);
    let spec = spec.unwrap().lossless().unwrap();
    let vusb = formats.named("vusb").unwrap();
    let parsed = GuestConfig::parse(spec, vusb, world.dir.path(), "the spec").unwrap();
    let back =
        world.context.convert(&parsed, &formats.named("shelf").unwrap().into(), &world.options);
    assert_eq!(back.unwrap().text, "shelf\ntablet\nmouse\n");
}

#[test]
fn a_file_without_a_known_extension_is_recognized_by_its_content() {
    let world = world();
    let path = world.dir.path().join("web1");
    fs::write(&path, "shelf\ntablet\n").unwrap();
    let file = world.domain(path.to_str().unwrap());
    assert_eq!(world.devices(&file).len(), 1);
    assert_eq!(world.context.read_config(&path).unwrap().format().name(), "shelf");
}
