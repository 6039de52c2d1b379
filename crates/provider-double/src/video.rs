//! The video of an order: a film, and behind it a box that no player reads, so that each order's is another file.

use std::net::SocketAddr;

use bytes::Bytes;

/// 20 frames that the built-in provider's code drew, 160 x 96.
const FILM: &[u8] = include_bytes!("video.mp4");

/// The bytes of the video of the order with this id.
pub(crate) fn bytes(id: &str) -> Bytes {
    let mut video = FILM.to_vec();
    video.extend_from_slice(&u32::try_from(8 + id.len()).unwrap_or(8).to_be_bytes());
    video.extend_from_slice(b"free");
    video.extend_from_slice(id.as_bytes());
    video.into()
}

/// Where a double at `address` serves it.
pub(crate) fn url(address: SocketAddr, id: &str) -> String {
    format!("http://{address}/videos/{id}.mp4")
}
