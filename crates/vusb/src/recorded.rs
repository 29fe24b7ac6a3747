//! What the records contain, as they are: no lock is taken, no hypervisor is asked, and nothing is
//! changed. For completion in a shell, which must answer at once, also while a command is at work.

use vusb_model::hardware::Hardware;

use crate::call::Call;
use crate::error::Error;

/// A domain as its record describes it.
#[derive(Clone, Debug)]
pub struct RecordedDomain {
    /// Its name, or its address if it has none.
    pub domain: String,
    /// Its address.
    pub address: String,
    /// The hardware that it has and should have, including that of a change under way.
    pub hardware: Hardware,
}

/// Every recorded domain. A damaged record is left out.
///
/// # Errors
/// The folder of the records cannot be read.
pub(crate) fn recorded(call: &Call<'_>) -> Result<Vec<RecordedDomain>, Error> {
    let records = call.records().all()?.into_iter().flatten();
    let recorded = records.map(|record| RecordedDomain {
        domain: record.display_name().to_owned(),
        address: record.domain.clone(),
        hardware: record.combined().hardware().clone(),
    });
    Ok(recorded.collect())
}
