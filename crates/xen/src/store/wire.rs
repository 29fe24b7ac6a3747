//! xenstore's messages, without I/O.
//!
//! ```text
//! 0        4         8             12       16
//! | type   | request | transaction | length | payload, at most 4096 bytes
//! ```
//!
//! Numbers are in the machine's byte order. Payloads are texts, each terminated by a zero byte,
//! except for the value of a node. Types and sizes are defined in Xen's `io/xs_wire.h`, payloads in
//! `docs/misc/xenstore.txt`.

/// Size of the header, in bytes (`struct xsd_sockmsg`).
pub const HEADER_BYTES: usize = 16;
/// The longest payload, in bytes (`XENSTORE_PAYLOAD_MAX`). xenstored closes a connection that sends
/// more.
pub const MAX_PAYLOAD: usize = 4096;
/// The longest payload of a request, in bytes: `/dev/xen/xenbus` has one buffer of 4096 for header
/// and payload (Linux's `xenbus_dev_frontend.c`).
pub const MAX_REQUEST: usize = MAX_PAYLOAD - HEADER_BYTES;
/// The longest absolute path, in bytes (`XENSTORE_ABS_PATH_MAX`).
pub const MAX_PATH: usize = 3072;

/// The type of a message (`enum xsd_sockmsg_type`). A reply has the type of its request, or is an
/// error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// List a node's children.
    Directory = 1,
    /// Read a node's value.
    Read = 2,
    /// Read a node's permissions.
    GetPerms = 3,
    /// Set a watch.
    Watch = 4,
    /// Remove a watch.
    Unwatch = 5,
    /// Start a transaction.
    TransactionStart = 6,
    /// End a transaction: commit (`T`) or abort (`F`).
    TransactionEnd = 7,
    /// Look up the folder of a domain.
    GetDomainPath = 10,
    /// Set a node's value; create the node if necessary.
    Write = 11,
    /// Create a node if it does not exist.
    Mkdir = 12,
    /// Remove a node and everything below it.
    Rm = 13,
    /// Set a node's permissions.
    SetPerms = 14,
    /// A watched node has changed. Not a reply.
    WatchEvent = 15,
    /// A request was refused; the payload is the error's name.
    Error = 16,
    /// Remove all watches of this connection.
    ResetWatches = 21,
    /// List a part of a node's children, for nodes with many.
    DirectoryPart = 22,
}

impl Kind {
    /// All types that this crate uses.
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

    /// The number in a message.
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The type with that number, if this crate uses it.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// One complete message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub kind: Kind,
    /// Id of the request; its reply has the same. Meaningless in a watch event: some kernels leave
    /// uninitialized memory there.
    pub request: u32,
    /// Id of the transaction; 0 outside of one.
    pub transaction: u32,
    /// Its content.
    pub payload: Vec<u8>,
}

/// A payload is too long for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes do not fit into one message to xenstore: the limit is {MAX_PAYLOAD}")]
pub struct TooLong {
    /// Its length, in bytes.
    pub bytes: usize,
}

impl Message {
    /// The message as bytes, for one `write`.
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

/// The stream is not a sequence of messages, and cannot be resynchronized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// An impossible length.
    #[error("a message claims to have {0} bytes: the limit is {MAX_PAYLOAD}")]
    Length(u32),
    /// An unknown type.
    #[error("a message has the unknown type {0}")]
    Type(u32),
}

/// Assembles messages from a stream of bytes in chunks of any size. It buffers what it was fed and
/// has not returned yet: a caller that takes all messages after each chunk limits that to one
/// message and one chunk.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// How many of `bytes` have been returned.
    taken: usize,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// A decoder at the start of a message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes. After an error they are dropped.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Whether there is an incomplete message.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.taken < self.bytes.len()
    }

    /// The next complete message, if there is one.
    ///
    /// # Errors
    /// The bytes are not messages. Every later call returns the same error.
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

/// The texts of a payload, without their zero bytes. The zero byte of the last one may be missing,
/// as it is in some replies.
pub fn texts(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let payload = payload.strip_suffix(&[0]).unwrap_or(payload);
    // An empty payload has no texts. A single zero byte would be one empty text, which no caller
    // needs.
    let some = !payload.is_empty();
    payload.split(|byte| *byte == 0).filter(move |_| some)
}
