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

use super::context::{Headers, TRACEPARENT};

/// The part of the traces begun here that this process records; `None` if it records none, wherever they began.
static SAMPLE: OnceLock<Option<f64>> = OnceLock::new();

thread_local! {
    /// Whether a root that is made now was chosen to be recorded.
    static CHOSEN: Cell<bool> = const { Cell::new(false) };
}

tokio::task_local! {
    /// The trace of the call that the task is about, if that is not recorded.
    static CURRENT: Option<Unrecorded>;
}

/// The ids of a trace that is not recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unrecorded {
    trace: TraceId,
    /// The caller's span where there is one, since none is recorded here.
    parent: SpanId,
    state: Option<HeaderValue>,
}

/// Whether the trace of a call is recorded.
pub(super) enum Decision {
    Recorded {
        /// The trace begins here, and was chosen.
        chosen: bool,
    },
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

/// Decides whether the trace of a call with these headers is recorded: as its sender says if that is `trusted` and says something.
pub(super) fn decide(headers: &HeaderMap, trusted: bool) -> Decision {
    // Without telemetry it is the subscriber of a test that decides, if there is one.
    let Some(sample) = SAMPLE.get() else { return Decision::Recorded { chosen: false } };
    match trusted.then(|| parent(headers)).flatten() {
        Some(parent) if sample.is_none() || !parent.is_sampled() => {
            Decision::Not(Unrecorded::child_of(&parent, headers))
        }
        Some(_) => Decision::Recorded { chosen: false },
        None if sample.is_none_or(|sample| fastrand::f64() >= sample) => Decision::Not(Unrecorded::root()),
        None => Decision::Recorded { chosen: true },
    }
}

/// Has the root that `make` begins recorded, if it was `chosen`.
pub(super) fn choosing(chosen: bool, make: impl FnOnce()) {
    CHOSEN.set(chosen);
    make();
    CHOSEN.set(false);
}

fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    headers.get(TRACEPARENT)?;
    let context = TraceContextPropagator::new().extract(&Headers(headers));
    let parent = context.span().span_context().clone();
    parent.is_valid().then_some(parent)
}

/// Runs `future` as a part of a call with this trace.
pub(crate) async fn within<F: Future>(unrecorded: Option<Unrecorded>, future: F) -> F::Output {
    CURRENT.scope(unrecorded, future).await
}

/// The same for a function.
pub(crate) fn within_sync<R>(unrecorded: Option<Unrecorded>, f: impl FnOnce() -> R) -> R {
    CURRENT.sync_scope(unrecorded, f)
}

/// Whether what is done now is for a call whose trace is not recorded.
pub(super) fn is_current() -> bool {
    CURRENT.try_with(Option::is_some).unwrap_or(false)
}

/// The ids of the current call, if its trace is not recorded.
pub(super) fn current() -> Option<SpanContext> {
    CURRENT.try_with(|unrecorded| unrecorded.as_ref().map(Unrecorded::context)).ok().flatten()
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
