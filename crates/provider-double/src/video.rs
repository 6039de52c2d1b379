//! The files of orders. Each video has a part that no player reads and that names the order, so that each order's is another file.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::kinds::FileFault;
use crate::order::{Kind, Order};
use crate::{png, wav, webm};

/// 20 frames that the built-in provider's code drew, 160 x 96.
const FILM: &[u8] = include_bytes!("video.mp4");
/// How long the film's first box is, `ftyp`; `moov` follows.
const FTYP: usize = 32;
/// A picture of one pixel.
const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xFF\xFF\xFF,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Mp4,
    Mov,
    Webm,
    Gif,
    Webp,
    Png,
    Wav,
}

impl Format {
    /// The format of an order's file.
    pub(crate) fn of(order: &Order) -> Self {
        match order.fate.file {
            Some((FileFault::Mov, _)) if order.kind == Kind::Video => Self::Mov,
            Some((FileFault::Webm, _)) if order.kind == Kind::Video => Self::Webm,
            Some((FileFault::Gif, _)) => Self::Gif,
            Some((FileFault::Webp, _)) if order.kind != Kind::Image => Self::Webp,
            _ => Self::usual(order.kind),
        }
    }

    /// What is usually made.
    pub(crate) fn usual(kind: Kind) -> Self {
        match kind {
            Kind::Video => Self::Mp4,
            Kind::Image => Self::Png,
            Kind::Audio => Self::Wav,
        }
    }

    /// Whether it is an output of a model that makes this.
    pub(crate) fn is_of(self, kind: Kind) -> bool {
        match self {
            Self::Mp4 | Self::Mov | Self::Webm => kind == Kind::Video,
            Self::Webp | Self::Png => kind == Kind::Image,
            Self::Wav => kind == Kind::Audio,
            Self::Gif => false,
        }
    }

    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Mov => "mov",
            Self::Webm => "webm",
            Self::Gif => "gif",
            Self::Webp => "webp",
            Self::Png => "png",
            Self::Wav => "wav",
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Mp4 => "video/mp4",
            Self::Mov => "video/quicktime",
            Self::Webm => "video/webm",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
            Self::Png => "image/png",
            Self::Wav => "audio/wav",
        }
    }
}

/// The whole file of this name.
pub(crate) fn bytes(id: &str, format: Format) -> Bytes {
    match format {
        Format::Mp4 => marked(FILM.to_vec(), id),
        Format::Mov => {
            let mut film = FILM.to_vec();
            // The brand, and those that it is compatible with.
            film[8..12].copy_from_slice(b"qt  ");
            film[16..FTYP].copy_from_slice(&b"qt  ".repeat(4));
            marked(film, id)
        }
        Format::Webm => webm::video(id).into(),
        Format::Gif => Bytes::from_static(GIF),
        Format::Webp => webm::picture().into(),
        Format::Png => png::picture(id, 64).into(),
        Format::Wav => wav::sound(id).into(),
    }
}

/// The film without its `moov`, as of a file that lost its end.
pub(crate) fn truncated(id: &str) -> Bytes {
    let moov = FILM[FTYP..].first_chunk().map_or(0, |size| u32::from_be_bytes(*size) as usize);
    let mut film = FILM[..FTYP].to_vec();
    film.extend_from_slice(&FILM[FTYP + moov..]);
    marked(film, id)
}

/// With a box that no player reads.
fn marked(mut film: Vec<u8>, id: &str) -> Bytes {
    film.extend_from_slice(&u32::try_from(8 + id.len()).unwrap_or(8).to_be_bytes());
    film.extend_from_slice(b"free");
    film.extend_from_slice(id.as_bytes());
    film.into()
}

/// The name of an output's file, which names its order: the first has the order's own.
pub(crate) fn file_id(order: &Order, at: usize) -> String {
    if at == 0 { order.id.clone() } else { format!("{}~{at}", order.id) }
}

/// The same with its ending.
pub(crate) fn file_name(order: &Order, at: usize) -> String {
    format!("{}.{}", file_id(order, at), Format::of(order).extension())
}

/// Where an output of an order lies, of a double at `address`.
pub(crate) fn url(address: SocketAddr, order: &Order, at: usize) -> String {
    let (id, extension) = (file_id(order, at), Format::of(order).extension());
    match order.fate.file {
        // Nothing listens at tcpmux's port.
        Some((FileFault::Unreachable, _)) => format!("http://127.0.0.1:1/videos/{id}.{extension}"),
        // A label has 63 letters at most, so that no resolver on the network is asked.
        Some((FileFault::Unnamed, _)) => format!("http://{}.invalid/videos/{id}.{extension}", "x".repeat(64)),
        Some((FileFault::Untrusted, _)) => format!("https://{address}/videos/{id}.{extension}"),
        _ => format!("http://{address}/videos/{id}.{extension}"),
    }
}
