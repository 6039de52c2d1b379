//! Pools to PostgreSQL: named pools with their own sizes and time-outs, so that one kind of work cannot starve another.
//!
//! Invariant: every statement that goes through here has a name, a span and a duration, and is counted to the request
//! that made it. A transaction counts its `begin` and `commit` too, because each is a round trip.

mod check;
mod connections;
mod error;
mod liveness;
mod load;
mod pool_settings;
mod reserved;
mod session;

use std::{
    fmt::Write as _,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};
use tracing::{Instrument as _, Span, field::Empty};
use uuid::Uuid;

use crate::{
    metrics,
    request::{self, deadline},
    telemetry::{self, attributes, rows},
};
use connections::{Connections, Loan, Refused};
use liveness::{LivenessProbe, Unresponsive};
use load::Load;
use session::Session;

pub use check::check;
pub use error::Error;
pub(crate) use liveness::not_ready;
pub use pool_settings::PoolSettings;

tokio::task_local! {
    /// The pool whose connection the work under way has.
    static POOL: Pool;
}

/// A statement slower than this is logged.
const SLOW: Duration = Duration::from_millis(200);

/// One pool of connections with a name; cheap to clone. What is done within the requests of one account has at most a quarter of
/// the connections at a time, unless set otherwise, since an account's transactions wait for one another, and others' would wait with them.
#[derive(Clone, Debug)]
pub struct Pool {
    name: &'static str,
    connections: Arc<Connections>,
    load: Arc<Load>,
    liveness: Arc<LivenessProbe>,
}

impl Pool {
    /// A pool that connects when it is first used, so that a service starts while PostgreSQL is away.
    ///
    /// # Errors
    /// When the URL cannot be parsed.
    pub fn connect_lazy(name: &'static str, url: &str, settings: &PoolSettings) -> Result<Self, Error> {
        let session = Session::of(url)?;
        let set_up = session.set_up(settings.statement);
        let options = session
            .options
            .application_name(&format!("rushes/{name}"))
            .log_statements(rows::LEVEL)
            .log_slow_statements(rows::LEVEL, Duration::MAX);
        let liveness = LivenessProbe::shared(url, &options, settings.unresponsive_after);
        let connections = Connections::new(options, set_up, *settings, Arc::clone(&liveness));
        Ok(Self { name, load: Load::of(name, &connections), connections, liveness })
    }

    /// A connection of its own beside the pool, for migrations and tests; statements on it are neither named nor counted.
    ///
    /// # Errors
    /// Why there is none, see [`Error`].
    pub async fn connect(&self) -> Result<PgConnection, Error> {
        Ok(self.connections.connect().await?)
    }

    /// How many connections there may be.
    #[must_use]
    pub fn max_connections(&self) -> u32 {
        self.connections.max()
    }

    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs one statement, named for its span and metrics, within the request's deadline.
    ///
    /// # Errors
    /// What PostgreSQL or the pool answered, see [`Error`].
    pub async fn run<T, F>(&self, statement: &'static str, work: F) -> Result<T, Error>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    {
        let span = span(statement, self.name);
        let run = self.on(request::account(), async |connection: &mut PgConnection| {
            request::count_query();
            measured(self.name, statement, Box::pin(work(connection))).await
        });
        self.noted(finish(run.instrument(span.clone()).await, &span))
    }

    /// Runs one statement that belongs to no request and comes too often to be traced.
    ///
    /// # Errors
    /// What PostgreSQL or the pool answered, see [`Error`].
    pub async fn quietly<T, F>(&self, work: F) -> Result<T, Error>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    {
        self.noted(self.on(None, async |connection: &mut PgConnection| Ok(Box::pin(work(connection)).await?)).await)
    }

    /// Runs `work` between `begin` and `commit`; an error rolls back. Name each statement inside with [`statement`]. It may write rows of
    /// any account: for the work of a request there is [`Pool::transaction_of`].
    ///
    /// # Errors
    /// What `work` returned, or why the transaction could not begin or commit.
    pub async fn transaction<T, E, F>(&self, name: &'static str, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<Error>,
    {
        self.begin_and_commit(name, None, work).await
    }

    /// As [`Pool::transaction`], for a request of `account`: where the connection's role is held by row-level security, `work` writes and
    /// locks no row of another account, whatever its statements say.
    ///
    /// # Errors
    /// What `work` returned, or why the transaction could not begin or commit.
    pub async fn transaction_of<T, E, F>(&self, account: Uuid, name: &'static str, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<Error>,
    {
        self.begin_and_commit(name, Some(account), work).await
    }

    /// Runs `work`, which only reads, on one connection and without a transaction, which would be two round trips more; each statement sees
    /// what is committed when it begins. Name each inside with [`statement`].
    ///
    /// # Errors
    /// What `work` returned, or why there is no connection.
    pub async fn without_transaction<T, E, F>(&self, name: &'static str, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<Error>,
    {
        let run = self.on(request::account(), work);
        POOL.scope(self.clone(), run.instrument(span(name, self.name))).await
    }

    async fn begin_and_commit<T, E, F>(&self, name: &'static str, account: Option<Uuid>, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<Error>,
    {
        let span = span(name, self.name);
        let run = self.on(account.or_else(request::account), async |connection: &mut PgConnection| {
            let mut transaction = statement("begin", connection.begin_with(begin(account))).await?;
            // Dropped on an error of `work`, the transaction rolls back.
            let value = Box::pin(work(&mut transaction)).await?;
            statement("commit", transaction.commit()).await?;
            Ok(value)
        });
        POOL.scope(self.clone(), run.instrument(span)).await
    }

    /// Closes every connection of the pool once it is free.
    pub async fn close(&self) {
        self.connections.close().await;
    }

    /// Gives `work`, which is for `account` if for any, a connection, for as long as PostgreSQL answers.
    async fn on<T, E, F>(&self, account: Option<Uuid>, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<Error>,
    {
        let mut loan = self.acquire(account).await?;
        let connection = loan.connection().map_err(Error::from)?;
        let done = self.liveness.during(Box::pin(work(connection))).await.map_err(|why| self.unresponsive(why))?;
        if done.is_ok() {
            loan.at_rest();
            self.liveness.record_answer();
        }
        done
    }

    async fn acquire(&self, account: Option<Uuid>) -> Result<Loan, Error> {
        let began = Instant::now();
        let waiting = self.load.wait();
        let acquired = self.liveness.during(deadline::bound(Box::pin(self.connections.acquire(account)))).await;
        drop(waiting);
        metrics::POOL_ACQUIRE.with([self.name]).record(began.elapsed());
        match acquired.map_err(|why| self.unresponsive(why))? {
            Ok(Ok(loan)) => Ok(loan),
            Ok(Err(Refused::Full)) => Err(Error::Busy(self.name)),
            Ok(Err(Refused::NotMade(error))) => Err(error.into()),
            Err(deadline::Expired) => Err(Error::Deadline),
        }
    }

    /// Has connections made anew after a write that the server refused because it takes none.
    fn noted<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::ReadOnly(_)) = &result {
            self.liveness.record_read_only();
        }
        result
    }

    fn unresponsive(&self, why: Unresponsive) -> Error {
        metrics::POOL_UNRESPONSIVE.with([self.name]).increment(1);
        why.into()
    }
}

/// Runs one named statement on a connection that was given to a piece of work, within the request's deadline.
///
/// # Errors
/// What PostgreSQL answered, see [`Error`].
pub async fn statement<T>(name: &'static str, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    let pool = POOL.try_with(Pool::clone).ok();
    let pool_name = pool.as_ref().map_or("none", Pool::name);
    let span = span(name, pool_name);
    let run = async {
        request::count_query();
        measured(pool_name, name, Box::pin(work)).await
    };
    let result = finish(run.instrument(span.clone()).await, &span);
    match pool {
        Some(pool) => pool.noted(result),
        None => result,
    }
}

/// Begins a transaction and, in the same round trip, tells it whose trace it belongs to, for the rows that triggers write, and whose
/// rows it may write, if not everybody's (see [`session`]).
fn begin(account: Option<Uuid>) -> AssertSqlSafe<String> {
    // A traceparent is hexadecimal digits and hyphens, made here.
    let traceparent = telemetry::traceparent().unwrap_or_default();
    let mut begin = format!("begin; set local rushes.traceparent = '{traceparent}'");
    if let Some(account) = account {
        // Formatting into a string cannot fail.
        let _ = write!(begin, "; set local rushes.account = '{}'", account.hyphenated());
    }
    AssertSqlSafe(begin)
}

fn span(statement: &'static str, pool: &'static str) -> Span {
    tracing::info_span!(
        "postgres",
        otel.name = statement,
        otel.kind = "client",
        otel.status_code = Empty,
        { attributes::DB_SYSTEM_NAME } = "postgresql",
        { attributes::DB_QUERY_SUMMARY } = statement,
        { attributes::DB_RESPONSE_RETURNED_ROWS } = Empty,
        { attributes::POOL } = pool,
        { attributes::ERROR_TYPE } = Empty,
    )
}

/// Runs a statement within the request's deadline, and records how long it took and how many rows it had. The work comes
/// boxed: each layer that holds a future by value holds it twice, and sqlx's are kilobytes.
async fn measured<T, F>(pool: &'static str, statement: &'static str, work: Pin<Box<F>>) -> Result<T, Error>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let began = Instant::now();
    let (result, rows) = rows::count(deadline::bound(work)).await;
    let result = match result {
        Ok(result) => result.map_err(Error::from),
        Err(deadline::Expired) => Err(Error::Deadline),
    };
    let elapsed = began.elapsed();
    let outcome = result.as_ref().map_or_else(Error::kind, |_| "ok");
    metrics::STATEMENT_DURATION.with([pool, statement, outcome]).record(elapsed);
    if result.is_ok() {
        metrics::STATEMENT_ROWS.with([pool, statement]).record(rows as f64);
        Span::current().record(attributes::DB_RESPONSE_RETURNED_ROWS, rows);
    }
    if elapsed > SLOW {
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(pool, statement, milliseconds, rows, "slow statement");
    }
    result
}

fn finish<T>(result: Result<T, Error>, span: &Span) -> Result<T, Error> {
    if let Err(error) = &result {
        span.record(attributes::ERROR_TYPE, error.kind());
        span.record("otel.status_code", "ERROR");
    }
    result
}
