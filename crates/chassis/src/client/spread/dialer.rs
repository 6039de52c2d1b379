//! Opens the sockets of one connection, and says when the first of them is gone.
//!
//! Invariant: the first socket goes to the address that the connection is counted for. Should tonic open the connection anew, which it
//! does in the middle of a call when the other side has said goodbye, the call is led to whichever address answers.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, mem};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tower::Service;

/// How long an address has to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Opens the sockets of one connection.
pub(super) struct Dialer {
    address: SocketAddr,
    end: End,
    /// Other addresses that answer.
    others: Box<dyn Fn() -> Vec<SocketAddr> + Send>,
    is_first: bool,
}

/// Tells once that a connection takes no more calls.
#[derive(Clone)]
pub(super) struct End {
    open: Arc<AtomicBool>,
    lost: Arc<Notify>,
}

impl End {
    /// Clears `open` and notifies `lost`.
    pub(super) fn new(open: Arc<AtomicBool>, lost: Arc<Notify>) -> Self {
        Self { open, lost }
    }

    fn tell(&self) {
        if self.open.swap(false, Ordering::Relaxed) {
            self.lost.notify_one();
        }
    }
}

impl Dialer {
    pub(super) fn new(address: SocketAddr, end: End, others: impl Fn() -> Vec<SocketAddr> + Send + 'static) -> Self {
        Self { address, end, others: Box::new(others), is_first: true }
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Socket>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Socket>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (address, end) = (self.address, self.end.clone());
        let is_first = mem::replace(&mut self.is_first, false);
        let mut addresses = vec![address];
        if !is_first {
            self.end.tell();
            addresses.splice(..0, (self.others)());
        }
        Box::pin(async move {
            let mut failed = io::Error::from(io::ErrorKind::NotConnected);
            for address in addresses {
                match dial(address).await {
                    Ok(stream) => return Ok(TokioIo::new(Socket { stream, _end: Telling(end) })),
                    Err(error) => failed = error,
                }
            }
            Err(failed)
        })
    }
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    let stream = connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Tells on its own end.
struct Telling(End);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.tell();
    }
}

/// A socket whose end is told.
pub(super) struct Socket {
    stream: TcpStream,
    _end: Telling,
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
