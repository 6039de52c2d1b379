//! The sizes of a gRPC body's messages, without decoding them: each begins with a flag and its length in four bytes, and only
//! that length is read.

use std::{borrow::Cow, io::Read as _};

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::read::GzDecoder;

use crate::status::Failure;

/// Bytes before each message: a flag and its length.
pub const PREFIX: usize = 5;

/// A body has more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// One message, by its announced length.
    #[error("a message has {bytes} bytes; at most {max} are taken")]
    Message {
        /// Its size.
        bytes: u64,
        /// The largest that is taken.
        max: u64,
    },
    /// One message, once it is decompressed.
    #[error("a message has more than {max} bytes when it is decompressed; at most {max} are taken")]
    Decompressed {
        /// The largest that is taken.
        max: u64,
    },
    /// All messages together.
    #[error("the messages have more than {max} bytes in all; at most {max} are taken")]
    Stream {
        /// The largest sum that is taken.
        max: u64,
    },
}

impl From<TooLarge> for Failure {
    fn from(error: TooLarge) -> Self {
        Self::invalid("request", "INPUT_TOO_LARGE", error.to_string())
    }
}

/// A reader of one body's message lengths, between two pieces of it.
#[derive(Clone, Debug)]
pub struct FrameReader {
    max_message: u64,
    max_stream: u64,
    /// The announced sizes of all messages so far.
    total: u64,
    /// The prefix of the next message, of which `prefix_read` bytes have come.
    prefix: [u8; PREFIX],
    prefix_read: usize,
    /// The bytes of the current message that are still to come.
    remaining: u64,
    messages: u64,
}

impl FrameReader {
    /// At the beginning of a body of messages of at most `max_message` bytes each and `max_stream` bytes in all.
    #[must_use]
    pub fn new(max_message: u64, max_stream: u64) -> Self {
        Self { max_message, max_stream, total: 0, prefix: [0; PREFIX], prefix_read: 0, remaining: 0, messages: 0 }
    }

    /// How many messages have been announced.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Reads the next piece of the body. A message is refused by its announced length, before any of it came.
    ///
    /// # Errors
    /// When a message, or all of them, are larger than they may be.
    pub fn read(&mut self, mut piece: &[u8]) -> Result<(), TooLarge> {
        while !piece.is_empty() {
            let read = self.read_message(piece)?;
            piece = &piece[read..];
        }
        Ok(())
    }

    /// Reads of a piece what belongs to the current message, and returns how many bytes that are.
    ///
    /// # Errors
    /// As [`FrameReader::read`].
    pub fn read_message(&mut self, piece: &[u8]) -> Result<usize, TooLarge> {
        let mut at = 0;
        if self.remaining == 0 {
            at = (PREFIX - self.prefix_read).min(piece.len());
            self.prefix[self.prefix_read..self.prefix_read + at].copy_from_slice(&piece[..at]);
            self.prefix_read += at;
            if self.prefix_read < PREFIX {
                return Ok(at);
            }
            self.prefix_read = 0;
            let [_flag, length @ ..] = self.prefix;
            self.announce(u64::from(u32::from_be_bytes(length)))?;
        }
        let rest = piece.len() - at;
        let body = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(rest);
        self.remaining -= body as u64;
        Ok(at + body)
    }

    /// Whether what was read ends with a whole message, or is nothing.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.remaining == 0 && self.prefix_read == 0
    }

    fn announce(&mut self, bytes: u64) -> Result<(), TooLarge> {
        self.messages += 1;
        if bytes > self.max_message {
            return Err(TooLarge::Message { bytes, max: self.max_message });
        }
        self.total = self.total.saturating_add(bytes);
        if self.total > self.max_stream {
            return Err(TooLarge::Stream { max: self.max_stream });
        }
        self.remaining = bytes;
        Ok(())
    }
}

/// A message without its prefix, decompressed by gzip if its flag says that it is compressed.
///
/// # Errors
/// When it has more than `max` bytes or cannot be decompressed.
pub fn plain(message: &[u8], max: u64) -> Result<Cow<'_, [u8]>, Failure> {
    let body = message.get(PREFIX..).unwrap_or_default();
    if message.first() != Some(&1) {
        return Ok(Cow::Borrowed(body));
    }
    let mut plain = Vec::new();
    let read = GzDecoder::new(body).take(max + 1).read_to_end(&mut plain);
    read.map_err(|error| {
        Failure::invalid("request", "INPUT_SCHEMA_VIOLATION", "a message cannot be decompressed").because(error)
    })?;
    if plain.len() as u64 > max {
        return Err(TooLarge::Decompressed { max }.into());
    }
    Ok(Cow::Owned(plain))
}

/// A message with its prefix, not compressed.
#[must_use]
pub fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    // No message of ours is near the four gigabytes that a prefix can say.
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    framed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Vec<u8> {
        let mut frame = vec![0];
        frame.extend(u32::try_from(bytes).unwrap().to_be_bytes());
        frame.resize(5 + bytes, 7);
        frame
    }

    /// The result is the same however a body is cut into pieces.
    fn check(body: &[u8], max_message: u64, max_stream: u64, expected: Result<u64, &str>) {
        for size in [1, 2, 3, 5, 7, 64, body.len().max(1)] {
            let mut reader = FrameReader::new(max_message, max_stream);
            let result = body.chunks(size).try_for_each(|piece| reader.read(piece));
            let result = result.map(|()| reader.messages()).map_err(|error| error.to_string());
            assert_eq!(result, expected.map_err(str::to_owned), "in pieces of {size}");
        }
    }

    #[test]
    fn a_body_within_its_limits_passes() {
        check(&[], 10, 10, Ok(0));
        check(&message(0), 10, 10, Ok(1));
        check(&message(10), 10, 10, Ok(1));
        check(&[message(10), message(0), message(10)].concat(), 10, 20, Ok(3));
    }

    #[test]
    fn messages_are_split_however_a_body_is_cut() {
        let body = [message(3), message(0), message(9)].concat();
        for size in 1..body.len() {
            let mut reader = FrameReader::new(100, 100);
            let (mut at, mut ends) = (0, Vec::new());
            for mut piece in body.chunks(size) {
                while !piece.is_empty() {
                    let read = reader.read_message(piece).unwrap();
                    (at, piece) = (at + read, &piece[read..]);
                    ends.extend(reader.is_between_messages().then_some(at));
                }
            }
            assert_eq!(ends, [8, 13, 27], "in pieces of {size}");
        }
    }

    #[test]
    fn a_message_is_refused_by_its_prefix() {
        let too_large = "a message has 11 bytes; at most 10 are taken";
        check(&message(11), 10, 100, Err(too_large));
        check(&message(11)[..5], 10, 100, Err(too_large));
        check(&[message(3), message(11)].concat(), 10, 100, Err(too_large));
        let huge = [0, 255, 255, 255, 255];
        check(&huge, 10, 100, Err("a message has 4294967295 bytes; at most 10 are taken"));
    }

    #[test]
    fn a_stream_is_refused_when_its_sum_passes() {
        let body = [message(10), message(10), message(1)].concat();
        check(&body, 10, 20, Err("the messages have more than 20 bytes in all; at most 20 are taken"));
    }
}
