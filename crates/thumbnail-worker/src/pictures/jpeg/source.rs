//! The bytes that a decoder reads: the file's, and where its end is missing some in its place.
//!
//! Invariant: reading fails soon after the work was told to stop, so that a decoder which reads ends with it.

use std::io::{Error, ErrorKind, Read};

use crate::stop::Stop;

/// What stands in the place of missing data, before an end-of-image marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    Zeros,
    /// Each FF is followed by the 00 that makes it data.
    Ones,
}

/// A file as a decoder reads it: the segments that matter for decoding, the scans, and padding.
pub(super) struct Source<'a> {
    parts: [&'a [u8]; 3],
    reads: u32,
    stop: &'a Stop,
}

/// Bytes of padding: more than a decoder reads ahead.
const PADDING: usize = 1_024;

static ZEROS: [u8; PADDING + 2] = padded([0, 0]);
static ONES: [u8; PADDING + 2] = padded([0xFF, 0]);

const fn padded(pattern: [u8; 2]) -> [u8; PADDING + 2] {
    let mut padding = [0; PADDING + 2];
    let mut at = 0;
    while at < PADDING {
        padding[at] = pattern[at % 2];
        at += 1;
    }
    padding[PADDING] = 0xFF;
    padding[PADDING + 1] = 0xD9;
    padding
}

impl<'a> Source<'a> {
    /// `head` and `scans`, as [`super::frame::split`] gives them.
    pub(super) fn new(head: &'a [u8], scans: &'a [u8], stop: &'a Stop) -> Self {
        Self { parts: [head, scans, &[]], reads: 0, stop }
    }

    /// The same, and `padding` behind it.
    pub(super) fn padded(head: &'a [u8], scans: &'a [u8], padding: Padding, stop: &'a Stop) -> Self {
        let padding = match padding {
            Padding::Zeros => &ZEROS[..],
            Padding::Ones => &ONES[..],
        };
        Self { parts: [head, scans, padding], reads: 0, stop }
    }
}

impl Read for Source<'_> {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let Some(part) = self.parts.iter_mut().find(|part| !part.is_empty()) else { return Ok(0) };
        // Single bytes are read, millions of them: asked is where a marker may begin, which each scan does, and now and then.
        self.reads = self.reads.wrapping_add(1);
        if (part[0] == 0xFF || self.reads.is_multiple_of(4_096)) && self.stop.is_set() {
            return Err(ErrorKind::TimedOut.into());
        }
        part.read(into)
    }
}
