//! Claim streams: a worker says how many hands are free, and gets a lease for each as soon as there is work.
//!
//! Invariant: a lease that cannot be handed over is given back at once. One that is lost on the wire runs out.

use std::collections::VecDeque;

use domain::generation::State;
use domain::name::Malformed;
use futures::Stream;
use jobs::Listener;
use proto::work::v1::{ClaimWorkRequest, ClaimWorkResponse, Lease, Work as WorkMessage};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::error::Error;
use crate::fields::Fields;
use crate::store::Claimed;
use crate::wire;
use crate::work::Work;

/// The most slots in one request.
const SLOTS: i32 = 100;
/// The most models that one worker serves.
const MODELS: usize = 100;
/// The most leases taken at once, so that a worker's lease does not run while it reads the others.
const AT_ONCE: u32 = 10;

/// What claim streams are served from; cheap to clone.
#[derive(Clone)]
pub(crate) struct Claims {
    work: Work,
    stop: CancellationToken,
}

impl Claims {
    pub(crate) fn new(work: Work, stop: CancellationToken) -> Self {
        Self { work, stop }
    }

    /// Leases for one worker, until it leaves or this process ends.
    pub(crate) async fn serve(
        &self,
        mut requests: Streaming<ClaimWorkRequest>,
    ) -> Result<impl Stream<Item = Result<ClaimWorkResponse, Status>> + Send + use<>, Status> {
        let Some(first) = requests.message().await? else {
            return Err(refused("worker", "the first message must say who asks"));
        };
        let (worker, models) = introduced(&first)?;
        let desk = Desk {
            listener: self.work.listen(),
            work: self.work.clone(),
            worker,
            models,
            free: slots(&first)?,
            given: VecDeque::new(),
            requests,
            stop: self.stop.clone(),
        };
        Ok(futures::stream::unfold(desk, async |mut desk| desk.next().await.transpose().map(|item| (item, desk))))
    }
}

/// One worker's place.
struct Desk {
    listener: Listener,
    work: Work,
    worker: String,
    models: Vec<String>,
    /// Hands that have no work.
    free: u32,
    /// Leased, and not handed over yet.
    given: VecDeque<Claimed>,
    requests: Streaming<ClaimWorkRequest>,
    stop: CancellationToken,
}

impl Desk {
    async fn next(&mut self) -> Result<Option<ClaimWorkResponse>, Status> {
        loop {
            if let Some(claimed) = self.given.pop_front() {
                return Ok(Some(handed(claimed)));
            }
            if self.stop.is_cancelled() {
                return Ok(None);
            }
            if self.free > 0 {
                match self.claim(self.free.min(AT_ONCE)).await {
                    Ok(claimed) => {
                        self.free -= u32::try_from(claimed.len()).unwrap_or(self.free);
                        self.given = claimed.into();
                    }
                    // The stream outlives the database: it is asked again in a moment.
                    Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "nothing could be claimed"),
                }
                if !self.given.is_empty() {
                    continue;
                }
            }
            tokio::select! {
                () = self.listener.notified(), if self.free > 0 => {}
                () = self.stop.cancelled() => return Ok(None),
                request = self.requests.message() => match request? {
                    Some(request) => self.free = self.free.saturating_add(slots(&request)?),
                    None => return Ok(None),
                },
            }
        }
    }
}

impl Desk {
    /// Claims in a task of its own: a worker that leaves meanwhile does not take leases with it.
    async fn claim(&self, limit: u32) -> Result<Vec<Claimed>, Error> {
        let (work, worker, models) = (self.work.clone(), self.worker.clone(), self.models.clone());
        let (give, given) = oneshot::channel();
        chassis::task::spawn(async move {
            let claimed = work.claim(&worker, &models, limit).await;
            if let Err(Ok(unwanted)) = give.send(claimed) {
                give_back(work, unwanted).await;
            }
        });
        given.await.map_err(|_| Error::Draining)?
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let unwanted = std::mem::take(&mut self.given);
        if !unwanted.is_empty() {
            tokio::spawn(give_back(self.work.clone(), unwanted));
        }
    }
}

async fn give_back(work: Work, unwanted: impl IntoIterator<Item = Claimed>) {
    for claimed in unwanted {
        if let Err(error) = work.release(claimed.leased.lease).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "an unused lease was left to run out");
        }
    }
}

fn refused(field: &str, should: &str) -> Status {
    let mut fields = Fields::default();
    fields.wrong(field, should);
    fields.done::<()>(None).map_or_else(Status::from, |()| Status::internal("unreachable"))
}

/// Who asks, and for which models.
fn introduced(first: &ClaimWorkRequest) -> Result<(String, Vec<String>), Error> {
    let mut fields = Fields::default();
    let worker = first.worker.trim();
    if worker.is_empty() || worker.chars().count() > 200 {
        fields.wrong("worker", "must have 1 to 200 characters");
    }
    if first.models.is_empty() || first.models.len() > MODELS {
        fields.wrong("models", format_args!("must hold 1 to {MODELS} names"));
    }
    let id = |name: &String| {
        let id = name.strip_prefix("models/").filter(|id| !id.is_empty() && !id.contains('/'));
        id.map(str::to_owned).ok_or(Malformed { expected: "models/{model}" })
    };
    let models = first.models.iter().enumerate();
    let models = models.filter_map(|(at, name)| fields.take(format!("models[{at}]"), id(name))).collect();
    fields.done(Some((worker.to_owned(), models)))
}

fn slots(request: &ClaimWorkRequest) -> Result<u32, Error> {
    let mut fields = Fields::default();
    let slots = u32::try_from(request.slots).ok().filter(|_| (1..=SLOTS).contains(&request.slots));
    if slots.is_none() {
        fields.wrong("slots", format_args!("must be 1 to {SLOTS}"));
    }
    fields.done(slots)
}

fn handed(claimed: Claimed) -> ClaimWorkResponse {
    let Claimed { leased, record, reference, in_doubt } = claimed;
    ClaimWorkResponse {
        work: Some(WorkMessage {
            lease: Some(Lease { job: leased.lease.job.to_string(), fence: leased.lease.fence }),
            generation: record.id.name(),
            account: record.account.name(),
            model: wire::model_name(&record.model),
            input: Some(wire::input(&record)),
            attempt: leased.attempt,
            provider_reference: reference.unwrap_or_default(),
            traceparent: leased.traceparent.unwrap_or_default(),
            lease_until: Some(wire::timestamp(leased.lease_until)),
            held_micros: record.held.get(),
            // One that is being finalized is delivered, whatever was asked before.
            cancel_requested: record.state == State::Cancelling,
            in_doubt,
            poll: leased.poll,
            polls: leased.polls,
        }),
    }
}
