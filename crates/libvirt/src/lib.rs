//! libvirt's RPC protocol: a codec without I/O, and a blocking client on top of it.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use vusb_libvirt::{Affect, Client, Deadline, Event, EventId, Uri, XmlKind};
//!
//! let uri: Uri = "qemu:///system".parse()?;
//! let deadline = Deadline::after(Duration::from_secs(5));
//! let mut libvirt = Client::connect(&uri, &uri.sockets(None), deadline)?;
//! let web1 = libvirt.domain_by_name("web1", deadline)?;
//! println!("{}", libvirt.xml(&web1, XmlKind::Live, deadline)?);
//!
//! libvirt.register(EventId::DeviceRemoved, Some(&web1), deadline)?;
//! libvirt.detach_alias(&web1, "ua-stick", Affect::LIVE, deadline)?;
//! libvirt.wait_event(deadline, |event| {
//!     matches!(event, Event::DeviceRemoved { alias, .. } if alias == "ua-stick").then_some(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | contents |
//! |---|---|
//! | [`xdr`] | numbers, strings and lists in XDR (RFC 4506), with bounded lengths |
//! | [`codec`] | messages: their frame and header |
//! | [`protocol`] | the numbers of programs, procedures and events; what calls and events contain |
//! | [`Client`] | calls over a Unix socket, each with a deadline; events in between |
//! | [`Uri`] | `qemu:///system`, and the sockets that it stands for |
//!
//! libvirt supports clients that speak the protocol themselves: it is a stable interface that is
//! only added to ("RPC protocol" in its support guarantees). Nothing of libvirt is linked, and
//! nothing is generated from its sources: the numbers are written by hand.
//!
//! The daemon is not trusted: sizes, queues and waits are bounded. Strings may come from guests.

#![forbid(unsafe_code)]

mod client;
pub mod codec;
mod connection;
mod deadline;
mod error;
mod events;
pub mod protocol;
mod uri;
pub mod xdr;

pub use client::Client;
pub use codec::DecodeError;
pub use deadline::Deadline;
pub use error::Error;
pub use events::{MAX_EVENT_BYTES, MAX_EVENTS};
pub use protocol::{
    Affect, Domain, DomainState, Event, EventId, Lifecycle, RemoteError, Uuid, XmlKind, code,
};
pub use uri::{Uri, UriError};
