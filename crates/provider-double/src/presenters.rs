//! Orders as the two protocols show them, in answers and in webhooks.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::kinds::{Output, Safety};
use crate::order::{Order, Protocol, State};
use crate::video::{self, Format};
use crate::{refusals, safety};

/// Replicate's prediction, in answers and webhooks alike.
pub(crate) fn prediction(order: &Order, address: SocketAddr) -> Value {
    let status = match order.state {
        State::Waiting => "starting",
        State::Working if order.fate.unknown_word => "contemplating",
        State::Working => "processing",
        State::Made => "succeeded",
        State::Failed | State::Unsafe(_) | State::Invalid => "failed",
        State::Stopped => "canceled",
    };
    let (error, logs) = match order.state {
        State::Failed => (json!("CUDA out of memory"), ""),
        State::Unsafe(kind) => {
            (safety::replicate(kind), if kind == Safety::Bare { "Moderation: the prompt was flagged\n" } else { "" })
        }
        _ => (Value::Null, ""),
    };
    let output = if order.state == State::Made { prediction_output(order, address) } else { Value::Null };
    json!({
        "id": order.id, "status": status, "output": output, "error": error, "logs": logs,
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": order.begun.then_some("2026-01-01T00:00:01Z"),
        "completed_at": order.state.is_over().then_some("2026-01-01T00:00:02Z"),
        "metrics": {},
    })
}

fn prediction_output(order: &Order, address: SocketAddr) -> Value {
    let url = video::url(address, order);
    match order.fate.output {
        None => json!(url),
        Some(Output::Object) => json!({"video": url, "seed": 1}),
        Some(Output::List) => json!([picture_url(order, address), url]),
        Some(Output::Data) => json!(data_uri(order)),
        Some(Output::Bare) => json!([url]),
        Some(Output::None) => Value::Null,
    }
}

/// A picture that lies beside the video.
fn picture_url(order: &Order, address: SocketAddr) -> String {
    format!("http://{address}/pictures/{}.webp", order.id)
}

fn data_uri(order: &Order) -> String {
    let format = Format::of(order);
    format!("data:{};base64,{}", format.content_type(), STANDARD.encode(video::bytes(&order.id, format)))
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
        State::Made => (200, queue_output(order, address)),
        State::Unsafe(kind) => (422, safety::fal(kind)),
        State::Invalid => refusals::stray_field(Protocol::Fal, order.stray.as_deref().unwrap_or_default()),
        State::Stopped => (499, json!({"detail": "Request was cancelled", "error_type": "client_cancelled"})),
        _ => (500, json!({"detail": "Internal Server Error", "error_type": "runner_server_error"})),
    }
}

fn queue_output(order: &Order, address: SocketAddr) -> Value {
    let (url, content_type) = (video::url(address, order), Format::of(order).content_type());
    let file = |url: String| json!({"url": url, "content_type": content_type});
    match order.fate.output {
        None => json!({"video": file(url), "seed": 1}),
        Some(Output::Object) => json!({"output": {"video": file(url)}, "seed": 1}),
        Some(Output::List) => {
            json!({"videos": [{"url": picture_url(order, address), "content_type": "image/webp"}, file(url)]})
        }
        Some(Output::Data) => json!({"video": file(data_uri(order)), "seed": 1}),
        Some(Output::Bare) => json!({"video": url, "seed": 1}),
        Some(Output::None) => json!({"seed": 1}),
    }
}

/// With 2 MiB of logs, in answers of either protocol.
pub(crate) fn with_logs(protocol: Protocol, mut body: Value) -> Value {
    body["logs"] = match protocol {
        Protocol::Replicate => refusals::logs().into(),
        Protocol::Fal => json!([{"message": refusals::logs(), "level": "INFO", "timestamp": "2026-01-01T00:00:01Z"}]),
    };
    body
}

/// The body of a webhook of the order's protocol. `header_id` is how fal's header names the request.
pub(crate) fn webhook(order: &Order, address: SocketAddr, header_id: &str) -> Value {
    let hook = order.fate.hook;
    let (name, mut body) = match order.protocol {
        Protocol::Replicate => ("id", prediction(order, address)),
        Protocol::Fal => {
            let (status, payload) = queue_result(order, address);
            let word = if status == 200 { "OK" } else { "ERROR" };
            let error = if status == 200 { Value::Null } else { json!(format!("Unexpected status code: {status}")) };
            let body = json!({"request_id": order.id, "gateway_request_id": header_id, "status": word,
                              "payload": payload, "error": error});
            ("request_id", body)
        }
    };
    if hook.long {
        body = with_logs(order.protocol, body);
    }
    if hook.no_id
        && let Some(fields) = body.as_object_mut()
    {
        fields.remove(name);
    }
    body
}
