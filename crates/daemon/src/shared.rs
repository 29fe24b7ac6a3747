//! What the loop of the daemon and the threads of the interface share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};

use vusb::Context;
use vusb::model::selector::BusId;
use vusb::rules::LoadedRules;
use vusb_log::Output;
use vusb_methods::Failure;

use crate::events::Events;
use crate::metrics::Metrics;
use crate::reconcile::{Plug, Work};
use crate::worker::WorkResult;

/// What the loop waits for: an event, a result, or a request.
pub(crate) enum Message {
    /// Devices may have been plugged in or unplugged.
    Devices,
    /// udev may have processed this device.
    Processed(Plug),
    /// A record may have changed.
    Records,
    /// Read rules, devices and records again. Several requests at once count as one.
    Reload {
        /// Who is waiting for the result; `None` for a signal.
        reply: Option<Sender<Result<LoadedRules, Failure>>>,
    },
    /// End.
    Stop,
    /// A guest has started.
    Started { source: usize, domain: String },
    /// A guest has ended.
    Ended { source: usize, domain: String },
    /// The guests that run, from this source.
    Running { source: usize, domains: BTreeSet<String> },
    /// Work is finished.
    Finished { work: Work, result: WorkResult },
    /// Devices that were detached by hand may come back: those of this domain, or all.
    LiftHolds {
        domain: Option<String>,
        dry_run: bool,
        /// Gets the ports of the devices.
        reply: Sender<Vec<BusId>>,
    },
}

/// The shared state.
pub(crate) struct Shared {
    /// The context, with the rules in force, but without the guests that run.
    context: RwLock<Context>,
    /// The guests that run.
    guests: RwLock<Arc<BTreeSet<String>>>,
    /// The state of each device.
    states: RwLock<BTreeMap<Plug, &'static str>>,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    pub(crate) sender: Sender<Message>,
}

impl Shared {
    pub(crate) fn new(context: Context, sender: Sender<Message>, log: Output) -> Shared {
        Shared {
            context: RwLock::new(context),
            guests: RwLock::default(),
            states: RwLock::default(),
            events: Events::new(log),
            metrics: Metrics::default(),
            sender,
        }
    }

    /// The context, with the rules in force and the guests that run.
    pub(crate) fn context(&self) -> Context {
        let guests = Arc::clone(&self.guests.read().unwrap_or_else(PoisonError::into_inner));
        let context = self.context.read().unwrap_or_else(PoisonError::into_inner).clone();
        context.with_known_guests(guests)
    }

    /// Replaces the guests that run, by their addresses.
    pub(crate) fn set_guests(&self, guests: BTreeSet<String>) {
        *self.guests.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(guests);
    }

    /// The state of a device, if it is known.
    pub(crate) fn state(&self, plug: Plug) -> Option<&'static str> {
        self.states.read().unwrap_or_else(PoisonError::into_inner).get(&plug).copied()
    }

    /// Replaces the states of all devices.
    pub(crate) fn set_states(&self, states: BTreeMap<Plug, &'static str>) {
        *self.states.write().unwrap_or_else(PoisonError::into_inner) = states;
    }

    /// Replaces the context, because other rules are in force.
    pub(crate) fn set_context(&self, context: Context) {
        *self.context.write().unwrap_or_else(PoisonError::into_inner) = context;
    }
}
