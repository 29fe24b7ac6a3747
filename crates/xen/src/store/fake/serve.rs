//! What is done for clients: one thread that reads and one that writes for each, so that one who does not read holds up
//! nobody else.

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

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) disturb: u32,
    pub(super) ended: bool,
    clients: BTreeMap<u64, Client>,
    last: u64,
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

/// The tree as it was, what was done to it, and which nodes mattered.
#[derive(Debug)]
struct Transaction {
    tree: Tree,
    changes: Vec<Change>,
    /// Each node that was looked at or changed, with its generation at the beginning.
    touched: BTreeMap<String, u64>,
}

type Reply = Result<Vec<u8>, &'static str>;

/// Takes a client.
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

    /// Changes the tree for all, and tells who watches.
    pub(super) fn change(&mut self, change: &Change, by: DomId) -> Reply {
        let told = self.tree.change(change, by).ok_or("ENOENT")?;
        for (number, path) in told.iter().enumerate() {
            // Of a folder that goes, those are told who watch it or what is above; of what was in it, only who watches that.
            self.tell(path, |watched| {
                watched == path || (number == 0 && path.starts_with(&folder(watched)))
            });
        }
        Ok(b"OK\0".to_vec())
    }

    pub(super) fn fire(&mut self, special: &str) {
        self.tell(special, |watched| watched == special);
    }

    fn tell(&self, path: &str, watching: impl Fn(&str) -> bool) {
        for client in self.clients.values() {
            for (_, token) in client.watches.iter().filter(|(watched, _)| watching(watched)) {
                client.send(Kind::WatchEvent, 0, 0, format!("{path}\0{token}\0").into_bytes());
            }
        }
    }

    fn answer(&mut self, id: u64, message: Message) {
        let Message { kind, request, transaction, payload } = message;
        let reply = self.reply(id, kind, transaction, &payload);
        let Some(client) = self.clients.get(&id) else { return };
        match &reply {
            Ok(reply) => client.send(kind, request, transaction, reply.clone()),
            Err(name) => {
                client.send(Kind::Error, request, transaction, format!("{name}\0").into_bytes());
            }
        }
        if kind == Kind::Watch && reply.is_ok() {
            // Once at the beginning, whatever there is.
            client.send(Kind::WatchEvent, 0, 0, payload);
        }
    }

    fn reply(&mut self, id: u64, kind: Kind, transaction: u32, payload: &[u8]) -> Reply {
        match kind {
            Kind::Read | Kind::Directory | Kind::DirectoryPart | Kind::GetPerms => {
                self.look(id, kind, transaction, payload)
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

    fn look(&mut self, id: u64, kind: Kind, transaction: u32, payload: &[u8]) -> Reply {
        let path = text(payload)?;
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
        if self.disturb > 0 || disturbed {
            self.disturb = self.disturb.saturating_sub(1);
            return Err("EAGAIN");
        }
        for change in &inside.changes {
            self.change(change, domain)?;
        }
        Ok(b"OK\0".to_vec())
    }
}

impl Transaction {
    /// Remembers a node as it was before the first change.
    fn touch(&mut self, path: &str) {
        let generation = self.tree.generation(path);
        self.touched.entry(path.to_owned()).or_insert(generation);
    }

    /// The list of children changes of the folder in which a node is made or removed.
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
            // Who has gone needs no message.
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

/// As many whole names from an offset on as fit, after the folder's generation; at the end one empty name.
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
