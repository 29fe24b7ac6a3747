//! What only a person can do about an error.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vusb_model::name::Name;

/// What a person can do about an error. Unlike a [`Remedy`](vusb_model::remedy::Remedy), no program
/// can do it instead: something has to be written, plugged in or decided. A user interface chooses
/// the words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Advice {
    /// Write something else.
    Write {
        /// What to write: `xen:NAME or xen:ID`, `001.004 (bus and address)`.
        form: String,
    },
    /// Name a domain by its address or by a name.
    NameDomain {
        /// The forms of addresses: `qemu:SOCKET`.
        addresses: Vec<String>,
    },
    /// Name a running guest, not a file.
    NameGuest,
    /// Name the running guest that a record is for.
    NameGuestOfRecord,
    /// Name a domain that has a record.
    NameRecordedDomain,
    /// Name a device by its name, its selector, or its port.
    NameDevice,
    /// Name a device by its name or its port: both are unique.
    NameDeviceUniquely,
    /// Name each device once.
    NameDevicesOnce,
    /// Name a device by a selector that it still has after it is plugged in again: by vendor and
    /// product, or by its port.
    NameDeviceForLater,
    /// Name a file that was exported from a record.
    NameExportedRecord,
    /// Choose a name that no other domain has.
    ChooseAnotherName,
    /// Choose a name that is not the name of a file.
    ChooseNameOfNoFile,
    /// Add the guest's address to the spec: a spec without one does not change a running guest.
    AddDriver {
        /// The address of the domain that has the name in the spec; `None` if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        domain: Option<String>,
    },
    /// Correct the address or the name of the domain in the spec.
    CorrectSpec,
    /// Plug the device in.
    PlugIn,
    /// Attach the disk as a storage device with its content.
    UseStorage {
        /// Its node in `/dev`.
        path: PathBuf,
    },
    /// Attach the devices behind the hub instead.
    AttachDevicesBehindHub,
    /// Remove the devices behind the hub first.
    RemoveDevicesBehindHub,
    /// Move the hub nearer to the controller, or first move the device behind it.
    MoveHubNearer,
    /// Remove the device first, if it need not be restored.
    RemoveFirst {
        /// Its name in the domain.
        device: Name,
    },
    /// Remove the device, to give the domain the one that was found. If the device itself was found
    /// in another mode, add the id of that mode to the spec.
    ReplaceDevice {
        /// The device's name in the domain.
        device: Name,
        /// What is plugged in: ids and serial number.
        found: String,
    },
    /// End the use of the device.
    EndUse,
    /// Wait until another process releases the lock.
    WaitForProcess,
    /// Compare what the domain has with what it should have: some steps were not undone.
    CheckDomain,
    /// Remove the cause. The next call that changes the domain records the steps.
    RemoveCause,
    /// Do not believe the header of the image, unless no guest has written to it as a raw disk.
    DistrustHeader {
        /// The format of the header: `qcow2`.
        format: String,
    },
    /// Convert the image to a raw one.
    ConvertToRaw,
    /// Check who made the image, or move the files that it refers to beside it.
    CheckImage,
    /// Delete the claim file, if no guest has the device or the image.
    DeleteClaim,
    /// Use a folder that no other user may write to.
    UseSafeFolder,
    /// Repair or delete the file of a record.
    RepairRecord,
    /// Register a driver of a hypervisor with backend domains.
    RegisterBackendDriver,
}
