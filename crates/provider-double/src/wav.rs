//! A sound in WAV, made by code: a second of a tone, with a chunk that no player reads and that names the file.

/// Samples in a second.
const RATE: u32 = 8_000;

/// The sound of the file with this name.
pub(crate) fn sound(name: &str) -> Vec<u8> {
    let samples: Vec<u8> =
        (0..RATE).flat_map(|at| (if at / 10 % 2 == 0 { 4_000_i16 } else { -4_000 }).to_le_bytes()).collect();
    let format = [
        &1_u16.to_le_bytes()[..],
        &1_u16.to_le_bytes(),
        &RATE.to_le_bytes(),
        &(2 * RATE).to_le_bytes(),
        &2_u16.to_le_bytes(),
        &16_u16.to_le_bytes(),
    ];
    let chunks =
        [chunk(*b"fmt ", &format.concat()), chunk(*b"data", &samples), chunk(*b"note", name.as_bytes())].concat();
    chunk(*b"RIFF", &[b"WAVE", &chunks[..]].concat())
}

/// A chunk, and a byte that makes its length even.
fn chunk(kind: [u8; 4], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or_default().to_le_bytes();
    [&kind[..], &length, content, &[0][..content.len() % 2]].concat()
}
