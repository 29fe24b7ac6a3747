//! Remedies in the words of the command line.

use vusb::Note;
use vusb::model::remedy::Remedy;

/// What to do, as a sentence without a final full stop.
pub(crate) fn sentence(remedy: &Remedy) -> String {
    match remedy {
        Remedy::Force => "if you are sure, repeat it with --force".to_owned(),
        Remedy::MoreTime => "repeat it with a longer --timeout".to_owned(),
        Remedy::ListDomain => "see what is there with `vusb list`".to_owned(),
        Remedy::ListHost { backend: None } => "see what there is with `vusb host list`".to_owned(),
        Remedy::ListHost { backend: Some(backend) } => {
            format!("see what there is with `vusb host list --backend {}`", quoted(backend))
        }
        Remedy::ListModels => "see the models with `vusb models`".to_owned(),
        Remedy::Restore { domain } => format!("restore it with `vusb apply {}`", quoted(domain)),
        Remedy::RestoreLater => {
            "start the guest without it, and run `vusb apply` once it is plugged in".to_owned()
        }
        Remedy::UseModel { model, ports: None } => format!("use --model {model}"),
        Remedy::UseModel { model, ports: Some(ports) } => {
            format!("use --model {model} --ports {ports}")
        }
        Remedy::UseType { controller_type } => format!("use --type {controller_type}"),
        Remedy::UseVersion { usbversion } => {
            format!("use a controller with --usbversion {usbversion}")
        },
        Remedy::StartWith { model, usbversion: None } => format!(
            "start the guest with it: `model = \"{model}\"` in a spec, and `vusb qemu-args SPEC`"
        ),
        Remedy::StartWith { usbversion: Some(version), .. } => format!(
            "start the guest with it: `usbversion = {version}` in a spec, and `vusb qemu-args SPEC`"
        ),
        Remedy::NextStart => "repeat it with --next-start: the guest has it after its next start".to_owned(),
        Remedy::StartWithSpareSlots => {
            "start the guest with spare slots: `vusb qemu-args --spare-slots N` prints the arguments".to_owned()
        }
        Remedy::NameController => "name the controller with --controller".to_owned(),
        Remedy::OmitController => {
            "leave out --controller: a suitable controller is chosen or added".to_owned()
        }
        Remedy::ReplaceController { controller } => format!(
            "remove it with `vusb controller remove DOMAIN {controller} --force` and add it again"
        ),
        Remedy::RemoveDevice { domain, device, forget } => {
            let force = if *forget { " --force" } else { "" };
            format!("free it with `vusb device remove {} {device}{force}`", quoted(domain))
        }
        Remedy::Explain { device, domain } => {
            format!("see why with `vusb explain {device} {}`", quoted(domain))
        }
        Remedy::ListDomains => "see the recorded domains with `vusb domain list`".to_owned(),
        Remedy::RenameDomain { domain } => {
            format!("give that one another name with `vusb domain rename {} NAME`", quoted(domain))
        }
        Remedy::ForgetDomain { domain } => {
            format!("if it will not return, delete its record with `vusb domain forget {}`", quoted(domain))
        }
        Remedy::Prune => "remove them with --prune".to_owned(),
        Remedy::ConvertToNearest => {
            "see with --nearest what the guest would have instead".to_owned()
        }
        Remedy::AcceptLoss => "if the guest can do without it, repeat it with --lossy".to_owned(),
        Remedy::ConvertToSpec => {
            "convert it with `vusb convert FILE --to vusb`, and add the running guest as `driver`".to_owned()
        }
        // A remedy of a newer library.
        other => format!("{other:?}"),
    }
}

/// A note, with what to do about it.
pub(crate) fn note(note: &Note) -> String {
    let remedies = note.remedies();
    let sentences = remedies.iter().map(sentence);
    std::iter::once(note.to_string()).chain(sentences).collect::<Vec<_>>().join("; ")
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    crate::shell::quoted(&[word.to_owned()]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_is_one_word_for_the_shell() {
        let domain = "a; rm -rf $HOME".to_owned();
        let text = sentence(&Remedy::Restore { domain });
        assert!(text.contains("'a; rm -rf $HOME'"), "{text}");
    }
}
