//! Claim streams: a worker says how many slots are free, and gets a lease for each as soon as there is work.
//!
//! Invariant: a lease that cannot be handed over is released at once. One that is lost on the wire expires.

use std::time::Duration;

use std::collections::VecDeque;

use chassis::fields::{Fields, Invalid, SCHEMA};
use domain::generation::State;
use domain::provider::Provider;
use futures::Stream;
use jobs::Listener;
use proto::work::v1 as api;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::key_names::parse_key;
use crate::error::Error;
use crate::model::{ClaimedWork, Trouble};
use crate::presenter;
use crate::serving::{Served, Serving};
use crate::work::Work;

/// How many slots one request may ask for.
const MAX_SLOTS: i32 = 100;
/// How many providers one worker may name.
const MAX_PROVIDERS: usize = 20;
/// How many keys of providers one worker may name.
const MAX_KEYS: usize = 200;
/// Of a worker's name.
const MAX_WORKER_CHARACTERS: usize = 200;
/// How many leases one claim takes, so that the last does not run for long while the worker reads the first.
const MAX_LEASES_PER_CLAIM: u32 = 10;

/// Serves claim streams; cheap to clone.
#[derive(Clone)]
pub(crate) struct ClaimStreams {
    work: Work,
    serving: Serving,
    stop: CancellationToken,
}

impl ClaimStreams {
    pub(crate) fn new(work: Work, serving: Serving, stop: CancellationToken) -> Self {
        Self { work, serving, stop }
    }

    /// Leases for one worker, until it leaves or this process ends.
    pub(crate) async fn serve(
        &self,
        mut requests: Streaming<api::ClaimWorkRequest>,
    ) -> Result<impl Stream<Item = Result<api::ClaimWorkResponse, Status>> + Send + use<>, Status> {
        let Some(first) = requests.message().await? else {
            let invalid = Invalid::field("worker", SCHEMA, "must be in the first message, which is missing");
            return Err(Error::from(invalid).into());
        };
        let Worker { name: worker, providers, keys } = parse_worker(&first)?;
        let session = ClaimSession {
            listener: self.work.listen(),
            work: self.work.clone(),
            worker,
            _served: self.serving.begin(&providers, &keys),
            serving: self.serving.clone(),
            providers,
            keys,
            free: parse_slots(&first)?,
            leased: VecDeque::new(),
            requests,
            stop: self.stop.clone(),
        };
        Ok(futures::stream::unfold(session, async |mut session| {
            session.next().await.transpose().map(|item| (item, session))
        }))
    }
}

/// One worker's claim stream.
struct ClaimSession {
    listener: Listener,
    work: Work,
    worker: String,
    providers: Vec<Provider>,
    /// The public names of the worker's keys.
    keys: Vec<String>,
    serving: Serving,
    /// Says that they are served, as long as the stream is open.
    _served: Served,
    /// Slots without work.
    free: u32,
    /// Leased, and not handed over yet.
    leased: VecDeque<ClaimedWork>,
    requests: Streaming<api::ClaimWorkRequest>,
    stop: CancellationToken,
}

impl ClaimSession {
    async fn next(&mut self) -> Result<Option<api::ClaimWorkResponse>, Status> {
        loop {
            if let Some(claimed) = self.leased.pop_front() {
                return Ok(Some(to_proto(claimed)));
            }
            if self.stop.is_cancelled() {
                return Ok(None);
            }
            if self.free > 0 {
                match self.claim(self.free.min(MAX_LEASES_PER_CLAIM)).await {
                    Ok(claimed) => {
                        self.free -= u32::try_from(claimed.len()).unwrap_or(self.free);
                        self.leased = claimed.into();
                    }
                    // The stream outlives an outage of the database: the listener asks again within its poll interval.
                    Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "nothing could be claimed"),
                }
                self.listener.claimed(!self.leased.is_empty());
                if !self.leased.is_empty() {
                    continue;
                }
            }
            tokio::select! {
                () = self.listener.until_due(|| self.work.any_due()), if self.free > 0 => {}
                () = self.stop.cancelled() => return Ok(None),
                request = self.requests.message() => match request? {
                    Some(request) => self.free = self.free.saturating_add(parse_slots(&request)?),
                    None => return Ok(None),
                },
            }
        }
    }
}

impl ClaimSession {
    /// Claims in a task of its own, so that a worker that leaves meanwhile leaves no leases behind: nobody takes the result, and
    /// the task releases them.
    async fn claim(&self, limit: u32) -> Result<Vec<ClaimedWork>, Error> {
        let (work, worker) = (self.work.clone(), self.worker.clone());
        let keys = self.keys.clone();
        let models = self.serving.models_for(&self.providers, &keys);
        let (sender, receiver) = oneshot::channel();
        chassis::request::spawn(async move {
            let claimed = work.claim(&worker, &models, &keys, limit).await;
            if let Err(Ok(unwanted)) = sender.send(claimed) {
                release_all(work, unwanted).await;
            }
        });
        receiver.await.map_err(|_| Error::Draining)?
    }
}

impl Drop for ClaimSession {
    fn drop(&mut self) {
        let unwanted = std::mem::take(&mut self.leased);
        if !unwanted.is_empty() {
            tokio::spawn(release_all(self.work.clone(), unwanted));
        }
    }
}

async fn release_all(work: Work, unwanted: impl IntoIterator<Item = ClaimedWork>) {
    for claimed in unwanted {
        if let Err(error) = work.release(claimed.leased.lease).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an unused lease was not released and will expire"
            );
        }
    }
}

/// What a worker says of itself.
struct Worker {
    name: String,
    /// The providers that it can ask.
    providers: Vec<Provider>,
    /// The public names of its keys.
    keys: Vec<String>,
}

fn parse_worker(first: &api::ClaimWorkRequest) -> Result<Worker, Error> {
    let mut fields = Fields::default();
    let worker = fields.line("worker", first.worker.trim().to_owned(), MAX_WORKER_CHARACTERS);
    // A worker that is newer than this process may name a provider that no order here is for.
    let parse = |name: &str| if name.is_empty() { Err("must not be empty") } else { Ok(Provider::parse(name)) };
    let providers = fields.each("providers", &first.providers, 1, MAX_PROVIDERS, |name| parse(name));
    let keys = first.provider_keys.iter().take(MAX_KEYS).map(|key| parse_key(&mut fields, key)).collect::<Option<_>>();
    let ((name, providers), keys) = fields.done(worker.zip(providers).zip(keys))?;
    Ok(Worker { name, providers: providers.into_iter().flatten().collect(), keys })
}

fn parse_slots(request: &api::ClaimWorkRequest) -> Result<u32, Error> {
    let mut fields = Fields::default();
    let slots = u32::try_from(request.slots).ok().filter(|_| (1..=MAX_SLOTS).contains(&request.slots));
    if slots.is_none() {
        fields.wrong("slots", format_args!("must be 1 to {MAX_SLOTS}"));
    }
    Ok(fields.done(slots)?)
}

fn to_proto(claimed: ClaimedWork) -> api::ClaimWorkResponse {
    let ClaimedWork { leased, generation, order, reference, in_doubt, troubles, key, ask_first } = claimed;
    api::ClaimWorkResponse {
        work: Some(api::Work {
            lease: Some(api::Lease { job: leased.lease.job.to_string(), fence: leased.lease.fence }),
            generation: generation.id.name(),
            account: generation.account.name(),
            model: presenter::model_name(&generation.model),
            order: Some(presenter::order(order)),
            attempt: leased.attempt,
            provider_reference: reference.unwrap_or_default(),
            traceparent: leased.traceparent.unwrap_or_default(),
            lease_until: Some(presenter::timestamp(leased.lease_until)),
            held_micros: generation.held.get(),
            // Not CANCELLING means not to be stopped: a generation in FINALIZING is delivered, whatever was asked before.
            cancel_requested: generation.state == State::Cancelling,
            in_doubt,
            poll: leased.poll,
            polls: leased.polls,
            troubles: troubles.into_iter().map(trouble_to_proto).collect(),
            provider_key: key,
            ask_first,
        }),
    }
}

fn trouble_to_proto((trouble, elapsed): (Trouble, Duration)) -> api::OrderTrouble {
    let trouble = match trouble {
        Trouble::Poll => api::Trouble::Poll,
        Trouble::Order => api::Trouble::Order,
        Trouble::Output => api::Trouble::Output,
        Trouble::Storage => api::Trouble::Storage,
    };
    api::OrderTrouble { trouble: trouble.into(), elapsed: elapsed.try_into().ok() }
}
