//! The one message that a call asks with, read without the buffers of a codec: it nearly always comes whole and plain in one piece.
//!
//! Invariant: a request that is anything else goes on as it came, to who knows what to say of it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame, SizeHint};
use prost::Message;
use tonic::{Status, body::Body, metadata::MetadataMap};

use crate::frames::PREFIX;

/// What comes of a body.
type Piece = Result<Frame<Bytes>, Status>;

/// The request with its message, or as it was.
pub(super) async fn read<M: Message + Default>(request: Request<Body>) -> Result<tonic::Request<M>, Request<Body>> {
    let (parts, mut body) = request.into_parts();
    let first = next(&mut body).await;
    let data = first.as_ref().and_then(|piece| piece.as_ref().ok()?.data_ref());
    let message = data.and_then(|data| M::decode(whole(data)?).ok());
    // That nothing follows is part of being whole.
    let second = if message.is_some() && !body.is_end_stream() { next(&mut body).await } else { None };
    match message.filter(|_| second.is_none()) {
        Some(message) => {
            Ok(tonic::Request::from_parts(MetadataMap::from_headers(parts.headers), parts.extensions, message))
        }
        None => {
            let pieces = first.into_iter().chain(second).collect();
            Err(Request::from_parts(parts, Body::new(Resumed { pieces, rest: body })))
        }
    }
}

/// What comes next, past empty data: by those some say that nothing more comes.
async fn next(body: &mut Body) -> Option<Piece> {
    loop {
        let piece = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        let is_empty = piece.as_ref().is_ok_and(|frame| frame.data_ref().is_some_and(Bytes::is_empty));
        if !is_empty {
            return Some(piece);
        }
    }
}

/// The message of a frame that is one, whole and not compressed.
fn whole(frame: &Bytes) -> Option<Bytes> {
    let (prefix, message) = frame.split_first_chunk::<PREFIX>()?;
    let [flag, length @ ..] = *prefix;
    let is_whole = flag == 0 && u32::from_be_bytes(length) as usize == message.len();
    is_whole.then(|| frame.slice(PREFIX..))
}

/// A body of which some has been seen.
struct Resumed {
    pieces: VecDeque<Piece>,
    rest: Body,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        match self.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(piece)),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Of what was seen it would have to be counted; nobody needs to know.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};
    use tonic_health::pb::HealthCheckRequest;

    use super::*;
    use crate::frames::framed;

    fn request(pieces: &[&[u8]]) -> Request<Body> {
        let pieces: Vec<Piece> = pieces.iter().map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        Request::new(Body::new(StreamBody::new(futures::stream::iter(pieces))))
    }

    #[tokio::test]
    async fn one_whole_plain_message_is_read_and_all_else_goes_on_as_it_came() {
        let message = HealthCheckRequest { service: "a service".to_owned() };
        let frame = framed(&message.encode_to_vec());
        for pieces in [&[&frame[..]][..], &[b"", &frame, b""]] {
            let read = super::read::<HealthCheckRequest>(request(pieces)).await.unwrap();
            assert_eq!(read.into_inner(), message);
        }
        let empty = super::read::<HealthCheckRequest>(request(&[&framed(b"")])).await.unwrap();
        assert_eq!(empty.into_inner(), HealthCheckRequest::default());

        let mut compressed = frame.to_vec();
        compressed[0] = 1;
        let (head, tail) = frame.split_at(7);
        let no_message = framed(&[0xff; 3]);
        for pieces in [
            &[][..],
            &[&b"\0\0"[..]],
            &[head],
            &[head, tail],
            &[&frame[..], &frame[..]],
            &[&[&frame[..], &frame[..]].concat()[..]],
            &[&compressed[..]],
            &[&no_message[..]],
        ] {
            let whole = pieces.concat();
            let passed = super::read::<HealthCheckRequest>(request(pieces)).await.unwrap_err();
            assert_eq!(passed.into_body().collect().await.unwrap().to_bytes(), whole, "{pieces:?}");
        }
    }
}
