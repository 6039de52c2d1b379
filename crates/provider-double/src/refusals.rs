//! Refusals and errors in the words and shapes in which the two providers, and the gateways before them, say them.
//!
//! Read on 2026-11-28: Replicate's bodies have `title`, `detail` and `status` (<https://replicate.com/docs/reference/http>, and
//! the reports at <https://github.com/replicate/replicate-python/issues>); fal's have `detail`, a sentence with an `error_type` for
//! what the platform refuses (<https://fal.ai/docs/documentation/model-apis/request-errors>) and a list of objects for what the
//! model does (<https://fal.ai/docs/documentation/model-apis/errors>). A locked account at fal is a 403 with a sentence.

use serde_json::{Value, json};

use crate::kinds::PollFault;
use crate::order::Protocol;
use crate::server::Reply;

/// An order that is refused with this status.
pub(crate) fn order(protocol: Protocol, status: u16) -> Reply {
    match (protocol, status) {
        (_, 401) => unauthorized(protocol),
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
        Protocol::Fal => json!({"detail": "No user found for Key ID and Secret"}),
    };
    Reply::Json(401, body)
}

/// A model that there is not, or one that is not called by its name alone.
pub(crate) fn no_model(protocol: Protocol) -> Reply {
    match protocol {
        Protocol::Replicate => no_order(protocol),
        Protocol::Fal => Reply::Json(404, json!({"detail": "Application not found"})),
    }
}

/// An order that is not known.
pub(crate) fn no_order(protocol: Protocol) -> Reply {
    let body = match protocol {
        Protocol::Replicate => json!({"detail": "The requested resource could not be found.", "status": 404}),
        Protocol::Fal => json!({"detail": "Request not found"}),
    };
    Reply::Json(404, body)
}

/// Too many requests.
pub(crate) fn throttled(protocol: Protocol) -> Reply {
    Reply::Throttled(match protocol {
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
        Protocol::Replicate => Reply::Html(status),
        Protocol::Fal => {
            let detail = "No runner could be allocated to handle the request";
            Reply::Json(status, json!({"detail": detail, "error_type": "runner_scheduling_failure"}))
        }
    }
}

/// Input that a strict model does not have: Replicate says so at once, fal as the result.
pub(crate) fn stray_field(protocol: Protocol, field: &str) -> (u16, Value) {
    let body = match protocol {
        Protocol::Replicate => {
            let description = format!("Additional property {field} is not allowed");
            let fields =
                json!([{"type": "additional_property_not_allowed", "field": field, "description": description}]);
            let detail = format!("- input: {description}\n");
            json!({"title": "Input validation failed", "detail": detail, "status": 422, "invalid_fields": fields})
        }
        Protocol::Fal => {
            let one =
                json!({"loc": ["body", field], "msg": "Extra inputs are not permitted", "type": "extra_forbidden"});
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
