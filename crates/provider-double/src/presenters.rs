//! Orders as the two protocols show them, in answers and in webhooks.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::kinds::{Output, Safety};
use crate::order::{Kind, Order, Protocol, State};
use crate::video::{self, Format};
use crate::{refusals, safety};

/// How long Replicate's and a box's machine worked on a prediction, in seconds.
const PREDICT_TIME: f64 = 2.5;
/// What fal counts a result as, and what it asks for one of that.
pub(crate) const UNITS: &str = "4.0";
pub(crate) const UNIT_PRICE: f64 = 0.14;
/// What OpenRouter asks for a job, in dollars.
const COST: f64 = 0.5;
/// What fal asks for an order, in millionths of a dollar: its units at the price of one.
pub const FAL_COST_MICROS: i64 = 560_000;
/// What OpenRouter asks for a job, in millionths of a dollar.
pub const OPENROUTER_COST_MICROS: i64 = 500_000;

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
        State::Invalid => (json!(order.wrong.as_ref().and_then(|wrong| wrong.message.clone())), ""),
        State::Made if order.fate.flagged => (Value::Null, "step 1\nNSFW content detected. Output 0 was blurred.\n"),
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
        "metrics": if order.state == State::Made { json!({"predict_time": PREDICT_TIME}) } else { json!({}) },
    })
}

fn prediction_output(order: &Order, address: SocketAddr) -> Value {
    let urls = urls(order, address);
    // A box hands its files out itself, unless it has a place for them.
    let cog = order.protocol == Protocol::Cog;
    let one_or_all = |all: Vec<String>| if all.len() == 1 { json!(all[0]) } else { json!(all) };
    match order.fate.output {
        None if cog => one_or_all(data_uris(order)),
        None => one_or_all(urls),
        Some(Output::Object) => json!({name(order): one_or_all(urls), "seed": 1}),
        Some(Output::List) => json!(picture_url(order, address).into_iter().chain(urls).collect::<Vec<_>>()),
        Some(Output::Data) => one_or_all(data_uris(order)),
        Some(Output::Bare) => json!(urls),
        Some(Output::None) => Value::Null,
    }
}

/// Where the outputs lie.
fn urls(order: &Order, address: SocketAddr) -> Vec<String> {
    (0..order.outputs).map(|at| video::url(address, order, at)).collect()
}

/// What a field with the outputs is called.
fn name(order: &Order) -> &'static str {
    match (order.kind, order.outputs) {
        (Kind::Video, 1) => "video",
        (Kind::Video, _) => "videos",
        (Kind::Image, _) => "images",
        (Kind::Audio, _) => "audio",
    }
}

/// What OpenRouter says of a job.
pub(crate) fn job(order: &Order, address: SocketAddr) -> Value {
    let status = match order.state {
        State::Waiting => "pending",
        State::Working if order.fate.unknown_word => "musing",
        State::Working => "in_progress",
        State::Made => "completed",
        State::Failed | State::Unsafe(_) | State::Invalid => "failed",
        State::Stopped => "cancelled",
    };
    let mut job = json!({"id": order.id, "polling_url": format!("/api/v1/videos/{}", order.id), "status": status});
    match order.state {
        State::Failed => job["error"] = json!("the model's maker answered 500"),
        State::Invalid => job["error"] = json!(order.wrong.as_ref().and_then(|wrong| wrong.message.clone())),
        State::Unsafe(kind) => job["error"] = json!(safety::replicate(kind).to_string()),
        State::Made => {
            let own = |at| format!("http://{address}/openrouter/api/v1/videos/{}/content?index={at}", order.id);
            let own: Vec<String> = (0..order.outputs).map(own).collect();
            match order.fate.output {
                None | Some(Output::Object) => job["unsigned_urls"] = json!(own),
                Some(Output::List | Output::Bare) => {
                    (job["urls"], job["unsigned_urls"]) = (json!(urls(order, address)), json!(own));
                }
                Some(Output::Data) => job["unsigned_urls"] = json!(data_uris(order)),
                // Then the file is still at its own address.
                Some(Output::None) => job["unsigned_urls"] = json!([]),
            }
            job["usage"] = json!({"cost": COST, "is_byok": false});
        }
        _ => {}
    }
    job
}

/// A picture that lies beside a video.
fn picture_url(order: &Order, address: SocketAddr) -> Option<String> {
    (order.kind == Kind::Video).then(|| format!("http://{address}/pictures/{}.webp", order.id))
}

fn data_uris(order: &Order) -> Vec<String> {
    let format = Format::of(order);
    let bytes = |at| STANDARD.encode(video::bytes(&video::file_id(order, at), format));
    (0..order.outputs).map(|at| format!("data:{};base64,{}", format.content_type(), bytes(at))).collect()
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
    // Of what the platform answers for; what a model refuses is in the result alone.
    if order.state == State::Failed {
        (status["error"], status["error_type"]) = ("Internal Server Error".into(), "runner_server_error".into());
    }
    status
}

/// What fal's result address answers for an order that is over: the HTTP status and the body.
pub(crate) fn queue_result(order: &Order, address: SocketAddr) -> (u16, Value) {
    match order.state {
        State::Made => (200, queue_output(order, address)),
        State::Unsafe(kind) => (422, safety::fal(kind)),
        State::Invalid => {
            order.wrong.as_ref().map_or((500, Value::Null), |wrong| refusals::wrong_field(Protocol::Fal, wrong))
        }
        State::Stopped => (499, json!({"detail": "Request was cancelled", "error_type": "client_cancelled"})),
        _ => (500, json!({"detail": "Internal Server Error", "error_type": "runner_server_error"})),
    }
}

fn queue_output(order: &Order, address: SocketAddr) -> Value {
    let mut result = files_of_queue(order, address);
    // Models of pictures say it of each, others only where they flag one.
    if order.fate.flagged || order.kind == Kind::Image {
        let flagged = (0..order.outputs).map(|at| at == 0 && order.fate.flagged);
        result["has_nsfw_concepts"] = flagged.collect();
    }
    result
}

fn files_of_queue(order: &Order, address: SocketAddr) -> Value {
    let (urls, name) = (urls(order, address), name(order));
    let file = |url: &String| json!({"url": url, "content_type": Format::of(order).content_type()});
    let files = |urls: &[String]| {
        let single = matches!(name, "video" | "audio");
        if single { file(&urls[0]) } else { urls.iter().map(file).collect() }
    };
    match order.fate.output {
        None => json!({name: files(&urls), "seed": 1}),
        Some(Output::Object) => json!({"output": {name: files(&urls)}, "seed": 1}),
        Some(Output::List) => {
            let picture = |url: String| json!({"url": url, "content_type": "image/webp"});
            let picture = picture_url(order, address).map(picture);
            json!({"videos": picture.into_iter().chain(urls.iter().map(file)).collect::<Vec<_>>()})
        }
        Some(Output::Data) => json!({name: files(&data_uris(order)), "seed": 1}),
        Some(Output::Bare) if urls.len() == 1 => json!({name: urls[0], "seed": 1}),
        Some(Output::Bare) => json!({name: urls, "seed": 1}),
        Some(Output::None) => json!({"seed": 1}),
    }
}

/// With 2 MiB of logs, in answers of either protocol.
pub(crate) fn with_logs(protocol: Protocol, mut body: Value) -> Value {
    body["logs"] = match protocol {
        Protocol::Replicate | Protocol::Cog | Protocol::OpenRouter => refusals::logs().into(),
        Protocol::Fal => json!([{"message": refusals::logs(), "level": "INFO", "timestamp": "2026-01-01T00:00:01Z"}]),
    };
    body
}

/// The body of a webhook of the order's protocol. `header_id` is how fal's header names the request.
pub(crate) fn webhook(order: &Order, address: SocketAddr, header_id: &str) -> Value {
    let hook = order.fate.hook;
    let (name, mut body) = match order.protocol {
        // The last two send none.
        Protocol::Replicate | Protocol::Cog | Protocol::OpenRouter => ("id", prediction(order, address)),
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
