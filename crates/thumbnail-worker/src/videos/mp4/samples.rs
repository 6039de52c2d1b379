//! The samples of a track: places in the file, one frame each.
//!
//! Invariant: tables are walked one sample at a time and never copied, so a claim of many samples costs what its bytes cost.

use std::ops::Range;

use super::boxes::{child, u32_at, u64_at};

/// Walks the samples of a track.
#[derive(Clone, Debug)]
pub struct Samples<'a> {
    /// One size for all, or zero.
    size: u32,
    count: usize,
    sizes: &'a [u8],
    chunks: &'a [u8],
    chunk_width: usize,
    runs: &'a [u8],
    sample: usize,
    chunk: usize,
    run: usize,
    left_in_chunk: u32,
    offset: u64,
}

impl<'a> Samples<'a> {
    pub(super) fn new(table: &'a [u8]) -> Option<Self> {
        let sizes = child(table, b"stsz")?;
        let runs = child(table, b"stsc")?.get(8..)?;
        let (chunks, chunk_width) = match child(table, b"stco") {
            Some(body) => (body.get(8..)?, 4),
            None => (child(table, b"co64")?.get(8..)?, 8),
        };
        let (size, count) = (u32_at(sizes, 4)?, u32_at(sizes, 8)? as usize);
        let sizes = sizes.get(12..)?;
        Some(Self {
            size,
            count,
            sizes,
            chunks,
            chunk_width,
            runs,
            sample: 0,
            chunk: 0,
            run: 0,
            left_in_chunk: 0,
            offset: 0,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The place behind the furthest byte of any sample; nothing when the tables do not lead to all of them.
    pub(super) fn end(&self) -> Option<u64> {
        let (mut walk, mut furthest) = (self.clone(), 0);
        while walk.sample < walk.count {
            walk.enter_chunk()?;
            // Sound has a sample for each of its thousands of values a second, all of one size: a chunk is one step.
            let (step, size) = match walk.size {
                0 => (1, u32_at(walk.sizes, walk.sample * 4)?),
                size => (walk.left_in_chunk.min(u32::try_from(walk.count - walk.sample).unwrap_or(u32::MAX)), size),
            };
            walk.offset = walk.offset.checked_add(u64::from(step) * u64::from(size))?;
            walk.sample += step as usize;
            walk.left_in_chunk -= step;
            furthest = furthest.max(walk.offset);
        }
        Some(furthest)
    }

    /// Enters the next chunk that has samples.
    fn enter_chunk(&mut self) -> Option<()> {
        while self.left_in_chunk == 0 {
            let at = self.chunk * self.chunk_width;
            self.offset = match self.chunk_width {
                4 => u64::from(u32_at(self.chunks, at)?),
                _ => u64_at(self.chunks, at)?,
            };
            self.chunk += 1;
            // A run names the first chunk, from 1, that it holds for.
            while u32_at(self.runs, (self.run + 1) * 12).is_some_and(|first| first as usize <= self.chunk) {
                self.run += 1;
            }
            self.left_in_chunk = u32_at(self.runs, self.run * 12 + 4)?;
        }
        Some(())
    }
}

impl Iterator for Samples<'_> {
    /// Where a sample lies in the file.
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        if self.sample >= self.count {
            return None;
        }
        self.enter_chunk()?;
        let size = if self.size > 0 { self.size } else { u32_at(self.sizes, self.sample * 4)? };
        let start = self.offset;
        self.offset = start.checked_add(u64::from(size))?;
        self.sample += 1;
        self.left_in_chunk -= 1;
        Some(start..self.offset)
    }
}
