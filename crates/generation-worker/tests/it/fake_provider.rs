//! A provider that does as a test wants, and counts what it is asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use generation_worker::model::{
    Abilities, CallOutcome, Input, Made, MediaKind, NotVerified, Order, OrderStatus, Reference, Stopping, Trouble,
    Webhook, WebhookEvent,
};
use generation_worker::provider::{Pieces, Provider};
use generation_worker::providers::Registry;
use uuid::Uuid;

pub(crate) const WORKING: OrderStatus = OrderStatus::Working { percent: 40, stage: "rendering" };

/// What it says, and what it was asked.
#[derive(Default)]
pub(crate) struct Script {
    /// Answers to orders, first one first; afterwards every order is taken.
    pub(crate) submits: VecDeque<Trouble>,
    /// Answers to polls, first one first; the last one stays.
    pub(crate) polls: VecDeque<Result<OrderStatus, Trouble>>,
    /// What a poll says once a cancel was asked for.
    pub(crate) after_cancel: Option<Result<OrderStatus, Trouble>>,
    /// Whether an order is found by its key.
    pub(crate) finds: bool,
    /// Its files: an address is the number of one.
    pub(crate) files: Vec<Vec<u8>>,
    /// Answers to downloads, first one first; afterwards there are the files.
    pub(crate) fetches: VecDeque<Trouble>,
    /// Its files never come.
    pub(crate) stalls: bool,
    pub(crate) ordered: Vec<Uuid>,
    pub(crate) cancels: usize,
    pub(crate) forgotten: usize,
}

#[derive(Clone)]
pub(crate) struct FakeProvider {
    name: &'static str,
    script: Arc<Mutex<Script>>,
    abilities: Abilities,
}

impl FakeProvider {
    pub(crate) fn new(polls: impl IntoIterator<Item = OrderStatus>) -> Self {
        Self::saying(polls.into_iter().map(Ok))
    }

    /// One whose polls are answered so, one after another.
    pub(crate) fn saying(polls: impl IntoIterator<Item = Result<OrderStatus, Trouble>>) -> Self {
        let polls = polls.into_iter().collect();
        let script = Script { polls, files: vec![film(100)], ..Script::default() };
        let abilities = Abilities {
            idempotent_submit: true,
            find_by_key: true,
            cancel: true,
            progress: true,
            queue_position: true,
            webhook: true,
            in_process: true,
        };
        Self { name: "fake", script: Arc::new(Mutex::new(script)), abilities }
    }

    /// The same provider under another name.
    pub(crate) fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// The same provider, which cannot promise that a key costs once.
    pub(crate) fn not_idempotent(mut self) -> Self {
        self.abilities.idempotent_submit = false;
        self
    }

    /// The same provider, which cannot find an order by our key.
    pub(crate) fn without_search(mut self) -> Self {
        self.abilities.find_by_key = false;
        self
    }

    /// The same provider, whose orders live elsewhere.
    pub(crate) fn remote(mut self) -> Self {
        self.abilities.in_process = false;
        self
    }

    pub(crate) fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub(crate) fn registry(&self) -> Registry {
        Registry::default().with(Arc::new(self.clone()))
    }
}

impl Provider for FakeProvider {
    fn name(&self) -> &'static str {
        self.name
    }

    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn submit<'a>(&'a self, order: &'a Order, _: &'a Input) -> BoxFuture<'a, Result<Reference, Trouble>> {
        async move {
            let mut script = self.script();
            script.ordered.push(order.key);
            match script.submits.pop_front() {
                Some(refusal) => Err(refusal),
                None => Ok(reference(order.key)),
            }
        }
        .boxed()
    }

    fn find<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Option<Reference>, Trouble>> {
        async move { Ok(self.script().finds.then(|| reference(order.key))) }.boxed()
    }

    fn poll<'a>(&'a self, _: &'a Order, _: &'a Reference) -> BoxFuture<'a, Result<OrderStatus, Trouble>> {
        async move {
            let mut script = self.script();
            if let Some(poll) = script.after_cancel.clone().filter(|_| script.cancels > 0) {
                return poll;
            }
            if script.polls.len() > 1 { script.polls.pop_front().unwrap() } else { script.polls[0].clone() }
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, _: &'a Reference, address: &'a str) -> BoxFuture<'a, Result<Pieces<'a>, Trouble>> {
        async move {
            if let Some(trouble) = self.script().fetches.pop_front() {
                return Err(trouble);
            }
            if self.script().stalls {
                return Ok(futures::stream::pending().boxed());
            }
            let file: usize = address.parse().unwrap();
            let script = self.script();
            let file = script.files.get(file).ok_or_else(|| Trouble::new(CallOutcome::FileRefused, "not there"))?;
            let pieces: Vec<_> = file.chunks(1_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            Ok(futures::stream::iter(pieces).boxed())
        }
        .boxed()
    }

    fn cancel<'a>(&'a self, _: &'a Order, _: &'a Reference) -> BoxFuture<'a, Result<Stopping, Trouble>> {
        async move {
            self.script().cancels += 1;
            Ok(Stopping::Asked)
        }
        .boxed()
    }

    /// Believes what carries its secret, and says that it is about its body.
    fn verify(&self, webhook: &Webhook) -> Result<WebhookEvent, NotVerified> {
        let secret = webhook.headers.get("x-secret").ok_or(NotVerified("no secret"))?;
        if secret != "open sesame" {
            return Err(NotVerified("another's secret"));
        }
        let reference = String::from_utf8(webhook.body.to_vec()).unwrap();
        Ok(WebhookEvent {
            id: format!("{} of {}", webhook.headers["x-event"].to_str().unwrap(), webhook.job),
            reference: Some(reference),
        })
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(5)
    }

    fn forget(&self, _: &Reference) {
        self.script().forgotten += 1;
    }
}

/// One output is there.
pub(crate) fn done() -> OrderStatus {
    outputs(1)
}

/// So many outputs are there.
pub(crate) fn outputs(count: usize) -> OrderStatus {
    OrderStatus::Done(Made { addresses: (0..count).map(|file| file.to_string()).collect(), ..Made::default() })
}

/// An order of one video from `model` of `provider`, with this prompt.
pub(crate) fn order(provider: &str, model: &str, prompt: &str) -> Order {
    let input = serde_json::json!({"prompt": prompt, "seed": 7});
    Order {
        key: Uuid::now_v7(),
        provider: provider.to_owned(),
        model: model.to_owned(),
        input: input.as_object().unwrap().clone(),
        files: Vec::new(),
        output: None,
        refusals: Vec::new(),
        moderation: Vec::new(),
        unasked: Vec::new(),
        output_kinds: vec![MediaKind::Video],
        max_outputs: 1,
        max_run_time: None,
    }
}

/// What a provider gets of an order without files.
pub(crate) fn input(order: &Order) -> Input {
    Input { json: order.input.clone(), files: Vec::new() }
}

/// What goes through for an MP4 file: its boxes are whole, and its index points into it. `bytes` of media.
pub(crate) fn film(bytes: usize) -> Vec<u8> {
    let atom = |kind: &[u8; 4], content: &[u8]| {
        [&u32::try_from(8 + content.len()).unwrap().to_be_bytes()[..], kind, content].concat()
    };
    let table = atom(b"stco", &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 28]);
    let index = atom(b"moov", &atom(b"trak", &atom(b"mdia", &atom(b"minf", &atom(b"stbl", &table)))));
    [atom(b"ftyp", b"isom\0\0\0\0isom"), atom(b"mdat", &vec![7; bytes]), index].concat()
}

pub(crate) fn reference(key: Uuid) -> Reference {
    Reference(format!("fake-{key}"))
}
