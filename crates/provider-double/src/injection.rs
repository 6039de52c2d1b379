//! Fault injection: what a drawn fault makes of a reply.
//!
//! Invariant: a fault after the order was taken leaves the order taken; that is what a client cannot know.

use serde_json::Value;

use crate::order::Reception;
use crate::orders::Orders;
use crate::server::Reply;

/// The reply to a poll, a cancel or a download that goes wrong.
pub(crate) fn unavailable(orders: &Orders) -> Option<Reply> {
    let chance = orders.chance();
    chance.is_unavailable().then(|| if chance.is_cut() { Reply::Cut } else { Reply::Json(500, Value::Null) })
}

/// The reply to a request for an order; `take` takes it.
pub(crate) async fn submission(orders: &Orders, prompt: &str, take: impl FnOnce() -> (u16, Value)) -> Reply {
    match orders.chance().reception(prompt) {
        Reception::CutBefore => Reply::Cut,
        Reception::Throttled => Reply::Throttled,
        Reception::CutAfter => {
            take();
            Reply::Cut
        }
        Reception::ErrorAfter => {
            take();
            Reply::Json(502, Value::Null)
        }
        Reception::Late(by) => {
            let (status, body) = take();
            tokio::time::sleep(by).await;
            Reply::Json(status, body)
        }
        Reception::Fine => {
            let (status, body) = take();
            Reply::Json(status, body)
        }
    }
}
