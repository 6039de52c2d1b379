//! Refusals and errors in the words and shapes in which the two providers, and the gateways before them, say them.
//!
//! Read on 2026-11-28: Replicate's bodies have `title`, `detail` and `status` (<https://replicate.com/docs/reference/http>, and
//! the reports at <https://github.com/replicate/replicate-python/issues>); fal's have `detail`, a sentence with an `error_type` for
//! what the platform refuses (<https://fal.ai/docs/documentation/model-apis/request-errors>) and a list of objects for what the
//! model does (<https://fal.ai/docs/documentation/model-apis/errors>). A locked account at fal is a 403 with a sentence.

use serde_json::{Value, json};

use crate::kinds::PollFault;
use crate::order::{Protocol, Wrong};
use crate::server::Reply;

/// An order that is refused with this status.
pub(crate) fn order(protocol: Protocol, status: u16) -> Reply {
    match (protocol, status) {
        (_, 401) => unauthorized(protocol),
        (Protocol::OpenRouter, 402 | 403) => said(status, "This request requires more credits"),
        (Protocol::Cog, 402 | 403) => Reply::Json(status, json!({"detail": "Forbidden"})),
        (Protocol::Replicate, 402) => {
            let detail = "You have insufficient credit to run this model. Go to https://replicate.com/account/billing to \
                          purchase credit. Once you purchase credit, please wait a few minutes before trying again.";
            Reply::Json(402, json!({"title": "Insufficient credit", "detail": detail, "status": 402}))
        }
        (Protocol::Replicate, 403) => {
            let detail = "Your account has been disabled. Please contact support.";
            Reply::Json(403, json!({"title": "Account disabled", "detail": detail, "status": 403}))
        }
        (Protocol::Fal, 402) => Reply::Json(402, json!({"detail": "Insufficient balance"})),
        (Protocol::Fal, 403) => {
            let detail = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing.";
            Reply::Json(403, json!({"detail": detail}))
        }
        (_, 404) => no_model(protocol),
        _ => broken(protocol, status),
    }
}

/// A key that is not known.
pub(crate) fn unauthorized(protocol: Protocol) -> Reply {
    let body = match protocol {
        Protocol::Replicate => {
            let detail = "You did not pass a valid authentication token";
            json!({"title": "Unauthenticated", "detail": detail, "status": 401})
        }
        Protocol::OpenRouter => return said(401, "No auth credentials found"),
        Protocol::Cog => json!({"detail": "Unauthorized"}),
        Protocol::Fal => json!({"detail": "No user found for Key ID and Secret"}),
    };
    Reply::Json(401, body)
}

/// A model that there is not, or one that is not called by its name alone.
pub(crate) fn no_model(protocol: Protocol) -> Reply {
    match protocol {
        Protocol::Replicate | Protocol::Cog => no_order(protocol),
        Protocol::OpenRouter => said(404, "No endpoints found for this model"),
        Protocol::Fal => Reply::Json(404, json!({"detail": "Application not found"})),
    }
}

/// An order that is not known.
pub(crate) fn no_order(protocol: Protocol) -> Reply {
    let body = match protocol {
        Protocol::Replicate | Protocol::Cog => {
            json!({"detail": "The requested resource could not be found.", "status": 404})
        }
        Protocol::OpenRouter => return said(404, "Job not found"),
        Protocol::Fal => json!({"detail": "Request not found"}),
    };
    Reply::Json(404, body)
}

/// Too many requests.
pub(crate) fn throttled(protocol: Protocol) -> Reply {
    Reply::Throttled(match protocol {
        Protocol::OpenRouter => json!({"error": {"code": 429, "message": "Rate limit exceeded"}}),
        // All slots are taken.
        Protocol::Cog => json!({"detail": "Already running a prediction"}),
        Protocol::Replicate => {
            let detail = "Request was throttled. Your rate limit resets in ~1s.";
            json!({"detail": detail, "status": 429, "retry_after": 1})
        }
        Protocol::Fal => {
            let detail = "You have reached the concurrent requests limit of your account";
            json!({"detail": detail, "error_type": "rate_limited"})
        }
    })
}

/// A provider that is broken or overloaded, or the gateway before it.
pub(crate) fn broken(protocol: Protocol, status: u16) -> Reply {
    match protocol {
        Protocol::Replicate | Protocol::Cog => Reply::Html(status),
        Protocol::OpenRouter => said(status, "Provider returned error"),
        Protocol::Fal => {
            let detail = "No runner could be allocated to handle the request";
            Reply::Json(status, json!({"detail": detail, "error_type": "runner_scheduling_failure"}))
        }
    }
}

/// An error in OpenRouter's shape.
fn said(status: u16, message: &str) -> Reply {
    Reply::Json(status, json!({"error": {"code": status, "message": message}}))
}

/// Input that a model does not take: fal says so as the result, the others at once.
pub(crate) fn wrong_field(protocol: Protocol, wrong: &Wrong) -> (u16, Value) {
    let Wrong { field, message } = wrong;
    let body = match protocol {
        Protocol::OpenRouter => {
            let message = message.as_deref().unwrap_or("Unrecognized key");
            return (400, json!({"error": {"code": 400, "message": format!("{field}: {message}")}}));
        }
        Protocol::Cog => {
            let kind = if message.is_some() { "value_error" } else { "extra_forbidden" };
            json!({"detail": [{"loc": ["body", "input", field], "msg": message, "type": kind}]})
        }
        Protocol::Replicate => {
            let (kind, description) = match message {
                Some(message) => ("invalid_value", format!("{field}: {message}")),
                None => ("additional_property_not_allowed", format!("Additional property {field} is not allowed")),
            };
            let fields = json!([{"type": kind, "field": field, "description": description}]);
            let detail = format!("- input: {description}\n");
            json!({"title": "Input validation failed", "detail": detail, "status": 422, "invalid_fields": fields})
        }
        Protocol::Fal => {
            let (msg, kind) = match message {
                Some(message) => (message.as_str(), "value_error"),
                None => ("Extra inputs are not permitted", "extra_forbidden"),
            };
            let one = json!({"loc": ["body", field], "msg": msg, "type": kind});
            json!({"detail": [one]})
        }
    };
    (422, body)
}

/// A poll that is answered with something else than the order; `None` for a fault that leaves the answer.
pub(crate) fn poll(protocol: Protocol, fault: PollFault) -> Option<Reply> {
    Some(match fault {
        PollFault::NotFound | PollFault::NotFoundLater => no_order(protocol),
        PollFault::Unauthorized => unauthorized(protocol),
        PollFault::Gone => {
            let detail = "The requested resource is no longer available.";
            Reply::Json(410, json!({"detail": detail, "status": 410}))
        }
        PollFault::Broken => broken(protocol, 503),
        PollFault::Empty => Reply::Json(200, json!({})),
        PollFault::Html => Reply::Html(200),
        PollFault::Long => return None,
    })
}

/// Nothing lies at a path.
pub(crate) fn no_path() -> Reply {
    Reply::Json(404, json!({"detail": "Not found"}))
}

/// 2 MiB of logs.
pub(crate) fn logs() -> String {
    "\rRendering: step 17 of 50, 2.31 s each\n".repeat((2 << 20) / 39 + 1)
}
