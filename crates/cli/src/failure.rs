//! What went wrong, why, and what to do about it; and what the exit code says.

use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::out;

/// How a command ended. The numbers are a promise to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything that was asked for was done.
    Done = 0,
    /// Something failed that no other number stands for.
    Failed = 1,
    /// Wrong usage, or input that was refused.
    Usage = 2,
    /// What was asked for does not exist.
    NotFound = 3,
    /// The key or its scope was refused.
    Denied = 4,
    /// The server was not reachable, or too late; a repetition is safe.
    Unreachable = 5,
    /// Refused as things stand.
    Refused = 6,
    /// A generation reached another terminal state than COMPLETED.
    Incomplete = 7,
    /// Ctrl-C came first; as a shell has it for a program that SIGINT ended.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error as its reader needs it.
#[derive(Debug)]
pub struct Failure {
    what: String,
    /// The code and reason that the server gave.
    reason: Option<(Code, String)>,
    fields: Vec<(String, String)>,
    todo: Option<String>,
    trace: Option<String>,
    exit: Exit,
}

impl Failure {
    /// A failure that says `what`.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), reason: None, fields: Vec::new(), todo: None, trace: None, exit: Exit::Failed }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn todo(mut self, todo: impl Into<String>) -> Self {
        self.todo = Some(todo.into());
        self
    }

    /// Says `what` in the place of what the server said.
    #[must_use]
    pub fn saying(mut self, what: impl Into<String>) -> Self {
        self.what = what.into();
        self
    }

    /// Sets the exit code.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Reads what a server of ours answered. `trace` is the trace that the call was part of.
    #[must_use]
    pub fn of(status: &Status, trace: &str) -> Self {
        let details = status.get_error_details();
        // A gateway begins traces of its own for whom it does not know.
        let trace = details.error_info().and_then(|info| info.metadata.get("trace_id")).map_or(trace, String::as_str);
        let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
        let fields = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        let wait = details.retry_info().and_then(|retry| retry.retry_delay);
        let todo = advice(status.code(), &reason).map(str::to_owned);
        Self {
            what: status.message().to_owned(),
            todo: wait.map(|wait| format!("try again in {:.1} s", wait.as_secs_f64())).or(todo),
            reason: Some((status.code(), reason)),
            fields: fields.into_iter().map(|field| (field.field, field.description)).collect(),
            trace: Some(trace.to_owned()),
            exit: exit(status.code()),
        }
    }

    /// Prints it to standard error, or as JSON to standard output, and gives the exit code.
    pub fn report(&self, json: bool) -> ExitCode {
        if json {
            out::tell(self.as_json());
        } else {
            out::warn(self.to_string().trim_end());
        }
        self.exit.into()
    }

    fn as_json(&self) -> serde_json::Value {
        let (code, reason) = match &self.reason {
            Some((code, reason)) => (Some(name(*code)), Some(reason.as_str()).filter(|reason| !reason.is_empty())),
            None => (None, None),
        };
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|(field, description)| serde_json::json!({"field": field, "description": description}))
            .collect();
        serde_json::json!({"error": {
            "message": self.what, "code": code, "reason": reason, "fields": fields, "todo": self.todo, "trace": self.trace,
        }})
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "error: {}", self.what)?;
        match &self.reason {
            Some((code, reason)) if reason.is_empty() => writeln!(f, " ({})", name(*code))?,
            Some((code, reason)) => writeln!(f, " ({}, {reason})", name(*code))?,
            None => writeln!(f)?,
        }
        for (field, description) in &self.fields {
            // A message about one field says it already.
            if self.what == format!("{field}: {description}") {
                continue;
            }
            writeln!(f, "  {field}: {description}")?;
        }
        if let Some(todo) = &self.todo {
            writeln!(f, "  what to do: {todo}")?;
        }
        if let Some(trace) = &self.trace {
            writeln!(f, "  trace: {trace}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => Self::new(format!("{error:#}")),
        }
    }
}

fn exit(code: Code) -> Exit {
    match code {
        Code::Ok => Exit::Done,
        Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists | Code::Unimplemented => Exit::Usage,
        Code::NotFound => Exit::NotFound,
        Code::Unauthenticated | Code::PermissionDenied => Exit::Denied,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Exit::Unreachable,
        Code::FailedPrecondition | Code::Aborted | Code::ResourceExhausted => Exit::Refused,
        Code::Unknown | Code::Internal | Code::DataLoss => Exit::Failed,
    }
}

fn advice(code: Code, reason: &str) -> Option<&'static str> {
    match (reason, code) {
        ("INSUFFICIENT_CREDIT", _) => Some(
            "look at `rushes credits`; an operator grants more with `rushes account grant --account … --credits …`",
        ),
        ("REQUEST_ID_REUSED", _) => Some("choose a new request id, or repeat the request as it was"),
        ("PROJECT_NOT_FOUND", _) => Some("list projects with `rushes projects list`"),
        ("SCENE_NOT_FOUND", _) => Some("list scenes with `rushes scenes list --project projects/…`"),
        ("GENERATION_NOT_FOUND", _) => Some("list generations with `rushes list`"),
        ("ETAG_MISMATCH", _) => Some("it was changed meanwhile: read it again, then repeat the change"),
        ("PAGE_TOKEN_INVALID", _) => Some("begin again without --page-token"),
        ("SCOPE_MISSING", _) => Some("use a key with that scope: `rushes key create --account … --scope …`"),
        (_, Code::Unauthenticated) => {
            Some("give a key with --api-key or RUSHES_API_KEY; `cargo rushes up` prints the demo account's")
        }
        (_, Code::Unavailable) => Some("see whether `cargo rushes up` runs, and try again; a repetition is safe"),
        (_, Code::DeadlineExceeded) => Some("try again; a repetition is safe"),
        (_, Code::Internal | Code::Unknown) => {
            Some("look for the trace in the logs, in .rushes/logs for a local stack")
        }
        _ => None,
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    #[test]
    fn a_refusal_says_what_where_and_what_to_do() {
        let mut details = ErrorDetails::new();
        details.set_error_info("PAGE_TOKEN_INVALID", "rushes.dev", std::collections::HashMap::new());
        details.add_bad_request_violation("page_token", "is not one of ours");
        let status = Status::with_error_details(Code::InvalidArgument, "the page token is not valid", details);
        let failure = Failure::of(&status, "4bf9");
        let expected = "\
error: the page token is not valid (INVALID_ARGUMENT, PAGE_TOKEN_INVALID)
  page_token: is not one of ours
  what to do: begin again without --page-token
  trace: 4bf9
";
        assert_eq!(failure.to_string(), expected);
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(failure.as_json()["error"]["reason"], "PAGE_TOKEN_INVALID");
    }

    #[test]
    fn a_failure_survives_being_carried_by_anyhow() {
        let carried = anyhow::Error::from(Failure::new("gone").exit(Exit::NotFound));
        assert_eq!(Failure::from(carried).exit, Exit::NotFound);
        assert_eq!(Failure::from(anyhow::anyhow!("other")).exit, Exit::Failed);
    }
}
