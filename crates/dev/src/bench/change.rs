//! A committed change of a generation's status, as a worker causes it over gRPC: the state, the copy on the scene, the
//! outbox, the fence's check and the commit; beside a plain update of one row, committed on one connection.
//!
//! This process is the worker: it claims the work that it has started, reports the two changes that follow (the provider
//! took the order, the provider is done), and then fails it, so that nothing is left behind.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::{Input, StartGenerationRequest};
use proto::work::v1::work_service_client::WorkServiceClient;
use proto::work::v1::{
    ClaimWorkRequest, FailWorkRequest, FailureClass, Lease, RecordIntentRequest, RecordSubmissionRequest,
    ReportProgressRequest,
};
use testkit::Doors;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use uuid::Uuid;

use super::progress::say;
use super::report::{Round, Row, median, millis};
use super::services::on_behalf;
use super::setup::Bench;
use super::statements;

/// Generations in a round; each has two changes.
const GENERATIONS: usize = 30;
/// How long the claim of work that was just started may take.
const LIMIT: Duration = Duration::from_secs(20);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    say("committed changes of status");
    let mut database = bench.database.connect().await?;
    let plain = statements::plain_table(&mut database).await?;
    let account = *bench.seeded.warm().last().context("no account is left")?;
    let scenes = statements::scenes(&mut database, account).await?;
    let mut worker = Worker::open(bench, account).await?;
    let mut rounds = Vec::new();
    for number in 0..=bench.options.rounds {
        let leases = worker.claim(&scenes).await?;
        let (mut ours, mut beside) = (Vec::new(), Vec::new());
        for (at, lease) in leases.iter().enumerate() {
            ours.push(worker.submitted(lease).await?);
            beside.push(update(&mut database, plain[(2 * at) % plain.len()]).await?);
            ours.push(worker.finalizing(lease).await?);
            beside.push(update(&mut database, plain[(2 * at + 1) % plain.len()]).await?);
        }
        worker.end(leases).await?;
        // The first round prepares statements.
        if number > 0 {
            rounds.push(Round { ours: median(ours.into_iter()), beside: median(beside.into_iter()) });
        }
    }
    Ok(vec![Row::new(
        "status_change",
        "ms",
        "a plain update of one row of the same table without triggers, committed on one connection",
        2.0,
        &rounds,
    )])
}

async fn update(database: &mut sqlx::PgConnection, id: Uuid) -> Result<f64> {
    let began = Instant::now();
    statements::plain_update(database, id, "rendering").await?;
    Ok(millis(began.elapsed()))
}

/// A worker of one account's generations.
struct Worker {
    account: Uuid,
    generations: GenerationServiceClient<Channel>,
    work: WorkServiceClient<Doors>,
}

impl Worker {
    async fn open(bench: &Bench, account: Uuid) -> Result<Self> {
        let service = bench.services.service("generation-status")?;
        Ok(Self {
            account,
            generations: GenerationServiceClient::new(service.channel().await?),
            work: WorkServiceClient::new(service.doors()?),
        })
    }

    /// Starts generations and claims them.
    async fn claim(&mut self, scenes: &[String]) -> Result<Vec<Lease>> {
        for scene in scenes.iter().cycle().take(GENERATIONS) {
            let request = StartGenerationRequest {
                scene: scene.clone(),
                input: Some(Input { prompt: "a lantern over quiet water".to_owned(), ..Input::default() }),
                request_id: Uuid::now_v7().to_string(),
                ..StartGenerationRequest::default()
            };
            self.generations
                .start_generation(on_behalf("generation-status", self.account, request))
                .await
                .context("starting a generation")?;
        }
        let (slots, wanted) = mpsc::channel(1);
        let request = ClaimWorkRequest {
            worker: "bench".to_owned(),
            providers: vec!["local".to_owned()],
            slots: i32::try_from(GENERATIONS)?,
            ..ClaimWorkRequest::default()
        };
        slots.send(request).await?;
        let wanted = tokio_stream::wrappers::ReceiverStream::new(wanted);
        let mut offered = self.work.claim_work(wanted).await.context("claiming work")?.into_inner();
        let mut leases = Vec::with_capacity(GENERATIONS);
        while leases.len() < GENERATIONS {
            let claimed = tokio::time::timeout(LIMIT, offered.message());
            let Some(claimed) = claimed.await.context("no work was given out")?? else {
                bail!("the stream of work ended early");
            };
            let lease = claimed.work.and_then(|work| work.lease).context("work without a lease")?;
            leases.push(lease);
        }
        Ok(leases)
    }

    /// SUBMITTING becomes PROCESSING; in milliseconds, without those of the intent before it, which changes no state.
    async fn submitted(&mut self, lease: &Lease) -> Result<f64> {
        let (lease_of, provider) = (Some(lease.clone()), "bench".to_owned());
        let intent = RecordIntentRequest { lease: lease_of, provider, ..RecordIntentRequest::default() };
        self.work.record_intent(intent).await.context("recording an intent")?;
        let request =
            RecordSubmissionRequest { lease: Some(lease.clone()), provider_reference: format!("bench-{}", lease.job) };
        let began = Instant::now();
        self.work.record_submission(request).await.context("recording a submission")?;
        Ok(millis(began.elapsed()))
    }

    /// PROCESSING becomes FINALIZING; in milliseconds.
    async fn finalizing(&mut self, lease: &Lease) -> Result<f64> {
        let request = ReportProgressRequest {
            lease: Some(lease.clone()),
            percent: 100,
            stage: "fetching".to_owned(),
            finalizing: true,
        };
        let began = Instant::now();
        self.work.report_progress(request).await.context("reporting progress")?;
        Ok(millis(began.elapsed()))
    }

    /// Fails the work for good; what was held goes back.
    async fn end(&mut self, leases: Vec<Lease>) -> Result<()> {
        for lease in leases {
            let request = FailWorkRequest {
                lease: Some(lease),
                failure_class: FailureClass::InvalidInput.into(),
                reason: "INPUT_REFUSED".to_owned(),
                message: "Made only to be measured.".to_owned(),
                ..FailWorkRequest::default()
            };
            self.work.fail_work(request).await.context("ending measured work")?;
        }
        Ok(())
    }
}
