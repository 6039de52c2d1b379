//! HTTP/2 by hand: frames as a client may write them and no library would.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::JoinHandle;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a write may hang before the connection counts as held shut by the server.
const WRITE: Duration = Duration::from_secs(2);

/// The kinds of frames.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Frame {
    Data = 0,
    Headers = 1,
    Priority = 2,
    Reset = 3,
    Settings = 4,
    Ping = 6,
    WindowUpdate = 8,
    Continuation = 9,
}

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// A connection whose answers are read and thrown away, or not read at all.
pub(super) struct Http2 {
    out: OwnedWriteHalf,
    drain: Option<JoinHandle<()>>,
    next: u32,
}

impl Drop for Http2 {
    fn drop(&mut self) {
        if let Some(drain) = &self.drain {
            drain.abort();
        }
    }
}

impl Http2 {
    /// Begins, with the settings given; `reads` says whether the answers are taken.
    pub(super) async fn begin(stream: TcpStream, settings: &[(u16, u32)], reads: bool) -> std::io::Result<Self> {
        let (mut from, out) = stream.into_split();
        let drain = reads.then(|| {
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while from.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
            })
        });
        let mut me = Self { out, drain, next: 1 };
        me.write(PREFACE).await?;
        let settings = settings.iter().flat_map(|(id, value)| {
            let (id, value) = (id.to_be_bytes(), value.to_be_bytes());
            id.into_iter().chain(value)
        });
        me.frame(Frame::Settings, 0, 0, &settings.collect::<Vec<_>>()).await?;
        Ok(me)
    }

    /// Whether the server has closed it; known only where answers are read.
    pub(super) fn closed(&self) -> bool {
        self.drain.as_ref().is_some_and(JoinHandle::is_finished)
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        tokio::time::timeout(WRITE, self.out.write_all(bytes)).await.map_err(|_| std::io::ErrorKind::TimedOut)?
    }

    /// Writes one frame.
    pub(super) async fn frame(&mut self, kind: Frame, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        self.write(&encoded(kind, flags, stream, payload)).await
    }

    /// Writes many equal frames at once.
    pub(super) async fn frames(
        &mut self,
        kind: Frame,
        payload: &[u8],
        stream: u32,
        count: usize,
    ) -> std::io::Result<()> {
        self.write(&encoded(kind, 0, stream, payload).repeat(count)).await
    }

    /// Opens a stream with the headers of a gRPC call; gives its number.
    pub(super) async fn open(&mut self, path: &str, more: &[(&str, &str)], flags: u8) -> std::io::Result<u32> {
        let stream = self.next;
        self.next += 2;
        self.frame(Frame::Headers, flags, stream, &headers(path, more)).await?;
        Ok(stream)
    }
}

fn encoded(kind: Frame, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind as u8, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header block of a gRPC call: every field a literal that is not indexed.
pub(super) fn headers(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in usual.iter().chain(more) {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An integer of HPACK with a prefix of seven bits, whose first bit (Huffman) is not set.
fn integer(block: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        block.push(u8::try_from(value).unwrap_or_default());
        return;
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push(u8::try_from(value % 128).unwrap_or_default() | 128);
        value /= 128;
    }
    block.push(u8::try_from(value).unwrap_or_default());
}
