//! A shell in a guest: commands, waiting, and what the guest's kernel says of its devices.

use crate::agent::{Agent, Life, Output};
use crate::bare::BareQemu;
use crate::error::{Error, Result, Tail};
use crate::sysfs::{self, GuestPciDevice, GuestUsbDevice};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long reading the guest's sysfs may take, inside two emulators, one in the other.
const SYSFS_LIMIT: Duration = Duration::from_secs(60);

/// Between two looks at a guest's devices.
const PAUSE: Duration = Duration::from_millis(100);

/// What tells from a console that QEMU lost a guest.
pub(crate) type Sign = fn(&str) -> bool;

/// The agent of a guest, with that guest's console.
#[derive(Debug)]
pub struct Shell {
    agent: Mutex<Agent>,
    console: PathBuf,
    qemu: Arc<BareQemu>,
    lost: Option<Sign>,
}

impl Shell {
    pub(crate) fn new(agent: UnixStream, console: PathBuf, qemu: Arc<BareQemu>) -> Self {
        Self { agent: Mutex::new(Agent::new(agent)), console, qemu, lost: None }
    }

    /// Gives up waiting as soon as the console has this sign that a guest was lost.
    pub(crate) fn lost_by(mut self, sign: Sign) -> Self {
        self.lost = Some(sign);
        self
    }

    /// Waits until the drivers are loaded and the agent answers. Devices may still be appearing:
    /// wait for those with [`Shell::wait_until`]. Returns the seconds since the kernel's start.
    /// To be called once for each start of the guest.
    ///
    /// # Errors
    /// [`crate::Error::Timeout`], [`crate::Error::Exited`].
    pub fn wait_booted(&self, limit: Duration) -> Result<f64> {
        self.agent().ready(limit, self)
    }

    /// Runs a shell command in the guest; the guest kills it at the limit (in whole seconds).
    /// A code other than 0 is no error here: see [`Output::ok`].
    ///
    /// # Errors
    /// [`crate::Error::Timeout`], [`crate::Error::Exited`], [`crate::Error::Agent`].
    pub fn sh(&self, command: &str, limit: Duration) -> Result<Output> {
        self.agent().sh(command, limit, self)
    }

    /// Runs a shell condition in the guest, every tenth of a second, until it holds; returns what
    /// it then printed.
    ///
    /// # Errors
    /// [`crate::Error::Timeout`] with the end of the console if it never holds.
    pub fn wait_until(&self, condition: &str, limit: Duration) -> Result<String> {
        let script = format!(
            "until {{ {condition}\n}} >/tmp/.until 2>&1; do sleep 0.1; done; cat /tmp/.until"
        );
        self.sh(&script, limit)?.ok()
    }

    /// Everything on the guest's first serial port until now: the kernel's log.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(&self.console).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The USB devices that the guest's kernel has, root hubs included.
    ///
    /// # Errors
    /// As [`Shell::sh`].
    pub fn usb_tree(&self) -> Result<Vec<GuestUsbDevice>> {
        Ok(sysfs::parse_usb(&self.sh("usb-tree", SYSFS_LIMIT)?.ok()?))
    }

    /// Waits until the guest's kernel has a USB device for which `wanted` is true, and returns it.
    /// A device appears a moment before its drivers do: ask for those where they matter.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the devices that there are; as [`Shell::sh`].
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
                let what = format!("USB device as wanted among [{}]", names.join(", "));
                return Err(Error::Timeout { what, limit, tail: self.tail() });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The PCI devices that the guest's kernel has.
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

impl Life for Shell {
    fn check(&self, what: &str) -> Result<()> {
        self.qemu.check(what, || self.tail())?;
        if self.lost.is_some_and(|sign| sign(&self.console())) {
            return Err(Error::LostGuest { what: what.to_owned(), tail: self.tail() });
        }
        Ok(())
    }

    fn tail(&self) -> Tail {
        Tail::of(&self.console())
    }
}
