//! Decodes messages and encodes commands, without any I/O.
//!
//! QEMU ends each message with a line feed, but with `pretty=on` messages also contain line feeds.
//! A frame is therefore not a line but one JSON value: [`Decoder`] counts brackets outside strings,
//! examines each byte once however the stream is split, and passes complete values to `serde_json`.
//!
//! ```text
//!             { or [                    last } or ]
//!   Between ──────────▶ Inside(depth) ───────────────▶ Between, one message out
//!    │  ▲ white space     │ ▲      │ ▲
//!    │  └──┘            " │ │ "    │ └─ any byte but "
//!    │                    ▼ │      ▼
//!    │                  String ◀──▶ Escape          (\ and the byte after it)
//!    │
//!    └─ any other byte, or a limit exceeded ──▶ failed, permanently
//! ```
//!
//! After an error the decoder stays failed, because the start of the next message is unknown.

use serde_json::Value;
use serde_json::map::Map;

use crate::error::DecodeError;
pub use crate::message::{ErrorClass, Event, Greeting, Message, Version};

/// The maximum nesting of one message: `serde_json` refuses the 128th level. It is also checked
/// here, so that a message of brackets fails at once and not only when it is complete.
pub const MAX_DEPTH: usize = 127;

/// The limits of one message. A peer that exceeds them is considered broken or hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The maximum size in bytes, by default 64 MiB: QEMU's own limit for its input
    /// (`MAX_TOKEN_SIZE` in its `qobject/json-streamer.c`). The largest common answer, that of
    /// `query-qmp-schema`, is about 200 kB long (QEMU 7.2).
    pub bytes: usize,
    /// The maximum number of brackets, commas and colons, by default 2^20. A value in memory is
    /// many times larger than on the wire (`{"":0}` takes about 600 bytes), so with a limit on
    /// bytes alone a peer could still use gigabytes. QEMU has the same limit (`MAX_TOKEN_COUNT`);
    /// the answer to `query-qmp-schema` contains about 26,000.
    pub marks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 20, marks: 1 << 20 }
    }
}

/// The state of the scanner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    Inside,
    String,
    Escape,
}

/// Decodes a stream of bytes, split anywhere, into messages.
///
/// ```
/// use vusb_qmp::codec::{Decoder, Message};
///
/// let mut decoder = Decoder::new();
/// decoder.feed(br#"{"return": {}, "id""#);
/// assert_eq!(decoder.next_message()?, None);
/// decoder.feed(b": 7}\r\n");
/// assert!(matches!(decoder.next_message()?, Some(Message::Return { .. })));
/// # Ok::<(), vusb_qmp::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// The first byte of the current message. Everything before it was returned.
    start: usize,
    /// The first byte that was not examined yet.
    scanned: usize,
    state: State,
    depth: usize,
    marks: usize,
    limits: Limits,
    last_bytes: usize,
    failed: Option<DecodeError>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder with the default [`Limits`].
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// A decoder with custom limits.
    pub fn with_limits(limits: Limits) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            state: State::Between,
            depth: 0,
            marks: 0,
            limits,
            last_bytes: 0,
            failed: None,
        }
    }

    /// Stores the next bytes of the stream.
    ///
    /// Call [`next_message`](Self::next_message) until it returns `None` before you feed more.
    /// Otherwise the limits have no effect.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        self.drop_consumed();
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete message, or `None` until more bytes are fed.
    ///
    /// # Errors
    /// If the stream is not JSON or exceeds a limit. All later calls return the same error.
    pub fn next_message(&mut self) -> Result<Option<Message>, DecodeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.scan() {
            Ok(message) => Ok(message),
            Err(error) => {
                self.buffer = Vec::new();
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Whether a message has begun and not ended.
    pub fn is_partial(&self) -> bool {
        self.state != State::Between
    }

    /// The size in bytes of the message that [`next_message`](Self::next_message) returned last.
    pub fn last_message_bytes(&self) -> usize {
        self.last_bytes
    }

    /// Examines new bytes until a message ends or there are no more.
    fn scan(&mut self) -> Result<Option<Message>, DecodeError> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            if self.state == State::Between {
                self.start = self.scanned;
            }
            self.scanned += 1;
            let complete = self.step(byte)?;
            if self.is_partial() && self.scanned - self.start > self.limits.bytes {
                return Err(DecodeError::TooLarge { limit: self.limits.bytes });
            }
            if complete {
                return self.take().map(Some);
            }
        }
        if self.state == State::Between {
            self.start = self.scanned;
        }
        Ok(None)
    }

    /// Examines one byte. True if a message ends with it.
    fn step(&mut self, byte: u8) -> Result<bool, DecodeError> {
        match (self.state, byte) {
            (State::Between, b' ' | b'\t' | b'\r' | b'\n') => {}
            (State::Between | State::Inside, b'{' | b'[') => self.open()?,
            (State::Between, found) => return Err(DecodeError::NotJson { found }),
            (State::Inside, b'}' | b']') => return Ok(self.close()),
            (State::Inside, b'"') => self.state = State::String,
            (State::Inside, b',' | b':') => self.count_mark()?,
            (State::String, b'"') => self.state = State::Inside,
            (State::String, b'\\') => self.state = State::Escape,
            (State::Escape, _) => self.state = State::String,
            (State::Inside | State::String, _) => {}
        }
        Ok(false)
    }

    fn open(&mut self) -> Result<(), DecodeError> {
        self.state = State::Inside;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep { limit: MAX_DEPTH });
        }
        self.count_mark()
    }

    fn close(&mut self) -> bool {
        self.depth -= 1;
        self.depth == 0
    }

    fn count_mark(&mut self) -> Result<(), DecodeError> {
        self.marks += 1;
        if self.marks > self.limits.marks {
            return Err(DecodeError::TooManyValues { limit: self.limits.marks });
        }
        Ok(())
    }

    /// Parses the message that the scanner has found to be complete.
    fn take(&mut self) -> Result<Message, DecodeError> {
        let text = self.buffer.get(self.start..self.scanned).unwrap_or_default();
        self.last_bytes = text.len();
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| DecodeError::Malformed { reason: error.to_string() })?;
        self.start = self.scanned;
        self.state = State::Between;
        self.marks = 0;
        Ok(value.into())
    }

    /// Frees the memory of messages that were returned. Moving the rest only if at least half of
    /// the buffer is consumed keeps the total work linear.
    fn drop_consumed(&mut self) {
        /// The maximum capacity that an idle connection keeps.
        const IDLE_CAPACITY: usize = 1 << 20;

        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(IDLE_CAPACITY);
        } else if self.start >= self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
        } else {
            return;
        }
        self.scanned -= self.start;
        self.start = 0;
    }
}

/// Encodes one command, with a line feed. If `arguments` is [`Value::Null`], they are omitted.
///
/// ```
/// use serde_json::json;
///
/// let bytes = vusb_qmp::codec::encode(1, "device_del", &json!({"id": "stick"}));
/// assert_eq!(bytes.last(), Some(&b'\n'));
/// ```
pub fn encode(id: u64, command: &str, arguments: &Value) -> Vec<u8> {
    let mut fields = Map::new();
    fields.insert("execute".to_owned(), command.into());
    if !arguments.is_null() {
        fields.insert("arguments".to_owned(), arguments.clone());
    }
    fields.insert("id".to_owned(), id.into());
    let mut bytes = Value::Object(fields).to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}
