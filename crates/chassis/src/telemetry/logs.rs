//! The two forms of a log line, each with the trace that it belongs to: JSON for machines, one line of text for people.
//!
//! Invariant: a line that is logged while a span is entered carries that span's trace, whatever filters of the log leave out.

use std::{fmt, io::Write as _};

use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt as _},
};
use serde_json::{Map, Value};
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber, dispatcher,
    field::{Field, Visit},
    subscriber::Interest,
};
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Compact, Format, Writer},
        time::{FormatTime as _, SystemTime},
    },
    layer,
    registry::LookupSpan,
};

use super::{rows, unrecorded};

/// Writes events as JSON objects, one a line, to standard error. Spans are nothing to it: what they say is traced, and writing each of
/// their fields down for lines that do not come cost every call several microseconds.
pub(super) struct Json {
    pub(super) service: &'static str,
}

/// The same for a filter by targets and levels alone, together with what counts rows: one layer without a filter of its own. A layer with
/// one is asked about its span whenever that is entered or left, which each poll of each call does.
pub(super) struct Lines {
    json: Json,
    wanted: Targets,
}

impl Lines {
    pub(super) fn new(service: &'static str, wanted: Targets) -> Self {
        Self { json: Json { service }, wanted }
    }

    fn wants(&self, meta: &Metadata<'_>) -> bool {
        self.wanted.would_enable(meta.target(), meta.level())
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    // Asked each time, since it is not the place alone that decides.
    fn register_callsite(&self, meta: &'static Metadata<'static>) -> Interest {
        if *meta.level() <= Level::INFO || self.wants(meta) { Interest::sometimes() } else { Interest::never() }
    }

    // Spans, and events that go into them, are the tracer's to choose; but a call that is not recorded begins none.
    fn enabled(&self, meta: &Metadata<'_>, _: layer::Context<'_, S>) -> bool {
        (*meta.level() <= Level::INFO || self.wants(meta)) && !(meta.is_span() && unrecorded::is_current())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Layer::<S>::max_level_hint(&self.wanted).max(Some(LevelFilter::INFO))
    }

    fn on_event(&self, event: &Event<'_>, context: layer::Context<'_, S>) {
        if rows::is_statement(event.metadata()) {
            rows::read(event);
        } else if self.wants(event.metadata()) {
            self.json.on_event(event, context);
        }
    }
}

impl<S: Subscriber> Layer<S> for Json {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        let mut line = self.line(event).to_string();
        line.push('\n');
        // In one call, so that the lines of several threads do not mix. There is nobody to tell that it failed.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

impl Json {
    fn line(&self, event: &Event<'_>) -> Value {
        let mut time = String::with_capacity(32);
        // Writing into a string does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), time.into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.insert("service".to_owned(), self.service.into());
        line.insert("target".to_owned(), event.metadata().target().into());
        event.record(&mut Fields(&mut line));
        if let Some(ids) = current() {
            line.insert("trace_id".to_owned(), ids.trace_id().to_string().into());
            line.insert("span_id".to_owned(), ids.span_id().to_string().into());
        }
        Value::Object(line)
    }
}

/// Writes events as text, one a line, with the trace's id at its end.
pub(super) struct Text(Format<Compact>);

impl Text {
    pub(super) fn new(colours: bool) -> Self {
        Self(tracing_subscriber::fmt::format().compact().with_target(false).with_ansi(colours))
    }
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::with_capacity(256);
        self.0.format_event(context, Writer::new(&mut line), event)?;
        match current() {
            Some(ids) => writeln!(writer, "{} trace_id={}", line.trim_end(), ids.trace_id()),
            None => writer.write_str(&line),
        }
    }
}

/// The ids of the innermost entered span that is traced, or of the current call.
fn current() -> Option<SpanContext> {
    dispatcher::get_default(|dispatch| {
        let current = dispatch.current_span();
        // Asked of the registry and not of the line's context, which does not see spans that the log's own filter leaves out;
        // and outward from the current span, which may be one that is logged and not traced.
        let registry = dispatch.downcast_ref::<Registry>()?;
        registry.span(current.id()?)?.scope().find_map(|span| ids(&span.id(), dispatch))
    })
    .or_else(unrecorded::current)
}

fn ids(span: &tracing::span::Id, dispatch: &Dispatch) -> Option<SpanContext> {
    let context: Context = tracing_opentelemetry::get_otel_context(span, dispatch)?;
    let span = context.span();
    let ids = span.span_context();
    ids.is_valid().then(|| ids.clone())
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn set(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}").into());
    }
}
