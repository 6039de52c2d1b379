//! The sizes of a gRPC body's messages, without decoding them: each begins with a flag and its length in four bytes, and only
//! that length is read.

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
            if self.remaining > 0 {
                let skip = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(piece.len());
                self.remaining -= skip as u64;
                piece = &piece[skip..];
                continue;
            }
            let take = (self.prefix.len() - self.prefix_read).min(piece.len());
            self.prefix[self.prefix_read..self.prefix_read + take].copy_from_slice(&piece[..take]);
            self.prefix_read += take;
            piece = &piece[take..];
            if self.prefix_read == self.prefix.len() {
                self.prefix_read = 0;
                let [_flag, a, b, c, d] = self.prefix;
                self.announce(u64::from(u32::from_be_bytes([a, b, c, d])))?;
            }
        }
        Ok(())
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
