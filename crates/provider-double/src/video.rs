//! The files of orders. Each video has a part that no player reads and that names the order, so that each order's is another file.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::kinds::FileFault;
use crate::order::Order;
use crate::webm;

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
}

impl Format {
    /// The format of an order's file.
    pub(crate) fn of(order: &Order) -> Self {
        match order.fate.file {
            Some((FileFault::Mov, _)) => Self::Mov,
            Some((FileFault::Webm, _)) => Self::Webm,
            Some((FileFault::Gif, _)) => Self::Gif,
            Some((FileFault::Webp, _)) => Self::Webp,
            _ => Self::Mp4,
        }
    }

    pub(crate) fn is_video(self) -> bool {
        !matches!(self, Self::Gif | Self::Webp)
    }

    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Mov => "mov",
            Self::Webm => "webm",
            Self::Gif => "gif",
            Self::Webp => "webp",
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Mp4 => "video/mp4",
            Self::Mov => "video/quicktime",
            Self::Webm => "video/webm",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
        }
    }
}

/// The whole file of the order with this id.
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

/// Where the file of an order lies, of a double at `address`.
pub(crate) fn url(address: SocketAddr, order: &Order) -> String {
    let (id, extension) = (&order.id, Format::of(order).extension());
    match order.fate.file {
        // Nothing listens at tcpmux's port.
        Some((FileFault::Unreachable, _)) => format!("http://127.0.0.1:1/videos/{id}.{extension}"),
        // A label has 63 letters at most, so that no resolver on the network is asked.
        Some((FileFault::Unnamed, _)) => format!("http://{}.invalid/videos/{id}.{extension}", "x".repeat(64)),
        Some((FileFault::Untrusted, _)) => format!("https://{address}/videos/{id}.{extension}"),
        _ => format!("http://{address}/videos/{id}.{extension}"),
    }
}
