//! Webhooks as the two providers send them, and as they should not be: lost, late, doubled, in the wrong order, forged.
//!
//! Invariant: what is refused or not answered is sent again a few times, as both providers promise, under the same id.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use crate::bill::{Bill, Event, Line, now};
use crate::order::{Order, Protocol};
use crate::presenters;
use crate::settings::Settings;
use crate::signing::Signer;

/// The pauses before each try, in milliseconds: a minute and a half in all, where the real ones try for minutes or hours.
const PAUSES: [u64; 16] =
    [0, 500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000, 8_000, 8_000, 8_000, 8_000, 8_000, 8_000, 8_000, 8_000];

/// What sends the webhooks of one double.
#[derive(Debug)]
pub(crate) struct Webhooks {
    client: reqwest::Client,
    signer: Signer,
    address: SocketAddr,
    bill: Arc<Bill>,
}

/// One webhook on its way.
struct Delivery {
    to: Url,
    order: Order,
    /// Replicate's name for the event; fal's for the request, in the header.
    id: String,
    body: String,
}

impl Webhooks {
    pub(crate) fn new(settings: &Settings, address: SocketAddr, bill: Arc<Bill>) -> Result<Self> {
        Ok(Self {
            client: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?,
            signer: Signer::new(&settings.secret, settings.seed)?,
            address,
            bill,
        })
    }

    /// The key set that fal publishes.
    pub(crate) fn key_set(&self) -> Value {
        self.signer.key_set()
    }

    /// Sends the order as it is now, in a task of its own, with the faults that were drawn for the order's webhooks.
    pub(crate) fn send(self: &Arc<Self>, order: &Order) {
        let Some(to) = order.webhook.clone() else { return };
        let hook = order.fate.hook;
        if hook.lost {
            return;
        }
        let id = match order.protocol {
            Protocol::Replicate | Protocol::Cog | Protocol::OpenRouter => format!("msg_{}", Uuid::now_v7().simple()),
            // What a gateway sends on for itself it calls by a name of its own.
            Protocol::Fal if hook.other_id => Uuid::now_v7().to_string(),
            Protocol::Fal => order.id.clone(),
        };
        let body = presenters::webhook(order, self.address, &id).to_string();
        let delivery = Delivery { to, order: order.clone(), id, body };
        let webhooks = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(hook.late).await;
            if hook.forged {
                webhooks.post(&delivery, true).await;
            }
            for _ in 0..1 + u8::from(hook.twice) {
                for pause in PAUSES {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    if webhooks.post(&delivery, false).await {
                        webhooks.bill.add(&Line::of(&delivery.order, Event::Notified));
                        break;
                    }
                }
            }
        });
    }

    /// Tries once. Returns whether it was accepted.
    async fn post(&self, delivery: &Delivery, forged: bool) -> bool {
        let Delivery { to, order, id, body } = delivery;
        // Signed anew at each try: a signature's time must not be older than five minutes.
        let seconds = now() / 1_000;
        let headers = match order.protocol {
            Protocol::Replicate | Protocol::Cog | Protocol::OpenRouter => {
                self.signer.replicate(id, seconds, body, forged)
            }
            Protocol::Fal => self.signer.fal(id, seconds, body, forged),
        };
        let mut request = self.client.post(to.clone()).header("content-type", "application/json").body(body.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }
}
