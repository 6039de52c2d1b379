//! Sounds without an ISO file around them: WAV and MP3. (M4A is an ISO file, as MP4 is.)

use super::kinds::{Container, Flawed};

/// What a sound is; nothing for what is none.
pub(super) fn check(bytes: &[u8]) -> Option<Result<Container, Flawed>> {
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE") {
        return Some(if has_samples(&bytes[12..]) { Ok(Container::Wav) } else { Err(CUT) });
    }
    let tag = bytes.starts_with(b"ID3");
    let audio = if tag { bytes.get(tag_length(bytes)?..).unwrap_or_default() } else { bytes };
    match (tag, frame_length(audio)) {
        // One frame may be chance; a second where the first one ends is none.
        (_, Some(length)) if audio.get(length..).is_some_and(|next| frame_length(next).is_some()) => {
            Some(Ok(Container::Mp3))
        }
        (true, _) => Some(Err(CUT)),
        (false, _) => None,
    }
}

const CUT: Flawed = Flawed::Cut("the sound ends too soon");

/// Whole chunks up to the samples. A writer that did not know their length says 0 or the greatest number.
fn has_samples(mut chunks: &[u8]) -> bool {
    loop {
        let (Some(kind), Some(length)) = (chunks.first_chunk::<4>(), chunks.get(4..).and_then(<[u8]>::first_chunk))
        else {
            return false;
        };
        let (length, left) = (u32::from_le_bytes(*length), chunks.len() - 8);
        if kind == b"data" {
            return left > 0 && (matches!(length, 0 | u32::MAX) || length as usize <= left);
        }
        // Chunks begin at even places.
        let Some(rest) = chunks.get(8 + length as usize + (length as usize & 1)..) else { return false };
        chunks = rest;
    }
}

/// The length of an ID3v2 tag with its head: seven bits of each of four bytes.
fn tag_length(bytes: &[u8]) -> Option<usize> {
    let digits = bytes.get(6..10)?;
    Some(10 + digits.iter().fold(0, |length, byte| (length << 7) | usize::from(byte & 0x7f)))
}

/// The length of the MPEG audio frame of layer III that `bytes` begin with.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    const RATES: [[usize; 15]; 2] = [
        [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
        [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    ];
    let head = bytes.first_chunk::<4>()?;
    if head[0] != 0xff || head[1] & 0xe6 != 0xe2 {
        return None;
    }
    // MPEG 1, 2 and 2.5 have half of each other's sampling rates.
    let (halvings, first) = match head[1] >> 3 & 3 {
        3 => (0, true),
        2 => (1, false),
        0 => (2, false),
        _ => return None,
    };
    let rate = RATES[usize::from(!first)].get(usize::from(head[2] >> 4)).copied().filter(|rate| *rate > 0)?;
    let sampling = [44_100, 48_000, 32_000].get(usize::from(head[2] >> 2 & 3))? >> halvings;
    let samples = if first { 144 } else { 72 };
    Some(samples * rate * 1_000 / sampling + usize::from(head[2] >> 1 & 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wav_has_samples_as_many_as_it_says() {
        let wav = |said: u32| {
            let format = [b"fmt ", &16_u32.to_le_bytes()[..], &[0; 16]].concat();
            [b"RIFF\0\0\0\0WAVE", &format[..], b"data", &said.to_le_bytes(), &[1; 8]].concat()
        };
        for said in [8, 0, u32::MAX] {
            assert_eq!(check(&wav(said)), Some(Ok(Container::Wav)), "{said}");
        }
        assert!(matches!(check(&wav(9)), Some(Err(Flawed::Cut(_)))));
        let whole = wav(8);
        for end in 12..whole.len() {
            assert!(matches!(check(&whole[..end]), Some(Err(Flawed::Cut(_)))), "{end}");
        }
    }

    #[test]
    fn an_mp3_is_two_frames_with_or_without_a_tag() {
        // 128 kbit/s at 44,100 Hz: 417 bytes.
        let mut frame = vec![0xff, 0xfb, 0x90, 0];
        frame.resize(417, 0);
        let two = frame.repeat(2);
        assert_eq!(check(&two), Some(Ok(Container::Mp3)));
        let tagged = [b"ID3\x04\0\0\0\0\0\x05", &[9; 5][..], &two].concat();
        assert_eq!(check(&tagged), Some(Ok(Container::Mp3)));
        assert!(matches!(check(&tagged[..100]), Some(Err(Flawed::Cut(_)))));
        assert_eq!(check(&frame), None, "one frame may be chance");
        assert_eq!(check(&tagged[..5]), None);
    }
}
