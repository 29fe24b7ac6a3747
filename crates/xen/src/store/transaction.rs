//! Several changes that others see together or not at all.

use std::time::Duration;

use super::error::Error;
use super::nodes::{Ask, Nodes};
use super::wire::Kind;
use super::{Store, number};

/// How often a transaction is tried that others disturb.
const ATTEMPTS: u32 = 64;

/// Inside a transaction: what is read stays as it was at its beginning, and what is written nobody else sees yet.
///
/// One that is dropped without being committed is undone.
#[derive(Debug)]
pub struct Transaction<'store> {
    store: &'store mut Store,
    /// xenstored's number for it, never 0.
    id: u32,
    open: bool,
}

impl Store {
    /// Does several things together or not at all.
    ///
    /// xenstored refuses the end when others have changed the same nodes meanwhile: then `body` is run anew, up to 64
    /// times. When `body` fails, everything is undone. Nothing that it does elsewhere is undone, so it had better do
    /// nothing there.
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
    /// Those of `body`; [`Error::Conflict`] if others never leave off. After [`Error::TimedOut`] at the end it is not
    /// known which of both it was.
    pub fn transaction<T, E: From<Error>>(
        &mut self,
        mut body: impl FnMut(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        for attempt in 0..ATTEMPTS {
            let mut transaction = Transaction::begin(self)?;
            let value = body(&mut transaction)?;
            if transaction.commit()? {
                return Ok(value);
            }
            // The first few at once: most conflicts are over. Then ever slower, at most 20 ms.
            let pause = attempt.saturating_sub(4).min(20);
            std::thread::sleep(Duration::from_millis(pause.into()));
        }
        Err(Error::Conflict { attempts: ATTEMPTS }.into())
    }
}

impl<'store> Transaction<'store> {
    fn begin(store: &'store mut Store) -> Result<Self, Error> {
        let reply = store.request(Kind::TransactionStart, 0, "a transaction", b"\0")?;
        // 0 stands for no transaction: all would be done at once and nothing could be undone.
        let id = number(&reply).filter(|id| *id != 0);
        let id = id.ok_or_else(|| Error::Protocol("a transaction without a number".into()))?;
        Ok(Self { store, id, open: true })
    }

    /// Keeps what was done; `false` if others were in the way.
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
        if self.open
            && let Err(error) = self.end(b"F\0")
        {
            // xenstored and the kernel both undo it at the latest when the connection ends.
            tracing::debug!(%error, "a transaction was left open");
        }
    }
}

impl Ask for Transaction<'_> {
    fn ask(&mut self, kind: Kind, about: &str, payload: &[u8]) -> Result<Vec<u8>, Error> {
        self.store.request(kind, self.id, about, payload)
    }
}

impl Nodes for Transaction<'_> {}
