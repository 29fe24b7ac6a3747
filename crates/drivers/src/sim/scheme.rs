//! The address scheme `sim:FILE`.

use std::path::Path;

use super::{Sim, watch};
use crate::driver::{Driver, Error};
use crate::path;
use crate::scheme::{AddressError, GuestWatch, OpenOptions, Scheme, WatchOptions};

/// Simulated hypervisors, each in a file.
#[derive(Clone, Copy, Debug)]
pub struct SimScheme;

impl Scheme for SimScheme {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn syntax(&self) -> &'static str {
        "sim:FILE"
    }

    fn parse(&self, operand: &str, folder: &Path) -> Result<String, AddressError> {
        let expected = "sim:FILE, where FILE is a JSON file that need not exist yet";
        path::parse("sim:", operand, folder, expected)
    }

    fn open(&self, operand: &str, _: &OpenOptions<'_>) -> Result<Box<dyn Driver>, Error> {
        Ok(Box::new(Sim::open(Path::new(operand))?))
    }

    fn is_gone(&self, _: &str, error: &Error) -> bool {
        matches!(error, Error::Unreachable { .. })
    }
    /// Each file of a simulated hypervisor in the folders is a guest: it starts when its file
    /// appears, and ends when the file is removed. There is no default folder. Hidden files and
    /// lock files are ignored.
    fn watch(&self, options: &WatchOptions) -> Result<Option<Box<dyn GuestWatch>>, Error> {
        if options.folders.is_empty() && options.further.is_empty() {
            return Ok(None);
        }
        watch::watch(options).map(Some)
    }
}
