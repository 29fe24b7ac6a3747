//! Serves the clients: each has one thread that reads and one that writes, so that a client that
//! does not read does not block the others.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use super::lock;
use super::tree::{Change, Tree, folder, parent};
use crate::DomId;
use crate::store::path::{check, check_watched};
use crate::store::wire::{Decoder, Kind, MAX_PAYLOAD, Message, texts};

/// The whole state.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) forced_conflicts: u32,
    pub(super) ended: bool,
    pub(super) faults: Vec<Fault>,
    /// The requests that failed because of [`State::faults`].
    pub(super) failed: u64,
    clients: BTreeMap<u64, Client>,
    last: u64,
}

/// Requests that fail: see [`super::Xenstored::fail`].
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) path: String,
    pub(super) outcome: Outcome,
}

/// What happens to a request that fails.
#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    /// The reply is this name of an error (`io/xs_wire.h`, `xsd_errors`).
    Error(&'static str),
    /// The request is executed, but its reply is never sent.
    NoReply,
}

#[derive(Debug)]
struct Client {
    domain: DomId,
    stream: UnixStream,
    out: Sender<Vec<u8>>,
    /// Path and token.
    watches: Vec<(String, String)>,
    transactions: BTreeMap<u32, Transaction>,
}

/// The tree at the start, the changes to it, and the nodes that were accessed.
#[derive(Debug)]
struct Transaction {
    tree: Tree,
    changes: Vec<Change>,
    /// Each node that was read or changed, with its generation at the start.
    touched: BTreeMap<String, u64>,
}

type Reply = Result<Vec<u8>, &'static str>;

/// Starts serving a client.
pub(super) fn serve(state: &Arc<Mutex<State>>, stream: UnixStream, domain: DomId) {
    let (Ok(mut reader), Ok(mut writer)) = (stream.try_clone(), stream.try_clone()) else { return };
    let (out, messages) = channel::<Vec<u8>>();
    let id = {
        let mut state = lock(state);
        state.last += 1;
        let id = state.last;
        let client =
            Client { domain, stream, out, watches: Vec::new(), transactions: BTreeMap::new() };
        state.clients.insert(id, client);
        id
    };
    std::thread::spawn(move || messages.iter().try_for_each(|message| writer.write_all(&message)));
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        let mut decoder = Decoder::new();
        let mut chunk = [0; MAX_PAYLOAD];
        while let Ok(count @ 1..) = reader.read(&mut chunk) {
            decoder.feed(chunk.get(..count).unwrap_or_default());
            while let Ok(Some(message)) = decoder.next_message() {
                lock(&state).answer(id, message);
            }
        }
        lock(&state).clients.remove(&id);
    });
}

impl State {
    pub(super) fn hang_up(&mut self) {
        for client in self.clients.values() {
            let _ = client.stream.shutdown(Shutdown::Both);
        }
        self.clients.clear();
    }

    /// Changes the tree for all clients, and fires watches.
    pub(super) fn change(&mut self, change: &Change, by: DomId) -> Reply {
        let changed = self.tree.change(change, by).ok_or("ENOENT")?;
        for (number, path) in changed.iter().enumerate() {
            // The first path fires its own watches and those of its parents. The others were below
            // a folder that was removed: each fires only its own watches.
            self.notify(path, |watched| {
                watched == path || (number == 0 && path.starts_with(&folder(watched)))
            });
        }
        Ok(b"OK\0".to_vec())
    }

    pub(super) fn fire(&mut self, special: &str) {
        self.notify(special, |watched| watched == special);
    }

    fn notify(&self, path: &str, watching: impl Fn(&str) -> bool) {
        for client in self.clients.values() {
            for (_, token) in client.watches.iter().filter(|(watched, _)| watching(watched)) {
                client.send(Kind::WatchEvent, 0, 0, format!("{path}\0{token}\0").into_bytes());
            }
        }
    }

    fn answer(&mut self, id: u64, message: Message) {
        let Message { kind, request, transaction, payload } = message;
        let fault = self.fault(kind, &payload);
        let reply = match fault {
            Some(Outcome::Error(name)) => Err(name),
            _ => self.reply(id, kind, transaction, &payload),
        };
        if matches!(fault, Some(Outcome::NoReply)) {
            return;
        }
        let Some(client) = self.clients.get(&id) else { return };
        match &reply {
            Ok(reply) => client.send(kind, request, transaction, reply.clone()),
            Err(name) => {
                client.send(Kind::Error, request, transaction, format!("{name}\0").into_bytes());
            }
        }
        if kind == Kind::Watch && reply.is_ok() {
            // A watch fires once when it is set.
            client.send(Kind::WatchEvent, 0, 0, payload);
        }
    }

    /// The outcome that a test has chosen for such a request.
    fn fault(&mut self, kind: Kind, payload: &[u8]) -> Option<Outcome> {
        let path = payload.split(|byte| *byte == 0).next().unwrap_or_default();
        let path = String::from_utf8_lossy(path);
        let concerns = |fault: &&Fault| fault.kind == kind && path.starts_with(&fault.path);
        let outcome = self.faults.iter().find(concerns).map(|fault| fault.outcome);
        self.failed += u64::from(outcome.is_some());
        outcome
    }

    fn reply(&mut self, id: u64, kind: Kind, transaction: u32, payload: &[u8]) -> Reply {
        match kind {
            Kind::Read | Kind::Directory | Kind::DirectoryPart | Kind::GetPerms => {
                self.read(id, kind, transaction, payload)
            }
            Kind::Write | Kind::Mkdir | Kind::Rm | Kind::SetPerms => {
                self.alter(id, change(kind, payload)?, transaction)
            }
            Kind::TransactionStart => self.begin(id),
            Kind::TransactionEnd => self.end(id, transaction, payload),
            Kind::Watch | Kind::Unwatch => self.client(id)?.watch(kind, payload),
            Kind::ResetWatches => {
                self.client(id)?.watches.clear();
                Ok(b"OK\0".to_vec())
            }
            Kind::GetDomainPath => Ok(format!("/local/domain/{}\0", text(payload)?).into_bytes()),
            Kind::WatchEvent | Kind::Error => Err("ENOSYS"),
        }
    }

    fn client(&mut self, id: u64) -> Result<&mut Client, &'static str> {
        self.clients.get_mut(&id).ok_or("EIO")
    }

    fn read(&mut self, id: u64, kind: Kind, transaction: u32, payload: &[u8]) -> Reply {
        let mut path = text(payload)?;
        if !path.starts_with('/') {
            path = format!("/local/domain/{}/{path}", self.client(id)?.domain);
        }
        let tree = if transaction == 0 {
            &self.tree
        } else {
            let inside = self.client(id)?.transactions.get_mut(&transaction).ok_or("ENOENT")?;
            inside.touch(&path);
            &inside.tree
        };
        match kind {
            Kind::Read => tree.value(&path),
            Kind::GetPerms => tree.perms(&path),
            Kind::Directory => {
                let names = tree.children(&path).ok_or("ENOENT")?;
                return if names.len() > MAX_PAYLOAD { Err("E2BIG") } else { Ok(names) };
            }
            _ => part(tree, &path, payload),
        }
        .ok_or("ENOENT")
    }

    fn alter(&mut self, id: u64, change: Change, transaction: u32) -> Reply {
        let client = self.client(id)?;
        let domain = client.domain;
        if transaction == 0 {
            return self.change(&change, domain);
        }
        let inside = client.transactions.get_mut(&transaction).ok_or("ENOENT")?;
        inside.touch(change.path());
        inside.touch_new(change.path());
        inside.tree.change(&change, domain).ok_or("ENOENT")?;
        inside.changes.push(change);
        Ok(b"OK\0".to_vec())
    }

    fn begin(&mut self, id: u64) -> Reply {
        let tree = self.tree.clone();
        let client = self.client(id)?;
        let number =
            (1..).find(|number| !client.transactions.contains_key(number)).ok_or("EBUSY")?;
        let inside = Transaction { tree, changes: Vec::new(), touched: BTreeMap::new() };
        client.transactions.insert(number, inside);
        Ok(format!("{number}\0").into_bytes())
    }

    fn end(&mut self, id: u64, transaction: u32, payload: &[u8]) -> Reply {
        let client = self.client(id)?;
        let domain = client.domain;
        let inside = client.transactions.remove(&transaction).ok_or("ENOENT")?;
        if payload != b"T\0" {
            return Ok(b"OK\0".to_vec());
        }
        let mut touched = inside.touched.iter();
        let disturbed = touched.any(|(path, before)| self.tree.generation(path) != *before);
        if self.forced_conflicts > 0 || disturbed {
            self.forced_conflicts = self.forced_conflicts.saturating_sub(1);
            return Err("EAGAIN");
        }
        for change in &inside.changes {
            self.change(change, domain)?;
        }
        Ok(b"OK\0".to_vec())
    }
}

impl Transaction {
    /// Records a node's generation before its first access.
    fn touch(&mut self, path: &str) {
        let generation = self.tree.generation(path);
        self.touched.entry(path.to_owned()).or_insert(generation);
    }

    /// Creating a node also changes its parent's list of children. So do the parents that are
    /// created with the node.
    fn touch_new(&mut self, path: &str) {
        let mut seen = BTreeSet::new();
        let mut path = path;
        while self.tree.generation(path) == 0 && seen.insert(path.to_owned()) {
            path = parent(path);
            self.touch(path);
        }
    }
}

impl Client {
    fn send(&self, kind: Kind, request: u32, transaction: u32, payload: Vec<u8>) {
        if let Ok(bytes) = (Message { kind, request, transaction, payload }).encode() {
            // The client may have disconnected.
            let _ = self.out.send(bytes);
        }
    }

    fn watch(&mut self, kind: Kind, payload: &[u8]) -> Reply {
        let mut parts =
            payload.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
        let (Some(path), Some(token)) = (parts.next(), parts.next()) else { return Err("EINVAL") };
        check_watched(&path).map_err(|_| "EINVAL")?;
        let at = self.watches.iter().position(|watch| (&watch.0, &watch.1) == (&path, &token));
        match (kind, at) {
            (Kind::Watch, None) => self.watches.push((path, token)),
            (Kind::Watch, Some(_)) => return Err("EEXIST"),
            (_, Some(at)) => drop(self.watches.remove(at)),
            (_, None) => return Err("ENOENT"),
        }
        Ok(b"OK\0".to_vec())
    }
}

fn text(payload: &[u8]) -> Result<String, &'static str> {
    let first = texts(payload).next().ok_or("EINVAL")?;
    String::from_utf8(first.to_vec()).map_err(|_| "EINVAL")
}

fn change(kind: Kind, payload: &[u8]) -> Result<Change, &'static str> {
    let end = payload.iter().position(|byte| *byte == 0).ok_or("EINVAL")?;
    let (path, rest) = payload.split_at_checked(end).ok_or("EINVAL")?;
    let rest = rest.get(1..).unwrap_or_default().to_vec();
    let path = String::from_utf8(path.to_vec()).map_err(|_| "EINVAL")?;
    check(&path).map_err(|_| "EINVAL")?;
    Ok(match kind {
        Kind::Write => Change::Write(path, rest),
        Kind::Mkdir => Change::Make(path),
        Kind::Rm => Change::Remove(path),
        _ => Change::SetPerms(path, rest),
    })
}

/// The folder's generation and as many whole names from an offset as fit, with an empty name after
/// the last.
fn part(tree: &Tree, path: &str, payload: &[u8]) -> Option<Vec<u8>> {
    let names = tree.children(path)?;
    let offset =
        texts(payload).nth(1).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())?;
    let mut reply = format!("{}\0", tree.generation(path)).into_bytes();
    let rest = names.get(offset..).unwrap_or_default();
    let room = MAX_PAYLOAD - reply.len() - 1;
    let whole = match rest.get(..room) {
        None => rest,
        Some(most) => {
            let end = most.iter().rposition(|byte| *byte == 0).map_or(0, |at| at + 1);
            most.get(..end).unwrap_or_default()
        }
    };
    reply.extend_from_slice(whole);
    if whole.len() == rest.len() {
        reply.push(0);
    }
    Some(reply)
}
