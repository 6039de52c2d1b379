//! Traces, logs and metrics of a process, and the W3C context that ties one request's spans together across processes.
//!
//! Invariant: trace ids exist and travel whether or not anything is exported, so a log line can always be joined to the
//! request that caused it; spans are recorded and sent only when an OTLP endpoint is set.

pub mod attributes;
mod context;
mod logs;
pub mod metric;
pub(crate) mod rows;
mod scrape;
pub(crate) mod unrecorded;

use std::{
    collections::HashMap,
    io::{IsTerminal as _, Write as _},
    str::FromStr,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator as _,
    trace::{SpanContext, TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, Targets, filter_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::settings::{self, Source};
use context::Headers;
use unrecorded::{Decision, Sampling, Unrecorded};

pub(crate) use context::TRACEPARENT;
pub use scrape::{on_scrape, page};

/// How long its value is: version, trace, span and flags, with hyphens between them.
const TRACEPARENT_BYTES: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Metadata of every reply and every error with the id of its trace, 32 hex digits, for a caller to quote.
pub const TRACE_ID_HEADER: &str = "x-trace-id";

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, with trace and span ids.
    Json,
    /// For people at a terminal.
    Pretty,
}

impl FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            _ => Err(()),
        }
    }
}

/// What is logged, how, and where spans go.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A filter as `tracing_subscriber::EnvFilter` reads it, such as `info,rushes_cache=debug`.
    pub filter: String,
    /// The form of log lines.
    pub format: Format,
    /// OTLP over gRPC, such as `http://127.0.0.1:4317`; nothing is exported when `None`.
    pub endpoint: Option<String>,
    /// The part of traces begun here that is recorded, 0 to 1; a trace begun elsewhere keeps its own decision.
    pub sample: f64,
}

impl Default for Settings {
    fn default() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            // async-nats repeats each event of the connection that `nats` tells already.
            filter: "info,async_nats=warn".to_owned(),
            format: if terminal { Format::Pretty } else { Format::Json },
            endpoint: None,
            sample: 1.0,
        }
    }
}

impl Settings {
    /// Reads `RUSHES_LOG`, `RUSHES_LOG_FORMAT`, `OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_TRACES_SAMPLER_ARG`.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn read(source: &Source) -> Result<Self, settings::Error> {
        let default = Self::default();
        let filter = "a log filter such as info,sqlx=warn";
        let settings = Self {
            filter: source.or("RUSHES_LOG", default.filter, filter)?,
            format: source.or("RUSHES_LOG_FORMAT", default.format, "json or pretty")?,
            endpoint: read_endpoint(source)?,
            sample: source.or("OTEL_TRACES_SAMPLER_ARG", default.sample, "a number from 0 to 1")?,
        };
        if EnvFilter::try_new(&settings.filter).is_err() {
            return Err(settings::Error::wrong("RUSHES_LOG", filter));
        }
        Ok(settings)
    }
}

/// Where spans go. An address that no span would reach is refused here: the exporter says nothing.
fn read_endpoint(source: &Source) -> Result<Option<String>, settings::Error> {
    let (name, example) = (ENDPOINT, "a URL such as http://127.0.0.1:4317");
    let Some(uri) = source.optional::<http::Uri>(name, example)? else { return Ok(None) };
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(_)) => Ok(Some(uri.to_string())),
        (Some("https"), _) => Err(settings::Error::wrong(
            name,
            "an http:// URL: spans are sent without TLS, to a collector on this machine or network, which can send them on",
        )),
        _ => Err(settings::Error::wrong(name, example)),
    }
}

/// The process's telemetry; spans still in memory are sent when it is shut down or dropped.
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

impl Telemetry {
    /// Installs logging, tracing and metrics for the process. Where they are installed already (several services in one
    /// test process) the first stays. Needs a tokio runtime when an endpoint is set.
    #[must_use]
    pub fn start(service: &'static str, settings: &Settings) -> Self {
        scrape::install();
        unrecorded::start(settings.endpoint.as_ref().map(|_| settings.sample));
        let provider = provider(service, settings);
        // What is logged and what is traced are two things: a quiet log must not cut traces to pieces. The crates that
        // carry spans out must not make spans of it. Dynamic, so that it is asked each time: a library that only asks whether
        // something would be logged leaves its answer behind, and a span that asks nothing would be taken for refused too.
        let traced = tracing_subscriber::filter::dynamic_filter_fn(|meta, _| {
            let root = meta.target().split("::").next().unwrap_or_default();
            *meta.level() <= tracing::Level::INFO
                && !(meta.is_span() && unrecorded::is_current())
                && !["h2", "hyper", "tonic", "tower", "opentelemetry", "sqlx"].contains(&root)
        })
        // Or else every detail that the libraries could log would be asked about as well.
        .with_max_level_hint(tracing::level_filters::LevelFilter::INFO);
        let spans = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("rushes"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            // How long a span was polled, and OpenTelemetry's own idea of the current span, are asked for by nothing here: contexts are
            // taken from tracing's spans. Either costs each call something at each of its polls.
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(traced);
        let registry = tracing_subscriber::registry().with(spans);
        let _already_installed = match (settings.format, settings.filter.parse::<Targets>()) {
            // A filter by spans, or lines that say in which ones they were written, see each span when it is entered; this does not.
            (Format::Json, Ok(wanted)) => registry.with(logs::Lines::new(service, wanted)).try_init(),
            (format, _) => {
                let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
                let filter = filter.and(filter_fn(|meta| !rows::is_statement(meta)));
                let lines = match format {
                    Format::Json => logs::Json { service }.with_filter(filter).boxed(),
                    Format::Pretty => {
                        let colours = std::io::stderr().is_terminal();
                        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
                        layer.with_ansi(colours).event_format(logs::Text::new(colours)).with_filter(filter).boxed()
                    }
                };
                registry.with(lines).with(rows::layer()).try_init()
            }
        };
        Self { provider }
    }

    /// Sends what is still in memory, waiting at most 5 s. Call it after the last work, on every way out.
    pub fn shutdown(self) {
        drop(self);
    }

    /// Like [`Telemetry::shutdown`], waiting no longer than `timeout`.
    pub fn shutdown_within(self, timeout: Duration) {
        // An error here means that the collector is gone, which is not worth failing for.
        let _ = self.provider.shutdown_with_timeout(timeout);
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // An error here means that it was shut down before or that the collector is gone; neither is worth failing for.
        let _ = self.provider.shutdown_with_timeout(Duration::from_secs(5));
    }
}

fn provider(service: &'static str, settings: &Settings) -> SdkTracerProvider {
    let resource = Resource::builder_empty()
        .with_service_name(service)
        .with_attribute(KeyValue::new(attributes::SERVICE_NAMESPACE, "rushes"))
        .with_attribute(KeyValue::new(attributes::SERVICE_VERSION, env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new(attributes::PROCESS_PID, i64::from(std::process::id())))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let exporter = settings.endpoint.as_ref().and_then(|endpoint| {
        opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(Duration::from_secs(3))
            .build()
            .inspect_err(|error| eprintln!("spans are not exported: {error}"))
            .ok()
    });
    match exporter {
        Some(exporter) => {
            builder.with_sampler(Sampling::part(settings.sample)).with_span_processor(batches(exporter)).build()
        }
        // Ids without recording: spans cost next to nothing and logs still have their trace.
        None => builder.with_sampler(Sampler::AlwaysOff).build(),
    }
}

/// Spans leave once a second, so that whoever follows a request sees it while it runs.
fn batches(exporter: opentelemetry_otlp::SpanExporter) -> BatchSpanProcessor {
    let config =
        BatchConfigBuilder::default().with_scheduled_delay(Duration::from_secs(1)).with_max_queue_size(16_384).build();
    BatchSpanProcessor::builder(exporter).with_batch_config(config).build()
}

/// The current span's W3C `traceparent`; `None` when there is no span or no telemetry.
#[must_use]
pub fn traceparent() -> Option<String> {
    traceparent_of(&Span::current())
}

/// The W3C `traceparent` of `span`, or of the current call if that has none.
pub(crate) fn traceparent_of(span: &Span) -> Option<String> {
    String::from_utf8(write_traceparent(&ids_of(span)?)?.to_vec()).ok()
}

/// By hand, since this is part of every call, and the propagator makes four strings of it.
fn write_traceparent(ids: &SpanContext) -> Option<[u8; TRACEPARENT_BYTES]> {
    let mut text = [0; TRACEPARENT_BYTES];
    let flags = u8::from(ids.is_sampled());
    write!(&mut text[..], "00-{}-{}-{flags:02x}", ids.trace_id(), ids.span_id()).ok()?;
    Some(text)
}

/// The ids of `span`, or of the current call if that has none.
fn ids_of(span: &Span) -> Option<SpanContext> {
    let ids = (!span.is_none()).then(|| span.context().span().span_context().clone());
    ids.filter(SpanContext::is_valid).or_else(unrecorded::current)
}

/// The current trace's id, 32 hex digits; `None` when there is no span or no telemetry.
#[must_use]
pub fn trace_id() -> Option<String> {
    trace_id_of(&Span::current())
}

/// The id of the trace that `span`, or the current call, belongs to.
pub(crate) fn trace_id_of(span: &Span) -> Option<String> {
    ids_of(span).map(|ids| ids.trace_id().to_string())
}

/// How a call is traced.
pub(crate) enum Traced {
    /// In this span; in none if this process has no telemetry.
    In(Span),
    /// By its ids alone.
    Not(Unrecorded),
}

/// Begins to trace a call with these headers: in what `span` makes, if its trace is recorded. Who sent it decides that if it is
/// `trusted` and says so.
pub(crate) fn begin(headers: &HeaderMap, trusted: bool, span: impl FnOnce() -> Span) -> Traced {
    let chosen = match unrecorded::decide(headers, trusted) {
        Decision::Not(unrecorded) => return Traced::Not(unrecorded),
        Decision::Recorded { chosen } => chosen,
    };
    let span = span();
    follow(&span, headers, trusted);
    // Which is what decides it, and once.
    unrecorded::choosing(chosen, || drop(span.context()));
    Traced::In(span)
}

/// Makes `span` a child of `traceparent`. Call it before the span is entered, instrumented or cloned into a child: a
/// span that has begun keeps its parent. A malformed value changes nothing.
pub fn set_parent(span: &Span, traceparent: &str) {
    adopt(span, remote(traceparent));
}

/// Links `span` to the span that `traceparent` names: related work that is not its child.
pub fn link(span: &Span, traceparent: &str) {
    let context = remote(traceparent);
    span.add_link(context.span().span_context().clone());
}

/// Makes `span` a child of what the headers of a request say.
fn extract(span: &Span, headers: &HeaderMap) {
    if headers.contains_key(TRACEPARENT) {
        adopt(span, TraceContextPropagator::new().extract(&Headers(headers)));
    }
}

/// Has `span` follow what the headers of a request name: as its child if the sender is `trusted`, else only by a link, as the first
/// span of a trace of its own. Neither a trace's id nor whether it is recorded is for a stranger to say.
pub fn follow(span: &Span, headers: &HeaderMap, trusted: bool) {
    if trusted {
        extract(span, headers);
    } else if let Some(parent) = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()) {
        link(span, parent);
    }
}

/// Writes the context of `span`, or of the current call, into the headers of an outgoing request, in place of whatever they said.
pub(crate) fn inject(span: &Span, headers: &mut HeaderMap) {
    let Some(ids) = ids_of(span) else { return };
    if let Some(Ok(mut value)) = write_traceparent(&ids).map(|text| HeaderValue::from_bytes(&text)) {
        // No other call has it, and HTTP/2 is not to keep it in its tables.
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(TRACEPARENT), value);
    }
    let state = ids.trace_state().header();
    if !state.is_empty()
        && let Ok(value) = HeaderValue::try_from(state)
    {
        headers.insert(HeaderName::from_static("tracestate"), value);
    }
}

fn adopt(span: &Span, context: Context) {
    if context.span().span_context().is_valid() {
        // It fails without an OpenTelemetry layer (tests) and on a disabled span; both are fine.
        let _ = span.set_parent(context);
    }
}

fn remote(traceparent: &str) -> Context {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    TraceContextPropagator::new().extract(&carrier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_headers_is_what_the_propagator_writes() {
        use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
        use tracing_subscriber::layer::SubscriberExt as _;

        let provider = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOn).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let _default = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        for (state, flags) in [("", TraceFlags::SAMPLED), ("a=1,b=2", TraceFlags::SAMPLED), ("", TraceFlags::default())]
        {
            let state: TraceState = state.parse().unwrap_or_default();
            let parent = SpanContext::new(TraceId::from(7), SpanId::from(9), flags, true, state);
            let span = tracing::info_span!("a call");
            span.set_parent(Context::new().with_remote_span_context(parent)).unwrap();
            let mut headers = HeaderMap::new();
            inject(&span, &mut headers);
            let mut wanted = HashMap::new();
            TraceContextPropagator::new().inject_context(&span.context(), &mut wanted);
            wanted.retain(|_, value| !value.is_empty());
            let written = headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
            assert_eq!(written.collect::<HashMap<_, _>>(), wanted);
        }
    }

    #[test]
    fn an_endpoint_that_no_span_would_reach_is_refused() {
        let read = |url: &str| Settings::read(&Source::of(&[(ENDPOINT, url)])).map(|settings| settings.endpoint);
        assert_eq!(read("http://127.0.0.1:4317").unwrap().as_deref(), Some("http://127.0.0.1:4317/"));
        assert_eq!(read("").unwrap(), None);
        for (url, part) in [
            ("https://collector:4317", "without TLS"),
            ("collector:4317", "a URL such as"),
            ("/v1/traces", "a URL such as"),
            ("grpc://collector:4317", "a URL such as"),
        ] {
            let error = read(url).unwrap_err().to_string();
            assert!(error.starts_with(ENDPOINT) && error.contains(part), "{url}: {error}");
        }
    }
}
