//! Fault injection: what a drawn fault, or an outage, makes of a reply.
//!
//! Invariant: a fault after the order was taken leaves the order taken; that is what a client cannot know.

use std::sync::Arc;

use serde_json::Value;

use crate::kinds::{Kind as _, PollFault, Reception, Times};
use crate::order::{Order, Protocol, Wrong};
use crate::orders::{Checked, Orders, Request};
use crate::outages::OutageKind;
use crate::server::{ApiRequest, Reply};
use crate::{presenters, refusals};

/// The place of the token that a request shows after `scheme`.
///
/// # Errors
/// The reply to a request of nobody who is known, to one about another account's order, and to any while the provider is away.
pub(crate) fn admit(orders: &Orders, request: &ApiRequest, protocol: Protocol, scheme: &str) -> Result<usize, Reply> {
    let token = orders.token_of(request, scheme);
    if let Some(reply) = away(orders, protocol, token) {
        return Err(reply);
    }
    let token = token.ok_or_else(|| refusals::unauthorized(protocol))?;
    if request.path.iter().any(|part| orders.is_foreign(part, token)) {
        return Err(refusals::no_order(protocol));
    }
    Ok(token)
}

/// The reply to any call while the provider is away.
fn away(orders: &Orders, protocol: Protocol, token: Option<usize>) -> Option<Reply> {
    let outage = orders.outages().now(protocol, token);
    if outage == Some(OutageKind::Revoked) {
        return Some(refusals::unauthorized(protocol));
    }
    let is_out = orders.chance().is_out() || outage == Some(OutageKind::Errors);
    is_out.then(|| match (protocol, orders.chance().is_cut()) {
        (_, false) => refusals::broken(protocol, 503),
        (Protocol::Replicate | Protocol::Cog | Protocol::OpenRouter, true) => Reply::Html(502),
        (Protocol::Fal, true) => Reply::Plain(504, "upstream request timeout"),
    })
}

/// The reply to a poll or a cancel that goes wrong.
pub(crate) fn unavailable(orders: &Orders) -> Option<Reply> {
    let chance = orders.chance();
    chance.is_unavailable().then(|| if chance.is_cut() { Reply::Cut } else { Reply::Json(500, Value::Null) })
}

/// The reply to a poll of an order whose answer is `status` and `body`.
pub(crate) fn poll(orders: &Orders, order: &Order, status: u16, body: Value) -> Reply {
    let Some((fault, times)) = order.fate.poll.filter(|fault| is_due(*fault, order, 0)) else {
        return Reply::Json(status, body);
    };
    let hopeless = times == Times::Ever && fault != PollFault::Long;
    orders.record_fault(&order.id, fault.word(), hopeless);
    let other = refusals::poll(order.protocol, fault);
    other.unwrap_or_else(|| Reply::Json(status, presenters::with_logs(order.protocol, body)))
}

/// The reply to a cancel of an order whose next poll is refused: then so is this, and nothing is stopped.
pub(crate) fn cancel(order: &Order) -> Option<Reply> {
    let (fault, _) = order.fate.poll.filter(|fault| is_due(*fault, order, 1))?;
    let refuses = matches!(fault, PollFault::NotFound | PollFault::Unauthorized | PollFault::Gone);
    refuses.then(|| refusals::poll(order.protocol, fault))?
}

/// Whether it holds for the last poll of an order, or for one that comes so much `later`.
fn is_due((fault, times): (PollFault, Times), order: &Order, later: u32) -> bool {
    let number = order.polls + later;
    match (fault, times) {
        (PollFault::NotFoundLater, Times::First(at)) => number == at,
        // Its status says that there is a result.
        (PollFault::Broken, _) if order.protocol == Protocol::Fal => order.results > 0 && times.include(order.results),
        _ => times.include(number),
    }
}

/// The reply to a request for an order; `present` shows an order that was taken.
pub(crate) async fn submission(
    orders: &Arc<Orders>,
    request: Request<'_>,
    present: impl Fn(&Order) -> (u16, Value),
) -> Reply {
    let protocol = request.protocol;
    let draw = orders.chance().order(request.prompt());
    match orders.outages().now(protocol, Some(request.token)) {
        Some(OutageKind::Locked) => {
            return refusals::order(protocol, if protocol == Protocol::Fal { 403 } else { 402 });
        }
        Some(OutageKind::Throttled) => return refusals::throttled(protocol),
        _ => {}
    }
    let fate = draw.fate;
    let stray = orders.stray(&request).into_iter().next().filter(|_| fate.strict);
    let stray = stray.map(|field| Wrong { field, message: None });
    let mut checked = Checked { wrong: stray.or_else(|| orders.wrong(&request)), given: Vec::new() };
    if protocol != Protocol::Fal
        && let Some(wrong) = &checked.wrong
    {
        let (status, body) = refusals::wrong_field(protocol, wrong);
        return Reply::Json(status, body);
    }
    match draw.reception {
        Some(Reception::CutBefore) => return Reply::Cut,
        Some(Reception::Throttled) => return refusals::throttled(protocol),
        Some(Reception::Refused(status)) => return refusals::order(protocol, status),
        Some(Reception::CutAfter | Reception::ErrorAfter | Reception::Late) | None => {}
    }
    match orders.files(&request).await {
        Ok(given) => checked.given = given,
        Err(wrong) => checked.wrong = checked.wrong.or(Some(wrong)),
    }
    let order = orders.take(request, fate, checked);
    if let Some(reception) = draw.reception {
        orders.record_fault(&order.id, reception.word(), false);
    }
    let (status, body) = present(&order);
    match draw.reception {
        Some(Reception::CutAfter) => Reply::Cut,
        Some(Reception::ErrorAfter) => Reply::Json(502, Value::Null),
        Some(Reception::Late) => {
            tokio::time::sleep(draw.late).await;
            Reply::Json(status, body)
        }
        _ => Reply::Json(status, body),
    }
}
