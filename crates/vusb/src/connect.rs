//! From a domain's address to the driver that works on it.

use std::path::Path;
use std::time::Duration;

use vusb_drivers::qemu::Qemu;
use vusb_drivers::sim::Sim;
use vusb_drivers::{Driver, Error as DriverError};

use crate::domain::DomainId;
use crate::record::Record;

/// The driver of a domain. `limit` is for each thing that is waited for.
pub(crate) fn driver(domain: &DomainId, limit: Duration) -> Result<Box<dyn Driver>, DriverError> {
    match domain {
        DomainId::Sim(file) => Ok(Box::new(Sim::open(file)?)),
        DomainId::Qemu(socket) => Ok(Box::new(Qemu::at(socket, limit))),
        DomainId::Spec(file) => Err(DriverError::Unreachable {
            domain: domain.to_string(),
            why: format!(
                "{} is a spec and no domain; name the domain that it is for",
                file.display()
            ),
            midway: false,
        }),
    }
}

/// The address that a record is of.
pub(crate) fn address(record: &Record) -> Option<DomainId> {
    DomainId::parse(&record.domain, Path::new("/")).ok().flatten()
}
