//! The closed set of ways in which a request fails, and its one translation to gRPC: a code, an `ErrorInfo` with a
//! reason in upper snake case, the domain `rushes.dev` and the trace's id, and where they help `BadRequest` and `RetryInfo`.
//!
//! Invariant: what the user reads and what the operator reads are two fields. The source of an internal failure is
//! logged once, with its trace, and never leaves the process.

mod size;

use std::{
    collections::HashMap,
    error::Error as StdError,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::telemetry;

pub(crate) use size::oversized;
pub use size::{MAX_DETAILS, MAX_MESSAGE, MAX_VIOLATIONS};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "rushes.dev";

/// The key in an `ErrorInfo`'s metadata under which the id of the request's trace is.
const TRACE_ID: &str = "trace_id";

/// What every `ErrorInfo` says besides: the current trace's id, where there is one.
pub(crate) fn trace_metadata() -> HashMap<String, String> {
    telemetry::trace_id().map(|id| (TRACE_ID.to_owned(), id)).into_iter().collect()
}

/// Why a request fails; cheap to clone, and a clone logs no second time.
#[derive(Clone)]
pub struct Failure(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    reason: String,
    message: String,
    metadata: HashMap<String, String>,
    fields: Vec<FieldViolation>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    logged: Arc<AtomicBool>,
}

impl Failure {
    fn new(code: Code, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            code,
            reason: reason.into(),
            message: message.into(),
            metadata: HashMap::new(),
            fields: Vec::new(),
            retry_after: None,
            source: None,
            logged: Arc::default(),
        }))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// `INVALID_ARGUMENT` about the request's `field` (a path such as `scene.title`), with what to do about it.
    #[must_use]
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>, message: impl Into<String>) -> Self {
        let message = message.into();
        let field = field.into();
        let text = format!("{field}: {message}");
        Self::new(Code::InvalidArgument, reason, text).and_field(field, message)
    }

    /// Names one more wrong field of the request.
    #[must_use]
    pub fn and_field(self, field: impl Into<String>, description: impl Into<String>) -> Self {
        let violation = FieldViolation::new(field, description);
        self.with(|inner| inner.fields.push(violation))
    }

    /// Adds a key and value to the `ErrorInfo`, for machines to read.
    #[must_use]
    pub fn and_metadata(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let (key, value) = (key.into(), value.into());
        self.with(|inner| {
            inner.metadata.insert(key, value);
        })
    }

    /// `NOT_FOUND`: no such thing, or not the caller's.
    #[must_use]
    pub fn not_found(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, reason, message)
    }

    /// `ALREADY_EXISTS`: the same id was used for something else.
    #[must_use]
    pub fn already_exists(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::AlreadyExists, reason, message)
    }

    /// `FAILED_PRECONDITION`: something must change before this can succeed.
    #[must_use]
    pub fn precondition(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, reason, message)
    }

    /// `ABORTED`: the caller's view is out of date; read again.
    #[must_use]
    pub fn aborted(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::Aborted, reason, message)
    }

    /// `RESOURCE_EXHAUSTED`, with the time after which a retry may succeed.
    #[must_use]
    pub fn exhausted(reason: impl Into<String>, message: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(Code::ResourceExhausted, reason, message).with(|inner| inner.retry_after = Some(retry_after))
    }

    /// `RESOURCE_EXHAUSTED` of what no time gives back: a retry fails until the caller has freed some of it.
    #[must_use]
    pub fn quota(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, reason, message)
    }

    /// `UNAVAILABLE`: a retry of the same request is safe and may succeed.
    #[must_use]
    pub fn unavailable(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, reason, message)
    }

    /// `OUT_OF_RANGE`: past the end of what can be read.
    #[must_use]
    pub fn out_of_range(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::OutOfRange, reason, message)
    }

    /// `UNAUTHENTICATED`: the credential is missing, unknown or expired.
    #[must_use]
    pub fn unauthenticated(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, reason, message)
    }

    /// `PERMISSION_DENIED`: the credential is good but may not do this.
    #[must_use]
    pub fn denied(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, reason, message)
    }

    /// `UNIMPLEMENTED`: there is no such method here.
    #[must_use]
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(Code::Unimplemented, "METHOD_UNKNOWN", message)
    }

    /// `DEADLINE_EXCEEDED`: the time given to the request has passed; the work may or may not have been done.
    #[must_use]
    pub fn deadline() -> Self {
        Self::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline passed before the work was done")
    }

    /// `INTERNAL`: our fault. The user sees only that and the trace's id; `source` goes to the log.
    #[must_use]
    pub fn internal(source: impl StdError + Send + Sync + 'static) -> Self {
        Self::new(Code::Internal, "INTERNAL", "internal error").with(|inner| inner.source = Some(Arc::new(source)))
    }

    /// Adds, for the log only, what caused this.
    #[must_use]
    pub fn because(self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.with(|inner| inner.source = Some(Arc::new(source)))
    }

    /// What a service that we asked has answered: its refusals pass on as they are, its faults become ours.
    #[must_use]
    pub fn upstream(status: Status) -> Self {
        match status.code() {
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss | Code::Unimplemented => Self::internal(status),
            Code::Cancelled | Code::DeadlineExceeded => Self::deadline().because(status),
            code => {
                let details = status.get_error_details();
                let reason =
                    details.error_info().map_or_else(|| "DEPENDENCY_DOWN".to_owned(), |info| info.reason.clone());
                Self::new(code, reason, status.message()).with(|inner| {
                    if let Some(info) = details.error_info() {
                        inner.metadata.clone_from(&info.metadata);
                    }
                    if let Some(bad) = details.bad_request() {
                        inner.fields.clone_from(&bad.field_violations);
                    }
                    inner.retry_after = details.retry_info().and_then(|info| info.retry_delay);
                    // Whose fault it is has logged it: the service that refused, or our own channel to it.
                    inner.logged = Arc::new(AtomicBool::new(true));
                    inner.source = Some(Arc::new(status));
                })
            }
        }
    }

    /// The gRPC code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The reason, in upper snake case.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What the user reads.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Logs a fault of ours, once however often the failure is cloned and converted.
    fn log(&self) {
        let fault = matches!(self.0.code, Code::Internal | Code::Unavailable);
        if !fault || self.0.logged.swap(true, Ordering::Relaxed) {
            return;
        }
        let cause = self.0.source.as_deref().map(chain).unwrap_or_default();
        if self.0.code == Code::Internal {
            tracing::error!(reason = %self.0.reason, cause, "request failed");
        } else {
            tracing::warn!(reason = %self.0.reason, cause, message = %self.0.message);
        }
    }
}

/// An error and all that it was caused by, in one line.
fn chain(error: &(dyn StdError + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        failure.log();
        let mut inner = Arc::unwrap_or_clone(failure.0);
        let mut message = inner.message;
        let trace = trace_metadata();
        if let Some(id) = trace.get(TRACE_ID).filter(|_| inner.code == Code::Internal) {
            message = format!("{message} (trace {id})");
        }
        size::cut_in_place(&mut message, MAX_MESSAGE);
        size::cut_reason(&mut inner.reason);
        let mut info = size::cut_metadata(inner.metadata);
        let fields = size::cut_violations(inner.fields, &message, &info);
        info.extend(trace);
        let mut details = ErrorDetails::with_error_info(inner.reason, DOMAIN, info);
        if !fields.is_empty() {
            details.set_bad_request(fields);
        }
        let mut metadata = MetadataMap::new();
        if let Some(delay) = inner.retry_after {
            details.set_retry_info(Some(delay));
            let milliseconds = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            metadata.insert("grpc-retry-pushback-ms", MetadataValue::from(milliseconds));
        }
        Status::with_error_details_and_metadata(inner.code, message, details, metadata)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("code", &self.0.code)
            .field("reason", &self.0.reason)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason, self.0.message)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_reason_reach_the_wire() {
        let failure = Failure::invalid("scene.title", "INPUT_SCHEMA_VIOLATION", "write a title")
            .and_field("scene.prompt", "at most 4,000 characters");
        let status = Status::from(failure);
        let details = status.get_error_details();
        assert_eq!(status.code(), Code::InvalidArgument);
        let info = details.error_info().unwrap();
        assert_eq!((&*info.reason, &*info.domain), ("INPUT_SCHEMA_VIOLATION", DOMAIN));
        let fields = &details.bad_request().unwrap().field_violations;
        assert_eq!(fields[0].field, "scene.title");
        assert_eq!(fields[1].description, "at most 4,000 characters");
    }

    #[test]
    fn the_source_of_an_internal_failure_does_not_leave() {
        let source = std::io::Error::other("password=hunter2");
        let status = Status::from(Failure::internal(source));
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("hunter2"));
        assert!(!String::from_utf8_lossy(status.details()).contains("hunter2"));
    }

    #[test]
    fn a_delay_is_in_the_details_and_in_the_metadata() {
        let status = Status::from(Failure::exhausted("OVERLOADED", "busy", Duration::from_millis(250)));
        let delay = status.get_error_details().retry_info().unwrap().retry_delay;
        assert_eq!(delay, Some(Duration::from_millis(250)));
        let pushback = status.metadata().get("grpc-retry-pushback-ms").unwrap();
        assert_eq!(pushback.to_str().unwrap(), "250");
    }

    #[test]
    fn an_upstream_refusal_passes_on_and_its_fault_does_not() {
        let refusal = Failure::unauthenticated("KEY_EXPIRED", "the key has expired");
        let passed = Failure::upstream(refusal.into());
        assert_eq!((passed.code(), passed.reason()), (Code::Unauthenticated, "KEY_EXPIRED"));
        let fault = Failure::upstream(Status::unknown("stack trace"));
        assert_eq!((fault.code(), fault.message()), (Code::Internal, "internal error"));
    }
}
