//! gRPC-Web: what a browser sends, as the gateway takes it apart before it counts messages.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use chassis::frames::FrameReader;
use futures::{FutureExt as _, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, Service as _, service_fn};

/// What may be sent in all, as in the gateway for a method with small messages.
const MAX_MESSAGE: u64 = 64 << 10;

/// What goes on to a call does not depend on how its bytes came: in base64, what is taken whole is taken in pieces too, and without it
/// every byte goes on. The first byte is the form, the second how long pieces are.
pub(crate) fn grpc_web(bytes: &[u8]) {
    let Some((&[form, cut], body)) = bytes.split_first_chunk() else { return };
    let text = form & 1 == 1;
    let kind = if text { "application/grpc-web-text" } else { "application/grpc-web+proto" };
    let whole = sent_on(kind, vec![Bytes::copy_from_slice(body)]);
    let pieces = sent_on(kind, body.chunks(usize::from(cut).max(1)).map(Bytes::copy_from_slice).collect());
    match (text, &whole) {
        (false, whole) => {
            assert_eq!(whole.as_deref(), Some(body));
            assert_eq!(pieces.as_deref(), Some(body));
        }
        (true, Some(whole)) => {
            assert_eq!(pieces.as_ref(), Some(whole));
            assert!(whole.len() <= body.len() / 4 * 3, "more than base64 can say");
        }
        (true, None) => {}
    }
    if let Some(body) = whole {
        let mut frames = FrameReader::new(MAX_MESSAGE, MAX_MESSAGE);
        if frames.read(&body).is_ok() {
            assert!(frames.messages() <= body.len() as u64 / 5, "a message has five bytes before it");
        }
    }
}

/// The bytes that a call reads of a body; nothing where it is an error.
fn sent_on(kind: &str, pieces: Vec<Bytes>) -> Option<Vec<u8>> {
    let read = Arc::new(Mutex::new(None));
    let calls = service_fn({
        let read = Arc::clone(&read);
        move |request: Request<Body>| {
            let read = Arc::clone(&read);
            async move {
                let body = request.into_body().collect().await.ok().map(|body| body.to_bytes().to_vec());
                *read.lock().unwrap_or_else(PoisonError::into_inner) = body;
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }
        }
    });
    let frames = stream::iter(pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece))));
    let request = Request::post("/a/b").header("content-type", kind).body(Body::new(StreamBody::new(frames))).ok()?;
    // All of its bytes are there, so there is nothing to wait for.
    let answered = GrpcWebLayer::new().layer(calls).call(request).now_or_never();
    assert!(answered.is_some_and(|answer| answer.is_ok()), "a call that was not answered");
    read.lock().unwrap_or_else(PoisonError::into_inner).take()
}
