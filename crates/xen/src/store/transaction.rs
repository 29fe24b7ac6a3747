//! Several changes that take effect together or not at all.

use std::time::Duration;

use super::error::Error;
use super::nodes::{Ask, Nodes};
use super::wire::Kind;
use super::{Store, number};

/// How many times a transaction is attempted if each attempt ends with a conflict.
const ATTEMPTS: u32 = 64;

/// A transaction in progress. It reads nodes as they were at its start, and no other client sees
/// its writes yet.
///
/// A transaction that is dropped without being committed is aborted.
#[derive(Debug)]
pub struct Transaction<'store> {
    store: &'store mut Store,
    /// xenstored's id for it, never 0.
    id: u32,
    open: bool,
}

impl Store {
    /// Runs `body` in a transaction: all of its changes take effect, or none.
    ///
    /// xenstored refuses to commit if another client has changed the same nodes in the meantime:
    /// `body` is then run again, at most 64 times in all. If `body` fails, the transaction is
    /// aborted. `body` should have no other side effects, because those are not undone.
    ///
    /// ```no_run
    /// # use vusb_xen::store::{Error, Nodes, Store, DEFAULT_LIMIT};
    /// # let mut store = Store::connect(DEFAULT_LIMIT)?;
    /// let old = store.transaction(|tx| {
    ///     let old = tx.read("/local/domain/0/count")?;
    ///     tx.write("/local/domain/0/count", "1")?;
    ///     Ok::<_, Error>(old)
    /// })?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of `body`; [`Error::Conflict`] after 64 conflicts. After [`Error::TimedOut`] it
    /// may be unknown whether the transaction was committed.
    pub fn transaction<T, E: From<Error>>(
        &mut self,
        body: impl FnMut(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.transaction_with(ATTEMPTS, body)
    }

    /// As [`Store::transaction`], with another number of attempts. The pause after each grows from
    /// 0 to 20 ms: 64 attempts take about a second, 16 take 70 ms.
    ///
    /// # Errors
    /// As [`Store::transaction`].
    pub fn transaction_with<T, E: From<Error>>(
        &mut self,
        attempts: u32,
        mut body: impl FnMut(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        for attempt in 0..attempts {
            let mut transaction = Transaction::begin(self)?;
            let value = body(&mut transaction)?;
            if transaction.commit()? {
                return Ok(value);
            }
            // The first few retries are immediate, because most conflicts are short. The pause then
            // grows to at most 20 ms.
            let pause = attempt.saturating_sub(4).min(20);
            std::thread::sleep(Duration::from_millis(pause.into()));
        }
        Err(Error::Conflict { attempts }.into())
    }
}

impl<'store> Transaction<'store> {
    fn begin(store: &'store mut Store) -> Result<Self, Error> {
        let reply = store.request(Kind::TransactionStart, 0, "a transaction", b"\0")?;
        // 0 means "no transaction": every change would take effect at once and could not be undone.
        let id = number(&reply).filter(|id| *id != 0);
        let id = id.ok_or_else(|| Error::Protocol("a transaction without an id".into()))?;
        Ok(Self { store, id, open: true })
    }

    /// Commits; `false` if there was a conflict.
    fn commit(mut self) -> Result<bool, Error> {
        match self.end(b"T\0") {
            Ok(()) => Ok(true),
            Err(error) if error.is_named("EAGAIN") => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn end(&mut self, how: &[u8]) -> Result<(), Error> {
        self.open = false;
        self.store.request(Kind::TransactionEnd, self.id, "a transaction", how).map(drop)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            if let Err(error) = self.end(b"F\0") {
                // xenstored and the kernel abort it when the connection ends, if not before.
                tracing::debug!(%error, "a transaction could not be aborted");
            }
        }
    }
}

impl Ask for Transaction<'_> {
    fn ask(&mut self, kind: Kind, about: &str, payload: &[u8]) -> Result<Vec<u8>, Error> {
        self.store.request(kind, self.id, about, payload)
    }
}

impl Nodes for Transaction<'_> {}
