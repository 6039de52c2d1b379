//! The header of an MP3's frame.

/// Kilobits a second by the number in a header, of MPEG-1 and of MPEG-2 and 2.5.
const KILOBITS: [[u32; 15]; 2] = [
    [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// What all frames of a file have in common: version, layer and rate.
    pub(crate) common: [u8; 2],
    is_mono: bool,
    /// Values of each channel.
    pub(crate) samples: u32,
    /// Values a second of each channel.
    pub(crate) rate: u32,
    /// Its length in bytes, header and all.
    pub(crate) length: u64,
}

impl Frame {
    /// A header of layer III at the beginning of `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let &[0xFF, kind, coding, mode, ..] = bytes else { return None };
        let (version, layer) = (kind >> 3 & 3, kind >> 1 & 3);
        if kind >> 5 != 7 || version == 1 || layer != 1 {
            return None;
        }
        let is_first = version == 3;
        let kilobits =
            KILOBITS[usize::from(!is_first)].get(usize::from(coding >> 4)).copied().filter(|rate| *rate > 0)?;
        let rate = [44_100, 48_000, 32_000].get(usize::from(coding >> 2 & 3))? >> [2, 0, 1, 0][usize::from(version)];
        let samples = if is_first { 1_152 } else { 576 };
        let length = samples / 8 * kilobits * 1_000 / rate + u32::from(coding >> 1 & 1);
        let common = [kind & 0xFE, coding & 0x0C];
        Some(Self { common, is_mono: mode >> 6 == 3, samples, rate, length: length.into() })
    }

    /// The number of frames that follow, where this frame has that number in place of sound.
    pub(crate) fn stated_count(self, frame: &[u8]) -> Option<u32> {
        let side = match (self.samples, self.is_mono) {
            (1_152, false) => 32,
            (1_152, true) | (_, false) => 17,
            (_, true) => 9,
        };
        let word = |at: usize| frame.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let at = 4 + side;
        match frame.get(at..at + 4)? {
            b"Xing" | b"Info" => Some(if word(at + 4)? & 1 == 1 { word(at + 8)? } else { 0 }),
            _ if frame.get(36..40)? == b"VBRI" => word(50),
            _ => None,
        }
    }
}
