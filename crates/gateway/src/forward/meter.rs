//! Counts a gRPC body without decoding it: each message begins with a flag and its length in four bytes, and that length
//! is all that is looked at.

/// A body that is, or says that it will be, larger than its method allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooLarge {
    /// One message: its size, and the most that is allowed.
    Message { bytes: u64, most: u64 },
    /// All messages together: the most that is allowed.
    Stream { most: u64 },
}

/// The state of one body between two pieces.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    most_message: u64,
    most_stream: u64,
    /// What all messages announced so far come to.
    announced: u64,
    /// The part of a prefix that has been seen.
    prefix: [u8; 5],
    have: usize,
    /// What is left of the current message.
    left: u64,
    messages: u64,
}

impl Meter {
    pub(super) fn new(most_message: u64, most_stream: u64) -> Self {
        Self { most_message, most_stream, announced: 0, prefix: [0; 5], have: 0, left: 0, messages: 0 }
    }

    /// How many messages have been announced.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Takes note of the next piece of the body.
    pub(super) fn feed(&mut self, mut piece: &[u8]) -> Result<(), TooLarge> {
        while !piece.is_empty() {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len());
                self.left -= skip as u64;
                piece = &piece[skip..];
                continue;
            }
            let take = (self.prefix.len() - self.have).min(piece.len());
            self.prefix[self.have..self.have + take].copy_from_slice(&piece[..take]);
            self.have += take;
            piece = &piece[take..];
            if self.have == self.prefix.len() {
                self.have = 0;
                let [_flag, a, b, c, d] = self.prefix;
                self.announce(u64::from(u32::from_be_bytes([a, b, c, d])))?;
            }
        }
        Ok(())
    }

    fn announce(&mut self, bytes: u64) -> Result<(), TooLarge> {
        self.messages += 1;
        if bytes > self.most_message {
            return Err(TooLarge::Message { bytes, most: self.most_message });
        }
        self.announced = self.announced.saturating_add(bytes);
        if self.announced > self.most_stream {
            return Err(TooLarge::Stream { most: self.most_stream });
        }
        self.left = bytes;
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

    /// However a body is cut, the answer is the same.
    fn check(body: &[u8], most_message: u64, most_stream: u64, expected: Result<u64, TooLarge>) {
        for size in [1, 2, 3, 5, 7, 64, body.len().max(1)] {
            let mut meter = Meter::new(most_message, most_stream);
            let result = body.chunks(size).try_for_each(|piece| meter.feed(piece));
            assert_eq!(result.map(|()| meter.messages()), expected, "in pieces of {size}");
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
        let too_large = TooLarge::Message { bytes: 11, most: 10 };
        check(&message(11), 10, 100, Err(too_large));
        check(&message(11)[..5], 10, 100, Err(too_large));
        check(&[message(3), message(11)].concat(), 10, 100, Err(too_large));
        let huge = [0, 255, 255, 255, 255];
        check(&huge, 10, 100, Err(TooLarge::Message { bytes: 4_294_967_295, most: 10 }));
    }

    #[test]
    fn a_stream_is_refused_when_its_sum_passes() {
        let body = [message(10), message(10), message(1)].concat();
        check(&body, 10, 20, Err(TooLarge::Stream { most: 20 }));
    }
}
