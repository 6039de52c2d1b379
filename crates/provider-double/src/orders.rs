//! Orders and what becomes of them: drawn when an order is taken, from the seed and the order's number, or written in its prompt.
//!
//! Invariant: an order that is over stays as it is; whether it costs is decided once, under the lock that ends it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use url::Url;
use uuid::Uuid;

use crate::bill::{self, Bill, Event, Line};
use crate::chance::Chance;
use crate::order::{Order, Protocol, State};
use crate::settings::Settings;
use crate::video;
use crate::webhooks::Webhooks;

/// All orders of a double, and what it carries them out with.
#[derive(Debug)]
pub(crate) struct Orders {
    chance: Chance,
    webhooks: Arc<Webhooks>,
    address: SocketAddr,
    token: String,
    /// Whether the same idempotency key leads to the same order.
    keys: bool,
    bill: Bill,
    known: Mutex<HashMap<String, Order>>,
}

impl Orders {
    /// No orders yet, of a double at `address`.
    pub(crate) fn open(settings: Settings, address: SocketAddr) -> Result<Self> {
        Ok(Self {
            chance: Chance::new(&settings),
            webhooks: Arc::new(Webhooks::new(&settings, address)?),
            address,
            keys: settings.keys,
            bill: Bill::open(&settings.bill)?,
            known: Mutex::default(),
            token: settings.token,
        })
    }

    pub(crate) fn chance(&self) -> &Chance {
        &self.chance
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What requests have to show.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The key set that fal publishes.
    pub(crate) fn key_set(&self) -> Value {
        self.webhooks.key_set()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Order>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an order; the same key leads to the same order where keys are honoured.
    pub(crate) fn take(
        self: &Arc<Self>,
        protocol: Protocol,
        prompt: &str,
        webhook: Option<Url>,
        key: Option<String>,
    ) -> Order {
        let mut known = self.known();
        if self.keys
            && key.is_some()
            && let Some(order) = known.values().find(|order| order.key == key && order.protocol == protocol)
        {
            return order.clone();
        }
        let id = match protocol {
            Protocol::Replicate => Uuid::now_v7().simple().to_string(),
            Protocol::Fal => Uuid::now_v7().to_string(),
        };
        let fate = self.chance.fate(prompt);
        let order = Order { id, protocol, state: State::Waiting, begun: false, forgotten: false, fate, webhook, key };
        self.record(&order, Event::Ordered);
        known.insert(order.id.clone(), order.clone());
        tokio::spawn(Arc::clone(self).carry_out(order.clone()));
        order
    }

    /// An order that is still known.
    pub(crate) fn find(&self, protocol: Protocol, id: &str) -> Option<Order> {
        self.known().get(id).filter(|order| order.protocol == protocol && !order.forgotten).cloned()
    }

    /// Asks an order to stop; returns it as it was before.
    pub(crate) fn stop(&self, protocol: Protocol, id: &str) -> Option<Order> {
        let order = self.find(protocol, id)?;
        if !order.state.is_over() && !order.fate.stubborn {
            self.end(id, State::Stopped);
        }
        Some(order)
    }

    /// Takes an order through its states, to the end that was drawn for it.
    async fn carry_out(self: Arc<Self>, order: Order) {
        tokio::time::sleep(order.fate.wait).await;
        let begun = {
            let mut known = self.known();
            let Some(order) = known.get_mut(&order.id).filter(|order| !order.state.is_over()) else { return };
            (order.state, order.begun) = (State::Working, true);
            order.clone()
        };
        if begun.protocol == Protocol::Replicate && !begun.fate.hook_reordered {
            self.webhooks.send(&begun);
        }
        tokio::time::sleep(order.fate.render).await;
        if let Some(end) = order.fate.end {
            self.end(&order.id, end);
        }
    }

    /// Ends an order; a second end changes nothing.
    fn end(&self, id: &str, state: State) {
        let ended = {
            let mut known = self.known();
            let Some(order) = known.get_mut(id).filter(|order| !order.state.is_over()) else { return };
            order.state = state;
            let event = match state {
                State::Made => Event::Charged,
                State::Stopped => Event::Stopped,
                _ => Event::Failed,
            };
            self.record(order, event);
            if order.fate.forgotten {
                order.forgotten = true;
                self.record(order, Event::Forgotten);
            }
            order.clone()
        };
        self.webhooks.send(&ended);
        if ended.protocol == Protocol::Replicate && ended.fate.hook_reordered && ended.begun {
            self.webhooks.send(&ended);
        }
    }

    fn record(&self, order: &Order, event: Event) {
        let job = order.webhook.as_ref().and_then(|webhook| Some(webhook.path_segments()?.next_back()?.to_owned()));
        let sha256 = (event == Event::Charged).then(|| hex::encode(Sha256::digest(video::bytes(&order.id))));
        self.bill.add(&Line {
            at: bill::now(),
            event,
            protocol: order.protocol,
            order: order.id.clone(),
            job,
            key: order.key.clone(),
            sha256,
        });
    }
}
