//! The command line's arguments.

mod domain;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum, value_parser};
use vusb::formats::Formats;
use vusb::formats::rules::import::Tool;
use vusb::model::address::{Index, PortPath};
use vusb::model::device::{HostRef, Kind, KindError};
use vusb::model::guest::Hypervisor;
use vusb::model::models::{ControllerType, Model, UsbVersion};
use vusb::model::name::Name;
use vusb::model::rules::{InterfaceClass, Removable};
use vusb::model::spec::{ControllerRef, ControllerSpec, DeviceSpec};

pub(crate) use self::domain::DomainCommand;
use crate::help;

/// USB controllers and devices for virtual machines, running or not
#[derive(Clone, Debug, Parser)]
#[command(name = "vusb", version, after_help = help::TOP, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
}

/// The options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct GlobalOptions {
    /// Print one JSON object, for errors too
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Only print the steps that would be taken, one per line
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// Limit for each single wait, such as 2.5: for the hypervisor, the guest or another command. A
    /// whole command takes at most 30 times as long
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Duration,
    /// The folder of the records [default: /var/lib/vusb for root, else ~/.local/state/vusb] [env:
    /// VUSB_STATE_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// The format of a file that is given as a domain or a configuration [default: by its name or
    /// content]
    #[arg(long, global = true, value_name = "FORMAT", value_parser = format())]
    pub(crate) from: Option<String>,
    /// Read the rules from DIR, or from a file; may be repeated [default: /usr/lib/vusb/rules.d and
    /// /etc/vusb/rules.d]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) rules: Vec<PathBuf>,
    /// Change only the running guest, not what it starts with (libvirt)
    #[arg(long, global = true, conflicts_with = "next_start")]
    pub(crate) live_only: bool,
    /// Change only what the guest starts with next, not the running guest (libvirt)
    #[arg(long, global = true)]
    pub(crate) next_start: bool,
    /// Have the daemon vusbd at SOCKET carry out the command, with its records and rules [default:
    /// /run/vusb/io.github.vusb.Manager if vusbd runs and this user may call it]
    #[arg(long, global = true, value_name = "SOCKET")]
    pub(crate) daemon: Option<PathBuf>,
    /// Work without vusbd, even if it is running
    #[arg(long, global = true, conflicts_with = "daemon")]
    pub(crate) direct: bool,
    /// Print results and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Also print each step; -vv and -vvv also log the traffic with the hypervisor
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Read sysfs and procfs below DIR
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub(crate) host_root: Option<PathBuf>,
    /// Keep the claims in DIR, by default `run/vusb/claims` below the root of the host
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub(crate) claims_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Add, remove and list the USB controllers of a domain
    #[command(subcommand, after_help = help::CONTROLLER)]
    Controller(ControllerCommand),
    /// Add, remove and list the USB devices of a domain
    #[command(subcommand, after_help = help::DEVICE)]
    Device(DeviceCommand),
    /// Show, rename and forget the recorded domains
    #[command(subcommand, after_help = help::DOMAIN)]
    Domain(DomainCommand),
    /// Show the USB hardware of a domain, or of all recorded domains
    #[command(after_help = help::LIST, aliases = ["ls", "show"])]
    List {
        /// Draw each domain as a tree, with the ports of host devices, and explain the states
        #[arg(long)]
        tree: bool,
        /// Draw the tree with ASCII characters only
        #[arg(long, requires = "tree")]
        ascii: bool,
        /// Draw a picture of this machine, its rules and its guests, as SVG
        #[arg(long, conflicts_with = "tree")]
        svg: bool,
        /// The domain: qemu:SOCKET, libvirt:NAME, xen:NAME, sim:FILE, a recorded name, or a file
        /// (.toml, .xml, .cfg, .json, .vmx, .vbox, .conf) [default: all recorded domains]
        domain: Option<String>,
    },
    /// Show what `apply` would do, or the hardware of a guest that is started with a file
    #[command(after_help = help::PLAN)]
    Plan {
        /// A spec (a TOML file), another tool's configuration (.xml, .cfg, .json, .vmx, .vbox,
        /// .conf), or a domain, to show what would be restored for it
        #[arg(value_name = "SPEC|DOMAIN")]
        target: String,
        /// Exit with 2 if there are changes, for scripts
        #[arg(long)]
        exit_code: bool,
        /// Include the removal of what was added by hand, as `apply --prune` does it
        #[arg(long)]
        prune: bool,
    },
    /// Make a domain match a spec, or restore what is recorded for it
    #[command(after_help = help::APPLY)]
    Apply {
        /// The spec, a TOML file; or a domain, to restore what is recorded for it
        #[arg(value_name = "SPEC|DOMAIN", required_unless_present = "all")]
        target: Option<String>,
        /// Restore what is recorded for every domain whose guest runs
        #[arg(long, conflicts_with_all = ["target", "prune"])]
        all: bool,
        /// Attach protected devices; rename the domain if the spec has another name
        #[arg(long)]
        force: bool,
        /// Also remove what was added by hand and is not in the spec
        #[arg(long)]
        prune: bool,
    },
    /// Take the host devices out of a guest until it is resumed
    #[command(after_help = help::SUSPEND)]
    Suspend {
        /// The domain: an address or a recorded name
        domain: String,
    },
    /// Put the host devices of a suspended guest back at their places
    #[command(after_help = help::RESUME)]
    Resume {
        /// The domain: an address or a recorded name
        domain: String,
        /// Attach protected devices
        #[arg(long)]
        force: bool,
    },
    /// Show the USB devices of this machine
    #[command(subcommand, after_help = help::HOST)]
    Host(HostCommand),
    /// Check and list the rules: what the devices of this machine are for
    #[command(subcommand, after_help = help::RULES)]
    Rules(RulesCommand),
    /// Show what the rules mean for a device, and why
    #[command(after_help = help::EXPLAIN)]
    Explain(Explain),
    /// Show all guests as trees, live; or print what the daemon vusbd does
    #[command(after_help = help::WATCH)]
    Watch {
        /// Start with the event after the one with this number
        #[arg(long, value_name = "NUMBER")]
        since: Option<u64>,
        /// Print the events of vusbd, also on a terminal
        #[arg(long)]
        events: bool,
        /// Print the trees after each change, even if the output is not a terminal
        #[arg(long, conflicts_with_all = ["since", "events"])]
        tree: bool,
        /// Draw the trees with ASCII characters only
        #[arg(long)]
        ascii: bool,
    },
    /// Show a picture of this machine and its guests in a browser, live
    #[command(after_help = help::WEB)]
    Web {
        /// The port, on 127.0.0.1 only [default: a free one]
        #[arg(long, value_name = "PORT")]
        port: Option<u16>,
        /// Listen at this Unix socket instead, which only this user may open
        #[arg(long, value_name = "PATH", conflicts_with = "port")]
        socket: Option<PathBuf>,
        /// Show only: nothing can be attached, detached or answered
        #[arg(long)]
        read_only: bool,
    },
    /// Answer a question of the daemon vusbd: which domain gets a device
    #[command(after_help = help::ANSWER)]
    Answer {
        /// The number of the question, as `vusb watch` shows it
        question: u64,
        /// The domain, by its name or address
        domain: String,
        /// Give the device to the domain permanently, not only until it is unplugged
        #[arg(long)]
        remember: bool,
    },
    /// Show the controller models, and which hypervisors have them
    #[command(after_help = help::MODELS)]
    Models {
        /// Show what this domain can be given, now and at its next start
        domain: Option<String>,
    },
    /// Print a hash of the USB hardware that a guest sees
    #[command(after_help = help::DIGEST)]
    Digest {
        /// The domain; or a spec or another tool's configuration
        #[arg(value_name = "DOMAIN|SPEC")]
        target: String,
        /// Include the PCI addresses of the controllers, as far as they are known
        #[arg(long)]
        pci: bool,
    },
    /// Write a configuration in another format, with the same USB hardware
    #[command(after_help = help::CONVERT)]
    Convert {
        /// The configuration: a spec (.toml), libvirt's (.xml), xl's (.cfg), libxl's JSON (.json),
        /// VMware's (.vmx), VirtualBox's (.vbox) or Proxmox VE's (.conf); or a domain that is
        /// running or recorded
        #[arg(value_name = "FILE|DOMAIN")]
        file: String,
        /// The format to write
        #[arg(long, value_name = "FORMAT", value_parser = format())]
        to: String,
        /// Replace what the format cannot express with the nearest hardware that it can, and list
        /// what the guest sees differently
        #[arg(long)]
        nearest: bool,
        /// Move the guest to this hypervisor
        #[arg(long = "for", value_name = "HYPERVISOR", value_parser = hypervisor())]
        hypervisor: Option<Hypervisor>,
        /// Write it even if the format cannot express everything
        #[arg(long)]
        lossy: bool,
    },
    /// Print the arguments that start a QEMU with the hardware of a configuration
    #[command(after_help = help::QEMU_ARGS)]
    QemuArgs {
        /// The configuration: a spec (.toml), libvirt's (.xml), xl's (.cfg), libxl's JSON (.json),
        /// VMware's (.vmx), VirtualBox's (.vbox) or Proxmox VE's (.conf); or a domain that is
        /// running or recorded
        #[arg(value_name = "SPEC|DOMAIN")]
        spec: String,
        /// Add N empty PCI Express root ports, for controllers that are added later (q35 needs
        /// them)
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u8).range(..=32))]
        spare_slots: u8,
        /// Fail if a host device is not plugged in, instead of leaving it out
        #[arg(long)]
        strict: bool,
        /// Use devices that are protected or that another domain holds
        #[arg(long)]
        force: bool,
    },
    /// Print a completion script for a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print what the last word can be completed to, for the scripts of `vusb completions`
    #[command(name = "__complete", hide = true)]
    Complete {
        /// The words after `vusb`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Write the manual pages
    #[command(hide = true)]
    Man {
        /// The folder to write them to
        dir: PathBuf,
    },
}

impl Command {
    /// The method of vusbd that carries out this command. `None`: the command does not use vusbd.
    pub(crate) fn method(&self) -> Option<&'static str> {
        Some(match self {
            Command::Controller(ControllerCommand::Add(_)) => "AddController",
            Command::Controller(ControllerCommand::Remove { .. }) => "RemoveController",
            Command::Device(DeviceCommand::Add(add)) if add.devices.len() == 1 => "AddDevice",
            Command::Device(DeviceCommand::Add(_)) => "AddDevices",
            Command::Device(DeviceCommand::Remove { .. }) => "RemoveDevices",
            Command::Device(DeviceCommand::Move(_)) => "MoveDevice",
            Command::List { .. }
            | Command::Controller(ControllerCommand::List { .. })
            | Command::Device(DeviceCommand::List { .. }) => "Describe",
            Command::Watch { .. } if self.watches_trees() => "Describe",
            Command::Web { .. } => "Describe",
            Command::Plan { .. } => "Plan",
            Command::Apply { target: Some(_), .. } => "Apply",
            Command::Suspend { .. } => "Suspend",
            Command::Resume { .. } => "Resume",
            Command::Host(HostCommand::List { backend: None }) => "DescribeHost",
            Command::Explain(explain) if !explain.is_described() => "Explain",
            _ => return None,
        })
    }

    /// Whether this is a `watch` that shows trees instead of events.
    pub(crate) fn watches_trees(&self) -> bool {
        match self {
            Command::Watch { since: None, events: false, tree, .. } => {
                *tree || std::io::stdout().is_terminal()
            }
            _ => false,
        }
    }

    /// Whether the command may change a domain.
    pub(crate) const fn changes_domain(&self) -> bool {
        match self {
            Command::Controller(command) => !matches!(command, ControllerCommand::List { .. }),
            Command::Device(command) => !matches!(command, DeviceCommand::List { .. }),
            Command::Domain(command) => command.changes_domain(),
            Command::Apply { .. } | Command::Suspend { .. } | Command::Resume { .. } => true,
            _ => false,
        }
    }
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ControllerCommand {
    /// Add a controller, and print its name
    #[command(after_help = help::CONTROLLER_ADD, aliases = ["attach", "plug", "create"])]
    Add(ControllerAdd),
    /// Remove a controller
    #[command(after_help = help::CONTROLLER_REMOVE, aliases = ["detach", "unplug", "delete", "del", "rm"])]
    Remove {
        /// The domain: qemu:SOCKET, libvirt:NAME, xen:NAME, sim:FILE, a recorded name, or a file
        /// (.toml, .xml, .cfg, .json, .vmx, .vbox, .conf)
        domain: String,
        /// The controller, by its name (hci0) or its index (0)
        controller: ControllerRef,
        /// Remove it with its devices; on Xen, without the guest's consent
        #[arg(long)]
        force: bool,
    },
    /// Show the controllers of a domain
    #[command(after_help = help::CONTROLLER_LIST, aliases = ["ls", "show"])]
    List {
        /// The domain: qemu:SOCKET, libvirt:NAME, xen:NAME, sim:FILE, a recorded name, or a file
        /// (.toml, .xml, .cfg, .json, .vmx, .vbox, .conf)
        domain: String,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ControllerAdd {
    /// The domain: qemu:SOCKET, libvirt:NAME, xen:NAME, sim:FILE, a recorded name, or a file
    /// (.toml, .xml, .cfg, .json, .vmx, .vbox, .conf)
    pub(crate) domain: String,
    /// Its name [default: hciN, for pv pvN]
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// Emulated hardware or paravirtual (Xen's PVUSB); auto depends on the guest
    #[arg(long = "type", value_name = "TYPE", value_enum, default_value = "auto")]
    pub(crate) controller_type: TypeArgument,
    /// Its USB version; 2 is the whole ICH9 group
    #[arg(long, value_name = "VERSION", value_parser = version())]
    pub(crate) usbversion: Option<UsbVersion>,
    /// Its exact model; see `vusb models`
    #[arg(long, value_parser = model())]
    pub(crate) model: Option<Model>,
    /// Its number of ports [default: 16, or the model's maximum]
    #[arg(long, value_name = "N", value_parser = value_parser!(u8).range(1..))]
    pub(crate) ports: Option<u8>,
    /// Its index, from 0 to 4095 [default: the lowest free one]
    #[arg(long, value_name = "I")]
    pub(crate) index: Option<Index>,
    /// For pv, the domain whose USB devices it carries, by name or ID [default: 0]
    #[arg(long, value_name = "DOM")]
    pub(crate) backend: Option<String>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Attach a device, and print its location
    #[command(after_help = help::DEVICE_ADD, aliases = ["attach", "plug", "create"])]
    Add(DeviceAdd),
    /// Detach a device
    #[command(after_help = help::DEVICE_REMOVE, aliases = ["detach", "unplug", "delete", "del", "rm"])]
    Remove {
        /// The domain: qemu:SOCKET, libvirt:NAME, xen:NAME, sim:FILE, a recorded name, or a file
        /// (.toml, .xml, .cfg, .json, .vmx, .vbox, .conf)
        domain: String,
        /// The devices: names, selectors, or CONTROLLER:PORT. All or none are detached
        #[arg(required = true, value_name = "DEVICE")]
        devices: Vec<String>,
        /// Forget it if its guest has ended; detach a hub with what is behind it; on Xen, do not
        /// wait for the guest
        #[arg(long)]
        force: bool,
    },
    /// Move a device to another port, with what is behind it
    #[command(after_help = help::DEVICE_MOVE, aliases = ["mv"])]
    Move(DeviceMove),
    /// Show the devices of a domain
    #[command(after_help = help::DEVICE_LIST, aliases = ["ls", "show"])]
    List {
        /// The domain: qemu:SOCKET, libvirt:NAME, xen:NAME, sim:FILE, a recorded name, or a file
        /// (.toml, .xml, .cfg, .json, .vmx, .vbox, .conf)
        domain: String,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DeviceAdd {
    /// The domain: qemu:SOCKET, libvirt:NAME, xen:NAME, sim:FILE, a recorded name, or a file
    /// (.toml, .xml, .cfg, .json, .vmx, .vbox, .conf)
    pub(crate) domain: String,
    /// The devices: selectors of host devices, or emulated devices; see below. All or none are
    /// attached
    #[arg(required = true, value_name = "DEVICE")]
    pub(crate) devices: Vec<String>,
    /// The controller, by name or index [default: one that takes the device; added if there is
    /// none]
    #[arg(long, value_name = "C")]
    pub(crate) controller: Option<ControllerRef>,
    /// The port, such as 1, or 1.2 behind a hub [default: the lowest free one]
    #[arg(long, value_name = "P")]
    pub(crate) port: Option<PortPath>,
    /// Its name [default: its kind and a number]
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// If the host device is not plugged in, keep its port; `vusb apply DOMAIN` attaches it once it
    /// is there
    #[arg(long)]
    pub(crate) when_there: bool,
    /// Report a failure while this host device is not plugged in, because the guest needs it. The
    /// guest starts in either case
    #[arg(long)]
    pub(crate) required: bool,
    /// Attach it even if it is protected
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("destination").args(["controller", "port"]).required(true).multiple(true))]
pub(crate) struct DeviceMove {
    /// The domain: qemu:SOCKET, libvirt:NAME, xen:NAME, sim:FILE, a recorded name, or a file
    /// (.toml, .xml, .cfg, .json, .vmx, .vbox, .conf)
    pub(crate) domain: String,
    /// The device: a name, a selector, or CONTROLLER:PORT
    pub(crate) device: String,
    /// The controller to move it to, by name or index [default: the one that it is on]
    #[arg(long, value_name = "C")]
    pub(crate) controller: Option<ControllerRef>,
    /// The port to move it to [default: the lowest free one]
    #[arg(long, value_name = "P")]
    pub(crate) port: Option<PortPath>,
    /// Move it even if another tool created it or it is protected
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Show the USB devices of this machine, and which domains hold them
    #[command(after_help = help::HOST_LIST)]
    List {
        /// Show the devices that the vusb-backend of this Xen domain can export, by name or ID
        #[arg(long, value_name = "DOM")]
        backend: Option<String>,
    },
}

/// A controller's type. The values have no help text: it would double the length of the whole help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TypeArgument {
    Auto,
    Pv,
    Emulated,
}

impl TypeArgument {
    const fn requested(self) -> Option<ControllerType> {
        match self {
            TypeArgument::Auto => None,
            TypeArgument::Pv => Some(ControllerType::Pv),
            TypeArgument::Emulated => Some(ControllerType::Emulated),
        }
    }
}

impl ControllerAdd {
    /// The request.
    pub(crate) fn spec(&self) -> ControllerSpec {
        ControllerSpec {
            index: self.index,
            name: self.name.clone(),
            controller_type: self.controller_type.requested(),
            usbversion: self.usbversion,
            model: self.model,
            ports: self.ports,
            backend: self.backend.clone(),
            ..ControllerSpec::default()
        }
    }
}

impl DeviceAdd {
    /// The request for this device.
    pub(crate) fn spec(&self, device: Kind) -> DeviceSpec {
        let device = match device {
            Kind::Host(host) => Kind::Host(HostRef { required: self.required, ..host }),
            other => other,
        };
        DeviceSpec {
            name: self.name.clone(),
            controller: self.controller.clone(),
            port: self.port,
            ..DeviceSpec::new(device)
        }
    }
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Check the rules for mistakes
    #[command(after_help = help::RULES_CHECK)]
    Check {
        /// Rule files and folders, instead of those of this machine
        #[arg(value_name = "FILE|DIR")]
        paths: Vec<PathBuf>,
    },
    /// Convert the rules of another tool into a rule file
    #[command(after_help = help::RULES_IMPORT)]
    Import {
        /// The file: XAPI's usb-policy.conf, USBGuard's rules.conf, vhotplug's config.json, or
        /// Qubes's qubes.xml
        file: PathBuf,
        /// The tool that the file is from [default: by its content]
        #[arg(long = "of", value_name = "TOOL", value_parser = tool())]
        tool: Option<Tool>,
    },
    /// Show all rules, including those that are built in
    #[command(after_help = help::RULES_LIST, aliases = ["ls", "show"])]
    List,
}

/// The device to explain, and optionally a domain. If options describe the device, the first
/// argument is the domain.
#[derive(Clone, Debug, Args)]
pub(crate) struct Explain {
    /// The device: a selector, or a node such as /dev/ttyUSB0
    #[arg(value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// The domain, by its name or address [default: all domains]
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: Option<String>,
    /// Describe a device that need not be plugged in: its vendor and product, and optionally its
    /// serial number
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// The described device's port: 1-4.2, or a path
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<String>,
    /// An interface of the described device, as in a rule: 08:06:50, or a word such as storage; may
    /// be repeated
    #[arg(long, value_name = "KIND")]
    pub(crate) has: Vec<InterfaceClass>,
    /// The names of the described device's vendor and product
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// Whether the described device can be unplugged: true, false or unknown
    #[arg(long, value_name = "BOOL", value_parser = removable())]
    pub(crate) removable: Option<Removable>,
}

impl Explain {
    /// Whether the device is described by options.
    pub(crate) fn is_described(&self) -> bool {
        self.id.is_some()
            || self.port.is_some()
            || !self.has.is_empty()
            || self.text.is_some()
            || self.removable.is_some()
    }
}

/// A device to add.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DeviceArgument {
    /// A device by its kind, or a host device by its selector.
    Kind(Kind),
    /// The host device with this node: `/dev/ttyUSB0`. This machine knows which device that is.
    Node(PathBuf),
    /// The host device that a hypervisor's tool has this name for: `mapping:zigbee`.
    Named(String),
}

impl FromStr for DeviceArgument {
    type Err = KindError;

    fn from_str(text: &str) -> Result<DeviceArgument, KindError> {
        match (node(text), mapping(text)) {
            (Some(node), _) => Ok(DeviceArgument::Node(node)),
            (_, Some(name)) => Ok(DeviceArgument::Named(name)),
            (None, None) => text.parse().map(DeviceArgument::Kind),
        }
    }
}

/// The name of a mapping in a text: `mapping:zigbee`, also after `host:`.
pub(crate) fn mapping(text: &str) -> Option<String> {
    let name = text.strip_prefix("host:").unwrap_or(text);
    name.starts_with("mapping:").then(|| name.to_owned())
}

/// The node in `/dev` that a text names. `None` for `/dev/bus/usb/...`, which is a selector.
pub(crate) fn node(text: &str) -> Option<PathBuf> {
    let path = text.strip_prefix("host:").unwrap_or(text);
    let is_node = path.starts_with("/dev/") && !path.starts_with("/dev/bus/usb/");
    is_node.then(|| PathBuf::from(path))
}

/// Reads a USB version.
fn version() -> impl TypedValueParser<Value = UsbVersion> {
    PossibleValuesParser::new(["1", "2", "3"]).try_map(|text| text.parse::<UsbVersion>())
}

/// Reads whether a device can be unplugged.
fn removable() -> impl TypedValueParser<Value = Removable> {
    PossibleValuesParser::new(["true", "false", "unknown"]).map(|text| match text.as_str() {
        "true" => Removable::Removable,
        "false" => Removable::Fixed,
        _ => Removable::Unknown,
    })
}

/// Reads the name of a tool whose rules can be read.
fn tool() -> impl TypedValueParser<Value = Tool> {
    PossibleValuesParser::new(Tool::ALL.map(Tool::name)).try_map(|text| text.parse::<Tool>())
}

fn hypervisor() -> impl TypedValueParser<Value = Hypervisor> {
    let names = PossibleValuesParser::new(["kvm", "xen", "vmware", "virtualbox"]);
    names.map(|name| match name.as_str() {
        "xen" => Hypervisor::Xen,
        "vmware" => Hypervisor::Vmware,
        "virtualbox" => Hypervisor::VirtualBox,
        _ => Hypervisor::Qemu,
    })
}

/// Reads the name of a format.
fn format() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(Formats::builtin().names())
}

/// Reads a model by its name or alias.
fn model() -> impl TypedValueParser<Value = Model> {
    let values = Model::ALL
        .map(|model| PossibleValue::new(model.name()).aliases(model.aliases().iter().copied()));
    PossibleValuesParser::new(values).try_map(|text| text.parse::<Model>())
}

/// The longest time-out, in seconds: a day.
const MAX_SECONDS: f64 = 86_400.0;

/// Reads a time in seconds, with or without a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("a time is a number of seconds above 0 and up to {MAX_SECONDS}");
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = text.parse::<f64>().ok().filter(|seconds| digits && *seconds <= MAX_SECONDS);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn clap_finds_no_mistake_in_the_definition() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn timeouts_are_read_in_seconds() {
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
