//! The sizes of messages that come in, plain and compressed.

use std::convert::Infallible;
use std::io::Write as _;

use bytes::Bytes;
use chassis::{drain::Drain, server::Server};
use flate2::{Compression, write::GzEncoder};
use futures::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::{Code, Status, body::Body};

use crate::wire::{free, ok, status};

const MAX: usize = 100_000;

fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![flag];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(message).unwrap();
    encoder.finish().unwrap()
}

/// Sends a body in pieces to a method with a limit, and gives its status and how many bytes of it reached the handler.
async fn send(path: &str, encoding: Option<&str>, body: Vec<u8>, piece: usize) -> ((Code, String), usize) {
    let server = Server::new("test", &free()).message_limits([("/test.Test/Limited", MAX as u64)]);
    let server = server.streaming(["/test.Test/Limited", "/test.Test/Free"]).bind().await.unwrap();
    let (addr, drain) = (server.addr(), Drain::default());
    let handler = tower::service_fn(|request: Request<Body>| async move {
        let response: Response<Body> = match request.into_body().collect().await {
            Ok(body) => {
                let mut response = ok();
                response.headers_mut().insert("received", body.to_bytes().len().into());
                response
            }
            Err(error) => error.into_http(),
        };
        Ok::<_, Infallible>(response)
    });
    tokio::spawn(server.serve_around(handler, |rpc| rpc, drain.clone()));
    let io = TokioIo::new(TcpStream::connect(addr).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://{addr}{path}")).header("content-type", "application/grpc");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let pieces: Vec<_> =
        body.chunks(piece).map(|piece| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(piece)))).collect();
    let body = StreamBody::new(stream::iter(pieces));
    let response = sender.send_request(request.body(body).unwrap()).await.unwrap_or_else(|error| panic!("{error:?}"));
    let (parts, body) = response.into_parts();
    let trailers: Option<HeaderMap> = body.collect().await.unwrap().trailers().cloned();
    let received = parts.headers.get("received").map_or(0, |value| value.to_str().unwrap().parse().unwrap());
    drain.begin();
    (status(&trailers.unwrap_or(parts.headers)), received)
}

const OK: (Code, &str) = (Code::Ok, "");
const TOO_LARGE: (Code, &str) = (Code::InvalidArgument, "INPUT_TOO_LARGE");
const WRONG: (Code, &str) = (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION");

#[tokio::test]
async fn a_message_is_as_large_as_its_method_takes_when_it_is_decompressed() {
    let plain = |bytes: usize| frame(0, &vec![0; bytes]);
    let packed = |bytes: usize| frame(1, &gzip(&vec![0; bytes]));
    let mut broken = packed(1_000);
    *broken.last_mut().unwrap() ^= 1;
    let (three, gz) = ([packed(MAX), plain(7), packed(9)].concat(), Some("gzip"));
    assert!(packed(50_000_000).len() < MAX, "as it comes the bomb is small");
    for (encoding, body, expected, bytes) in [
        (None, plain(MAX), OK, MAX + 5),
        (None, plain(MAX + 1), TOO_LARGE, 0),
        (gz, plain(MAX), OK, MAX + 5),
        (gz, plain(MAX + 1), TOO_LARGE, 0),
        (gz, packed(MAX), OK, MAX + 5),
        (gz, packed(MAX + 1), TOO_LARGE, 0),
        (gz, packed(50_000_000), TOO_LARGE, 0),
        (gz, three, OK, MAX + 7 + 9 + 15),
        (gz, [packed(10), packed(MAX + 1)].concat(), TOO_LARGE, 0),
        (gz, broken, WRONG, 0),
        (gz, frame(1, b"no gzip"), WRONG, 0),
        (gz, plain(0), OK, 5),
        // What is cut off goes on as it came: the decoder says what is wrong with it.
        (gz, packed(10)[..8].to_vec(), OK, 8),
    ] {
        for piece in [999, 16_384] {
            let ((code, reason), received) = send("/test.Test/Limited", encoding, body.clone(), piece).await;
            let what = format!("{encoding:?}, {} bytes in pieces of {piece}", body.len());
            assert_eq!(((code, reason.as_str()), received), (expected, bytes), "{what}");
        }
    }
}

#[tokio::test]
async fn without_a_limit_a_body_passes_as_it_is_and_a_probe_has_one_of_its_own() {
    let bomb = frame(1, &gzip(&vec![0; 10 * MAX]));
    let (answer, received) = send("/test.Test/Free", Some("gzip"), bomb.clone(), 16_384).await;
    assert_eq!((answer.0, received), (Code::Ok, bomb.len()));
    let (answer, _) = send("/grpc.health.v1.Health/Check", Some("gzip"), bomb, 16_384).await;
    assert_ne!(answer.0, Code::Ok);
    let (answer, _) = send("/grpc.health.v1.Health/Check", None, frame(0, &[0; 5_000]), 16_384).await;
    assert_eq!((answer.0, answer.1.as_str()), TOO_LARGE);
}
