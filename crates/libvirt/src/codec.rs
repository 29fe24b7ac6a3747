//! Messages, without any I/O.
//!
//! ```text
//!   ┌────────┬─────────┬─────────┬───────────┬──────┬────────┬────────┬─────────┐
//!   │ length │ program │ version │ procedure │ type │ serial │ status │ payload │  each but the payload:
//!   └────────┴─────────┴─────────┴───────────┴──────┴────────┴────────┴─────────┘  four bytes, big endian
//!     the length counts itself
//! ```
//!
//! Source: `src/rpc/virnetprotocol.x` of libvirt 11.3 and the comment at its head. After an error
//! the decoder stays failed, because the start of the next message is unknown.

use crate::xdr::Reader;

/// The longest message in bytes, including its length field (`VIR_NET_MESSAGE_MAX`).
pub const MAX_MESSAGE: usize = 32 << 20;

/// The size in bytes of the length field and the header.
const FRAME: usize = 28;

/// Why bytes are not a libvirt message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The length of a message is impossible.
    #[error(
        "a message has a length of {found} bytes, which must be {FRAME} to {MAX_MESSAGE}: this is not a libvirt socket"
    )]
    Length {
        /// The length.
        found: u32,
    },
    /// The type of a message is unknown.
    #[error("a message has the unknown type {found}")]
    Type {
        /// The type.
        found: i32,
    },
    /// The status of a message is unknown.
    #[error("a message has the unknown status {found}")]
    Status {
        /// The status.
        found: i32,
    },
    /// A message ends before all of its values.
    #[error("a message ends before {what}")]
    Short {
        /// The value.
        what: &'static str,
    },
    /// A string or list is too long.
    #[error("the length of {what} is {length}, and may be at most {limit}")]
    TooLong {
        /// The value.
        what: &'static str,
        /// Its length in bytes or items.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A flag is neither 0 nor 1.
    #[error("the flag of {what} is {found}, which must be 0 or 1")]
    NotABool {
        /// The value.
        what: &'static str,
        /// The flag.
        found: u32,
    },
}

/// The type of a message (`virNetMessageType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// A client calls a procedure.
    Call,
    /// The daemon has executed it.
    Reply,
    /// Not an answer to a call: an event, or a keepalive message.
    Event,
    /// Data of a stream.
    Stream,
    /// A call with file descriptors.
    CallWithFds,
    /// A reply with file descriptors.
    ReplyWithFds,
    /// A gap in a stream.
    StreamHole,
}

impl MessageType {
    const ALL: [MessageType; 7] = [
        MessageType::Call,
        MessageType::Reply,
        MessageType::Event,
        MessageType::Stream,
        MessageType::CallWithFds,
        MessageType::ReplyWithFds,
        MessageType::StreamHole,
    ];

    const fn number(self) -> i32 {
        match self {
            MessageType::Call => 0,
            MessageType::Reply => 1,
            MessageType::Event => 2,
            MessageType::Stream => 3,
            MessageType::CallWithFds => 4,
            MessageType::ReplyWithFds => 5,
            MessageType::StreamHole => 6,
        }
    }
}

/// The status of a reply (`virNetMessageStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Success: the payload is the result.
    Ok,
    /// Failure: the payload is a [`RemoteError`](crate::protocol::RemoteError).
    Error,
    /// More data of a stream follows.
    Continue,
}

impl Status {
    const ALL: [Status; 3] = [Status::Ok, Status::Error, Status::Continue];

    const fn number(self) -> i32 {
        match self {
            Status::Ok => 0,
            Status::Error => 1,
            Status::Continue => 2,
        }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The program: see [`protocol`](crate::protocol).
    pub program: u32,
    /// The program's version. It is 1 for all programs.
    pub version: u32,
    /// The procedure of the program.
    pub procedure: i32,
    /// The type.
    pub kind: MessageType,
    /// Chosen by the client; a reply has that of its call. 0 in events.
    pub serial: u32,
    /// The status.
    pub status: Status,
    /// The arguments or the result.
    pub payload: Vec<u8>,
}

impl Message {
    /// A call.
    pub const fn call(program: u32, procedure: i32, serial: u32, payload: Vec<u8>) -> Message {
        let (kind, status) = (MessageType::Call, Status::Ok);
        Message { program, version: 1, procedure, kind, serial, status, payload }
    }

    /// An event, or a keepalive message.
    pub const fn event(program: u32, procedure: i32, payload: Vec<u8>) -> Message {
        let (kind, status) = (MessageType::Event, Status::Ok);
        Message { program, version: 1, procedure, kind, serial: 0, status, payload }
    }

    /// The message as bytes; `None` if it exceeds [`MAX_MESSAGE`].
    pub fn encode(&self) -> Option<Vec<u8>> {
        let size = FRAME.checked_add(self.payload.len()).filter(|size| *size <= MAX_MESSAGE)?;
        let mut bytes = Vec::with_capacity(size);
        let (kind, status) = (self.kind.number(), self.status.number());
        for word in [
            u32::try_from(size).ok()?.to_be_bytes(),
            self.program.to_be_bytes(),
            self.version.to_be_bytes(),
            self.procedure.to_be_bytes(),
            kind.to_be_bytes(),
            self.serial.to_be_bytes(),
            status.to_be_bytes(),
        ] {
            bytes.extend_from_slice(&word);
        }
        bytes.extend_from_slice(&self.payload);
        Some(bytes)
    }
}

/// Decodes a stream of bytes, split anywhere, into messages.
///
/// ```
/// use vusb_libvirt::codec::{Decoder, Message};
///
/// let message = Message::call(0x2000_8086, 66, 1, Vec::new());
/// let bytes = message.encode().unwrap_or_default();
/// let (first, rest) = bytes.split_at(5);
/// let mut decoder = Decoder::default();
/// decoder.feed(first);
/// assert_eq!(decoder.next_message()?, None);
/// decoder.feed(rest);
/// assert_eq!(decoder.next_message()?, Some(message));
/// # Ok::<(), vusb_libvirt::DecodeError>(())
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// The first byte of the current message. Everything before it was returned.
    start: usize,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// Stores the next bytes of the stream.
    ///
    /// Call [`next_message`](Self::next_message) until it returns `None` before you feed more.
    /// Otherwise the limits have no effect.
    pub fn feed(&mut self, bytes: &[u8]) {
        /// The maximum capacity that an idle connection keeps.
        const IDLE_CAPACITY: usize = 1 << 20;

        if self.failed.is_some() {
            return;
        }
        // Moving the rest only if at least half is consumed keeps the total work linear.
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(IDLE_CAPACITY);
            self.start = 0;
        } else if self.start >= self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete message, or `None` until more bytes are fed.
    ///
    /// # Errors
    /// The bytes are not a message. All later calls return the same error.
    pub fn next_message(&mut self) -> Result<Option<Message>, DecodeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.take().inspect_err(|error| {
            self.buffer = Vec::new();
            self.start = 0;
            self.failed = Some(error.clone());
        })
    }

    /// Whether a message has begun and not ended.
    pub fn is_partial(&self) -> bool {
        self.start < self.buffer.len()
    }

    fn take(&mut self) -> Result<Option<Message>, DecodeError> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let mut reader = Reader::new(rest);
        let Ok(found) = reader.u32("its length") else { return Ok(None) };
        let length = usize::try_from(found).unwrap_or(usize::MAX);
        if !(FRAME..=MAX_MESSAGE).contains(&length) {
            return Err(DecodeError::Length { found });
        }
        let Ok(header) = Header::read(&mut reader) else { return Ok(None) };
        let Header { program, version, procedure, kind, serial, status } = header;
        // Before the payload has arrived, so that a peer that is not libvirt is noticed at once.
        let known = MessageType::ALL.into_iter().find(|it| it.number() == kind);
        let kind = known.ok_or(DecodeError::Type { found: kind })?;
        let known = Status::ALL.into_iter().find(|it| it.number() == status);
        let status = known.ok_or(DecodeError::Status { found: status })?;
        let Some(payload) = rest.get(FRAME..length) else { return Ok(None) };
        let payload = payload.to_vec();
        self.start += length;
        Ok(Some(Message { program, version, procedure, kind, serial, status, payload }))
    }
}

/// The header as it is on the wire.
struct Header {
    program: u32,
    version: u32,
    procedure: i32,
    kind: i32,
    serial: u32,
    status: i32,
}

impl Header {
    fn read(reader: &mut Reader<'_>) -> Result<Header, DecodeError> {
        Ok(Header {
            program: reader.u32("its program")?,
            version: reader.u32("its version")?,
            procedure: reader.i32("its procedure")?,
            kind: reader.i32("its type")?,
            serial: reader.u32("its serial")?,
            status: reader.i32("its status")?,
        })
    }
}
