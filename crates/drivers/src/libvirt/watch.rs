//! Watches libvirt's daemons for domains that start and end.
//!
//! ```text
//!  lifecycle event of any domain ──▶ list the domains ──▶ compare with those that ran so far
//! ```
//!
//! An event only says that something has changed: which domains run is always read from the list. A
//! domain gets a new ID at each start, so a restart is noticed too.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vusb_libvirt::{Client, Deadline, Error as LibvirtError, EventId, Uri};

use super::LibvirtScheme;
use super::address::{Key, Target};
use super::refusal::{Failure, Subject};
use crate::driver::Error;
use crate::identity::GuestIdentity;
use crate::limits::Limits;
use crate::scheme::{GuestWatch, WatchOptions};
use crate::watch::{self, Guests, Poller, Source, Watch};

/// How long to wait before connecting again after the connection was lost. Each failure doubles it,
/// up to [`ABSENT_DELAY`].
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// How long to wait before connecting again to a daemon that does not run and was never connected
/// to. It may never be started. Also the longest wait for any other daemon.
const ABSENT_DELAY: Duration = Duration::from_secs(30);

/// Watches the daemons with these URIs. A daemon that does not run is connected to once it does.
/// Nothing is sent yet, because a daemon that does not reply must not delay the caller.
///
/// # Errors
/// The kernel refuses a descriptor.
pub(super) fn watch(
    scheme: &LibvirtScheme,
    uris: Vec<Uri>,
    options: &WatchOptions,
) -> Result<Box<dyn GuestWatch>, Error> {
    let poller = Poller::new().map_err(|errno| watch::failed("guests", errno))?;
    let daemon = |(uri, token)| Daemon {
        uri,
        token,
        client: None,
        had_connection: false,
        failures: 0,
        is_stale: false,
        connect_at: None,
        running: BTreeMap::new(),
    };
    let source = LibvirtSource {
        scheme: scheme.clone(),
        limit: options.reply_limit,
        daemons: uris.into_iter().zip(0..).map(daemon).collect(),
        guests: Guests::default(),
        is_new: true,
    };
    Ok(Box::new(Watch::new(source, poller)?))
}

struct LibvirtSource {
    scheme: LibvirtScheme,
    limit: Duration,
    daemons: Vec<Daemon>,
    guests: Guests,
    /// Whether no daemon has been asked yet.
    is_new: bool,
}

/// A daemon, and what is known of its domains.
struct Daemon {
    uri: Uri,
    token: u64,
    /// `None` before the first connection, and after it was lost.
    client: Option<Client>,
    had_connection: bool,
    /// The number of failed attempts since the last successful one.
    failures: u32,
    /// Whether events arrived during the last scan.
    is_stale: bool,
    connect_at: Option<Instant>,
    /// The domains that ran when they were last listed. They keep running without the daemon.
    running: BTreeMap<String, Option<GuestIdentity>>,
}

impl Source for LibvirtSource {
    fn scan(&mut self, poller: &Poller) -> Result<(), Error> {
        if std::mem::take(&mut self.is_new) {
            let now = Instant::now();
            self.daemons.iter_mut().for_each(|it| it.connect_at = Some(now));
            return Ok(());
        }
        self.update(poller, |_| true)
    }

    fn react(&mut self, _: &[u64], poller: &Poller) -> Result<(), Error> {
        self.update(poller, Daemon::is_due)
    }

    fn next_wake(&self) -> Option<Instant> {
        let wake = |it: &Daemon| match &it.client {
            Some(_) => it.is_stale.then(Instant::now),
            None => it.connect_at,
        };
        self.daemons.iter().filter_map(wake).min()
    }

    fn guests(&mut self) -> &mut Guests {
        &mut self.guests
    }
}

impl LibvirtSource {
    /// Lists the domains of the daemons that `is_due` selects.
    fn update(
        &mut self,
        poller: &Poller,
        is_due: impl Fn(&mut Daemon) -> bool,
    ) -> Result<(), Error> {
        let mut failure = None;
        let mut is_changed = false;
        for daemon in &mut self.daemons {
            if !is_due(daemon) {
                continue;
            }
            is_changed = true;
            let is_reconnect = daemon.had_connection && daemon.client.is_none();
            match daemon.list(&self.scheme, self.limit, poller) {
                Ok(()) if is_reconnect && daemon.client.is_some() => self.guests.lost(),
                Ok(()) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if is_changed {
            let running = self.daemons.iter().flat_map(|it| it.running.clone());
            self.guests.replace(running.collect());
        }
        failure.map_or(Ok(()), Err)
    }
}

impl Daemon {
    fn is_due(&mut self) -> bool {
        match &mut self.client {
            // The listing detects and reports a lost connection.
            Some(client) => self.is_stale || take_events(client).unwrap_or(true),
            None => self.connect_at.is_none_or(|time| time <= Instant::now()),
        }
    }

    /// Lists the domains that run. On failure, the last list is kept. A daemon that does not run is
    /// not an error.
    fn list(
        &mut self,
        scheme: &LibvirtScheme,
        limit: Duration,
        poller: &Poller,
    ) -> Result<(), Error> {
        let deadline = Deadline::after(limit);
        let listed = self.connection(scheme, deadline, poller).and_then(|mut client| {
            let domains = client.domains(deadline)?;
            self.is_stale = take_events(&mut client)?;
            Ok((client, domains))
        });
        match listed {
            Ok((client, domains)) => {
                self.client = Some(client);
                self.had_connection = true;
                self.failures = 0;
                let running = domains.into_iter().filter(|it| it.id >= 0).map(|it| {
                    let target = Target { uri: self.uri.clone(), key: Key::Uuid(it.uuid) };
                    let number = format_args!("{}/{}", it.uuid, it.id).to_string();
                    (target.to_string(), Some(GuestIdentity::new("libvirt-run", number)))
                });
                self.running = running.collect();
                Ok(())
            }
            Err(error) => {
                self.is_stale = false;
                let is_absent =
                    matches!(error, LibvirtError::NoSocket { .. } | LibvirtError::Refused { .. });
                let never_seen = is_absent && !self.had_connection;
                let pause = if never_seen { ABSENT_DELAY } else { pause_after(self.failures) };
                self.failures = self.failures.saturating_add(1);
                self.connect_at = Instant::now().checked_add(pause);
                if is_absent {
                    return Ok(());
                }
                let domain = format!("libvirt:{}", self.uri);
                let (doing, subject) = ("listing the domains", Subject::Domain);
                let limits = Limits::from(limit);
                let failure =
                    Failure { domain: &domain, doing, subject, changes: false, limits: &limits };
                Err(failure.error(error))
            }
        }
    }

    /// Takes the existing connection, or connects.
    fn connection(
        &mut self,
        scheme: &LibvirtScheme,
        deadline: Deadline,
        poller: &Poller,
    ) -> Result<Client, LibvirtError> {
        if let Some(client) = self.client.take() {
            return Ok(client);
        }
        let mut client = Client::connect(&self.uri, &scheme.sockets(&self.uri), deadline)?;
        client.register(EventId::Lifecycle, None, deadline)?;
        if let Err(error) = poller.add(client.socket(), self.token) {
            // Without it, changes are found by the next scan only.
            tracing::warn!(uri = %self.uri, %error, "cannot wait for libvirt's events");
        }
        Ok(client)
    }
}

/// How long to wait after this number of failures in a row.
fn pause_after(failures: u32) -> Duration {
    RECONNECT_DELAY.saturating_mul(2_u32.saturating_pow(failures)).min(ABSENT_DELAY)
}

/// Takes the events that have arrived. Returns whether there were any.
fn take_events(client: &mut Client) -> Result<bool, LibvirtError> {
    let mut any = false;
    loop {
        match client.wait_event(Deadline::now(), |_| Some(())) {
            Ok(()) => any = true,
            Err(LibvirtError::TimedOut { .. }) => return Ok(any),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A restart of the daemon is noticed soon, and a stopped daemon costs little.
    #[test]
    fn attempts_become_rarer() {
        let pauses = [0, 1, 2, 3, 4, 5, 6, u32::MAX].map(|it| pause_after(it).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    }
}
