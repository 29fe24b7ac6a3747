//! The parts of XDR (RFC 4506) that libvirt's messages consist of: big-endian numbers, and bytes
//! that are padded to a multiple of four.

use crate::codec::DecodeError;

/// The longest string in bytes (`REMOTE_STRING_MAX`).
pub const MAX_STRING: usize = 4 << 20;

/// Writes values.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an unsigned number.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Adds a signed number.
    #[must_use]
    pub fn i32(mut self, value: i32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Adds bytes of a length that both sides know.
    #[must_use]
    pub fn fixed(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a string. The daemon refuses a string that is too long.
    #[must_use]
    pub fn string(self, text: &str) -> Self {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.u32(length).fixed(text.as_bytes())
    }

    /// Adds a value that may be missing.
    #[must_use]
    pub fn option<T>(self, value: Option<T>, add: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            None => self.u32(0),
            Some(value) => add(self.u32(1), value),
        }
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads values from a message.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the beginning of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(DecodeError::Short { what });
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let taken = self.take(N, what)?;
        taken.try_into().map_err(|_| DecodeError::Short { what })
    }

    /// An unsigned number.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// A signed number.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn i32(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        self.array(what).map(i32::from_be_bytes)
    }

    /// A long unsigned number.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// The 16 bytes of a UUID.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn uuid(&mut self, what: &'static str) -> Result<[u8; 16], DecodeError> {
        self.array(what)
    }

    /// A string. libvirt does not ensure that it is UTF-8; invalid bytes are replaced.
    ///
    /// # Errors
    /// [`DecodeError::Short`]; [`DecodeError::TooLong`] if it exceeds [`MAX_STRING`].
    pub fn string(&mut self, what: &'static str) -> Result<String, DecodeError> {
        let length = usize::try_from(self.u32(what)?).unwrap_or(usize::MAX);
        if length > MAX_STRING {
            return Err(DecodeError::TooLong { what, length, limit: MAX_STRING });
        }
        let bytes = self.take(length, what)?;
        // At most three more.
        self.take(length.next_multiple_of(4) - length, what)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// A value that may be missing.
    ///
    /// # Errors
    /// [`DecodeError::Short`]; [`DecodeError::NotABool`]; the errors of `read`.
    pub fn option<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.u32(what)? {
            0 => Ok(None),
            1 => read(self).map(Some),
            found => Err(DecodeError::NotABool { what, found }),
        }
    }

    /// A list. Memory is only allocated for items that the message contains.
    ///
    /// # Errors
    /// [`DecodeError::Short`]; [`DecodeError::TooLong`] if it has more than `limit` items; the
    /// errors of `read`.
    pub fn list<T>(
        &mut self,
        what: &'static str,
        limit: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let length = usize::try_from(self.u32(what)?).unwrap_or(usize::MAX);
        if length > limit {
            return Err(DecodeError::TooLong { what, length, limit });
        }
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(read(self)?);
        }
        Ok(items)
    }
}
