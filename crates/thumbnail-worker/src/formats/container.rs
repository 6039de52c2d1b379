//! Video containers, known by their first bytes.

/// The containers that are known by their first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// MP4 and its relatives.
    Mp4,
    /// QuickTime, of whose boxes MP4 is made.
    Mov,
    /// WebM and Matroska.
    Webm,
}

impl Container {
    /// The container by the first bytes of a file; twelve are enough.
    #[must_use]
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        let brand = bytes.get(8..12).unwrap_or_default();
        match bytes.get(4..8) {
            Some(b"ftyp") => {
                return match brand {
                    b"qt  " => Some(Self::Mov),
                    // Pictures in the same boxes: AVIF and HEIC.
                    b"avif" | b"avis" | b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1"
                    | b"msf1" => None,
                    _ => Some(Self::Mp4),
                };
            }
            // The oldest files do not say what they are; none of these comes first in any other format.
            Some(b"moov" | b"mdat" | b"wide") => return Some(Self::Mov),
            _ => {}
        }
        if bytes.starts_with(&[0x1A, 0x45, 0xDF, 0xA3]) { Some(Self::Webm) } else { None }
    }

    /// The media type that such a file is served with.
    #[must_use]
    pub fn mime(self) -> &'static str {
        match self {
            Self::Mp4 => "video/mp4",
            Self::Mov => "video/quicktime",
            Self::Webm => "video/webm",
        }
    }
}
