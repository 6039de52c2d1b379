//! Sounds and WebM for tests, made by code: what their headers say is what a test wants them to, and what is between is nothing but zeros.

/// A WAV of so many bytes of sound: 48,000 values a second of two channels, 16 bits each.
pub(crate) fn wav(bytes: u32) -> Vec<u8> {
    wav_of(&coding(1, 2, 48_000, 16), &[], bytes, bytes)
}

/// The `fmt ` of a WAV.
pub(crate) fn coding(number: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    let block = channels * bits / 8;
    let mut body = [number.to_le_bytes(), channels.to_le_bytes()].concat();
    body.extend([rate.to_le_bytes(), (rate * u32::from(block)).to_le_bytes()].concat());
    body.extend([block.to_le_bytes(), bits.to_le_bytes()].concat());
    body
}

/// A WAV with chunks before its sound, which states a length and has another.
pub(crate) fn wav_of(coding: &[u8], before: &[u8], stated: u32, bytes: u32) -> Vec<u8> {
    let mut body = b"WAVE".to_vec();
    body.extend(riff_chunk(b"fmt ", coding));
    body.extend(before);
    body.extend(b"data");
    body.extend(stated.to_le_bytes());
    body.extend(vec![0; bytes as usize]);
    let mut file = b"RIFF".to_vec();
    file.extend((body.len() as u32).to_le_bytes());
    file.extend(body);
    file
}

/// A chunk of a RIFF file.
pub(crate) fn riff_chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut chunk = name.to_vec();
    chunk.extend((body.len() as u32).to_le_bytes());
    chunk.extend(body);
    chunk.extend(vec![0; body.len() % 2]);
    chunk
}

/// A frame of zeros of MPEG-1, layer III, 44,100 values a second, stereo, of the bit rate of this number.
pub(crate) fn mp3_frame(number: u8) -> Vec<u8> {
    let kilobits = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320][usize::from(number) - 1];
    let mut frame = vec![0xFF, 0xFB, number << 4, 0x00];
    frame.resize(144 * kilobits * 1_000 / 44_100, 0);
    frame
}

/// An MP3 of so many frames of 128 kilobits a second, 1,152 values each.
pub(crate) fn mp3(frames: usize) -> Vec<u8> {
    mp3_frame(9).repeat(frames)
}

/// An MP3 of changing bit rate whose first frame says how many follow.
pub(crate) fn counted_mp3(stated: u32, frames: usize) -> Vec<u8> {
    let mut first = mp3_frame(9);
    first[36..40].copy_from_slice(b"Xing");
    first[43] = 1;
    first[44..48].copy_from_slice(&stated.to_be_bytes());
    let others = (0..frames).flat_map(|n| mp3_frame([3, 9, 14][n % 3]));
    first.into_iter().chain(others).collect()
}

/// A tag that stands before the sound, with frames of its own.
pub(crate) fn id3(body: &[u8]) -> Vec<u8> {
    let length = body.len() as u32;
    let mut tag = b"ID3\x03\0\0".to_vec();
    tag.extend([length >> 21, length >> 14, length >> 7, length].map(|part| (part & 0x7F) as u8));
    tag.extend(body);
    tag
}

/// An element of WebM; without a length where `is_open`.
pub(crate) fn element(id: u32, body: &[u8], is_open: bool) -> Vec<u8> {
    let id = id.to_be_bytes();
    let mut whole = id[id.iter().position(|byte| *byte > 0).unwrap()..].to_vec();
    whole.push(0x01);
    let length = if is_open { (1 << 56) - 1 } else { body.len() as u64 };
    whole.extend(&length.to_be_bytes()[1..]);
    whole.extend(body);
    whole
}

/// What a WebM is to be.
pub(crate) struct Webm {
    pub(crate) kind: &'static [u8],
    pub(crate) size: (u16, u16),
    /// Frames a second and how many there are.
    pub(crate) frames: (u32, u32),
    pub(crate) has_video: bool,
    pub(crate) has_sound: bool,
    /// Whether it was recorded live, so that no length is stated.
    pub(crate) is_live: bool,
}

impl Webm {
    /// Two seconds of 640 by 360 with sound.
    pub(crate) fn plain() -> Self {
        let frames = (30, 60);
        Self { kind: b"webm", size: (640, 360), frames, has_video: true, has_sound: true, is_live: false }
    }

    pub(crate) fn file(&self) -> Vec<u8> {
        let element = |id, body: &[u8]| element(id, body, false);
        let (rate, count) = self.frames;
        let mut file = element(0x1A45_DFA3, &element(0x4282, self.kind));
        let mut info = element(0x2A_D7B1, &1_000_000_u32.to_be_bytes());
        if !self.is_live {
            info.extend(element(0x4489, &(f64::from(count) * 1_000.0 / f64::from(rate)).to_be_bytes()));
        }
        let mut tracks = Vec::new();
        if self.has_video {
            let mut track = [element(0xD7, &[1]), element(0x83, &[1])].concat();
            track.extend(element(0x23_E383, &(1_000_000_000 / rate).to_be_bytes()));
            let (width, height) = (self.size.0.to_be_bytes(), self.size.1.to_be_bytes());
            track.extend(element(0xE0, &[element(0xB0, &width), element(0xBA, &height)].concat()));
            tracks.extend(element(0xAE, &track));
        }
        if self.has_sound {
            tracks.extend(element(0xAE, &[element(0xD7, &[2]), element(0x83, &[2])].concat()));
        }
        let mut cluster = element(0xE7, &[0]);
        for frame in 0..count {
            let time = (frame * 1_000 / rate) as u16;
            let block = |track: u8| [&[0x80 | track][..], &time.to_be_bytes(), &[0x80], &[5; 90]].concat();
            if self.has_video {
                cluster.extend(element(0xA3, &block(1)));
            }
            if self.has_sound {
                cluster.extend(element(0xA3, &block(2)));
            }
        }
        let mut segment = [element(0x1549_A966, &info), element(0x1654_AE6B, &tracks)].concat();
        segment.extend(self::element(0x1F43_B675, &cluster, self.is_live));
        file.extend(self::element(0x1853_8067, &segment, self.is_live));
        file
    }
}
