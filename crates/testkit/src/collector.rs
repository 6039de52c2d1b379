//! A collector of spans: an OTLP/gRPC server that keeps the most recent ones in memory.
//!
//! Invariant: the buffer is bounded; the oldest spans make room for new ones, and of each of the traces that lost spans lately
//! it is known how many.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use spans::{Kind, Recorded, Span};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::TcpListenerStream;

/// How many spans are kept.
const CAPACITY: usize = 50_000;
/// Of how many traces it is known that they lost spans; the earliest is forgotten first.
const LOSSES: usize = 50_000;

/// The collector; it stops listening when it is dropped.
pub struct Spans {
    address: SocketAddr,
    buffer: Arc<Buffer>,
    serving: AbortHandle,
}

struct Buffer {
    kept: Mutex<Kept>,
    /// How many spans have come in all.
    seen: watch::Sender<u64>,
}

impl Spans {
    /// Listens on a free loopback port.
    #[expect(clippy::disallowed_methods, reason = "what collects spans must not make any of its own")]
    pub async fn collect() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding the span collector")?;
        let address = listener.local_addr()?;
        let buffer = Arc::new(Buffer { kept: Mutex::new(Kept::new(CAPACITY, LOSSES)), seen: watch::Sender::new(0) });
        let service = TraceServiceServer::from_arc(Arc::new(Collector(buffer.clone())));
        let server = tonic::transport::Server::builder().add_service(service);
        let serving = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener))).abort_handle();
        Ok(Self { address, buffer, serving })
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` should be.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans that are kept, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Span> {
        self.buffer.lock().spans.iter().cloned().collect()
    }

    /// The spans of one trace (32 hexadecimal digits), oldest first.
    #[must_use]
    pub fn trace(&self, trace: &str) -> Vec<Span> {
        self.recorded(trace).spans
    }

    /// What is kept of one trace (32 hexadecimal digits), and how much of it was dropped.
    #[must_use]
    pub fn recorded(&self, trace: &str) -> Recorded {
        self.buffer.lock().recorded(trace)
    }

    /// Waits until `question`, asked again with all spans whenever some come in, gives `Some`; at most for `limit`.
    ///
    /// `what` says in the error what was not seen.
    pub async fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut question: impl FnMut(&[Span]) -> Option<T>,
    ) -> Result<T> {
        let mut seen = self.buffer.seen.subscribe();
        let answer = async {
            loop {
                seen.borrow_and_update();
                if let Some(answer) = question(&self.all()) {
                    return answer;
                }
                // The sender lives as long as this collector, so this ends only with news.
                let _ = seen.changed().await;
            }
        };
        let Ok(answer) = tokio::time::timeout(limit, answer).await else {
            bail!("not among the spans of {limit:?}: {what}; there were {}", self.buffer.lock().spans.len());
        };
        Ok(answer)
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Buffer {
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The spans that there is room for, and of which traces there was none for how many.
struct Kept {
    spans: VecDeque<Span>,
    capacity: usize,
    dropped: HashMap<String, u64>,
    /// The traces in `dropped`, in the order of their first loss.
    losers: VecDeque<String>,
    losses: usize,
}

impl Kept {
    fn new(capacity: usize, losses: usize) -> Self {
        Self { spans: VecDeque::new(), capacity, dropped: HashMap::new(), losers: VecDeque::new(), losses }
    }

    fn add(&mut self, span: Span) {
        if self.spans.len() >= self.capacity
            && let Some(oldest) = self.spans.pop_front()
        {
            self.lose(oldest.trace);
        }
        self.spans.push_back(span);
    }

    fn lose(&mut self, trace: String) {
        if let Some(count) = self.dropped.get_mut(&trace) {
            *count += 1;
            return;
        }
        if self.losers.len() >= self.losses
            && let Some(earliest) = self.losers.pop_front()
        {
            self.dropped.remove(&earliest);
        }
        self.losers.push_back(trace.clone());
        self.dropped.insert(trace, 1);
    }

    fn recorded(&self, trace: &str) -> Recorded {
        let spans = self.spans.iter().filter(|span| span.trace == trace).cloned().collect();
        Recorded { spans, dropped: self.dropped.get(trace).copied().unwrap_or_default() }
    }
}

struct Collector(Arc<Buffer>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let mut count = 0;
        {
            let mut kept = self.0.lock();
            for span in request.into_inner().resource_spans.into_iter().flat_map(read) {
                count += 1;
                kept.add(span);
            }
        }
        self.0.seen.send_modify(|seen| *seen += count);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(resource: otlp::ResourceSpans) -> impl Iterator<Item = Span> {
    let service = resource
        .resource
        .and_then(|resource| attributes(resource.attributes).remove("service.name"))
        .unwrap_or_else(|| "unknown".to_owned());
    resource.scope_spans.into_iter().flat_map(|scope| scope.spans).map(move |span| {
        let failed = span.status.filter(|status| status.code == otlp::status::StatusCode::Error as i32);
        Span {
            trace: hex::encode(span.trace_id),
            id: hex::encode(span.span_id),
            parent: (!span.parent_span_id.is_empty()).then(|| hex::encode(span.parent_span_id)),
            links: span.links.into_iter().map(|link| (hex::encode(link.trace_id), hex::encode(link.span_id))).collect(),
            service: service.clone(),
            name: span.name,
            kind: kind(span.kind),
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano,
            attributes: attributes(span.attributes),
            error: failed.map(|status| status.message),
            events: span.events.into_iter().map(|event| event.name).collect(),
        }
    })
}

fn kind(number: i32) -> Kind {
    match otlp::span::SpanKind::try_from(number) {
        Ok(otlp::span::SpanKind::Server) => Kind::Server,
        Ok(otlp::span::SpanKind::Client) => Kind::Client,
        Ok(otlp::span::SpanKind::Producer) => Kind::Producer,
        Ok(otlp::span::SpanKind::Consumer) => Kind::Consumer,
        Ok(otlp::span::SpanKind::Internal | otlp::span::SpanKind::Unspecified) | Err(_) => Kind::Internal,
    }
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(value)) => value,
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(Value::BytesValue(value)) => hex::encode(value),
        Some(Value::ArrayValue(array)) => {
            let values: Vec<String> = array.values.into_iter().map(|value| text(Some(value))).collect();
            format!("[{}]", values.join(", "))
        }
        Some(Value::KvlistValue(list)) => {
            let pairs: Vec<String> =
                list.values.into_iter().map(|pair| format!("{}={}", pair.key, text(pair.value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        // A form that only profiles use.
        Some(_) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(trace: &str) -> Span {
        Span { trace: trace.to_owned(), ..Span::default() }
    }

    #[test]
    fn of_a_trace_that_lost_spans_it_is_known_how_many() {
        let mut kept = Kept::new(2, 2);
        for trace in ["a", "a", "b", "c"] {
            kept.add(span(trace));
        }
        let of = |kept: &Kept, trace: &str| (kept.recorded(trace).spans.len(), kept.recorded(trace).dropped);
        assert_eq!([of(&kept, "a"), of(&kept, "b"), of(&kept, "c")], [(0, 2), (1, 0), (1, 0)]);
        // Memory is bounded: a third loser takes the place of the first.
        for _ in 0..2 {
            kept.add(span("d"));
        }
        assert_eq!([of(&kept, "a"), of(&kept, "b"), of(&kept, "c")], [(0, 0), (0, 1), (0, 1)]);
    }
}
