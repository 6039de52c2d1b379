//! Rows in PostgreSQL's binary COPY format, which needs no escaping and no parsing of times.

use uuid::Uuid;

/// What a binary COPY begins with: signature, flags, no extension.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with: a row of -1 columns.
pub(super) const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// 2000-01-01, PostgreSQL's epoch, in milliseconds of Unix time.
const EPOCH: i64 = 946_684_800_000;

/// A row that is being written; the server refuses one whose columns do not match its head.
pub(super) struct Tuple<'a>(&'a mut Vec<u8>);

impl<'a> Tuple<'a> {
    /// Begins a row of so many columns.
    pub(super) fn begin(buffer: &'a mut Vec<u8>, columns: i16) -> Self {
        buffer.extend(columns.to_be_bytes());
        Self(buffer)
    }

    pub(super) fn null(self) -> Self {
        self.0.extend((-1_i32).to_be_bytes());
        self
    }

    pub(super) fn bytes(self, value: &[u8]) -> Self {
        // Nothing here is near 2 GiB.
        self.0.extend(u32::try_from(value.len()).unwrap_or_default().to_be_bytes());
        self.0.extend(value);
        self
    }

    pub(super) fn text(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }

    pub(super) fn uuid(self, value: Uuid) -> Self {
        self.bytes(value.as_bytes())
    }

    pub(super) fn small(self, value: i16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn int(self, value: i32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn big(self, value: i64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// A time in milliseconds of Unix time.
    pub(super) fn at(self, millis: i64) -> Self {
        self.big((millis - EPOCH) * 1_000)
    }

    /// A `jsonb`: its format's number, then the text.
    pub(super) fn json(self, value: &str) -> Self {
        self.bytes(&[&[1], value.as_bytes()].concat())
    }

    /// A value, or null.
    pub(super) fn maybe<T>(self, value: Option<T>, write: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => write(self, value),
            None => self.null(),
        }
    }
}
