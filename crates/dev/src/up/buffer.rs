//! The recent traces of the local stack: a collector in `up`'s own process, which answers what `cli::buffer` asks.
//!
//! Invariant: without the token of `stack.json` there is no answer, since prompts may stand in spans.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cli::stack::Traces;
use testkit::Spans;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// The longest question that is read.
const QUESTION: u64 = 256;
const LIMIT: Duration = Duration::from_secs(5);

/// A running buffer; it ends with this value.
pub(crate) struct Buffer {
    /// How to ask it.
    pub(crate) traces: Traces,
    spans: Arc<Spans>,
    answering: AbortHandle,
}

impl Buffer {
    pub(crate) async fn start() -> Result<Self> {
        let spans = Arc::new(Spans::collect().await?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding the trace buffer")?;
        let traces = Traces { address: listener.local_addr()?.to_string(), token: testkit::secret()? };
        let answering = tokio::spawn(serve(listener, traces.token.clone(), spans.clone())).abort_handle();
        Ok(Self { traces, spans, answering })
    }

    /// Where the services send their spans.
    pub(crate) fn endpoint(&self) -> String {
        self.spans.endpoint()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

async fn serve(listener: TcpListener, token: String, spans: Arc<Spans>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (token, spans) = (token.clone(), spans.clone());
        tokio::spawn(async move {
            // Whoever asked and went away is nobody's loss.
            let _ = tokio::time::timeout(LIMIT, answer(stream, &token, &spans)).await;
        });
    }
}

async fn answer(mut stream: TcpStream, token: &str, spans: &Spans) -> Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    BufReader::new(read.take(QUESTION)).read_line(&mut line).await?;
    if let Some((shown, trace)) = line.trim().split_once(' ')
        && shown == token
    {
        write.write_all(&serde_json::to_vec(&spans.recorded(trace))?).await?;
    }
    write.shutdown().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use cli::buffer::ask;

    use super::*;

    #[tokio::test]
    async fn only_the_token_is_answered() {
        let buffer = Buffer::start().await.unwrap();
        assert_eq!(ask(&buffer.traces, "00").await.unwrap(), testkit::Recorded::default());
        let stranger = Traces { token: "guessed".to_owned(), ..buffer.traces.clone() };
        assert!(ask(&stranger, "00").await.unwrap_err().to_string().contains("token"));
    }
}
