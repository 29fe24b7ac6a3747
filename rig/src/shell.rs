//! A shell in a guest: running commands, waiting for conditions, and listing the guest's devices.

use crate::agent::{Agent, Liveness, Output};
use crate::bare_qemu::BareQemu;
use crate::error::{Error, Result, Tail};
use crate::sysfs::{self, GuestPciDevice, GuestUsbDevice};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long reading the guest's sysfs may take in a nested emulator.
const SYSFS_LIMIT: Duration = Duration::from_secs(60);

/// The polling interval for a guest's devices.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Decides from a console whether QEMU has lost the guest.
pub(crate) type LossTest = fn(&str) -> bool;

/// The agent of a guest with the guest's console.
#[derive(Debug)]
pub struct Shell {
    agent: Mutex<Agent>,
    console: PathBuf,
    qemu: Arc<BareQemu>,
    lost: Option<LossTest>,
}

impl Shell {
    pub(crate) fn new(agent: UnixStream, console: PathBuf, qemu: Arc<BareQemu>) -> Self {
        Self { agent: Mutex::new(Agent::new(agent)), console, qemu, lost: None }
    }

    /// Waiting calls fail as soon as this test finds that the guest was lost.
    pub(crate) fn lost_if(mut self, test: LossTest) -> Self {
        self.lost = Some(test);
        self
    }

    /// Waits until the drivers are loaded and the agent responds. Devices may appear later: wait
    /// for them with [`Shell::wait_until`]. Returns the seconds since the kernel was started. To be
    /// called once per start of the guest.
    ///
    /// # Errors
    /// [`crate::Error::Timeout`], [`crate::Error::Exited`], [`crate::Error::LostGuest`],
    /// [`crate::Error::Agent`].
    pub fn wait_booted(&self, limit: Duration) -> Result<f64> {
        self.agent().ready(limit, self)
    }

    /// Runs a shell command in the guest, which kills it at the limit (in whole seconds). An exit
    /// code other than 0 is not an error here: see [`Output::ok`].
    ///
    /// # Errors
    /// [`crate::Error::Timeout`], [`crate::Error::Exited`], [`crate::Error::LostGuest`],
    /// [`crate::Error::Agent`].
    pub fn sh(&self, command: &str, limit: Duration) -> Result<Output> {
        self.agent().sh(command, limit, self)
    }

    /// Runs a shell command in the guest every tenth of a second until it succeeds. Returns its
    /// last output.
    ///
    /// # Errors
    /// [`crate::Error::Timeout`] with the end of the console if it does not succeed in time; as
    /// [`Shell::sh`].
    pub fn wait_until(&self, condition: &str, limit: Duration) -> Result<String> {
        let script = format!(
            "until {{ {condition}\n}} >/tmp/.until 2>&1; do sleep 0.1; done; cat /tmp/.until"
        );
        self.sh(&script, limit)?.ok()
    }

    /// The output on the guest's first serial port so far: the kernel's log. For a Xen guest, that
    /// of the machine that runs Xen: the log of Xen and dom0.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(&self.console).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The guest's USB devices, including root hubs.
    ///
    /// # Errors
    /// As [`Shell::sh`].
    pub fn usb_tree(&self) -> Result<Vec<GuestUsbDevice>> {
        Ok(sysfs::parse_usb(&self.sh("usb-tree", SYSFS_LIMIT)?.ok()?))
    }

    /// Waits until the guest has a USB device for which `wanted` is true, and returns it. A device
    /// appears a moment before its drivers are bound: include them in the condition if they matter.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the existing devices; as [`Shell::sh`].
    pub fn wait_for_usb(
        &self,
        wanted: impl Fn(&GuestUsbDevice) -> bool,
        limit: Duration,
    ) -> Result<GuestUsbDevice> {
        let deadline = Instant::now() + limit;
        loop {
            let mut tree = self.usb_tree()?;
            if let Some(at) = tree.iter().position(&wanted) {
                return Ok(tree.swap_remove(at));
            }
            if Instant::now() > deadline {
                let names: Vec<String> =
                    tree.iter().map(|device| format!("{} {}", device.path, device.name)).collect();
                let what = format!("matching USB device among [{}]", names.join(", "));
                return Err(Error::Timeout { what, limit, tail: self.tail() });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// The guest's PCI devices.
    ///
    /// # Errors
    /// As [`Shell::sh`].
    pub fn pci_tree(&self) -> Result<Vec<GuestPciDevice>> {
        Ok(sysfs::parse_pci(&self.sh("pci-tree", SYSFS_LIMIT)?.ok()?))
    }

    fn agent(&self) -> std::sync::MutexGuard<'_, Agent> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Liveness for Shell {
    fn check(&self, what: &str) -> Result<()> {
        self.qemu.check(what, || self.tail())?;
        if self.lost.is_some_and(|test| test(&self.console())) {
            return Err(Error::LostGuest { what: what.to_owned(), tail: self.tail() });
        }
        Ok(())
    }

    fn tail(&self) -> Tail {
        Tail::of(&self.console())
    }
}
