//! What `rushes trace` asks the local stack: the recent spans of one trace.
//!
//! The question is one line, the token of `stack.json` and a trace's id; the answer is JSON, what is recorded of that trace,
//! and the end of the connection.

use std::time::Duration;

use anyhow::{Context, Result};
use spans::Recorded;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stack::Traces;

const LIMIT: Duration = Duration::from_secs(5);

/// What a running stack has recorded of a trace.
pub async fn ask(traces: &Traces, trace: &str) -> Result<Recorded> {
    let exchange = async {
        let mut stream = TcpStream::connect(&traces.address).await?;
        stream.write_all(format!("{} {trace}\n", traces.token).as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        anyhow::Ok(bytes)
    };
    let bytes = tokio::time::timeout(LIMIT, exchange)
        .await
        .context("the trace buffer does not answer")?
        .context("the trace buffer does not answer: does `cargo rushes up` still run?")?;
    serde_json::from_slice(&bytes)
        .context("the trace buffer did not take our token: `cargo rushes up` was started anew")
}
