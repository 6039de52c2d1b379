//! WAV: the chunks of a RIFF file, of which `fmt ` says what a second of sound takes and `data` is the sound.

use std::time::Duration;

use super::facts::{Facts, sound};
use crate::formats::{Error, Refused, Type, damaged};
use crate::source::{Source, Window};

/// The highest number of chunks that are looked at.
const MAX_CHUNKS: usize = 10_000;
/// Lengths of a file that was written to a stream: nobody knew them.
const UNKNOWN: [u32; 2] = [0, u32::MAX];
/// Sound as numbers, as floating-point numbers, and by the two laws of telephony: what needs no decoder.
const CODINGS: [u16; 4] = [1, 3, 6, 7];
/// The coding stands further on.
const EXTENSIBLE: u16 = 0xFFFE;

/// Facts of `fmt `.
struct Coding {
    bytes_per_second: u32,
    /// Bytes of one value of each channel.
    block: u16,
}

pub(super) fn probe(source: &dyn Source) -> Result<Facts, Error> {
    let media_type = Type::Wav;
    let mut window = Window::new(source);
    let mut coding = None;
    let mut at = 12;
    for _ in 0..MAX_CHUNKS {
        let header = window.get(at, 8)?;
        let Some((name, size)) = header.split_first_chunk::<4>() else { break };
        let Some(size) = size.first_chunk::<4>() else { break };
        let (name, size, body) = (*name, u32::from_le_bytes(*size), at + 8);
        if name == *b"data" {
            let coding: Coding = coding.ok_or_else(|| damaged(media_type, "nothing says how its sound is coded"))?;
            let rest = window.length().saturating_sub(body);
            let length = if UNKNOWN.contains(&size) { rest } else { u64::from(size) };
            if length > rest {
                return Err(Refused::Truncated { media_type }.into());
            }
            if length < u64::from(coding.block) {
                return Err(damaged(media_type, "there is no sound in it").into());
            }
            let micros = u128::from(length) * 1_000_000 / u128::from(coding.bytes_per_second);
            return Ok(sound(media_type, Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))));
        }
        if name == *b"fmt " {
            coding = Some(read_coding(window.get(body, (size as usize).min(40))?)?);
        }
        // A chunk of odd length is followed by a byte that belongs to none.
        at = body + u64::from(size) + u64::from(size & 1);
    }
    Err(Refused::Truncated { media_type }.into())
}

fn read_coding(body: &[u8]) -> Result<Coding, Refused> {
    let media_type = Type::Wav;
    let wrong = |detail: &str| damaged(media_type, detail);
    let short = |at: usize| body.get(at..at + 2).map(|raw| u16::from_le_bytes([raw[0], raw[1]]));
    let word = |at: usize| Some(u32::from(short(at)?) | u32::from(short(at + 2)?) << 16);
    let fields = || Some((short(0)?, short(2)?, word(4)?, word(8)?, short(12)?, short(14)?));
    let (stated, channels, rate, bytes_per_second, block, bits) =
        fields().ok_or_else(|| wrong("it says too little of how its sound is coded"))?;
    let number = if stated == EXTENSIBLE { short(24) } else { Some(stated) };
    let number = number.ok_or_else(|| wrong("it says too little of how its sound is coded"))?;
    if !CODINGS.contains(&number) {
        return Err(Refused::Unsupported { media_type, detail: format!("its sound is coded as {number:#06x}") });
    }
    let believed = (1..=64).contains(&channels) && (1..=768_000).contains(&rate) && (8..=64).contains(&bits);
    let consistent = u32::from(block) == u32::from(channels) * u32::from(bits.div_ceil(8))
        && u64::from(bytes_per_second) == u64::from(rate) * u64::from(block);
    if !believed || !consistent {
        return Err(wrong("what it says of how its sound is coded contradicts itself"));
    }
    Ok(Coding { bytes_per_second, block })
}
