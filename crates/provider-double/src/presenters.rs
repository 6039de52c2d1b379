//! Orders as the two protocols show them, in answers and in webhooks.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::order::{Order, Protocol, State};
use crate::video;

/// Replicate's prediction, in answers and webhooks alike.
pub(crate) fn prediction(order: &Order, address: SocketAddr) -> Value {
    let status = match order.state {
        State::Waiting => "starting",
        State::Working if order.fate.unknown_word => "contemplating",
        State::Working => "processing",
        State::Made => "succeeded",
        State::Failed | State::Unsafe => "failed",
        State::Stopped => "canceled",
    };
    let error = match order.state {
        State::Failed => json!("CUDA out of memory"),
        State::Unsafe => json!("NSFW content detected"),
        _ => Value::Null,
    };
    let output = if order.state == State::Made { json!(video::url(address, &order.id)) } else { Value::Null };
    json!({
        "id": order.id, "status": status, "output": output, "error": error, "logs": "",
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": order.begun.then_some("2026-01-01T00:00:01Z"),
        "completed_at": order.state.is_over().then_some("2026-01-01T00:00:02Z"),
        "metrics": {},
    })
}

/// What fal's status address answers.
pub(crate) fn queue_status(order: &Order) -> Value {
    let word = match order.state {
        State::Waiting => "IN_QUEUE",
        State::Working if order.fate.unknown_word => "DAYDREAMING",
        State::Working => "IN_PROGRESS",
        _ => "COMPLETED",
    };
    let mut status = json!({"status": word, "request_id": order.id});
    if order.state == State::Waiting {
        status["queue_position"] = 1.into();
    }
    status
}

/// What fal's result address answers for an order that is over: the HTTP status and the body.
pub(crate) fn queue_result(order: &Order, address: SocketAddr) -> (u16, Value) {
    match order.state {
        State::Made => {
            let video = json!({"url": video::url(address, &order.id), "content_type": "video/mp4"});
            (200, json!({"video": video, "seed": 1}))
        }
        State::Unsafe => {
            (422, json!({"detail": [{"loc": ["body", "prompt"], "msg": "no", "type": "content_policy_violation"}]}))
        }
        State::Stopped => (499, json!({"detail": "Request was cancelled", "error_type": "client_cancelled"})),
        _ => (500, json!({"detail": "Internal Server Error", "error_type": "runner_server_error"})),
    }
}

/// The body of a webhook of the order's protocol.
pub(crate) fn webhook(order: &Order, address: SocketAddr) -> Value {
    match order.protocol {
        Protocol::Replicate => prediction(order, address),
        Protocol::Fal => {
            let (status, payload) = queue_result(order, address);
            let word = if status == 200 { "OK" } else { "ERROR" };
            let error = if status == 200 { Value::Null } else { json!(format!("Unexpected status code: {status}")) };
            json!({"request_id": order.id, "gateway_request_id": order.id, "status": word, "payload": payload,
                   "error": error})
        }
    }
}
