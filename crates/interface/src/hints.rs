//! The sentences for [`Advice`], in one place because `vusb`, `vusbd` and libvusb all print them.

use std::borrow::Cow;

use vusb::view::{AppliedAllView, ErrorView};
use vusb::{Advice, Outcome};

/// What to do, as a sentence without a final full stop.
pub fn sentence(advice: &Advice) -> Cow<'static, str> {
    let text = match advice {
        Advice::Write { form } => return format!("write {form}").into(),
        Advice::NameDomain { addresses } => {
            return format!(
                "name a domain as {}, or by its own name or the name in a spec that was applied",
                addresses.join(", ")
            )
            .into();
        }
        Advice::AddDriver { domain: Some(domain) } => {
            return format!(
                "to change the running guest of that name, add the line driver = \"{domain}\" to the spec"
            )
            .into();
        }
        Advice::UseStorage { path } => {
            let path = path.display();
            return format!("to give the guest a disk with its content, write storage:{path}")
                .into();
        }
        Advice::RemoveFirst { device } => {
            return format!("remove {device} first, if it need not be restored").into();
        }
        Advice::ReplaceDevice { device, found } => {
            return format!(
                "to give the domain this one instead, remove {device} first; if {found} is {device} in another mode, add its id to `also` in the spec"
            )
            .into();
        }
        Advice::DistrustHeader { format } => {
            return format!(
                "a guest can make its raw disk look like a {format} image that refers to any file of this machine: it is one only if no \
                 guest has written to it as a raw disk"
            )
            .into();
        }
        plain => plain_sentence(plain),
    };
    text.into()
}

/// The sentence for advice without data.
fn plain_sentence(advice: &Advice) -> &'static str {
    match advice {
        Advice::NameGuest => "name a running guest",
        Advice::NameGuestOfRecord => "name the running guest that the record is for",
        Advice::NameRecordedDomain => "name a domain that has a record",
        Advice::NameDevice => {
            "name a device by its name, by its selector (0781:5581, 1-4.2), or by its port as CONTROLLER:PORT (hci0:1)"
        }
        Advice::NameDeviceUniquely => "name it by its name or by its port",
        Advice::NameDevicesOnce => "name each device once",
        Advice::NameDeviceForLater => {
            "name it by vendor and product (0781:5581) or by its port (1-4.2)"
        }
        Advice::NameExportedRecord => "name a file that was exported from a record",
        Advice::ChooseAnotherName => "choose another name",
        Advice::ChooseNameOfNoFile => "choose a name that is not the name of a file",
        Advice::AddDriver { .. } => {
            "to change a running guest, add the line driver = \"ADDRESS\" to the spec"
        }
        Advice::CorrectSpec => "correct `driver` or `domain` in the spec",
        Advice::PlugIn => "plug it in",
        Advice::AttachDevicesBehindHub => "attach the devices behind it instead",
        Advice::RemoveDevicesBehindHub => "remove those first",
        Advice::MoveHubNearer => "move the hub nearer to the controller, or move that device first",
        Advice::EndUse => "end that use first",
        Advice::WaitForProcess => "wait for that process to finish",
        Advice::CheckDomain => "check what the domain has now, and remove what it should not have",
        Advice::RemoveCause => {
            "remove the cause: the next command that changes this domain finds what is in effect and records it"
        }
        Advice::ConvertToRaw => "convert it to a raw image, for example with `qemu-img convert`",
        Advice::CheckImage => {
            "the guest could read these files, or write to them: check who made the image, or put them beside it"
        }
        Advice::DeleteClaim => "delete the file if no guest has the device or the image",
        Advice::UseSafeFolder => {
            "use a folder that belongs to you or root and that no other user may write to"
        }
        Advice::RepairRecord => {
            "repair or delete the file; deleting it does not change the guest's hardware, but what vusb managed then counts as another tool's"
        }
        Advice::RegisterBackendDriver => "register a driver of a hypervisor with backend domains",
        // Advice that a newer library has added.
        _ => "see the documentation of vusb",
    }
}

/// Fills the hints of an error from its advice.
pub fn fill(error: &mut ErrorView) {
    if error.hints.is_empty() {
        error.hints = error.advice.iter().map(|it| sentence(it).into_owned()).collect();
    }
}

/// Fills the hints of all errors in an outcome.
pub fn fill_outcome(outcome: &mut Outcome) {
    outcome.not_restored.iter_mut().for_each(|it| fill(&mut it.error));
}

/// Fills the hints of all errors in the outcomes of several domains.
pub fn fill_all(view: &mut AppliedAllView) {
    for domain in &mut view.domains {
        domain.error.iter_mut().for_each(fill);
        domain.outcome.iter_mut().for_each(fill_outcome);
    }
}

#[cfg(test)]
mod tests {
    use vusb::ExitCode;

    use super::*;

    #[test]
    fn advice_becomes_a_hint_once() {
        let mut error = ErrorView::new(ExitCode::NotFound, "it is absent".to_owned(), Vec::new());
        error.advice = vec![Advice::PlugIn];
        fill(&mut error);
        fill(&mut error);
        assert_eq!(error.hints, ["plug it in"]);
    }

    /// Only advice that a newer library has added may get the general sentence at the end.
    #[test]
    fn all_advice_has_a_sentence_of_its_own() {
        let source = include_str!("../../vusb/src/advice.rs");
        let (_, body) = source.split_once("pub enum Advice {").unwrap_or_default();
        let name = |line: &str| {
            let name = line.strip_prefix("    ")?.split([' ', ',']).next()?;
            name.starts_with(char::is_uppercase).then(|| name.to_owned())
        };
        let names: Vec<String> = body.lines().filter_map(name).collect();
        assert!(names.len() > 25, "{names:?}");
        let own = include_str!("hints.rs");
        for name in names {
            let (plain, with_data) = (format!("Advice::{name} =>"), format!("Advice::{name} {{"));
            assert!(own.contains(&plain) || own.contains(&with_data), "{name}");
        }
    }
}
