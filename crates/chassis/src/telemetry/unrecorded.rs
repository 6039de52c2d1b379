//! The trace of a call that is not recorded: ids for logs, answers and the calls that it makes, and no spans, which cost a call more than
//! anything else that is done for it.
//!
//! Invariant: whether a trace is recorded is decided once, where it begins, and travels with it; a call whose trace is not recorded
//! begins no span, in whatever task of it, which would be the root of another trace.

use std::{cell::Cell, sync::OnceLock};

use http::{HeaderMap, HeaderValue};
use opentelemetry::{
    KeyValue,
    propagation::TextMapPropagator as _,
    trace::{Link, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{Headers, TRACEPARENT};
use crate::request::Scope;

/// The part of the traces begun here that this process records; `None` if it records none, wherever they began.
static SAMPLE: OnceLock<Option<f64>> = OnceLock::new();

thread_local! {
    /// Whether a root that is made now was chosen to be recorded.
    static CHOSEN: Cell<bool> = const { Cell::new(false) };
}

/// The ids of a trace that is not recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unrecorded {
    trace: TraceId,
    /// The caller's span where there is one, since none is recorded here.
    parent: SpanId,
    state: Option<HeaderValue>,
}

/// How a call is traced.
pub(crate) enum Traced {
    /// In this span; in none if this process has no telemetry.
    In(Span),
    Not(Unrecorded),
}

impl Unrecorded {
    /// The context that its calls and messages name as their parent.
    pub(super) fn context(&self) -> SpanContext {
        let state = self.state.as_ref().and_then(|state| state.to_str().ok()?.parse().ok());
        SpanContext::new(self.trace, self.parent, TraceFlags::default(), true, state.unwrap_or_default())
    }

    fn root() -> Self {
        // Zero is no id.
        let (trace, parent) = (fastrand::u128(1..), fastrand::u64(1..));
        Self { trace: TraceId::from(trace), parent: SpanId::from(parent), state: None }
    }

    fn child_of(parent: &SpanContext, headers: &HeaderMap) -> Self {
        Self { trace: parent.trace_id(), parent: parent.span_id(), state: headers.get("tracestate").cloned() }
    }
}

/// Takes note of the part of traces that this process records, the first time.
pub(super) fn start(sample: Option<f64>) {
    let _ = SAMPLE.set(sample);
}

/// Begins to trace a call with these headers: in what `span` makes, if its trace is recorded. Who sent it decides that if it is
/// `trusted` and says so.
pub(crate) fn begin(headers: &HeaderMap, trusted: bool, span: impl FnOnce() -> Span) -> Traced {
    let parent = trusted.then(|| parent(headers)).flatten();
    let mut chosen = false;
    // Without telemetry it is the subscriber of a test that decides, if there is one.
    if let Some(sample) = SAMPLE.get() {
        match &parent {
            Some(parent) if sample.is_none() || !parent.is_sampled() => {
                return Traced::Not(Unrecorded::child_of(parent, headers));
            }
            Some(_) => {}
            None if sample.is_none_or(|sample| fastrand::f64() >= sample) => return Traced::Not(Unrecorded::root()),
            None => chosen = true,
        }
    }
    let span = span();
    super::follow(&span, headers, trusted);
    CHOSEN.set(chosen);
    // Which is what decides it, and once.
    let _ = span.context();
    CHOSEN.set(false);
    Traced::In(span)
}

fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    headers.get(TRACEPARENT)?;
    let context = TraceContextPropagator::new().extract(&Headers(headers));
    let parent = context.span().span_context().clone();
    parent.is_valid().then_some(parent)
}

/// Whether what is done now is for a call whose trace is not recorded.
pub(super) fn is_current() -> bool {
    Scope::with(|scope| scope.unrecorded.is_some()).unwrap_or(false)
}

/// The ids of the current call, if its trace is not recorded.
pub(super) fn current() -> Option<SpanContext> {
    Scope::with(|scope| scope.unrecorded.as_ref().map(Unrecorded::context)).flatten()
}

/// Records what its parent says, else what was chosen, else its part of all.
#[derive(Clone, Debug)]
pub(super) struct Sampling(Sampler);

impl Sampling {
    pub(super) fn part(sample: f64) -> Self {
        Self(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample))))
    }
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&opentelemetry::Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let has_parent = parent.is_some_and(|parent| parent.span().span_context().is_valid());
        if CHOSEN.get() && !has_parent {
            let trace_state = TraceState::default();
            return SamplingResult { decision: SamplingDecision::RecordAndSample, attributes: Vec::new(), trace_state };
        }
        self.0.should_sample(parent, trace, name, kind, attributes, links)
    }
}
