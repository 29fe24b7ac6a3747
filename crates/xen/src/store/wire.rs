//! xenstore's messages, without I/O.
//!
//! ```text
//! 0        4         8             12       16
//! | type   | request | transaction | length | payload, at most 4096 bytes
//! ```
//!
//! Numbers are in the machine's byte order. Payloads are texts, each with a zero byte after it; only the value of a
//! node has none. Types and sizes are those of Xen's `io/xs_wire.h`, the meaning of payloads is in `docs/misc/xenstore.txt`.

/// Size of the header, in bytes (`struct xsd_sockmsg`).
pub const HEADER_BYTES: usize = 16;
/// The longest payload, in bytes (`XENSTORE_PAYLOAD_MAX`). xenstored ends a connection that sends more.
pub const MAX_PAYLOAD: usize = 4096;
/// The longest payload of a request, in bytes: `/dev/xen/xenbus` takes header and payload together in one buffer of
/// 4096 (Linux's `xenbus_dev_frontend.c`).
pub const MAX_REQUEST: usize = MAX_PAYLOAD - HEADER_BYTES;
/// The longest absolute path, in bytes (`XENSTORE_ABS_PATH_MAX`).
pub const MAX_PATH: usize = 3072;

/// What a message is (`enum xsd_sockmsg_type`). A reply has the kind of its request, or is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// Names of a node's children.
    Directory = 1,
    /// A node's value.
    Read = 2,
    /// Who may do what with a node.
    GetPerms = 3,
    /// Ask to be told about changes.
    Watch = 4,
    /// Ask no longer.
    Unwatch = 5,
    /// Begin a transaction.
    TransactionStart = 6,
    /// End a transaction: keep (`T`) or drop (`F`) what was done in it.
    TransactionEnd = 7,
    /// Where a domain's nodes are.
    GetDomainPath = 10,
    /// Set a node's value, and make it if need be.
    Write = 11,
    /// Make a node, if it is not there.
    Mkdir = 12,
    /// Remove a node and all below it.
    Rm = 13,
    /// Say who may do what with a node.
    SetPerms = 14,
    /// Something that is watched has changed. Comes unasked.
    WatchEvent = 15,
    /// A request was refused; the payload is the error's name.
    Error = 16,
    /// Forget all watches of this connection.
    ResetWatches = 21,
    /// Some of the names of a node's children, for nodes with many.
    DirectoryPart = 22,
}

impl Kind {
    /// All kinds that are used here.
    pub const ALL: [Self; 16] = [
        Self::Directory,
        Self::Read,
        Self::GetPerms,
        Self::Watch,
        Self::Unwatch,
        Self::TransactionStart,
        Self::TransactionEnd,
        Self::GetDomainPath,
        Self::Write,
        Self::Mkdir,
        Self::Rm,
        Self::SetPerms,
        Self::WatchEvent,
        Self::Error,
        Self::ResetWatches,
        Self::DirectoryPart,
    ];

    /// Its number in a message.
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The kind of that number, if it is used here.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// One message, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Number of the request; its reply has the same. Means nothing in a watch event: some kernels leave there what
    /// happened to be in memory.
    pub request: u32,
    /// Number of the transaction; 0 outside of one.
    pub transaction: u32,
    /// What it says.
    pub payload: Vec<u8>,
}

/// A payload is longer than a message may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes do not fit into one message to xenstore, which has room for {MAX_PAYLOAD}")]
pub struct TooLong {
    /// How long it would be, in bytes.
    pub bytes: usize,
}

impl Message {
    /// The message as bytes, to be written at once.
    ///
    /// # Errors
    /// The payload is longer than [`MAX_PAYLOAD`].
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let bytes = self.payload.len();
        let length = u32::try_from(bytes).map_err(|_| TooLong { bytes })?;
        if bytes > MAX_PAYLOAD {
            return Err(TooLong { bytes });
        }
        let mut whole = Vec::with_capacity(HEADER_BYTES + bytes);
        for word in [self.kind.code(), self.request, self.transaction, length] {
            whole.extend_from_slice(&word.to_ne_bytes());
        }
        whole.extend_from_slice(&self.payload);
        Ok(whole)
    }
}

/// What came cannot be understood; nothing after it can either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A length that no message can have.
    #[error("a message of {0} bytes was announced, and none is longer than {MAX_PAYLOAD}")]
    Length(u32),
    /// A type that is not known.
    #[error("a message of type {0} came, which is not known")]
    Type(u32),
}

/// Puts messages together from bytes, however they are cut. Keeps what it was fed and has not given out yet: a caller
/// that takes all messages after each chunk bounds it to one message and one chunk.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// How many of `bytes` were given out already.
    taken: usize,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// A decoder at the beginning of a message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes some bytes. After an error they are dropped.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Whether a message has begun and is not whole yet.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.taken < self.bytes.len()
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// The bytes are not messages. It is the same error from then on.
    pub fn next_message(&mut self) -> Result<Option<Message>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.decode().inspect_err(|error| {
            self.failed = Some(*error);
            self.bytes = Vec::new();
            self.taken = 0;
        })
    }

    fn decode(&mut self) -> Result<Option<Message>, DecodeError> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [code, request, transaction, length] = words(header);
        let kind = Kind::from_code(code).ok_or(DecodeError::Type(code))?;
        // Any `u32` fits into a `usize` here: Xen has no 16-bit machines.
        let bytes = length as usize;
        if bytes > MAX_PAYLOAD {
            return Err(DecodeError::Length(length));
        }
        let Some(payload) = rest.get(..bytes) else { return Ok(None) };
        let payload = payload.to_vec();
        self.taken += HEADER_BYTES + bytes;
        Ok(Some(Message { kind, request, transaction, payload }))
    }
}

fn words(header: &[u8; HEADER_BYTES]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *header;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_ne_bytes)
}

/// The texts of a payload, without the zero bytes after them. A last one without its zero byte counts too: some
/// replies are sent so.
pub fn texts(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let payload = payload.strip_suffix(&[0]).unwrap_or(payload);
    // An empty payload has no texts; one zero byte is one empty text, which no caller needs.
    let some = !payload.is_empty();
    payload.split(|byte| *byte == 0).filter(move |_| some)
}
