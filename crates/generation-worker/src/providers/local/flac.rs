//! FLAC: one channel of 16 bits, lossless, with the format's fixed predictors and Rice codes. Browsers and ffmpeg play it, in an MP4
//! too, and it takes two hundred lines instead of a codec.
//!
//! Invariant: what is decoded is what was encoded, sample by sample; <https://www.rfc-editor.org/rfc/rfc9639> is the format.

#[cfg(test)]
mod tests;

use super::mp4::Sample;

/// Samples in a frame; the last may have fewer.
const BLOCK: usize = 4_096;
/// Parts of a whole frame, as a power of two; each has a Rice parameter of its own.
const PARTS: u32 = 4;
/// Bits of a sample.
const BITS: u32 = 16;

/// A sound while it is encoded, and then.
pub(super) struct Stream {
    rate: u32,
    length: usize,
    /// Samples that do not fill a frame yet.
    rest: Vec<i16>,
    frames: Vec<Sample>,
}

impl Stream {
    /// A sound of 48,000 samples a second, the only rate that the frames' headers are written for.
    pub(super) fn at_48_kilohertz() -> Self {
        Self { rate: 48_000, length: 0, rest: Vec::with_capacity(BLOCK), frames: Vec::new() }
    }

    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// Samples so far.
    pub(super) fn length(&self) -> u32 {
        self.length as u32
    }

    /// Samples in a frame.
    pub(super) fn block(&self) -> u32 {
        BLOCK as u32
    }

    pub(super) fn frames(&self) -> &[Sample] {
        &self.frames
    }

    pub(super) fn add(&mut self, sample: i16) {
        self.rest.push(sample);
        self.length += 1;
        if self.rest.len() == BLOCK {
            self.end_frame();
        }
    }

    /// Encodes what does not fill a frame; nothing is added after that.
    pub(super) fn finish(&mut self) {
        if !self.rest.is_empty() {
            self.end_frame();
        }
    }

    /// The STREAMINFO: sizes of blocks, no sizes of frames, rate, channels, bits, length, and no checksum of the samples.
    pub(super) fn info(&self) -> [u8; 34] {
        let mut bits = Bits::default();
        bits.put(BLOCK as u32, 16);
        bits.put(BLOCK as u32, 16);
        bits.put(0, 24);
        bits.put(0, 24);
        bits.put(self.rate, 20);
        bits.put(0, 3);
        bits.put(BITS - 1, 5);
        bits.put(0, 4);
        bits.put(self.length as u32, 32);
        let mut info = [0; 34];
        info[..bits.bytes.len()].copy_from_slice(&bits.bytes);
        info
    }

    fn end_frame(&mut self) {
        let bytes = frame(self.frames.len() as u32, &self.rest);
        self.frames.push(Sample { key: true, bytes });
        self.rest.clear();
    }
}

/// One frame.
fn frame(number: u32, samples: &[i16]) -> Vec<u8> {
    let is_whole = samples.len() == BLOCK;
    let mut bits = Bits::default();
    // Its beginning, and blocks of one size.
    bits.put(0xFFF8, 16);
    // 4,096 samples, or as many as are said below; 48,000 a second; one channel of 16 bits.
    bits.put(if is_whole { 0xC } else { 0x7 }, 4);
    bits.put(0xA, 4);
    bits.put(0b0000_1000, 8);
    bits.put_number(number);
    if !is_whole {
        bits.put(samples.len() as u32 - 1, 16);
    }
    let checksum = checksum(&bits.bytes, 8, 0x07);
    bits.put(checksum.into(), 8);

    let (order, residual) = predict(samples);
    bits.put(0b0000_1000 | order as u32, 7);
    bits.put(0, 1);
    for sample in &samples[..order] {
        bits.put(u32::from(sample.cast_unsigned()), BITS);
    }
    // Rice codes with parameters of four bits.
    bits.put(0, 2);
    let parts = if is_whole { PARTS } else { 0 };
    bits.put(parts, 4);
    let size = samples.len() >> parts;
    for part in 0..1 << parts {
        let start = (part * size).max(order) - order;
        put_rice(&mut bits, &residual[start..(part + 1) * size - order]);
    }
    bits.align();
    let checksum = self::checksum(&bits.bytes, 16, 0x8005);
    bits.put(checksum.into(), 16);
    bits.bytes
}

/// The best of the fixed predictors: its order, and by how much each sample after the first ones differs from what it says.
fn predict(samples: &[i16]) -> (usize, Vec<i32>) {
    let mut differences: Vec<i32> = samples.iter().copied().map(i32::from).collect();
    let mut best = (0, differences.clone());
    let mut lowest = weight(&differences);
    for order in 1..=4.min(samples.len() - 1) {
        // The predictor of each order is the one before, applied to its own differences.
        differences = differences.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let weight = weight(&differences);
        if weight < lowest {
            lowest = weight;
            best = (order, differences.clone());
        }
    }
    best
}

fn weight(differences: &[i32]) -> u64 {
    differences.iter().map(|difference| u64::from(difference.unsigned_abs())).sum()
}

/// Writes the Rice parameter that suits these differences, and then them.
fn put_rice(bits: &mut Bits, differences: &[i32]) {
    // Small numbers of either sign become small numbers.
    let unsigned = |difference: i32| (difference << 1 ^ difference >> 31).cast_unsigned();
    let sum: u64 = differences.iter().map(|difference| u64::from(unsigned(*difference))).sum();
    let cost = |parameter: &u32| differences.len() as u64 * (u64::from(*parameter) + 1) + (sum >> parameter);
    let parameter = (0..=14).min_by_key(cost).unwrap_or(0);
    bits.put(parameter, 4);
    for difference in differences {
        let number = unsigned(*difference);
        let mut zeros = number >> parameter;
        while zeros >= 32 {
            bits.put(0, 32);
            zeros -= 32;
        }
        bits.put(1, zeros + 1);
        bits.put(number & ((1 << parameter) - 1), parameter);
    }
}

/// Bits in a row, the highest of each number first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Bits that do not fill a byte yet.
    pending: u64,
    count: u32,
}

impl Bits {
    /// Adds the lowest `count` bits of a number that has no others, at most 32.
    fn put(&mut self, number: u32, count: u32) {
        self.pending = self.pending << count | u64::from(number);
        self.count += count;
        while self.count >= 8 {
            self.count -= 8;
            self.bytes.push((self.pending >> self.count) as u8);
        }
    }

    /// Adds a number as UTF-8 writes a character.
    fn put_number(&mut self, number: u32) {
        match number {
            0..0x80 => self.put(number, 8),
            0x80..0x800 => self.put(0xC080 | number >> 6 << 8 | number & 0x3F, 16),
            _ => self.put(0xE0_8080 | number >> 12 << 16 | (number >> 6 & 0x3F) << 8 | number & 0x3F, 24),
        }
    }

    /// Fills the last byte with zeros.
    fn align(&mut self) {
        self.put(0, (8 - self.count % 8) % 8);
    }
}

/// A checksum of so many bits, by its polynomial.
fn checksum(bytes: &[u8], bits: u32, polynomial: u16) -> u16 {
    let (top, mask) = (1_u16 << (bits - 1), u16::MAX >> (16 - bits));
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << (bits - 8), |sum, _| {
            (if sum & top == 0 { sum << 1 } else { sum << 1 ^ polynomial }) & mask
        })
    })
}
