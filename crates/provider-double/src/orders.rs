//! Orders and what becomes of them: drawn when an order is taken, from the seed and the order's number, or written in its prompt.
//!
//! Invariant: an order that is over stays as it is; whether it costs is decided once, under the lock that ends it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use crate::bill::{Bill, Event, Line};
use crate::chance::Chance;
use crate::inputs;
use crate::kinds::{FileFault, Kind as _};
use crate::order::{Fate, Given, Kind, Order, Protocol, State, Wrong};
use crate::outages::Outages;
use crate::server::ApiRequest;
use crate::settings::Settings;
use crate::uploads::Uploads;
use crate::webhooks::Webhooks;

/// All orders of a double, and what it carries them out with.
#[derive(Debug)]
pub(crate) struct Orders {
    chance: Chance,
    outages: Outages,
    webhooks: Arc<Webhooks>,
    address: SocketAddr,
    bill: Arc<Bill>,
    known: Mutex<HashMap<String, Order>>,
    uploads: Uploads,
    /// For the files that inputs name.
    client: reqwest::Client,
    settings: Settings,
}

/// What was found of an order's input.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// What is wrong, to be said at the order's end.
    pub(crate) wrong: Option<Wrong>,
    /// The files that came.
    pub(crate) given: Vec<Given>,
}

/// A request for an order.
pub(crate) struct Request<'a> {
    pub(crate) protocol: Protocol,
    /// The model's name in the protocol's path.
    pub(crate) model: &'a str,
    /// What the model gets.
    pub(crate) input: &'a Value,
    /// Where its webhooks go.
    pub(crate) webhook: Option<Url>,
    /// The idempotency key that came with it.
    pub(crate) key: Option<String>,
    /// The order's name, where its client chooses it.
    pub(crate) id: Option<String>,
    /// The place of the token that it was made with.
    pub(crate) token: usize,
}

impl Request<'_> {
    /// What the faults of the order are asked for in.
    pub(crate) fn prompt(&self) -> &str {
        self.input["prompt"].as_str().or(self.input["text"].as_str()).unwrap_or_default()
    }
}

impl Orders {
    /// No orders yet, of a double at `address`.
    pub(crate) fn open(settings: Settings, address: SocketAddr) -> Result<Self> {
        let bill = Arc::new(Bill::open(&settings.bill)?);
        Ok(Self {
            chance: Chance::new(&settings),
            outages: Outages::new(&settings.outages),
            webhooks: Arc::new(Webhooks::new(&settings, address, Arc::clone(&bill))?),
            address,
            bill,
            known: Mutex::default(),
            uploads: Uploads::default(),
            client: reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?,
            settings,
        })
    }

    pub(crate) fn chance(&self) -> &Chance {
        &self.chance
    }

    pub(crate) fn outages(&self) -> &Outages {
        &self.outages
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The place of the token that a request shows after this scheme; `None`: it shows none of the settings.
    pub(crate) fn token_of(&self, request: &ApiRequest, scheme: &str) -> Option<usize> {
        let given = request.token(scheme)?;
        let more = self.settings.more_tokens.iter().map(|more| more.token.as_str());
        std::iter::once(self.settings.token.as_str()).chain(more).position(|token| token == given)
    }

    /// Whose orders the token at this place knows.
    fn account(&self, token: usize) -> &str {
        let more = token.checked_sub(1).and_then(|at| self.settings.more_tokens.get(at));
        more.map_or("", |more| more.account.as_str())
    }

    /// Whether an order of this name was made by another account than the one of the token at this place.
    pub(crate) fn is_foreign(&self, id: &str, token: usize) -> bool {
        self.known().get(id).is_some_and(|order| self.account(order.token) != self.account(token))
    }

    /// The pause between two bytes of a file that comes slowly.
    pub(crate) fn drip(&self) -> Duration {
        Duration::from_millis(self.settings.drip_ms)
    }

    /// How long a file is that is too long, in bytes.
    pub(crate) fn huge(&self) -> u64 {
        self.settings.huge_bytes
    }

    /// Whether there is a model of this name.
    pub(crate) fn has_model(&self, name: &str) -> bool {
        self.settings.models.is_empty() || self.settings.models.iter().any(|model| model == name)
    }

    /// The names of the models that there are; none: every one is.
    pub(crate) fn models(&self) -> &[String] {
        &self.settings.models
    }

    /// What was uploaded.
    pub(crate) fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// The fields of an input that its model does not have: by its schema, else by the fields that every model has.
    pub(crate) fn stray(&self, request: &Request<'_>) -> Vec<String> {
        match self.settings.schemas.get(request.model) {
            Some(schema) => inputs::stray(schema, request.input),
            None => {
                let fields = request.input.as_object().into_iter().flat_map(|input| input.keys());
                fields.filter(|name| !self.settings.fields.contains(*name)).cloned().collect()
            }
        }
    }

    /// What is wrong with an input by its model's schema.
    pub(crate) fn wrong(&self, request: &Request<'_>) -> Option<Wrong> {
        inputs::wrong(self.settings.schemas.get(request.model)?, request.input)
    }

    /// The files of an input.
    pub(crate) async fn files(&self, request: &Request<'_>) -> Result<Vec<Given>, Wrong> {
        inputs::files(request.input, &self.uploads, &self.client).await
    }

    /// The key set that fal publishes.
    pub(crate) fn key_set(&self) -> Value {
        self.webhooks.key_set()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Order>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an order; the same key leads to the same order where keys are honoured.
    pub(crate) fn take(self: &Arc<Self>, request: Request<'_>, mut fate: Fate, checked: Checked) -> Order {
        // Dropped is only what is known not to be there.
        let stray = self.settings.schemas.contains_key(request.model).then(|| self.stray(&request));
        let Request { protocol, model, input, webhook, key, id, token } = request;
        let Checked { wrong, given } = checked;
        let mut known = self.known();
        if self.settings.keys
            && key.is_some()
            && let Some(order) = known.values().find(|order| order.key == key && order.protocol == protocol)
        {
            return order.clone();
        }
        let id = id.unwrap_or_else(|| match protocol {
            Protocol::Replicate => Uuid::now_v7().simple().to_string(),
            Protocol::Fal | Protocol::Cog => Uuid::now_v7().to_string(),
            Protocol::OpenRouter => format!("job-{}", Uuid::now_v7().simple()),
        });
        if wrong.is_some() {
            fate.end = Some(State::Invalid);
        }
        let outputs = ["num_outputs", "num_images", "num_videos", "n"].iter().find_map(|name| input[*name].as_u64());
        let order = Order {
            id,
            protocol,
            state: State::Waiting,
            begun: false,
            forgotten: false,
            fate,
            webhook,
            key,
            token,
            wrong,
            input: inputs::redacted(input),
            dropped: stray.unwrap_or_default(),
            given,
            kind: Kind::of(model),
            outputs: outputs.and_then(|count| usize::try_from(count).ok()).unwrap_or(1).clamp(1, 16),
            polls: 0,
            results: 0,
            fetches: 0,
            faults: Vec::new(),
        };
        self.record(&order, Event::Ordered);
        known.insert(order.id.clone(), order.clone());
        tokio::spawn(Arc::clone(self).carry_out(order.clone()));
        order
    }

    /// An order that is still known.
    pub(crate) fn find(&self, protocol: Protocol, id: &str) -> Option<Order> {
        self.known().get(id).filter(|order| order.protocol == protocol && !order.forgotten).cloned()
    }

    /// An order that is still known, as it is asked about once more.
    pub(crate) fn polled(&self, protocol: Protocol, id: &str) -> Option<Order> {
        let mut known = self.known();
        let order = known.get_mut(id).filter(|order| order.protocol == protocol && !order.forgotten)?;
        order.polls += 1;
        Some(order.clone())
    }

    /// An order that is still known, as its result is asked for once more, where that has an address of its own.
    pub(crate) fn result(&self, protocol: Protocol, id: &str) -> Option<Order> {
        let order = self.polled(protocol, id)?;
        if !order.state.is_over() {
            return Some(order);
        }
        let mut known = self.known();
        let order = known.get_mut(id)?;
        order.results += 1;
        Some(order.clone())
    }

    /// An order whose file is fetched once more, and the number of the fetch.
    pub(crate) fn fetched(&self, id: &str) -> Option<(Order, u32)> {
        let mut known = self.known();
        let order = known.get_mut(id)?;
        order.fetches += 1;
        Some((order.clone(), order.fetches))
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
        if begun.protocol == Protocol::Replicate && !begun.fate.hook.reordered {
            self.send_webhook(&begun);
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
            self.settle(order);
            if order.fate.forgotten {
                order.forgotten = true;
                self.record(order, Event::Forgotten);
            }
            order.clone()
        };
        self.send_webhook(&ended);
        if ended.protocol == Protocol::Replicate && ended.fate.hook.reordered && ended.begun {
            self.send_webhook(&ended);
        }
    }

    /// Writes down how an order ended, and what it costs.
    fn settle(&self, order: &mut Order) {
        match order.state {
            State::Made => self.record(order, Event::Charged),
            State::Stopped => self.record(order, Event::Stopped),
            // fal documents that it charges no 5xx; what is invalid was not begun.
            State::Failed if matches!(order.protocol, Protocol::Fal | Protocol::Cog) => {
                self.record(order, Event::Failed);
            }
            State::Failed | State::Unsafe(_) if order.fate.charged && order.protocol != Protocol::Cog => {
                self.record(order, Event::Failed);
                self.record(order, Event::Charged);
            }
            _ => self.record(order, Event::Failed),
        }
        if order.state == State::Made {
            if let Some(output) = order.fate.output {
                self.fault(order, output.word(), true);
            }
            if let Some((file, _)) = order.fate.file
                && matches!(file, FileFault::Unreachable | FileFault::Unnamed | FileFault::Untrusted)
            {
                self.fault(order, file.word(), true);
            }
        }
    }

    fn send_webhook(&self, order: &Order) {
        let hook = order.fate.hook;
        for (word, is) in [
            ("hook-lost", hook.lost),
            ("hook-other-id", hook.other_id),
            ("hook-no-id", hook.no_id),
            ("hook-long", hook.long),
        ] {
            if is && order.webhook.is_some() {
                self.record_fault(&order.id, word, false);
            }
        }
        self.webhooks.send(order);
    }

    /// Writes down that the provider did something wrong with an order, at the first time.
    pub(crate) fn record_fault(&self, id: &str, word: &'static str, hopeless: bool) {
        if let Some(order) = self.known().get_mut(id) {
            self.fault(order, word, hopeless);
        }
    }

    fn fault(&self, order: &mut Order, word: &'static str, hopeless: bool) {
        if !order.faults.contains(&word) {
            order.faults.push(word);
            self.bill.add(&Line { fault: Some(word.to_owned()), hopeless, ..Line::of(order, Event::Faulted) });
        }
    }

    fn record(&self, order: &Order, event: Event) {
        self.bill.add(&Line::of(order, event));
    }
}
