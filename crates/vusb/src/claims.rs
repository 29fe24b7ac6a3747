//! Who has what: a host device is one domain's at a time, and so is a file that is written to.
//!
//! ```text
//!  lock of the domain ─▶ lock of all claims ─▶ look into every other record ─▶ save own intent ─▶ unlock claims ─▶ steps …
//! ```
//!
//! A record is a claim on the host devices and files in it, and so is the change that it says is under way. The intent is
//! saved before the lock of all claims is let go of, so that of two commands at once the second finds the first's claim.
//! The claims of a domain that cannot be reached hold: it may be running.

use std::time::Duration;

use vusb_host::{HostDevice, matches};
use vusb_model::address::Address;
use vusb_model::device::{HostRef, Kind};
use vusb_model::diff::Step;
use vusb_model::hardware::{Device, Hardware};

use crate::connect;
use crate::domain::DomainId;
use crate::error::Error;
use crate::files;
use crate::hosts::{Backend, Present};
use crate::record::{Record, Records};
use crate::view::HolderView;
use crate::vusb::Vusb;

/// How long a holder is given to say that it is there.
const GLANCE: Duration = Duration::from_secs(1);

/// Whether everything that the steps plug in is free.
///
/// # Errors
/// Another domain has it, or a record cannot be read, so that nobody knows.
pub(crate) fn check(
    vusb: &Vusb,
    own: &DomainId,
    present: &Present<'_>,
    steps: &[Step],
    target: &Hardware,
) -> Result<(), Error> {
    // What does not run holds nothing: it is asked for when it is started.
    if own.is_file() {
        return Ok(());
    }
    let plugs = steps.iter().filter_map(plugs).filter(|(_, it)| is_single(&it.kind));
    let wanted: Vec<Wanted<'_>> = plugs
        .map(|(at, device)| Wanted { kind: &device.kind, backend: present.backend(target, at) })
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let records = Records::new(&vusb.state);
    for record in records.all()? {
        let record = record?;
        if record.domain == own.to_string() {
            continue;
        }
        for wanted in &wanted {
            if let Some((hardware, at, theirs)) = conflict(&record, wanted, present)? {
                return Err(claimed(vusb, &record, wanted.kind, &hardware.place(at), theirs));
            }
        }
    }
    Ok(())
}

/// Something that there is only one of, and for a host device, of which machine.
struct Wanted<'a> {
    kind: &'a Kind,
    backend: Backend,
}

const fn plugs(step: &Step) -> Option<(Address, &Device)> {
    match step {
        Step::Plug(at, device) => Some((*at, device)),
        _ => None,
    }
}

/// Whether it is of a kind that there is only one of.
const fn is_single(kind: &Kind) -> bool {
    matches!(kind, Kind::Host(_) | Kind::Storage(_))
}

/// What of another domain's is the same thing.
fn conflict<'a>(
    record: &'a Record,
    wanted: &Wanted<'_>,
    present: &Present<'_>,
) -> Result<Option<(&'a Hardware, Address, &'a Device)>, Error> {
    for hardware in record.all_hardware() {
        for (address, device) in hardware.devices() {
            let same = match (wanted.kind, &device.kind) {
                (Kind::Host(host), Kind::Host(_)) => {
                    backend(record, hardware, address) == wanted.backend
                        && is_same(record, device, host, wanted, present)?
                }
                (Kind::Storage(a), Kind::Storage(b)) => {
                    !(a.readonly && b.readonly) && files::same(&a.file, &b.file)
                }
                _ => false,
            };
            if same {
                return Ok(Some((hardware, address, device)));
            }
        }
    }
    Ok(None)
}

/// Whose devices are on that controller of another domain.
fn backend(record: &Record, hardware: &Hardware, at: Address) -> Backend {
    // A backend domain means something to Xen alone.
    let xen = matches!(connect::address(record), Some(DomainId::Xen(_)));
    hardware.controller(at.bus).and_then(|it| it.backend.clone()).filter(|_| xen)
}

fn is_same(
    record: &Record,
    theirs: &Device,
    host: &HostRef,
    wanted: &Wanted<'_>,
    present: &Present<'_>,
) -> Result<bool, Error> {
    let list = present.list(&wanted.backend)?;
    match present.find(&host.selector, &wanted.backend)? {
        Some(device) => Ok(has(record, theirs, &device, &list.devices)),
        None => Ok(matches!(&theirs.kind, Kind::Host(it) if it.selector == host.selector)),
    }
}

/// Whether `theirs`, a device of `record`, is `device` of this machine. A selector that came to match a second device is a
/// claim on the one that was given alone, as long as that is where it was.
fn has(record: &Record, theirs: &Device, device: &HostDevice, all: &[HostDevice]) -> bool {
    let Kind::Host(host) = &theirs.kind else {
        return false;
    };
    if !matches(device, &host.selector) {
        return false;
    }
    let Some(place) = record.places.get(&theirs.name) else {
        return true;
    };
    let is_there = |it: &HostDevice| it.path.as_ref().is_some_and(|path| path.as_str() == place);
    let still = all.iter().any(|it| is_there(it) && matches(it, &host.selector));
    !still || is_there(device)
}

fn claimed(vusb: &Vusb, record: &Record, kind: &Kind, place: &str, theirs: &Device) -> Error {
    let holder = record.called();
    // One that is slow to answer is there: another command may be at work on it.
    let gone = connect::address(record).and_then(|domain| {
        let glance = || connect::driver(vusb, &domain, GLANCE)?.observe(&record.hardware);
        glance().err().filter(|error| connect::is_gone(&domain, error)).map(|it| it.to_string())
    });
    let force = if gone.is_some() { " --force" } else { "" };
    Error::Claimed {
        what: kind.to_string(),
        holder: format!("{holder} (as {} at {place})", theirs.name),
        free: format!("vusb device remove {holder} {}{force}", theirs.name),
        gone,
    }
}

/// Which of the records has `device`, which is of `of`.
pub(crate) fn holder(
    records: &[Record],
    device: &HostDevice,
    all: &[HostDevice],
    of: &Backend,
) -> Option<HolderView> {
    records.iter().find_map(|record| {
        record.all_hardware().find_map(|hardware| {
            let its = |(at, it): &(Address, &Device)| {
                has(record, it, device, all) && backend(record, hardware, *at) == *of
            };
            hardware.devices().find(its).map(|(at, it)| HolderView {
                domain: record.called().to_owned(),
                name: it.name.clone(),
                at: hardware.place(at),
            })
        })
    })
}
