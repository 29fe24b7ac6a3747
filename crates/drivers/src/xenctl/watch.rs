//! Watches xenstore for guests that start and end.
//!
//! ```text
//!  @introduceDomain, @releaseDomain ──▶ list /local/domain ──▶ compare with the guests so far
//!  name and libxl's type of each domain ──┘
//! ```
//!
//! The name and the type of a domain may be written after it was introduced, and `xl rename`
//! changes a name. So both are watched for each domain. A guest that reboots gets a new domain id,
//! which distinguishes it from its predecessor of the same name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use vusb_xen::DomId;
use vusb_xen::usb;

use super::access::XenAccess;
use super::domain;
use super::scheme::XenScheme;
use super::xenstore::Xenstore;
use crate::driver::Error;
use crate::identity::GuestIdentity;
use crate::scheme::{GuestWatch, WatchOptions};
use crate::watch::{self, Guests, Poller, Source, Watch};

/// The token of xenstored's connection.
const XENSTORED: u64 = 0;

/// How long to wait before connecting again after the connection was lost.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Special paths whose watches fire when a domain appears or disappears.
const DOMAINS_CHANGED: [&str; 2] = ["@introduceDomain", "@releaseDomain"];

/// Watches this machine's Xen.
///
/// # Errors
/// xenstored cannot be reached.
pub(super) fn watch(
    access: &XenAccess,
    options: &WatchOptions,
) -> Result<Box<dyn GuestWatch>, Error> {
    let poller = Poller::new().map_err(|errno| watch::failed("guests", errno))?;
    let source = XenSource {
        scheme: XenScheme { access: access.clone() },
        limit: options.reply_limit,
        store: None,
        has_connected: false,
        watched: BTreeSet::new(),
        is_stale: false,
        reconnect_at: None,
        guests: Guests::default(),
    };
    Ok(Box::new(Watch::new(source, poller)?))
}

struct XenSource {
    scheme: XenScheme,
    limit: Duration,
    /// `None` before the first scan, and after the connection was lost.
    store: Option<Xenstore>,
    has_connected: bool,
    /// The domains whose name and type are watched.
    watched: BTreeSet<DomId>,
    /// Whether events arrived during the last scan.
    is_stale: bool,
    reconnect_at: Option<Instant>,
    guests: Guests,
}

impl Source for XenSource {
    fn scan(&mut self, poller: &Poller) -> Result<(), Error> {
        let scanned = self.connected(poller).and_then(|mut store| {
            let guests = self.list(&mut store)?;
            self.is_stale = store.take_events()?;
            Ok((store, guests))
        });
        match scanned {
            Ok((store, guests)) => {
                self.store = Some(store);
                self.guests.replace(guests);
                Ok(())
            }
            Err(error) => {
                // Its watches end with the connection.
                self.store = None;
                self.is_stale = false;
                self.reconnect_at = Some(Instant::now() + RECONNECT_DELAY);
                Err(error)
            }
        }
    }

    fn react(&mut self, _: &[u64], poller: &Poller) -> Result<(), Error> {
        let is_due = match &mut self.store {
            // The scan detects and reports a lost connection.
            Some(store) => self.is_stale || store.take_events().unwrap_or(true),
            None => self.reconnect_at.is_none_or(|time| time <= Instant::now()),
        };
        if is_due { self.scan(poller) } else { Ok(()) }
    }

    fn next_wake(&self) -> Option<Instant> {
        match &self.store {
            Some(_) => self.is_stale.then(Instant::now),
            None => self.reconnect_at,
        }
    }

    fn guests(&mut self) -> &mut Guests {
        &mut self.guests
    }
}

impl XenSource {
    /// Takes the existing connection out, or connects again.
    fn connected(&mut self, poller: &Poller) -> Result<Xenstore, Error> {
        if let Some(store) = self.store.take() {
            return Ok(store);
        }
        let mut store = self.scheme.access.open(self.limit)?;
        poller.add(&store, XENSTORED).map_err(|errno| watch::failed("xenstore", errno))?;
        self.watched.clear();
        for path in DOMAINS_CHANGED {
            store.watch(path)?;
        }
        if self.has_connected {
            self.guests.lost();
        }
        self.has_connected = true;
        Ok(store)
    }

    /// The guests by operand.
    fn list(
        &mut self,
        store: &mut Xenstore,
    ) -> Result<BTreeMap<String, Option<GuestIdentity>>, Error> {
        let mut ids: BTreeSet<DomId> = domain::ids(store)?.into_iter().collect();
        ids.remove(&DomId::ZERO);
        let ended: Vec<DomId> = self.watched.difference(&ids).copied().collect();
        for id in ended {
            for path in watched_nodes(id) {
                // A watch that cannot be removed costs an unneeded scan later, at most.
                let _ = store.unwatch(&path);
            }
            self.watched.remove(&id);
        }
        for id in &ids {
            if self.watched.insert(*id) {
                for path in watched_nodes(*id) {
                    store.watch(&path)?;
                }
            }
        }
        // This includes the first events of new watches: the nodes that they report are read below.
        store.take_events()?;
        let mut guests = BTreeMap::new();
        // While a guest reboots, the old and the new domain may both have the name: the newer one
        // counts, as it does for an address.
        for id in ids {
            if let Some(operand) = self.scheme.guest_operand(store, id)? {
                guests.insert(operand, Some(GuestIdentity::new("xen-domain", id)));
            }
        }
        Ok(guests)
    }
}

/// The nodes of a domain that decide whether it is a guest, and which.
fn watched_nodes(id: DomId) -> [String; 2] {
    [usb::domain_name(id), usb::domain_type(id)]
}
