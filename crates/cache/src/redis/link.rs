//! One connection to Redis, replaced when it breaks, with a timeout on everything and a circuit breaker in front.
//!
//! Invariant: a [`Session`] is one TCP connection. It never moves to another server, so the `run` that is read at its beginning
//! names the server of all its answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chassis::telemetry::attributes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use tracing::Instrument as _;

use super::breaker::Breaker;
use crate::metrics;

/// One TCP connection.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) connection: MultiplexedConnection,
    /// The server's `run_id`: another after every restart.
    pub(crate) run: Arc<str>,
    number: u64,
}

#[derive(Default)]
struct State {
    session: Option<Session>,
    next: u64,
}

/// The connection to Redis, and what replaces it.
pub(crate) struct Link {
    client: Client,
    timeout: Duration,
    state: tokio::sync::Mutex<State>,
    breaker: Mutex<Breaker>,
}

impl Link {
    /// Does not connect; the first call does.
    ///
    /// # Errors
    /// The URL, or a file that it names, cannot be read.
    pub(crate) fn new(url: &str, timeout: Duration) -> Result<Self, chassis::settings::Error> {
        Ok(Self { client: super::open(url)?, timeout, state: tokio::sync::Mutex::default(), breaker: Mutex::default() })
    }

    /// The connection, made now if there is none; nothing if Redis cannot be reached in time.
    pub(crate) async fn session(&self) -> Option<Session> {
        if !self.breaker().allows(Instant::now()) {
            return None;
        }
        // The lock is held while connecting, so that those who come meanwhile wait for this connection and make none of their own;
        // the timeout is around both, so that none waits for longer.
        let opened = tokio::time::timeout(self.timeout, async {
            let mut state = self.state.lock().await;
            if let Some(session) = &state.session {
                return Ok(session.clone());
            }
            let session = self.open(state.next).await?;
            state.next += 1;
            state.session = Some(session.clone());
            Ok::<_, redis::RedisError>(session)
        })
        .await;
        match opened {
            Ok(Ok(session)) => Some(session),
            Ok(Err(error)) => {
                tracing::debug!(%error, "redis cannot be reached");
                self.failed("connect");
                None
            }
            Err(_) => {
                self.failed("connect");
                None
            }
        }
    }

    /// Makes one call on a session; nothing if it fails or takes too long, after which the connection is not used
    /// again.
    pub(crate) async fn call<T>(
        &self,
        operation: &'static str,
        session: &Session,
        call: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Option<T> {
        let mut connection = session.connection.clone();
        let answered = tokio::time::timeout(self.timeout, call(&mut connection)).instrument(span(operation)).await;
        match answered {
            Ok(Ok(answer)) => {
                self.breaker().succeeded();
                return Some(answer);
            }
            Ok(Err(error)) => tracing::debug!(%error, operation, "redis failed"),
            Err(_) => tracing::debug!(operation, "redis took too long"),
        }
        self.failed(operation);
        // Another call may have replaced the session already.
        let mut state = self.state.lock().await;
        if state.session.as_ref().is_some_and(|current| current.number == session.number) {
            state.session = None;
        }
        None
    }

    async fn open(&self, number: u64) -> RedisResult<Session> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
            .set_pipeline_buffer_size(1024);
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default().trim().into();
        Ok(Session { connection, run, number })
    }

    fn failed(&self, operation: &'static str) {
        metrics::redis_failed(operation);
        self.breaker().failed(Instant::now());
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A span inside of a request's trace; none for the relay's ticks, which belong to no request and come twenty times a
/// second.
fn span(operation: &'static str) -> tracing::Span {
    if tracing::Span::current().is_none() {
        return tracing::Span::none();
    }
    tracing::info_span!(
        "redis",
        otel.name = operation,
        otel.kind = "client",
        { attributes::DB_SYSTEM_NAME } = "redis",
        { attributes::DB_OPERATION_NAME } = operation,
    )
}
