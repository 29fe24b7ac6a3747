//! `pve:VMID`: a Proxmox VE guest on this node.
//!
//! ```text
//!              runs? ──no──▶ VMID.conf ──▶ the driver for config files
//!                └─yes─▶ VMID.qmp ──▶ the driver for QEMU
//!
//!   a device at a place of Proxmox VE ──▶ `qm set VMID -usbN` ──▶ is it in QEMU?
//!   everything else                   ──▶ QEMU: a controller of vusb in a slot that Proxmox VE
//!                                         does not use, and devices on it
//! ```
//!
//! Proxmox VE has 14 places, `usb0` to `usb13`, for host devices and redirections (profile
//! `pve-1`). A device at such a place belongs to Proxmox VE: it is in the configuration, and
//! returns with the guest. Only `qm` changes it, because `qm` handles permissions and pending
//! changes. `qm` does not check QEMU's answer, so this driver does.
//!
//! QEMU's monitor serves one program at a time, and `qm`, the web interface and the statistics need
//! it too, so it is only held for moments. For changes, the lock of `qm` is held from the first
//! observation of the guest on. It is released for each run of `qm`, and taken again by the next
//! step or observation.
//!
//! The facts are those of qemu-server's `PVE/QemuServer.pm`, `PVE/QemuServer/USB.pm` and
//! `PVE/QemuServer/PCI.pm`. None of this was run on a real Proxmox VE.

mod lock;
mod qm;
mod scheme;

use std::collections::BTreeSet;
use std::path::PathBuf;

use vusb_formats::HostNaming;
use vusb_formats::pve::{self, Facts};
use vusb_host::Host;
use vusb_model::address::{Address, PortPath};
use vusb_model::capabilities::{Capabilities, KINDS, Slots, Support};
use vusb_model::diff::Step;
use vusb_model::hardware::{Controller, Device, Hardware, PciAddress};
use vusb_model::models::Model;
use vusb_model::profile::Profile;
use vusb_model::remedy::Reason;
use vusb_model::resolve::pve_1;
use vusb_model::spec::Spec;

use self::lock::GuestLock;
pub use self::scheme::PveScheme;
use crate::configfile::{ConfigFile, pmxcfs};
use crate::driver::{AllAtOnce, Driver, Error, Observed};
use crate::identity::GuestIdentity;
use crate::limits::Limits;
use crate::qemu::{self, Qemu};
use crate::text;

/// The PCI bus for vusb's controllers, and the slots of it that Proxmox VE does not use
/// (`print_pci_addr` in `PVE/QemuServer/PCI.pm`: those up to 0x18 are for `hostpci`, disks, and the
/// like).
const BUS: &str = "pci.2";
const SLOTS: [u8; 7] = [0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f];

/// Makes the paths of a guest's files.
#[derive(Clone, Debug)]
struct Paths {
    root: PathBuf,
    vmid: u32,
}

impl Paths {
    fn config(&self) -> PathBuf {
        self.root.join(format!("etc/pve/qemu-server/{}.conf", self.vmid))
    }

    fn monitor(&self) -> PathBuf {
        self.root.join(format!("var/run/qemu-server/{}.qmp", self.vmid))
    }

    fn lock(&self) -> PathBuf {
        self.root.join(format!("var/lock/qemu-server/lock-{}.conf", self.vmid))
    }

    fn qm(&self) -> PathBuf {
        self.root.join("usr/sbin/qm")
    }

    fn domain(&self) -> String {
        format!("pve:{}", self.vmid)
    }
}

/// A Proxmox VE guest.
pub(crate) struct Guest {
    paths: Paths,
    limits: Limits,
    host: Host,
    /// Whether the guest will be changed. If so, the lock of `qm` is taken.
    changes: bool,
    lock: Option<GuestLock>,
    state: Option<State>,
}

/// What was observed last.
enum State {
    Running {
        qemu: Box<Qemu>,
        facts: Box<Facts>,
        hardware: Hardware,
        identity: Option<GuestIdentity>,
    },
    Off(Box<ConfigFile>),
}

/// Which program performs a step.
#[derive(Debug, PartialEq, Eq)]
enum Performer {
    /// `qm`, with these arguments after `qm set VMID`.
    Qm(Vec<String>),
    /// `qm` does it when it adds the first device of the controller or removes the last one.
    WithDevice,
    Qemu,
}

impl Guest {
    fn new(paths: Paths, limits: Limits, host: Host, changes: bool) -> Guest {
        Guest { paths, limits, host, changes, lock: None, state: None }
    }

    /// Reads the configuration.
    fn facts(&self) -> Result<Facts, Error> {
        let path = self.paths.config();
        let text = text::read(&path).map_err(|error| match error {
            text::TextError::Missing => Error::Missing {
                what: self.paths.domain(),
                why: format!("this node has no guest {} (no {})", self.paths.vmid, path.display())
                    .into(),
            },
            error => Error::Failed {
                what: format!("reading {}", path.display()),
                why: error.to_string().into(),
            },
        })?;
        Ok(pve::facts(&text))
    }

    /// Checks that the configuration can be written.
    ///
    /// # Errors
    /// The cluster has no quorum.
    fn check_quorum(&self) -> Result<(), Error> {
        pmxcfs::check_quorum(&self.paths.config())
    }

    /// Whether the guest has a QEMU that can be reached.
    fn runs(&self) -> bool {
        let monitor = self.paths.monitor();
        monitor.to_str().is_some_and(qemu::has_listener)
    }

    fn state(&mut self) -> Result<&mut State, Error> {
        let domain = self.paths.domain();
        self.state
            .as_mut()
            .ok_or_else(|| Error::Confused { domain, why: "it has not been observed yet".into() })
    }

    fn take_lock(&mut self) -> Result<(), Error> {
        if self.changes && self.lock.is_none() {
            self.lock = Some(GuestLock::take(&self.paths, &self.limits)?);
        }
        Ok(())
    }

    fn observe_running(&mut self, recorded: &Hardware, facts: Facts) -> Result<Observed, Error> {
        let mut qemu = match self.state.take() {
            Some(State::Running { qemu, .. }) => qemu,
            _ => {
                let (monitor, domain) = (self.paths.monitor(), self.paths.domain());
                Box::new(Qemu::shared(&monitor, domain, self.limits.clone()))
            }
        };
        let observed = qemu.observe(&with_own_address(recorded));
        let identity = qemu.identity();
        qemu.release();
        let mut observed = observed?;
        if !facts.pending.is_empty() {
            let pending = facts.pending.join(", ");
            observed
                .notes
                .push(format!("{pending}: Proxmox VE applies a change at the next start"));
        }
        let hardware = observed.hardware.clone();
        let facts = Box::new(facts);
        self.state = Some(State::Running { qemu, facts, hardware, identity });
        Ok(observed)
    }

    fn observe_off(&mut self, recorded: &Hardware) -> Result<Observed, Error> {
        let mut file = match self.state.take() {
            // Kept, because it holds the lock on the file.
            Some(State::Off(file)) => file,
            _ => {
                let format = vusb_formats::Format::new(vusb_formats::Pve);
                let lookup = crate::configfile::lookup(self.host.clone());
                let limits = self.limits.clone();
                let file = ConfigFile::at(&self.paths.config(), format, lookup, limits);
                Box::new(if self.changes { file.for_edits() } else { file })
            }
        };
        let observed = file.observe(recorded)?;
        self.state = Some(State::Off(file));
        // vusb manages no device of the configuration, whether the guest runs or not: what `qm`
        // removes stays removed.
        Ok(Observed { off: true, ours: BTreeSet::new(), ..observed })
    }

    /// Lets `qm` add a device at a place or remove it, and checks the result.
    fn perform_with_qm(&mut self, step: &Step, arguments: &[String]) -> Result<(), Error> {
        // qm takes the lock itself. Only the next step takes it again: if another program has the
        // lock by then, this step has succeeded all the same.
        self.lock = None;
        let output = qm::set(&self.paths, arguments, &self.limits)?;
        let output = if output.is_empty() { output } else { format!("; qm printed: {output}") };
        let failed = |why: String| Err(Error::Failed { what: step.to_string(), why: why.into() });
        match step {
            Step::Plug(at, _) if !self.has_device_at(at.port)? => {
                // The configuration has the device: the next start would add it, or fail.
                let place = at.port.port().saturating_sub(1);
                let undo = ["--delete".to_owned(), format!("usb{place}")];
                let undone = match qm::set(&self.paths, &undo, &self.limits) {
                    Ok(_) => String::new(),
                    Err(error) => format!("; usb{place} is still in the configuration: {error}"),
                };
                failed(format!(
                    "qm reported success, but QEMU does not have the device{output}{undone}"
                ))
            }
            Step::Unplug(at, _) if self.has_device_at(at.port)? => {
                failed(format!("qm reported success, but QEMU still has the device{output}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a port of Proxmox VE's own controller has a device now.
    fn has_device_at(&mut self, port: PortPath) -> Result<bool, Error> {
        let facts = self.facts()?;
        // Later steps use the indexes that were decided before.
        let known = match &self.state {
            Some(State::Running { hardware, .. }) => hardware.clone(),
            _ => Hardware::new(),
        };
        let observed = self.observe_running(&known, facts)?;
        let mut all = observed.hardware.controllers();
        let xhci = all.find(|it| it.name.as_str() == pve_1::CONTROLLER);
        Ok(xhci.is_some_and(|it| it.devices().any(|(at, _)| at == port)))
    }

    /// Which program performs the step in a running guest.
    ///
    /// # Errors
    /// Neither `qm` nor QEMU can perform it.
    fn performer(
        &self,
        step: &Step,
        hardware: &Hardware,
        facts: &Facts,
    ) -> Result<Performer, Error> {
        let refuse = |why: &str| {
            let (what, by) = (step.to_string(), "Proxmox VE".to_owned());
            Err(Error::NotImplemented { what, by, why: why.into() })
        };
        let is_own = |it: &Controller| it.name.as_str() == pve_1::CONTROLLER;
        let is_on_own = |at: &Address| hardware.controller(at.bus).is_none_or(is_own);
        let place = |at: &Address| at.port.port().saturating_sub(1);
        match step {
            Step::AddController(it) if is_own(it) => Ok(Performer::WithDevice),
            Step::RemoveController(it) if is_own(it) && it.devices().next().is_none() => {
                Ok(Performer::WithDevice)
            }
            Step::RemoveController(it) if is_own(it) => {
                refuse("Proxmox VE removes this controller of its own with the last device")
            }
            Step::Plug(at, device) if is_on_own(at) && fits_place(at, device) => {
                if !facts.hot_plugs {
                    return refuse(
                        "Proxmox VE adds a USB device to this guest at its next start only: its option `hotplug` does \
                         not include `usb`, its machine is older than 7.1, or its ostype is not l26, win8 or newer; \
                         use `qm set`, or name a controller of vusb",
                    );
                }
                let key = format!("usb{}", place(at));
                if facts.places.contains(&key) {
                    return refuse(&format!(
                        "{key} of the configuration is another device, which the running guest does not have: it is \
                         plugged in at the next start, or QEMU has refused it; use another port, or `qm set {} \
                         --delete {key}`",
                        self.paths.vmid
                    ));
                }
                let value = pve::host_value(&device.kind).unwrap_or_default();
                Ok(Performer::Qm(vec![format!("-usb{}", place(at)), value]))
            }
            Step::Plug(at, _) if hardware.controller(at.bus).is_some_and(is_own) => refuse(
                "this controller is for usb0 to usb13, and Proxmox VE removes it with the last of them; \
                 add another controller",
            ),
            Step::Unplug(at, _) if hardware.controller(at.bus).is_some_and(is_own) => {
                if !facts.hot_plugs {
                    return refuse("Proxmox VE removes it at the next start of the guest only");
                }
                Ok(Performer::Qm(vec!["--delete".to_owned(), format!("usb{}", place(at))]))
            }
            _ => Ok(Performer::Qemu),
        }
    }

    /// The step with a PCI address for a new controller.
    fn with_slot(
        &self,
        step: &Step,
        (qemu, hardware): (&Qemu, &Hardware),
        taken: &mut Vec<u8>,
    ) -> Step {
        let Step::AddController(controller) = step else { return step.clone() };
        if controller.name.as_str() == pve_1::CONTROLLER {
            return step.clone();
        }
        let Some(used) = qemu.slots_in_use(BUS) else { return step.clone() };
        // Controllers that earlier steps have added are not observed yet.
        let has = |slot: &u8| {
            let mut all = hardware.controllers().filter_map(|it| it.pci.as_ref());
            all.any(|pci| pci.bus == BUS && pci.slot == *slot)
        };
        let is_free = |slot: &u8| !used.contains(slot) && !taken.contains(slot) && !has(slot);
        match (&controller.pci, SLOTS.into_iter().find(is_free)) {
            (None, Some(slot)) => {
                taken.push(slot);
                let mut controller = controller.clone();
                controller.pci = Some(PciAddress { bus: BUS.to_owned(), slot, function: 0 });
                Step::AddController(controller)
            }
            _ => step.clone(),
        }
    }

    /// Calls the driver of the running QEMU, and releases the monitor.
    fn with_qemu<T>(
        &mut self,
        call: impl FnOnce(&mut Qemu) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match self.state()? {
            State::Running { qemu, .. } => {
                let result = call(qemu);
                qemu.release();
                result
            }
            State::Off(_) => {
                Err(Error::Confused { domain: self.paths.domain(), why: "it does not run".into() })
            }
        }
    }
}

/// Adds the PCI address that Proxmox VE's controller always has. By this address, a controller that
/// `qm` has added is recognized as the one that was decided.
fn with_own_address(recorded: &Hardware) -> Hardware {
    let mut hardware = recorded.clone();
    let own = recorded.controllers().find(|it| it.name.as_str() == pve_1::CONTROLLER);
    if let Some(own) = own.filter(|it| it.pci.is_none()) {
        let pci = PciAddress { bus: "pci.1".to_owned(), slot: 0x1b, function: 0 };
        hardware.set_pci(own.index, Some(pci));
    }
    hardware
}

/// Without what QEMU has only from its start: Proxmox VE decides what a guest starts with.
fn without_cold(mut capabilities: Capabilities) -> Capabilities {
    let models = capabilities.models.values_mut();
    for support in models.chain(capabilities.kinds.values_mut()) {
        if let Support::Cold { why } = support {
            *support = Support::Unsupported { why: std::mem::take(why) };
        }
    }
    capabilities
}

/// What a guest that does not run can be given: only what its configuration can name. What a
/// request needs is checked by the edit, which has the reason for each item.
fn as_configured(capabilities: Capabilities, needed: Option<&Spec>) -> Capabilities {
    if needed.is_some() {
        return capabilities;
    }
    let why = "the Proxmox VE configuration has no key for it; add it while the guest runs";
    let no = || Support::Unsupported { why: why.to_owned() };
    let can = |kind: &&str| matches!(*kind, "host" | "redir" | "tablet");
    let kinds = KINDS.into_iter().filter(|it| !can(it)).map(|it| (it, no()));
    let mut capabilities = capabilities;
    capabilities.models = Model::ALL.into_iter().map(|it| (it, no())).collect();
    capabilities.kinds.extend(kinds);
    capabilities
}

/// Whether Proxmox VE can have this device at this port.
fn fits_place(at: &Address, device: &Device) -> bool {
    let is_place = (1..=pve_1::PLACES).contains(&at.port.port()) && at.port.parent().is_none();
    is_place && pve_1::has_place(&device.kind)
}

impl Driver for Guest {
    fn observe(&mut self, recorded: &Hardware) -> Result<Observed, Error> {
        self.facts()?;
        self.take_lock()?;
        // Read again: the guest may have been changed during the wait for the lock.
        let facts = self.facts()?;
        if let Some(lock) = facts.lock.as_ref().filter(|_| self.changes) {
            let why = format!(
                "Proxmox VE has locked it ({}); retry when that is done, or see `qm unlock {}`",
                lock.escape_debug(),
                self.paths.vmid
            );
            return Err(Error::Busy { domain: self.paths.domain(), why: why.into() });
        }
        if self.runs() { self.observe_running(recorded, facts) } else { self.observe_off(recorded) }
    }

    fn capabilities(&mut self, needed: Option<&Spec>) -> Result<Capabilities, Error> {
        match self.state()? {
            State::Off(file) => Ok(as_configured(file.capabilities(needed)?, needed)),
            State::Running { qemu, .. } => {
                let capabilities = qemu.capabilities(needed);
                qemu.release();
                let used = qemu.slots_in_use(BUS);
                let is_free = |slot: &u8| used.as_ref().is_some_and(|used| !used.contains(slot));
                let reason = Reason::from(
                    "all slots of pci.2 that Proxmox VE does not use (0x19 to 0x1f) are taken",
                );
                let slots = Slots { free: SLOTS.into_iter().filter(is_free).count(), reason };
                let capabilities = Capabilities { slots: Some(slots), ..capabilities? };
                Ok(if needed.is_none() { without_cold(capabilities) } else { capabilities })
            }
        }
    }

    fn check(&mut self, steps: &[Step]) -> Result<(), Error> {
        if let State::Off(file) = self.state()? {
            file.check(steps)?;
            return if steps.is_empty() { Ok(()) } else { self.check_quorum() };
        }
        let mut for_qemu = Vec::new();
        let mut taken = Vec::new();
        if let Some(State::Running { qemu, facts, hardware, .. }) = &self.state {
            let mut needs_qm = false;
            let mut hardware = hardware.clone();
            for step in steps {
                match self.performer(step, &hardware, facts)? {
                    Performer::Qm(_) => needs_qm = true,
                    Performer::WithDevice => {}
                    Performer::Qemu => {
                        for_qemu.push(self.with_slot(step, (qemu, &hardware), &mut taken));
                    }
                }
                if let Step::AddController(_) = step {
                    // A later step may be for this new controller, which decides who performs it.
                    let _ = step.apply(&mut hardware);
                }
            }
            if needs_qm {
                self.check_quorum()?;
            }
            if needs_qm && !self.paths.qm().exists() {
                let what = self.paths.qm().display().to_string();
                let why = "only this program changes the devices of Proxmox VE's guests".into();
                return Err(Error::Missing { what, why });
            }
        }
        self.with_qemu(|qemu| qemu.check(&for_qemu))
    }

    fn perform(&mut self, step: &Step) -> Result<(), Error> {
        self.take_lock()?;
        let (by, step) = match self.state()? {
            State::Off(file) => return file.perform(step),
            State::Running { .. } => match &self.state {
                Some(State::Running { qemu, facts, hardware, .. }) => {
                    let placed = self.with_slot(step, (qemu, hardware), &mut Vec::new());
                    (self.performer(step, hardware, facts)?, placed)
                }
                _ => return Ok(()),
            },
        };
        match by {
            Performer::Qm(arguments) => return self.perform_with_qm(&step, &arguments),
            Performer::WithDevice => {}
            Performer::Qemu => self.with_qemu(|qemu| qemu.perform(&step))?,
        }
        if let (Step::AddController(_), Some(State::Running { hardware, .. })) =
            (&step, &mut self.state)
        {
            // Which program performs a later step depends on the step's controller, so a new
            // controller is noted.
            let _ = step.apply(hardware);
        }
        Ok(())
    }

    fn all_at_once(&mut self) -> Option<&mut dyn AllAtOnce> {
        match &mut self.state {
            Some(State::Off(file)) => file.all_at_once(),
            _ => None,
        }
    }

    fn not_restorable(&self, device: &Device) -> Option<String> {
        match &self.state {
            Some(State::Running { qemu, .. }) => qemu.not_restorable(device),
            _ => None,
        }
    }

    fn remove_backends(&mut self, devices: &[Device]) -> Result<(), Error> {
        if let Some(State::Off(_)) = self.state {
            return Ok(());
        }
        self.with_qemu(|qemu| qemu.remove_backends(devices))
    }

    fn profile(&self) -> Option<Profile> {
        Some(Profile::Pve1)
    }

    fn guest_name(&self) -> Option<String> {
        self.facts().ok()?.name
    }

    /// The identity of its QEMU: the same guest may be addressed by its monitor's path.
    fn identity(&mut self) -> Option<GuestIdentity> {
        match &self.state {
            Some(State::Running { identity, .. }) => identity.clone(),
            _ => None,
        }
    }

    fn host_naming(&self) -> HostNaming {
        HostNaming::IdOrPort
    }
}
