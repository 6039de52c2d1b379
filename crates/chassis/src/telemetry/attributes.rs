//! The names of all attributes of spans: OpenTelemetry's from its own crate, and Rushes' own, which begin with `rushes.`.
//!
//! In a span's macro a name stands in braces: `info_span!("work", { attributes::JOB } = id)`. Only `otel.name`, `otel.kind` and
//! `otel.status_code` are written out: they are no attributes but say what the span itself is.

pub use opentelemetry_semantic_conventions::attribute::{
    DB_OPERATION_NAME, DB_QUERY_SUMMARY, DB_RESPONSE_RETURNED_ROWS, DB_SYSTEM_NAME, ERROR_TYPE, HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, MESSAGING_DESTINATION_NAME, MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM, PROCESS_PID, RPC_METHOD, RPC_METHOD_ORIGINAL, RPC_RESPONSE_STATUS_CODE,
    RPC_SYSTEM_NAME, SERVER_ADDRESS, SERVER_PORT, SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_PEER_NAME, SERVICE_VERSION,
    URL_PATH,
};

/// The account on whose behalf a call is, as its UUID.
pub const ACCOUNT: &str = "rushes.account";
/// Which try of a job it is, from 1.
pub const ATTEMPT: &str = "rushes.attempt";
/// Why a slower way was taken.
pub const BECAUSE: &str = "rushes.because";
/// How many bytes were read or written.
pub const BYTES: &str = "rushes.bytes";
/// How many rows of the outbox a pass of the relay took.
pub const CHANGES: &str = "rushes.changes";
/// The file format of a picture or a video.
pub const FORMAT: &str = "rushes.format";
/// A generation, as its UUID.
pub const GENERATION: &str = "rushes.generation";
/// A job of a queue, as its UUID.
pub const JOB: &str = "rushes.job";
/// The MIME type of an asset.
pub const MIME_TYPE: &str = "rushes.mime_type";
/// What became of a piece of work.
pub const OUTCOME: &str = "rushes.outcome";
/// The pool of connections that a statement ran on.
pub const POOL: &str = "rushes.pool";
/// Who makes a video.
pub const PROVIDER: &str = "rushes.provider";
/// How many database round trips a call made.
pub const QUERIES: &str = "rushes.queries";
/// Why something was refused or done, in upper snake case.
pub const REASON: &str = "rushes.reason";
/// How many reports of progress one statement wrote.
pub const REPORTS: &str = "rushes.reports";
