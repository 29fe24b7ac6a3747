//! Notes: what a caller should know besides the result.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vusb_model::list::few;
use vusb_model::models::{ControllerType, Model};
use vusb_model::name::Name;
use vusb_model::remedy::Remedy;
use vusb_model::selector::{BusAddress, BusId, Selector, UsbId};
use vusb_model::speed::Speed;

use crate::step::StepView;

/// A note. Its `Display` is a sentence without a final full stop; a user interface adds the words
/// for [`Note::remedies`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Note {
    /// A controller that was not requested was added, because a device needed it.
    ControllerAdded {
        /// Its name.
        name: Name,
        /// Its model.
        model: Model,
        /// Its number of ports.
        ports: u8,
        /// Why no existing controller was used.
        reason: WhyAdded,
        /// Whether it was only planned.
        dry_run: bool,
    },
    /// The guest's name in its own tool is the name of another domain.
    NameShared {
        /// The name.
        name: Name,
        /// The other domain's address.
        other: String,
        /// The guest's address.
        domain: String,
    },
    /// The domain has a new name.
    Renamed {
        /// The domain's address.
        domain: String,
        /// The old name; `None` if it had none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Name>,
        /// The new name.
        to: Name,
    },
    /// A host device is not plugged in. Its port is kept free for it.
    Absent {
        /// The device's name in the domain.
        name: Name,
        /// How it is selected.
        selector: Selector,
    },
    /// A host device or an image is not free: another domain holds it, this machine needs it, a
    /// rule denies it, or a program uses it.
    NotFree {
        /// The device's name in the domain.
        name: Name,
        /// Why.
        why: String,
    },
    /// A serial device is connected to a terminal of this machine.
    Terminal {
        /// The device's name in the domain.
        name: Name,
        /// The terminal: `/dev/pts/3`.
        path: String,
    },
    /// A host device is not plugged in, and another device could be taken for it.
    OtherDevice {
        /// The device's name in the domain.
        name: Name,
        /// What the domain was given: ids and serial number, or else the selector.
        given: String,
        /// The other device: ids and serial number.
        found: String,
        /// The port of the other device.
        port: BusId,
        /// Whether the other device is in the absent device's port; otherwise it only matches the
        /// selector.
        in_its_port: bool,
    },
    /// A host device that was given by its serial number is plugged into another port.
    OtherPort {
        /// The device's name in the domain.
        name: Name,
        /// The path of the port where it was.
        from: String,
        /// The path of the port where it is now.
        to: String,
    },
    /// There is no folder for the claims of all users: this user's claims are not seen by others.
    PrivateClaims {
        /// The folder of this user's claims.
        path: PathBuf,
    },
    /// Another tool created these items; they were not touched.
    NotTouched {
        /// Their names.
        names: Vec<Name>,
    },
    /// An item was removed, because the spec that is applied does not have it.
    Removed {
        /// Its name.
        name: Name,
        /// Its location: `hci0` or `hci0:1`.
        at: String,
        /// Why it was removed.
        reason: WhyRemoved,
        /// Whether it was only planned.
        dry_run: bool,
    },
    /// These items were added by hand and are not in the spec that is applied; they were kept.
    KeptByHand {
        /// Their names.
        names: Vec<Name>,
    },
    /// A host device of an imported record is selected differently on this machine.
    OtherMachine {
        /// The device's name.
        name: Name,
        /// The selector on the machine that the record comes from.
        from: Selector,
        /// The selector on this machine.
        to: Selector,
    },
    /// These host devices were taken out, and return when the domain is resumed.
    Suspended {
        /// Their names.
        names: Vec<Name>,
    },
    /// A recorded device cannot be restored.
    NotRestored {
        /// Its name.
        name: Name,
        /// Why.
        why: String,
    },
    /// The file's format cannot name a host device as it was selected.
    OtherSelector {
        /// The selector that was given.
        given: Selector,
        /// The one that was written, which is valid until the device is unplugged.
        written: Selector,
    },
    /// These recorded items were restored because the new device needs them.
    Restored {
        /// Their names.
        names: Vec<Name>,
        /// Whether that was only planned.
        dry_run: bool,
    },
    /// What was to be removed was not there.
    AlreadyGone {
        /// Its name.
        name: Name,
    },
    /// Only the record was changed: the hypervisor could not be asked.
    OnlyRecordChanged {
        /// Why it could not be asked.
        why: String,
    },
    /// A host device was unplugged and plugged in again; the guest still has the old connection.
    Replugged {
        /// The device's name.
        name: Name,
        /// The domain.
        domain: String,
    },
    /// A device runs more slowly on its port than it could.
    Slower {
        /// Its name.
        name: Name,
        /// The speed that it runs at.
        speed: Speed,
        /// The speed that it could run at.
        native: Speed,
        /// The controllers of the domain that have a free port for that speed.
        faster: Vec<Name>,
    },
    /// A host device is plugged in, but the hypervisor is not permitted to open it.
    CannotOpen {
        /// The device's name.
        name: Name,
        /// Its node.
        node: PathBuf,
        /// Why the hypervisor is not permitted to open it.
        why: String,
    },
    /// An image uses other files: a backing file or a data file.
    AlsoUses {
        /// The device's name.
        name: Name,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// A host device that another tool gave to the guest is plugged in, but the guest does not have
    /// it.
    NotTaken {
        /// The device's name.
        name: Name,
        /// Its vendor and product.
        found: UsbId,
        /// Its bus and port chain.
        port: BusId,
        /// Its bus and address.
        #[serde(with = "crate::view::as_selector")]
        at: BusAddress,
        /// The bus and address that the hypervisor was given, if the device has others now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        given: Option<String>,
    },
    /// A controller is disconnected.
    Disconnected {
        /// Its name.
        name: Name,
        /// Why.
        why: String,
        /// The domain that has to be restored to recreate it; `None` if another tool created it.
        restored_by: Option<String>,
    },
    /// The domain cannot be asked, and this is what its record contains.
    FromRecord {
        /// Why the domain cannot be asked.
        why: String,
    },
    /// The guest has ended, and this is what its record contains.
    Gone {
        /// The domain's name or address.
        domain: String,
        /// Why it cannot be reached.
        why: String,
    },
    /// These items were added by vusb and stay in the guest, although its record was deleted.
    StillThere {
        /// Their names.
        names: Vec<Name>,
        /// Whether the guest could be asked, rather than only its record.
        seen: bool,
    },
    /// A record cannot be read, so what its domain holds is unknown.
    RecordUnreadable {
        /// Why.
        why: String,
    },
    /// Another tool's item has taken the place of this one; vusb no longer manages it.
    TakenOver {
        /// Its name.
        name: Name,
    },
    /// A recorded item cannot be kept and is dropped from the record.
    Forgotten {
        /// Its name.
        name: Name,
        /// Why.
        why: String,
    },
    /// A missing controller lost its index or name to another one.
    Moved {
        /// Its old name.
        from: Name,
        /// Its new name.
        to: Name,
        /// Its new index.
        index: vusb_model::address::Index,
    },
    /// An interrupted change, and what became of it.
    Interrupted {
        /// What became of it.
        outcome: Recovery,
        /// The steps that the outcome is about.
        steps: Vec<StepView>,
    },
    /// A step of an interrupted change failed or could not be undone.
    InterruptedStep {
        /// The step.
        step: StepView,
        /// Whether undoing it failed, rather than taking it.
        undo: bool,
        /// Why.
        why: String,
    },
    /// A step was reported as failed, but it took effect.
    TookEffect {
        /// The step.
        step: StepView,
        /// The report.
        error: String,
    },
    /// Something that the driver or the format reports.
    Other {
        /// The sentence.
        message: String,
    },
}

/// Why a device needed another controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhyAdded {
    /// The guest had no controller.
    NoController,
    /// The guest had controllers, but none of this type.
    NoneOfType {
        /// The type.
        #[serde(rename = "type")]
        controller_type: ControllerType,
    },
    /// The other controllers of this type do not take the device.
    NoneFits {
        /// The type.
        #[serde(rename = "type")]
        controller_type: ControllerType,
    },
    /// The same change removes all other controllers.
    NoneStays,
}

/// Why applying a spec removed an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhyRemoved {
    /// An earlier version of the spec had it, and this one does not.
    NotInSpec,
    /// It was added because a device needed it, and no device does any more.
    NotNeeded,
    /// It was added by hand, and the caller asked to remove such items.
    Pruned,
}

/// What became of an interrupted change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recovery {
    /// It is under way or was interrupted; the next call finishes it.
    Open,
    /// It failed or was cancelled, and its undo is under way or was interrupted; the next call
    /// finishes the undo.
    OpenUndo,
    /// It was finished: the remaining steps were taken.
    Finished,
    /// All its steps had been taken; it is recorded now.
    Recorded,
    /// It was undone.
    Undone,
    /// It left nothing behind.
    NotInEffect,
    /// The guest was restarted after a change was interrupted: what the change removes is gone, and
    /// what it adds was not added.
    GuestRestarted,
    /// Another tool changed the guest since; its present hardware is recorded.
    GuestChanged,
}

impl Note {
    /// What the caller can do about it.
    pub fn remedies(&self) -> Vec<Remedy> {
        let restore = |domain: &String| vec![Remedy::Restore { domain: domain.clone() }];
        match self {
            Note::KeptByHand { .. } => vec![Remedy::Prune],
            Note::NameShared { domain, .. } => {
                vec![Remedy::RenameDomain { domain: domain.clone() }]
            }
            Note::Gone { domain, .. } => vec![Remedy::ForgetDomain { domain: domain.clone() }],
            Note::Replugged { domain, .. } => restore(domain),
            Note::Disconnected { restored_by, .. } => {
                restored_by.as_ref().map(restore).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::ControllerAdded { name, model, ports, reason, dry_run } => {
                let verb = if *dry_run { "would add" } else { "added" };
                write!(f, "{verb} controller {name} ({model}, {ports} ports): {reason}")
            }
            Note::NameShared { name, other, domain } => write!(
                f,
                "{domain} is called {name} by its own tool, but {other} already has that name: vusb knows {domain} only by its address"
            ),
            Note::Renamed { domain, from: Some(from), to } => {
                write!(f, "renamed {domain} from {from} to {to}")
            }
            Note::Renamed { domain, from: None, to } => write!(f, "{domain} is now named {to}"),
            Note::NotTouched { names } => {
                write!(f, "not touched: created by another tool: {}", list(names))
            }
            Note::Removed { name, at, reason, dry_run } => {
                let verb = if *dry_run { "would remove" } else { "removed" };
                let item = if name.as_str() == at { at.clone() } else { format!("{name} ({at})") };
                write!(f, "{verb} {item}: {reason}")
            }
            Note::KeptByHand { names } => {
                write!(f, "kept: added by hand and not in the spec: {}", list(names))
            }
            Note::Suspended { names } => {
                write!(f, "the domain is suspended, and these devices stay out: {}", list(names))
            }
            Note::NotRestored { name, why } => write!(f, "{name} is not restored: {why}"),
            Note::OtherSelector { given, written } => write!(
                f,
                "{given} is written as {written}, the only form that the format has; this address changes when the device is replugged"
            ),
            Note::Restored { names, dry_run } => {
                let verb = if *dry_run { "would restore" } else { "restored" };
                write!(f, "{verb} what the device needs and the guest lacked: {}", list(names))
            }
            Note::AlreadyGone { name } => write!(f, "{name} was already gone"),
            Note::OnlyRecordChanged { why } => write!(
                f,
                "only the record was changed, because the hypervisor cannot be asked ({why}); a guest that still runs keeps the device"
            ),
            Note::Disconnected { name, why, restored_by: Some(_) } => {
                write!(f, "{name} is disconnected: {why}")
            }
            Note::Disconnected { name, why, restored_by: None } => {
                write!(f, "{name} is disconnected: {why}; it was created by another tool")
            }
            Note::FromRecord { why } => write!(f, "{why}: showing the record"),
            Note::Gone { why, .. } => write!(f, "the guest has ended ({why}): showing the record"),
            Note::StillThere { names, seen: true } => {
                write!(f, "the guest keeps what vusb added: {}", list(names))
            }
            Note::StillThere { names, seen: false } => {
                write!(f, "if the guest still runs, it keeps what vusb added: {}", list(names))
            }
            Note::RecordUnreadable { why } => {
                write!(f, "it is unknown which devices this domain holds: {why}")
            }
            Note::TakenOver { name } => {
                write!(f, "{name} was replaced by another tool; vusb no longer manages it")
            }
            Note::Forgotten { name, why } => {
                write!(f, "{name} is missing and was dropped from the record: {why}")
            }
            Note::Moved { from, to, index } => write!(
                f,
                "{from} is missing and its index or name is in use: it is now {to} at index {index}"
            ),
            Note::Interrupted { outcome, steps } => interrupted(f, *outcome, steps),
            Note::InterruptedStep { step, undo: false, why } => {
                write!(f, "an interrupted change cannot be finished: could not {step}: {why}")
            }
            Note::InterruptedStep { step, undo: true, why } => {
                write!(f, "a step of an interrupted change could not be undone: {step}: {why}")
            }
            Note::TookEffect { step, error } => write!(f, "{error}; but it took effect: {step}"),
            Note::Other { message } => f.write_str(message),
            other => of_host_device(f, other),
        }
    }
}

/// The notes about ports, host devices, images and claims.
fn of_host_device(f: &mut fmt::Formatter<'_>, note: &Note) -> fmt::Result {
    match note {
        Note::Absent { name, selector } => write!(
            f,
            "{name} ({selector}) is not plugged into this machine: its port is kept for it"
        ),
        Note::NotFree { name, why } => write!(f, "{name} is not free: {why}"),
        Note::Terminal { name, path } => write!(f, "{name} is connected to {path}"),
        Note::OtherDevice { name, given, found, port, in_its_port: true } => write!(
            f,
            "{name} ({given}) is not plugged in: another device, {found}, is in its port {port}"
        ),
        Note::OtherDevice { name, given, found, port, in_its_port: false } => write!(
            f,
            "{name} ({given}) is not plugged in at its port; {found} at {port} was not given to the domain"
        ),
        Note::OtherMachine { name, from, to } => write!(
            f,
            "{name} is selected as {to} on this machine: {from} is a port of the machine that it comes from"
        ),
        Note::OtherPort { name, from, to } => write!(
            f,
            "{name} has the same serial number and is at another port: {to} instead of {from}"
        ),
        Note::PrivateClaims { path } => write!(
            f,
            "other users do not see what is claimed: /run/vusb/claims does not exist, and the claims are in {}",
            path.display()
        ),
        Note::Replugged { name, .. } => {
            write!(f, "{name} was replugged; the guest no longer has it")
        }
        Note::CannotOpen { name, node, why } => write!(
            f,
            "{name} is plugged in at {}, and the guest does not have it, because its hypervisor cannot open it: {why}",
            node.display()
        ),
        Note::AlsoUses { name, files } => {
            let files: Vec<String> = files.iter().map(|it| it.display().to_string()).collect();
            write!(f, "the image of {name} also uses {}", few(&files))
        }
        Note::NotTaken { name, found, port, at, given: None } => {
            let (bus, address) = (at.bus, at.address);
            write!(
                f,
                "{name} ({found}) is plugged into this machine at {port}, and the guest does not have it; check that its hypervisor \
                 may open /dev/bus/usb/{bus:03}/{address:03}"
            )
        }
        Note::NotTaken { name, found, port, at, given: Some(given) } => write!(
            f,
            "{name} ({found}) is plugged into this machine at {port}, and the guest does not have it: another tool gave it as {given}, \
             and it is {at} now"
        ),
        Note::Slower { name, speed, native, faster } => {
            write!(
                f,
                "{name} runs at {speed} speed ({} Mbit/s) on this port, and could run at {native} speed ({} Mbit/s): ",
                speed.mbits(),
                native.mbits()
            )?;
            match (faster.as_slice(), native) {
                ([], Speed::Super) => f.write_str("use an xHCI for that speed"),
                ([], _) => f.write_str("use an EHCI or an xHCI for that speed"),
                (names, _) => write!(f, "use a free port of {} for that speed", list(names)),
            }
        }
        // All others are written above.
        _ => Ok(()),
    }
}

fn interrupted(f: &mut fmt::Formatter<'_>, outcome: Recovery, steps: &[StepView]) -> fmt::Result {
    let steps = list(steps);
    match outcome {
        Recovery::Open => {
            write!(
                f,
                "a change is under way or was interrupted; the next command finishes it: {steps}"
            )
        }
        Recovery::OpenUndo => {
            write!(
                f,
                "a change failed or was cancelled and is not undone yet; the next command undoes what is left of it: {steps}"
            )
        }
        Recovery::Finished => write!(f, "finished an interrupted change: {steps}"),
        Recovery::Recorded => {
            write!(f, "recorded a change that was interrupted after its last step: {steps}")
        }
        Recovery::Undone => write!(f, "undid an interrupted change: {steps}"),
        Recovery::NotInEffect => {
            write!(f, "an earlier change failed or was interrupted; none of it is in effect")
        }
        Recovery::GuestRestarted => write!(
            f,
            "the guest was restarted after a change was interrupted: what the change removes is gone, and what it adds was not added; the change was: {steps}"
        ),
        Recovery::GuestChanged => write!(
            f,
            "a change was interrupted and the guest was changed since: its present hardware is recorded; the change was: {steps}"
        ),
    }
}

impl fmt::Display for WhyAdded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyAdded::NoController => f.write_str("the guest had none"),
            WhyAdded::NoneOfType { controller_type } => {
                write!(f, "the guest had no {controller_type} one")
            }
            WhyAdded::NoneFits { controller_type } => {
                write!(f, "no other {controller_type} one takes the device")
            }
            WhyAdded::NoneStays => f.write_str("the same change removes all others"),
        }
    }
}

impl fmt::Display for WhyRemoved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WhyRemoved::NotInSpec => "the spec no longer has it",
            WhyRemoved::NotNeeded => "no device needs it",
            WhyRemoved::Pruned => "it was added by hand and is not in the spec",
        })
    }
}

/// Notes as JSON: the fields of each, and its sentence as `text`.
pub(crate) mod with_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Note;

    #[derive(Serialize)]
    struct WithText<'a> {
        #[serde(flatten)]
        note: &'a Note,
        text: String,
    }

    pub(crate) fn serialize<S: Serializer>(notes: &[Note], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(notes.iter().map(|note| WithText { note, text: note.to_string() }))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Note>, D::Error> {
        Vec::<Note>::deserialize(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        "stick".parse().unwrap()
    }

    #[test]
    fn a_note_says_what_can_be_done_about_it() {
        let domain = || "web1".to_owned();
        let restore = Remedy::Restore { domain: domain() };
        let disconnected = |restored_by| Note::Disconnected {
            name: name(),
            why: "the backend was restarted".to_owned(),
            restored_by,
        };
        let shared = Note::NameShared { name: name(), other: "sim:b".to_owned(), domain: domain() };
        for (note, remedies) in [
            (Note::KeptByHand { names: vec![name()] }, vec![Remedy::Prune]),
            (shared, vec![Remedy::RenameDomain { domain: domain() }]),
            (
                Note::Gone { domain: domain(), why: "it ended".to_owned() },
                vec![Remedy::ForgetDomain { domain: domain() }],
            ),
            (Note::Replugged { name: name(), domain: domain() }, vec![restore.clone()]),
            (disconnected(Some(domain())), vec![restore]),
            // Only the tool that created it can restore it.
            (disconnected(None), Vec::new()),
            (Note::AlreadyGone { name: name() }, Vec::new()),
        ] {
            assert_eq!(note.remedies(), remedies, "{note}");
        }
    }

    #[test]
    fn a_device_that_the_guest_lacks_is_reported_with_what_to_check() {
        let note = |given: Option<&str>| {
            let note = Note::NotTaken {
                name: name(),
                found: "0781:5581".parse().unwrap(),
                port: "1-4".parse().unwrap(),
                at: BusAddress { bus: 1, address: 14 },
                given: given.map(str::to_owned),
            };
            note.to_string()
        };
        let there =
            "stick (0781:5581) is plugged into this machine at 1-4, and the guest does not have it";
        let expected = format!("{there}; check that its hypervisor may open /dev/bus/usb/001/014");
        assert_eq!(note(None), expected);
        let expected = format!("{there}: another tool gave it as 001.013, and it is 001.014 now");
        assert_eq!(note(Some("001.013")), expected);
    }

    #[test]
    fn an_added_controller_is_reported_with_the_reason() {
        let (emulated, pv) = (ControllerType::Emulated, ControllerType::Pv);
        for (reason, text) in [
            (WhyAdded::NoController, "the guest had none"),
            (WhyAdded::NoneOfType { controller_type: pv }, "the guest had no pv one"),
            (
                WhyAdded::NoneFits { controller_type: emulated },
                "no other emulated one takes the device",
            ),
            (WhyAdded::NoneStays, "the same change removes all others"),
        ] {
            assert_eq!(reason.to_string(), text);
        }
    }
}
