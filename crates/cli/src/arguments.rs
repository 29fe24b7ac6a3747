//! The command line, as a person writes it.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, value_parser};
use vusb::Format;
use vusb::model::address::{Index, PortPath};
use vusb::model::device::Kind;
use vusb::model::models::{ControllerType, Model, UsbVersion};
use vusb::model::name::Name;
use vusb::model::spec::{ControllerRef, ControllerSpec, DeviceSpec};

use crate::help;

/// USB for virtual machines: controllers and devices, for guests that run and for guests that do not run yet.
#[derive(Debug, Parser)]
#[command(name = "vusb", version, after_help = help::TOP, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) everywhere: Everywhere,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Everywhere {
    /// Print one JSON object, for errors too
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Only print the steps that would be taken, one a line
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// How long to wait for each single thing, such as 2.5: the hypervisor's answer, the guest, another command
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Duration,
    /// Where the records are [default: /var/lib/vusb for root, else ~/.local/state/vusb] [env: VUSB_STATE_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Print results and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Tell each step as well; twice or three times: also what is said to the hypervisor
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Take sysfs and proc from below DIR
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub(crate) host_root: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add, remove and list the USB controllers of a domain
    #[command(subcommand, after_help = help::CONTROLLER)]
    Controller(ControllerCommand),
    /// Plug in, pull out and list the USB devices of a domain
    #[command(subcommand, after_help = help::DEVICE)]
    Device(DeviceCommand),
    /// Show what a domain has, or what all recorded domains have
    #[command(after_help = help::LIST)]
    List {
        /// The domain: qemu:SOCKET, xen:NAME, sim:FILE, a name that is on record, or a file (.toml, .xml, .cfg, .json, .vmx); all those on record if none is given
        domain: Option<String>,
    },
    /// Show what `apply` would do, or what a guest that is yet to be started would get
    #[command(after_help = help::PLAN)]
    Plan {
        /// The spec, a TOML file; or another tool's configuration (.xml, .cfg, .json, .vmx)
        spec: PathBuf,
    },
    /// Make a domain what a spec says, or what is recorded of it
    #[command(after_help = help::APPLY)]
    Apply {
        /// The spec, a TOML file; or a domain, to put back what is recorded of it
        #[arg(value_name = "SPEC|DOMAIN")]
        target: String,
        /// Give devices though this machine needs them; give the domain the name in the spec though it has another
        #[arg(long)]
        force: bool,
    },
    /// Show the USB devices of this machine
    #[command(subcommand, after_help = help::HOST)]
    Host(HostCommand),
    /// Show the controller models, and who has each
    #[command(after_help = help::MODELS)]
    Models,
    /// Print a hash of the USB hardware that a guest sees
    #[command(after_help = help::DIGEST)]
    Digest {
        /// The domain; or a spec or another tool's configuration, for a guest that does not run
        #[arg(value_name = "DOMAIN|SPEC")]
        target: String,
        /// Include where the controllers sit on PCI, as far as that is known
        #[arg(long)]
        pci: bool,
    },
    /// Write a configuration in another format, so that the guest sees the same
    #[command(after_help = help::CONVERT)]
    Convert {
        /// The configuration: a spec (.toml), libvirt's (.xml), xl's (.cfg), libxl's JSON (.json) or VMware's (.vmx)
        file: PathBuf,
        /// The format to write
        #[arg(long, value_name = "FORMAT", value_parser = format())]
        to: Format,
        /// The format that the file is in [default: what its name says]
        #[arg(long, value_name = "FORMAT", value_parser = format())]
        from: Option<Format>,
        /// Write it though that format cannot say everything
        #[arg(long)]
        lossy: bool,
    },
    /// Print the arguments that start a QEMU with what a configuration says
    #[command(after_help = help::QEMU_ARGS)]
    QemuArgs {
        /// The configuration: a spec (.toml), libvirt's (.xml), xl's (.cfg), libxl's JSON (.json) or VMware's (.vmx)
        spec: PathBuf,
        /// Also give the guest N empty PCI Express root ports, for controllers that are added later (q35 needs them)
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u8).range(..=32))]
        spare_slots: u8,
    },
    /// Print a completion script for a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    #[command(hide = true)]
    Man {
        /// The folder to write them to
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ControllerCommand {
    /// Add a controller, and print its name
    #[command(after_help = help::CONTROLLER_ADD)]
    Add(ControllerAdd),
    /// Remove a controller
    #[command(after_help = help::CONTROLLER_REMOVE)]
    Remove {
        /// The domain: qemu:SOCKET, xen:NAME, sim:FILE, a name that is on record, or a file (.toml, .xml, .cfg, .json, .vmx)
        domain: String,
        /// The controller, by its name (hci0) or its index (0)
        controller: ControllerRef,
        /// Remove it with all that is plugged into it; on Xen, without asking the guest
        #[arg(long)]
        force: bool,
    },
    /// Show the controllers of a domain
    #[command(after_help = help::CONTROLLER_LIST)]
    List {
        /// The domain: qemu:SOCKET, xen:NAME, sim:FILE, a name that is on record, or a file (.toml, .xml, .cfg, .json, .vmx)
        domain: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ControllerAdd {
    /// The domain: qemu:SOCKET, xen:NAME, sim:FILE, a name that is on record, or a file (.toml, .xml, .cfg, .json, .vmx)
    pub(crate) domain: String,
    /// Its name [default: hciN, for pv pvN]
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// Whether it is emulated hardware or paravirtual (Xen's PVUSB); auto is what suits the guest
    #[arg(long = "type", value_name = "TYPE", value_enum, default_value = "auto")]
    pub(crate) controller_type: TypeArgument,
    /// Its generation of USB; 2 is the whole ICH9 group
    #[arg(long, value_name = "VERSION", value_parser = version())]
    pub(crate) usbversion: Option<UsbVersion>,
    /// Its exact model; `vusb models` has them
    #[arg(long, value_parser = model())]
    pub(crate) model: Option<Model>,
    /// How many ports it has [default: 16, cut to what the model can have]
    #[arg(long, value_name = "N", value_parser = value_parser!(u8).range(1..))]
    pub(crate) ports: Option<u8>,
    /// Its index, from 0 to 4095 [default: the lowest that is free]
    #[arg(long, value_name = "I")]
    pub(crate) index: Option<Index>,
    /// For pv, the domain whose USB devices it carries, by name or id [default: 0]
    #[arg(long, value_name = "DOM")]
    pub(crate) backend: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Plug a device in, and print its place
    #[command(after_help = help::DEVICE_ADD)]
    Add(DeviceAdd),
    /// Pull a device out
    #[command(after_help = help::DEVICE_REMOVE)]
    Remove {
        /// The domain: qemu:SOCKET, xen:NAME, sim:FILE, a name that is on record, or a file (.toml, .xml, .cfg, .json, .vmx)
        domain: String,
        /// The device: a name, a selector, or CONTROLLER:PORT
        device: String,
        /// Forget it though the hypervisor has ended; pull a hub with all that is behind it; on Xen, do not wait for the guest
        #[arg(long)]
        force: bool,
    },
    /// Show the devices of a domain
    #[command(after_help = help::DEVICE_LIST)]
    List {
        /// The domain: qemu:SOCKET, xen:NAME, sim:FILE, a name that is on record, or a file (.toml, .xml, .cfg, .json, .vmx)
        domain: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DeviceAdd {
    /// The domain: qemu:SOCKET, xen:NAME, sim:FILE, a name that is on record, or a file (.toml, .xml, .cfg, .json, .vmx)
    pub(crate) domain: String,
    /// The device: a selector of a host device, or what the hypervisor makes up; see below
    pub(crate) device: Kind,
    /// The controller to plug it into, by name or index [default: one that takes it; added if there is none]
    #[arg(long, value_name = "C")]
    pub(crate) controller: Option<ControllerRef>,
    /// The port, such as 1, or 1.2 behind a hub [default: the lowest that is free]
    #[arg(long, value_name = "P")]
    pub(crate) port: Option<PortPath>,
    /// Its name [default: its kind and a number]
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// Give it though this machine needs it
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Show the USB devices of this machine, and which domain has each
    #[command(after_help = help::HOST_LIST)]
    List {
        /// Those of a Xen domain that lends its own, by name or id: what its vusb-backend could lend
        #[arg(long, value_name = "DOM")]
        backend: Option<String>,
    },
}

/// A controller's type, or what suits the guest. The values have no text of their own, for that would spread the whole help
/// over twice as many lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TypeArgument {
    Auto,
    Pv,
    Emulated,
}

impl TypeArgument {
    const fn chosen(self) -> Option<ControllerType> {
        match self {
            TypeArgument::Auto => None,
            TypeArgument::Pv => Some(ControllerType::Pv),
            TypeArgument::Emulated => Some(ControllerType::Emulated),
        }
    }
}

impl ControllerAdd {
    /// What is asked for.
    pub(crate) fn spec(&self) -> ControllerSpec {
        ControllerSpec {
            index: self.index,
            name: self.name.clone(),
            controller_type: self.controller_type.chosen(),
            usbversion: self.usbversion,
            model: self.model,
            ports: self.ports,
            backend: self.backend.clone(),
            ..ControllerSpec::default()
        }
    }
}

impl DeviceAdd {
    /// What is asked for.
    pub(crate) fn spec(&self) -> DeviceSpec {
        DeviceSpec {
            name: self.name.clone(),
            controller: self.controller.clone(),
            port: self.port,
            ..DeviceSpec::new(self.device.clone())
        }
    }
}

/// Reads a version, and says the three that there are.
fn version() -> impl TypedValueParser<Value = UsbVersion> {
    PossibleValuesParser::new(["1", "2", "3"]).try_map(|text| text.parse::<UsbVersion>())
}

/// Reads a format, and says which there are.
fn format() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.map(Format::name)).try_map(|text| text.parse::<Format>())
}

/// Reads a model by its name or alias, and says which there are.
fn model() -> impl TypedValueParser<Value = Model> {
    let values = Model::ALL
        .map(|model| PossibleValue::new(model.name()).aliases(model.aliases().iter().copied()));
    PossibleValuesParser::new(values).try_map(|text| text.parse::<Model>())
}

/// The longest time-out: a day, and far from where adding it to a clock overflows.
const LONGEST: f64 = 86_400.0;

/// Reads a time in seconds, with or without a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("a time is a number of seconds above 0 and up to {LONGEST}");
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = text.parse::<f64>().ok().filter(|seconds| digits && *seconds <= LONGEST);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times() {
        assert_eq!(seconds("10"), Ok(Duration::from_secs(10)));
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for wrong in ["", "0", "0.0", "-1", "inf", "NaN", "1e3", "86401", "ten", "1s", "."] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn models_are_read_by_their_aliases() {
        let read = |model: &str| {
            let line = ["vusb", "controller", "add", "web1", "--model", model];
            match Arguments::try_parse_from(line).unwrap().command {
                Command::Controller(ControllerCommand::Add(add)) => add.spec().model,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(read("qusb2"), Some(Model::Xenusb2));
        assert_eq!(read("nec-xhci"), Some(Model::NecXhci));
    }
}
