//! The address scheme `qemu:SOCKET`.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use vusb_model::hardware::Hardware;
use vusb_model::models::Model;
use vusb_model::naming;

use super::peer::connected;
use super::{
    ArgumentOptions, DeviceProperties, Qemu, arguments, hot_pluggable, installed,
    libvirt_arguments, running, watch,
};
use crate::driver::{Driver, Error};
use crate::path;
use crate::scheme::{
    AddressError, GuestWatch, OpenOptions, RunningGuest, Scheme, Start, StartOptions, WatchOptions,
};
use crate::support::{Availability, ModelFacts, Survey};

/// Running QEMUs, each by its QMP socket.
#[derive(Clone, Copy, Debug)]
pub struct QemuScheme;

impl Scheme for QemuScheme {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn title(&self) -> &'static str {
        "QEMU"
    }

    fn syntax(&self) -> &'static str {
        "qemu:SOCKET"
    }

    fn parse(&self, operand: &str, folder: &Path) -> Result<String, AddressError> {
        let expected = "qemu:SOCKET, where SOCKET is the path in QEMU's option `-qmp unix:SOCKET,server=on,wait=off`";
        path::parse("qemu:", operand, folder, expected)
    }

    /// The path of a socket. It must contain a slash, because a domain may have the name of a file.
    fn is_bare_address(&self, text: &str, folder: &Path) -> bool {
        let is_socket = |it: fs::Metadata| it.file_type().is_socket();
        text.contains('/') && fs::metadata(folder.join(text)).is_ok_and(is_socket)
    }

    fn open(&self, operand: &str, options: &OpenOptions<'_>) -> Result<Box<dyn Driver>, Error> {
        if let Some(error) = refusal_of_other_tool(operand) {
            return Err(error);
        }
        Ok(Box::new(Qemu::at(Path::new(operand), options.limits.clone())))
    }

    fn is_gone(&self, operand: &str, error: &Error) -> bool {
        // If it cannot be determined, the guest counts as running.
        matches!(error, Error::Unreachable { .. })
            && matches!(connected(operand), Err(Errno::NOENT | Errno::CONNREFUSED))
    }

    fn survey(&self, root: &Path, limit: Duration) -> Option<Survey> {
        let Some(program) = installed::find(root) else {
            return Some(Survey::without_models(Availability::Absent("not installed".to_owned())));
        };
        Some(match installed::probe(&program, limit) {
            Ok(qemu) => {
                let found = format!("{}, {}", qemu.version, program.display());
                Survey { availability: Availability::Available(found), models: qemu.models }
            }
            Err(why) => {
                let why = format!("{} cannot be asked: {why}", program.display());
                Survey::without_models(Availability::Unusable(why))
            }
        })
    }

    fn running(&self, root: &Path, _: Duration) -> Result<Vec<RunningGuest>, Error> {
        Ok(running::all(root, |_| false))
    }

    fn named_by_command_lines(&self, root: &Path) -> Vec<RunningGuest> {
        running::with_host_devices(root)
    }

    fn model_facts(&self, model: Model) -> Option<ModelFacts> {
        // Old QEMUs can hot-add this part of a south bridge, new ones cannot.
        let hot = (model != Model::Vt82c686bUhci).then(|| hot_pluggable(model));
        Some(ModelFacts { name: naming::names(model).qemu.map(str::to_owned), hot })
    }

    fn hot_key(&self) -> String {
        "hot".to_owned()
    }

    fn start_arguments(
        &self,
        start: &Start<'_>,
        options: &StartOptions,
    ) -> Option<Result<Vec<String>, Error>> {
        let options = ArgumentOptions { spare_slots: options.spare_slots };
        let resolved = start.resolved;
        Some(match start.style {
            Some("libvirt") => in_libvirts_style(start, &options),
            _ => arguments(&resolved.hardware, &options),
        })
    }

    /// Each QMP socket of a QEMU in the folders is a guest. By default these are `/run` and
    /// `/run/qemu`, where only names that end in `.qmp` count. A folder that `options` name must
    /// not contain QEMU sockets that are not monitors.
    ///
    /// A QEMU in another PID namespace, whose end cannot be waited for, is reported as ended when
    /// its socket is unlinked, or refuses a connection after another change in the folder.
    fn watch(&self, options: &WatchOptions) -> Result<Option<Box<dyn GuestWatch>>, Error> {
        watch::watch(options).map(Some)
    }
}

/// The error for a monitor that its tool keeps to itself. That tool would not notice changes by
/// others.
fn refusal_of_other_tool(socket: &str) -> Option<Error> {
    let socket = socket.strip_prefix("/var").filter(|it| it.starts_with("/run/")).unwrap_or(socket);
    let instance = socket.strip_prefix(running::INCUS_FOLDER)?.split('/').next()?;
    Some(Error::NotImplemented {
        what: format!("access to `{}`", instance.escape_debug()),
        by: "vusb".to_owned(),
        why: "Incus manages this guest, and keeps its monitor to itself; use `incus config device add`".into(),
    })
}

/// The arguments with libvirt's ids, order and forms.
fn in_libvirts_style(start: &Start<'_>, options: &ArgumentOptions) -> Result<Vec<String>, Error> {
    let resolved = start.resolved;
    let order = resolved.devices.iter().map(|placed| placed.address);
    let order: Vec<_> = order.chain(resolved.added_devices.iter().copied()).collect();
    let root = vusb_formats::libvirt::root_bus(&start.config.guest);
    let all = libvirt_arguments(&resolved.hardware, &order, &properties(start), root)?;
    let spare = arguments(&Hardware::new(), options)?;
    Ok([spare, all].concat())
}

/// What the file specifies for each controller and device beyond the model.
fn properties(start: &Start<'_>) -> DeviceProperties {
    let hardware = &start.resolved.hardware;
    let devices = start.config.devices.iter().zip(&start.resolved.devices);
    let devices = devices.filter_map(|(source, placed)| {
        let device = hardware.device(placed.address)?;
        Some((device.name.clone(), source.properties.clone()))
    });
    let controllers = start.config.controllers.iter().zip(&start.resolved.controllers);
    let specs = controllers.zip(&start.config.spec.controllers);
    let controllers = specs.filter_map(|((source, placed), spec)| {
        let controller = hardware.controller(placed.address)?;
        // A companion has the index of its EHCI, but its own properties.
        let is_its_own = spec.model.is_none_or(|model| model == controller.model);
        is_its_own.then(|| (controller.name.clone(), source.properties.clone()))
    });
    controllers.chain(devices).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use vusb_formats::ConfigFormat as _;
    use vusb_model::capabilities::Capabilities;
    use vusb_model::remedy::Reason;
    use vusb_model::resolve::resolve;

    use super::*;

    /// Incus's daemon holds the monitor, so even an observation would time out.
    #[test]
    fn the_monitors_of_incus_are_refused() {
        for path in ["/run/incus/web1/qemu.monitor", "/var/run/incus/web1/qemu.monitor"] {
            let error = refusal_of_other_tool(path).unwrap().to_string();
            assert!(error.contains("`web1`") && error.contains("incus config device"), "{error}");
        }
        for path in ["/run/incus.qmp", "/srv/run/incus/web1/qemu.monitor", "/var/lib/incus/x"] {
            assert!(refusal_of_other_tool(path).is_none(), "{path}");
        }
    }

    /// The boot order is not part of the model, but the guest sees it.
    #[test]
    fn qemu_gets_what_a_file_specifies_beyond_the_model() {
        let disk = "<disk type='file' device='disk'><source file='/a.img'/><target dev='sda' bus='usb'/>\
                    <boot order='3'/></disk>";
        let text = format!(
            "<domain type='kvm'><name>web1</name><os><type arch='x86_64' machine='pc'>hvm</type></os>\
             <devices><controller type='usb' index='0' model='qemu-xhci'/>{disk}</devices></domain>"
        );
        let config = vusb_formats::Libvirt.read(&text, "web1.xml").unwrap();
        let resolved =
            resolve(&Hardware::new(), &config.spec, &Capabilities::everything()).unwrap();
        let start = Start { resolved: &resolved, config: &config, style: Some("libvirt") };
        let arguments = QemuScheme.start_arguments(&start, &StartOptions::default());
        let arguments = arguments.unwrap().unwrap().join(" ");
        assert!(arguments.contains(r#""bootindex":3"#), "{arguments}");
    }

    #[test]
    fn a_silent_hypervisor_is_not_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.qmp");
        let operand = path.to_str().unwrap();
        let unreachable =
            Error::Unreachable { domain: String::new(), why: Reason::default(), midway: false };
        assert!(QemuScheme.is_gone(operand, &unreachable), "no socket");
        let silent = UnixListener::bind(&path).unwrap();
        assert!(!QemuScheme.is_gone(operand, &unreachable), "a process listens");
        drop(silent);
        assert!(QemuScheme.is_gone(operand, &unreachable), "a stale socket");
        let (what, limit, why) = (String::new(), Duration::ZERO, Reason::default());
        assert!(!QemuScheme.is_gone(operand, &Error::TimedOut { what, limit, why }));
    }

    #[test]
    fn a_machine_without_qemu_is_surveyed_as_such() {
        let root = tempfile::tempdir().unwrap();
        let survey = QemuScheme.survey(root.path(), Duration::from_secs(1)).unwrap();
        assert_eq!(survey.availability, Availability::Absent("not installed".to_owned()));
        assert!(survey.models.is_empty());
    }

    #[test]
    fn a_program_that_does_not_run_is_unusable() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/bin");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("qemu-kvm"), "").unwrap();
        let survey = QemuScheme.survey(root.path(), Duration::from_secs(1)).unwrap();
        assert!(
            matches!(&survey.availability, Availability::Unusable(why) if why.contains("qemu-kvm cannot be asked")),
            "{}",
            survey.availability
        );
        assert!(survey.models.is_empty());
    }
}
