//! What a caller can do about a refusal or a failure.
//!
//! Errors carry remedies as values. A user interface chooses the words: the command line names its
//! options, a graphical program shows a button, and a daemon may apply a remedy without asking.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::models::{ControllerType, Model, UsbVersion};
use crate::name::Name;
use crate::selector::bus_id::BusId;

/// An action that a caller can take. If an error has several, each is an alternative.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Remedy {
    /// Repeat the request with the override for refusals.
    Force,
    /// Repeat the request with a longer deadline.
    MoreTime,
    /// List the domain again: its state may have changed since.
    ListDomain,
    /// List the USB devices of this machine, or of a backend domain.
    ListHost {
        /// The backend domain; `None` is this machine.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backend: Option<String>,
    },
    /// List the controller models.
    ListModels,
    /// Restore what is recorded for a domain.
    Restore {
        /// The domain's name or address.
        domain: String,
    },
    /// Restore the device once it is plugged in: the guest can be started without it.
    RestoreLater,
    /// Ask for this model instead.
    UseModel {
        /// The model.
        model: Model,
        /// The number of ports that the model must have here; `None` if it need not be given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ports: Option<u8>,
    },
    /// Ask for this type of controller instead.
    UseType {
        /// The type.
        controller_type: ControllerType,
    },
    /// Ask for a controller of this USB version instead.
    UseVersion {
        /// The version.
        usbversion: UsbVersion,
    },
    /// Start the guest with this controller: it cannot be added while the guest runs.
    StartWith {
        /// The model.
        model: Model,
        /// The USB version, if the request named that and not the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usbversion: Option<UsbVersion>,
    },
    /// Make the change in what the guest starts with next.
    NextStart,
    /// Start the guest with spare slots for controllers.
    StartWithSpareSlots,
    /// Name the controller that the device is for.
    NameController,
    /// Leave the controller open: a suitable one is chosen, or added.
    OmitController,
    /// Remove this controller and add it again.
    ReplaceController {
        /// The controller.
        controller: Name,
    },
    /// Remove the device from the domain that holds it.
    RemoveDevice {
        /// The domain's name or address.
        domain: String,
        /// The device's name there.
        device: Name,
        /// Whether the domain cannot be reached, so that only its record can be changed.
        forget: bool,
    },
    /// Ask what the rules mean for a device and a domain.
    Explain {
        /// The port that the device is plugged into.
        device: BusId,
        /// The domain's name or address.
        domain: String,
    },
    /// Repeat the request so that it also removes what was added by hand.
    Prune,
    /// List the domains that have a record.
    ListDomains,
    /// Give a domain another name.
    RenameDomain {
        /// The domain's address.
        domain: String,
    },
    /// Delete the record of a domain whose guest will not return.
    ForgetDomain {
        /// The domain's name or address.
        domain: String,
    },
    /// Replace what the target format cannot express with the nearest that it can.
    ConvertToNearest,
    /// Accept that the target format loses something.
    AcceptLoss,
    /// Convert the file to a spec, which can name the running guest that it is for.
    ConvertToSpec,
}

/// Why something failed or cannot be done: a sentence, and what the caller can do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The sentence, without a final full stop.
    pub text: String,
    /// The alternatives that the caller has; empty if the sentence already names all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<Remedy>,
}

impl Reason {
    /// The same reason with one more remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: Remedy) -> Reason {
        self.remedies.push(remedy);
        self
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Reason {
        Reason { text, remedies: Vec::new() }
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Reason {
        text.to_owned().into()
    }
}
