//! Webhooks as the two providers send them, and as they should not be: lost, late, doubled, in the wrong order, forged.
//!
//! Invariant: what is refused or not taken is sent again a few times, as both promise, under the same id.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::bill::{Protocol, now};
use crate::orders::{Order, Orders};
use crate::{fal, replicate};

/// The pauses between tries.
const PAUSES: [u64; 8] = [0, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000];

/// One webhook.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    order: Order,
    /// Replicate's name for it; fal's is the request's.
    id: String,
}

impl Parcel {
    pub(crate) fn begun(order: &Order) -> Self {
        Self { order: order.clone(), id: format!("msg_{}", Uuid::now_v7().simple()) }
    }

    pub(crate) fn ended(order: &Order) -> Self {
        Self::begun(order)
    }
}

/// Sends it, in a task of its own, with what was decided about the order's webhooks.
pub(crate) fn send(orders: &Arc<Orders>, parcel: Parcel) {
    let Some(to) = parcel.order.hook.clone() else { return };
    let fate = parcel.order.fate;
    if fate.hook_lost {
        return;
    }
    let orders = Arc::clone(orders);
    tokio::spawn(async move {
        tokio::time::sleep(fate.hook_late).await;
        let body = body(&orders, &parcel.order);
        if fate.hook_forged {
            post(&orders, &to, &parcel, &body, true).await;
        }
        for _ in 0..1 + u8::from(fate.hook_twice) {
            for pause in PAUSES {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                if post(&orders, &to, &parcel, &body, false).await {
                    break;
                }
            }
        }
    });
}

fn body(orders: &Orders, order: &Order) -> String {
    match order.protocol {
        Protocol::Replicate => replicate::shown(orders, order).to_string(),
        Protocol::Fal => {
            let (status, payload) = fal::result(orders, order);
            let word = if status == 200 { "OK" } else { "ERROR" };
            let error = if status == 200 { Value::Null } else { json!(format!("Unexpected status code: {status}")) };
            json!({"request_id": order.id, "gateway_request_id": order.id, "status": word, "payload": payload,
                   "error": error})
            .to_string()
        }
    }
}

/// Whether it was taken.
async fn post(orders: &Orders, to: &Url, parcel: &Parcel, body: &str, forged: bool) -> bool {
    let seconds = now() / 1_000;
    let headers = match parcel.order.protocol {
        Protocol::Replicate => orders.signer.replicate(&parcel.id, seconds, body, forged),
        Protocol::Fal => orders.signer.fal(&parcel.order.id, seconds, body, forged),
    };
    let mut request = orders.client.post(to.clone()).header("content-type", "application/json").body(body.to_owned());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send().await.is_ok_and(|answer| answer.status().is_success())
}
