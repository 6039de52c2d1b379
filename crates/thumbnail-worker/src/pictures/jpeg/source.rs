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
    /// What is read next, without asking: at most [`CHUNK`] bytes, and not beyond the beginning of a scan.
    chunk: &'a [u8],
    parts: [&'a [u8]; 3],
    stop: &'a Stop,
}

/// How many bytes are read before it is asked again whether to stop.
const CHUNK: usize = 4_096;

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
        Self { chunk: &[], parts: [head, scans, &[]], stop }
    }

    /// The same, and `padding` behind it.
    pub(super) fn padded(head: &'a [u8], scans: &'a [u8], padding: Padding, stop: &'a Stop) -> Self {
        let padding = match padding {
            Padding::Zeros => &ZEROS[..],
            Padding::Ones => &ONES[..],
        };
        Self { chunk: &[], parts: [head, scans, padding], stop }
    }

    /// Takes the next bytes; none at the end.
    #[cold]
    fn take_chunk(&mut self) -> Result<(), Error> {
        if self.stop.is_set() {
            return Err(ErrorKind::TimedOut.into());
        }
        if let Some(part) = self.parts.iter_mut().find(|part| !part.is_empty()) {
            let most = &part[..part.len().min(CHUNK)];
            // A scan without data takes a dozen bytes and as long as one with data, so each is asked for on its own.
            let end = most.windows(2).skip(1).position(|pair| pair == [0xFF, 0xDA]).map_or(most.len(), |at| at + 1);
            (self.chunk, *part) = part.split_at(end);
        }
        Ok(())
    }
}

impl Read for Source<'_> {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        if self.chunk.is_empty() {
            self.take_chunk()?;
        }
        // Nearly all reads are of a single byte, millions of them.
        match (self.chunk.split_first(), into.first_mut()) {
            (Some((byte, rest)), Some(place)) => {
                *place = *byte;
                self.chunk = rest;
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}
