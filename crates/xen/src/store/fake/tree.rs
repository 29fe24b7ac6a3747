//! The tree of nodes.

use std::collections::BTreeMap;

use crate::DomId;

#[derive(Debug, Clone)]
pub(super) struct Node {
    value: Vec<u8>,
    perms: Vec<u8>,
    /// Changes whenever the node or its list of children changes.
    generation: u64,
}

/// A client's change.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write(String, Vec<u8>),
    Make(String),
    Remove(String),
    SetPerms(String, Vec<u8>),
}

impl Change {
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Write(path, _)
            | Self::Make(path)
            | Self::Remove(path)
            | Self::SetPerms(path, _) => path,
        }
    }
}

/// All nodes by path; the root always exists.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
    generation: u64,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node { value: Vec::new(), perms: b"r0\0".to_vec(), generation: 1 };
        Self { nodes: BTreeMap::from([("/".to_owned(), root)]), generation: 1 }
    }
}

impl Tree {
    pub(super) fn value(&self, path: &str) -> Option<Vec<u8>> {
        self.nodes.get(path).map(|node| node.value.clone())
    }

    pub(super) fn perms(&self, path: &str) -> Option<Vec<u8>> {
        self.nodes.get(path).map(|node| node.perms.clone())
    }

    /// A node's generation; 0 if it does not exist.
    pub(super) fn generation(&self, path: &str) -> u64 {
        self.nodes.get(path).map_or(0, |node| node.generation)
    }

    /// The names of its children, each terminated by a zero byte.
    pub(super) fn children(&self, path: &str) -> Option<Vec<u8>> {
        self.nodes.get(path)?;
        let names = self.below(path).filter_map(|(child, _)| {
            let name = child.strip_prefix(&folder(path))?;
            (!name.contains('/')).then_some(name)
        });
        Some(names.flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect())
    }

    fn below(&self, path: &str) -> impl Iterator<Item = (&String, &Node)> {
        let prefix = folder(path);
        self.nodes
            .iter()
            .filter(move |(other, _)| other.starts_with(&prefix) && other.len() > prefix.len())
    }

    /// Makes a change and returns the paths that fire watches; `None` if the change is not
    /// possible.
    pub(super) fn change(&mut self, change: &Change, by: DomId) -> Option<Vec<String>> {
        self.generation += 1;
        let generation = self.generation;
        match change {
            Change::Write(path, value) => {
                let node = self.make(path, by);
                node.value.clone_from(value);
                node.generation = generation;
            }
            Change::Make(path) => {
                if self.nodes.contains_key(path) {
                    return Some(Vec::new());
                }
                self.make(path, by);
            }
            Change::Remove(path) => return self.remove(path),
            Change::SetPerms(path, perms) => {
                let node = self.nodes.get_mut(path)?;
                node.perms.clone_from(perms);
                node.generation = generation;
            }
        }
        Some(vec![change.path().to_owned()])
    }

    /// The node with that path, created if necessary with its parents. A new node inherits its
    /// parent's permissions; a guest owns the nodes that it creates.
    fn make(&mut self, path: &str, by: DomId) -> &mut Node {
        if !self.nodes.contains_key(path) {
            let generation = self.generation;
            let above = self.make(parent(path), by);
            above.generation = generation;
            let mut perms = above.perms.clone();
            if by != DomId::ZERO {
                let others = perms.iter().position(|byte| *byte == 0).unwrap_or_default();
                let letter = perms.first().copied().unwrap_or(b'n');
                perms = [&[letter], by.to_string().as_bytes(), &perms.split_off(others)].concat();
            }
            self.nodes.insert(path.to_owned(), Node { value: Vec::new(), perms, generation });
        }
        let empty = Node { value: Vec::new(), perms: b"n0\0".to_vec(), generation: 0 };
        self.nodes.entry(path.to_owned()).or_insert(empty)
    }

    fn remove(&mut self, path: &str) -> Option<Vec<String>> {
        self.nodes.get(path).filter(|_| path != "/")?;
        let gone: Vec<String> = std::iter::once(path.to_owned())
            .chain(self.below(path).map(|(path, _)| path.clone()))
            .collect();
        for path in &gone {
            self.nodes.remove(path);
        }
        let generation = self.generation;
        if let Some(above) = self.nodes.get_mut(parent(path)) {
            above.generation = generation;
        }
        Some(gone)
    }

    pub(super) fn snapshot(&self) -> BTreeMap<String, String> {
        let is_shown =
            |path: &str, node: &Node| !node.value.is_empty() || self.below(path).next().is_none();
        self.nodes
            .iter()
            .filter(|(path, node)| *path != "/" && is_shown(path, node))
            .map(|(path, node)| (path.clone(), String::from_utf8_lossy(&node.value).into_owned()))
            .collect()
    }
}

pub(super) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        None | Some(("", _)) => "/",
        Some((above, _)) => above,
    }
}

/// The prefix of the paths of all nodes below.
pub(super) fn folder(path: &str) -> String {
    if path == "/" { "/".to_owned() } else { format!("{path}/") }
}
