//! Bytes to messages and commands to bytes, without any I/O.
//!
//! QEMU ends each message with a line feed, but with `pretty=on` it also puts line feeds inside, so
//! lines are no frame. The frame here is one JSON value: [`Decoder`] counts brackets outside strings,
//! looking at each byte once however the stream was cut, and hands a complete value to `serde_json`.
//!
//! ```text
//!             { or [                    last } or ]
//!   Between ──────────▶ Inside(depth) ───────────────▶ Between, one message out
//!    │  ▲ white space     │ ▲      │ ▲
//!    │  └──┘            " │ │ "    │ └─ any byte but "
//!    │                    ▼ │      ▼
//!    │                  String ◀──▶ Escape          (\ and the byte after it)
//!    │
//!    └─ any other byte, or a limit passed ──▶ failed, for good
//! ```
//!
//! After an error the decoder stays failed: where the next message would begin is anybody's guess.

use serde_json::Value;
use serde_json::map::Map;

use crate::error::DecodeError;
pub use crate::message::{ErrorClass, Event, Greeting, Message, Version};

/// Deepest nesting of one message: `serde_json` refuses the 128th level. Counted here as well, so that
/// a message of brackets alone fails early and not when its last byte is in.
pub const MAX_DEPTH: usize = 127;

/// How much one message may cost before the peer is taken for broken or hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message, 64 MiB unless changed: QEMU's own limit for what it reads
    /// (`MAX_TOKEN_SIZE` in its `qobject/json-streamer.c`). The largest answer in daily use,
    /// `query-qmp-schema`, has about 200 kB (QEMU 7.2).
    pub bytes: usize,
    /// Brackets, commas and colons of one message, 2^20 unless changed. A value in memory takes many
    /// times its bytes on the wire (`{"":0}` costs some 600), so a bound on bytes alone would still
    /// let a peer take gigabytes. QEMU keeps such a bound too (`MAX_TOKEN_COUNT`);
    /// `query-qmp-schema` has about 26,000.
    pub marks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 20, marks: 1 << 20 }
    }
}

/// Where in a message the scanner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Between,
    Inside,
    String,
    Escape,
}

/// Turns a stream of bytes, cut anywhere, into messages.
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
    /// First byte of the message that is being read; what is before it was handed out.
    start: usize,
    /// First byte not looked at yet.
    scanned: usize,
    place: Place,
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

    /// A decoder with limits of your own.
    pub fn with_limits(limits: Limits) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            place: Place::Between,
            depth: 0,
            marks: 0,
            limits,
            last_bytes: 0,
            failed: None,
        }
    }

    /// Takes the next bytes of the stream.
    ///
    /// They are only stored here: call [`next_message`](Self::next_message) until it gives `None`
    /// before you feed more, or the limits do not limit.
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
    /// If the stream is no JSON or passes a limit. The same error then comes back for ever.
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

    /// Whether the stream stands inside a message that has begun and not ended.
    pub fn is_partial(&self) -> bool {
        self.place != Place::Between
    }

    /// Size on the wire of the message that [`next_message`](Self::next_message) gave last, in bytes.
    pub fn last_message_bytes(&self) -> usize {
        self.last_bytes
    }

    /// Looks at the bytes that nobody has looked at until a message ends or they run out.
    fn scan(&mut self) -> Result<Option<Message>, DecodeError> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            if self.place == Place::Between {
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
        if self.place == Place::Between {
            self.start = self.scanned;
        }
        Ok(None)
    }

    /// Moves over one byte; true if a message ends with it.
    fn step(&mut self, byte: u8) -> Result<bool, DecodeError> {
        match (self.place, byte) {
            (Place::Between, b' ' | b'\t' | b'\r' | b'\n') => {}
            (Place::Between | Place::Inside, b'{' | b'[') => self.open()?,
            (Place::Between, found) => return Err(DecodeError::NotJson { found }),
            (Place::Inside, b'}' | b']') => return Ok(self.close()),
            (Place::Inside, b'"') => self.place = Place::String,
            (Place::Inside, b',' | b':') => self.count_mark()?,
            (Place::String, b'"') => self.place = Place::Inside,
            (Place::String, b'\\') => self.place = Place::Escape,
            (Place::Escape, _) => self.place = Place::String,
            (Place::Inside | Place::String, _) => {}
        }
        Ok(false)
    }

    fn open(&mut self) -> Result<(), DecodeError> {
        self.place = Place::Inside;
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

    /// Parses the message that the scanner has found the end of.
    fn take(&mut self) -> Result<Message, DecodeError> {
        let text = self.buffer.get(self.start..self.scanned).unwrap_or_default();
        self.last_bytes = text.len();
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| DecodeError::Malformed { reason: error.to_string() })?;
        self.start = self.scanned;
        self.place = Place::Between;
        self.marks = 0;
        Ok(value.into())
    }

    /// Gives back the room of messages that were handed out. Moving only when at least half of the
    /// buffer is stale keeps the work linear in the bytes fed.
    fn drop_consumed(&mut self) {
        /// An idle connection keeps no more than this.
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

/// One command as QEMU reads it, with its line feed. [`Value::Null`] for `arguments` leaves them out.
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
