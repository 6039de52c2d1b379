//! How many rows each statement returned or changed.
//!
//! sqlx says it in a line of its own log for every statement, which is read here and kept out of this process's log. Invariant: a
//! row is counted to the statement whose future it was read in.

use std::{cell::Cell, fmt, future::Future};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::{FilterFn, LevelFilter, filter_fn},
    layer::Context,
    registry::LookupSpan,
};

/// What sqlx's lines about statements are about.
const TARGET: &str = "sqlx::query";

/// The level at which sqlx is asked to log statements: one that spans are made at, so that asking costs nothing elsewhere.
pub(crate) const LEVEL: log::LevelFilter = log::LevelFilter::Info;

tokio::task_local! {
    static ROWS: Cell<u64>;
}

/// Runs a statement, and gives besides how many rows it returned or changed; 0 without telemetry.
pub(crate) async fn count<F: Future>(statement: F) -> (F::Output, u64) {
    ROWS.scope(Cell::new(0), async {
        let output = statement.await;
        (output, ROWS.with(Cell::get))
    })
    .await
}

/// Whether something is one of sqlx's lines about a statement.
pub(super) fn is_statement(meta: &Metadata<'_>) -> bool {
    meta.target() == TARGET
}

/// Reads sqlx's lines.
pub(super) fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let statements: FilterFn = filter_fn(|meta| is_statement(meta) && *meta.level() <= Level::INFO);
    Rows.with_filter(statements.with_max_level_hint(LevelFilter::INFO))
}

struct Rows;

impl<S: Subscriber> Layer<S> for Rows {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        read(event);
    }
}

/// Reads one of sqlx's lines about a statement.
pub(super) fn read(event: &Event<'_>) {
    let mut rows = Counted(0);
    event.record(&mut rows);
    let _ = ROWS.try_with(|counted| counted.set(counted.get() + rows.0));
}

/// The larger of the two numbers: PostgreSQL counts returned rows as affected ones too.
struct Counted(u64);

impl Visit for Counted {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if ["rows_returned", "rows_affected"].contains(&field.name()) {
            self.0 = self.0.max(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
