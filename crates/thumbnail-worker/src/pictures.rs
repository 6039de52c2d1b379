//! Still pictures: what a file claims to be, whether that is allowed, its pixels, and the thumbnail made of them.
//!
//! Invariant: nothing is decoded, and nothing is allocated by a size that a file states, before [`Header::read`] has held that
//! size against [`Limits`]. The format is told by the first bytes, never by a name or a declared type. Every decoder here is
//! memory-safe Rust; the one C library (libwebp) only ever encodes pixels that were made here.

pub mod fit;
pub mod jpeg;
pub mod orientation;
pub mod png;
pub mod webp;

use orientation::Orientation;

/// What a picture may be at most, checked on its header alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest file, in bytes.
    pub bytes: u64,
    /// Most pixels, width times height.
    pub pixels: u64,
    /// Longest side, in pixels.
    pub side: u32,
}

impl Default for Limits {
    /// 20 MiB, 50 megapixels, 16,384 pixels a side.
    fn default() -> Self {
        Self { bytes: 20 << 20, pixels: 50_000_000, side: 16_384 }
    }
}

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG: baseline, extended sequential and progressive, 8 bits.
    Jpeg,
    /// PNG, also interlaced; of an animation the default image.
    Png,
    /// WebP, lossy and lossless; of an animation the first frame.
    Webp,
}

impl Format {
    /// Tells the format by the first bytes of a file; twelve are enough.
    #[must_use]
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
            Some(Self::Jpeg)
        } else if bytes.starts_with(&[0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A]) {
            Some(Self::Png)
        } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            Some(Self::Webp)
        } else {
            None
        }
    }

    /// The media type that such a file is served with.
    #[must_use]
    pub fn mime(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        }
    }

    /// The extension of such a file's name in storage, without a dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Webp => "WebP",
        })
    }
}

/// Why a picture is not taken. The text says what was found and what is allowed; it is meant for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The file is longer than allowed.
    #[error("the file has {bytes} bytes, at most {limit} are taken")]
    TooManyBytes {
        /// Length of the file, or as much of it as had come when it was refused.
        bytes: u64,
        /// The limit that was passed.
        limit: u64,
    },
    /// The header states more pixels than allowed.
    #[error("the picture is {width} x {height} pixels, at most {limit} pixels in all are taken")]
    TooManyPixels {
        /// Stated width in pixels.
        width: u32,
        /// Stated height in pixels.
        height: u32,
        /// The limit that was passed.
        limit: u64,
    },
    /// The header states a side longer than allowed.
    #[error("the picture is {width} x {height} pixels, at most {limit} a side are taken")]
    SideTooLong {
        /// Stated width in pixels.
        width: u32,
        /// Stated height in pixels.
        height: u32,
        /// The limit that was passed.
        limit: u32,
    },
    /// The file asks for far more work than its size in pixels explains.
    #[error("the {format} file is built to be slow to decode: {detail}")]
    TooMuchWork {
        /// What the file is.
        format: Format,
        /// What was found.
        detail: String,
    },
    /// There are no bytes at all.
    #[error("the file is empty")]
    Empty,
    /// The first bytes are those of no format that is read.
    #[error("the content is not a JPEG, PNG or WebP picture; its name does not matter, its first bytes do")]
    UnknownFormat,
    /// The file ends before its picture does.
    #[error("the {format} file ends before its picture does")]
    Truncated {
        /// What the file is.
        format: Format,
    },
    /// The file breaks the rules of its own format.
    #[error("the {format} file is damaged: {detail}")]
    Damaged {
        /// What the file is.
        format: Format,
        /// What the decoder said.
        detail: String,
    },
    /// The file is right, but of a kind that is not read.
    #[error("this kind of {format} is not read: {detail}")]
    Unsupported {
        /// What the file is.
        format: Format,
        /// What is missing here.
        detail: String,
    },
}

impl Refused {
    /// The reason in the error's details, in upper snake case.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooManyBytes { .. } => "INPUT_TOO_LARGE",
            Self::TooManyPixels { .. } | Self::SideTooLong { .. } | Self::TooMuchWork { .. } => "IMAGE_LIMIT_EXCEEDED",
            Self::Truncated { .. } => "IMAGE_TRUNCATED",
            Self::Damaged { .. } => "IMAGE_DAMAGED",
            Self::Empty | Self::UnknownFormat | Self::Unsupported { .. } => "IMAGE_FORMAT_UNSUPPORTED",
        }
    }
}

/// What a picture's header says, held against the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the file is.
    pub format: Format,
    /// Width of the stored pixels, before any turning.
    pub width: u32,
    /// Height of the stored pixels, before any turning.
    pub height: u32,
    /// How the stored pixels are to be turned to be seen upright.
    pub orientation: Orientation,
    detail: Detail,
}

/// What each decoder needs to tell its memory beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Detail {
    Jpeg(jpeg::Frame),
    Png(png::Rows),
    Webp(webp::Image),
}

impl Header {
    /// Reads the header of `bytes` without decoding a pixel, and refuses what is over a limit.
    ///
    /// # Errors
    /// [`Refused`] for a file that is too long, of no known format, cut off in its header, or too large by its own words.
    pub fn read(bytes: &[u8], limits: &Limits) -> Result<Self, Refused> {
        let length = bytes.len() as u64;
        if length > limits.bytes {
            return Err(Refused::TooManyBytes { bytes: length, limit: limits.bytes });
        }
        if bytes.is_empty() {
            return Err(Refused::Empty);
        }
        let format = Format::sniff(bytes).ok_or(Refused::UnknownFormat)?;
        let (width, height, orientation, detail) = match format {
            Format::Jpeg => {
                let (frame, orientation) = jpeg::header(bytes)?;
                (frame.width, frame.height, orientation, Detail::Jpeg(frame))
            }
            Format::Png => {
                let (rows, orientation) = png::header(bytes)?;
                (rows.width, rows.height, orientation, Detail::Png(rows))
            }
            Format::Webp => {
                let (image, orientation) = webp::header(bytes)?;
                (image.width, image.height, orientation, Detail::Webp(image))
            }
        };
        if width == 0 || height == 0 {
            return Err(Refused::Damaged { format, detail: format!("it states a size of {width} x {height}") });
        }
        if width > limits.side || height > limits.side {
            return Err(Refused::SideTooLong { width, height, limit: limits.side });
        }
        if u64::from(width) * u64::from(height) > limits.pixels {
            return Err(Refused::TooManyPixels { width, height, limit: limits.pixels });
        }
        if let Detail::Jpeg(frame) = &detail {
            frame.refuse_slow_scans()?;
        }
        Ok(Self { format, width, height, orientation, detail })
    }

    /// Width and height as seen upright.
    #[must_use]
    pub fn upright(&self) -> (u32, u32) {
        self.orientation.turned(self.width, self.height)
    }

    /// The most memory, in bytes, that decoding for `spec` holds at one time; never less than the file's own share.
    #[must_use]
    pub fn weight(&self, spec: &Spec) -> u64 {
        let cover = self.cover(spec);
        let decoded = match &self.detail {
            Detail::Jpeg(frame) => frame.weight(cover),
            Detail::Png(rows) => rows.weight(cover),
            Detail::Webp(image) => image.weight(),
        };
        decoded + u64::from(spec.width) * u64::from(spec.height) * 16
    }

    /// The size that the decoded pixels have to cover so that `spec` needs no enlarging, in stored (unturned) axes.
    fn cover(&self, spec: &Spec) -> (u32, u32) {
        self.orientation.turned(spec.width, spec.height)
    }
}

/// How pixels lie in memory, 8 bits a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, and opacity that is not multiplied in.
    Rgba,
}

impl Layout {
    /// Bytes of one pixel.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }
}

/// Decoded pixels, row by row from the top, without padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// How one pixel lies.
    pub layout: Layout,
    /// `width * height * layout.bytes()` bytes.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Pixels {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Pixels({} x {}, {:?})", self.width, self.height, self.layout)
    }
}

/// What thumbnail is wanted: always WebP, always filled to its edges, cutting what sticks out evenly on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Width in pixels, within [`Spec::SIDES`].
    pub width: u32,
    /// Height in pixels, within [`Spec::SIDES`].
    pub height: u32,
    /// WebP quality, within [`Spec::QUALITIES`].
    pub quality: u8,
}

impl Default for Spec {
    /// 256 x 256, quality 80.
    fn default() -> Self {
        Self { width: 256, height: 256, quality: 80 }
    }
}

impl Spec {
    /// The sides that a thumbnail may have, in pixels.
    pub const SIDES: std::ops::RangeInclusive<u32> = 16..=1_024;
    /// The WebP qualities that there are.
    pub const QUALITIES: std::ops::RangeInclusive<u8> = 1..=100;
}

/// A finished thumbnail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// The WebP file.
    pub webp: Vec<u8>,
    /// What it was made to.
    pub spec: Spec,
}

/// Decodes `bytes` to pixels that are at least as large as `spec` needs, and not much larger where the format allows to skip
/// work. The whole file is read, so a picture that decodes here is whole.
///
/// # Errors
/// [`Refused`] for a file that is truncated, damaged or of a kind that is not read.
pub fn decode(bytes: &[u8], header: &Header, spec: &Spec) -> Result<Pixels, Refused> {
    let cover = header.cover(spec);
    match &header.detail {
        Detail::Jpeg(frame) => jpeg::decode(bytes, frame, cover),
        Detail::Png(rows) => png::decode(bytes, rows, cover),
        Detail::Webp(image) => webp::decode(bytes, image),
    }
}

/// Makes the thumbnail `spec` of the picture in `bytes`, upright.
///
/// # Errors
/// [`Refused`] as [`decode`] does.
pub fn render(bytes: &[u8], header: &Header, spec: &Spec) -> Result<Thumbnail, Refused> {
    let pixels = decode(bytes, header, spec)?;
    Ok(fit::thumbnail(pixels, header.orientation, spec))
}
