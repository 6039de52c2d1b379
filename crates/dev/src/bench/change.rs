//! What is written: a start, a claim, and a committed change of a generation's status, as a user and a worker cause them over gRPC;
//! beside a plain update of one row, committed on one connection.
//!
//! This process is both: it starts generations, claims them one by one, reports the two changes that follow (the provider took the
//! order, the provider is done), and then fails them, so that nothing is left behind. The second half is claimed while thousands of
//! others' jobs wait in the same queue. Between the two changes all of them report percentages at once, again and again, as providers'
//! progress comes, which is to cost the database next to nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt as _;
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::watch_generations_response::Event;
use proto::generations::v1::{Input, StartGenerationRequest, State, WatchGenerationsRequest, WatchGenerationsResponse};
use proto::work::v1::work_service_client::WorkServiceClient;
use proto::work::v1::{
    ClaimWorkRequest, FailWorkRequest, FailureClass, Lease, RecordIntentRequest, RecordSubmissionRequest,
    ReportProgressRequest,
};
use sqlx::PgConnection;
use testkit::Doors;
use tonic::Streaming;
use tonic::transport::Channel;
use uuid::Uuid;

use super::backends::{self, Backends};
use super::progress::say;
use super::report::{Round, Row, median, millis};
use super::services::on_behalf;
use super::setup::Bench;
use super::{process, statements};

/// Generations in a round; each has two changes.
const GENERATIONS: usize = 30;
/// Others' jobs in the queue while the second half of them is claimed.
const QUEUED: i32 = 20_000;
/// How often all generations report progress in a round, and with how many reports each at a time.
const REPORTS: i32 = 20;
const REPORTS_AT_ONCE: i32 = 4;
/// The backends of all services.
const BACKENDS: &str = "rushes/%";
/// How long a claim, or the event of a change, may take.
const LIMIT: Duration = Duration::from_secs(20);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    say("starts, claims and committed changes of status");
    let mut database = bench.database.connect().await?;
    let ids = statements::plain_table(&mut database).await?;
    let mut plain = Plain { database: bench.database.connect().await?, ids, next: 0 };
    let account = *bench.seeded.warm().last().context("no account is left")?;
    let others: Vec<Uuid> = bench.seeded.warm().iter().copied().filter(|other| *other != account).collect();
    let scenes = statements::scenes(&mut database, account).await?;
    let mut worker = Worker::open(bench, account).await?;
    let cost = Cost::of(bench)?;
    let (mut starts, mut claims, mut changes, mut seen) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut costs, mut reports, mut wholes) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..=bench.options.rounds {
        let whole_began = cost.now(&mut database).await?;
        let (mut started, mut updated) = (Vec::new(), Vec::new());
        for scene in scenes.iter().cycle().take(GENERATIONS) {
            started.push(worker.start(scene).await?);
            updated.push(plain.update().await?);
        }
        let (mut leases, mut short, mut long) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..GENERATIONS / 2 {
            let (lease, took) = worker.claim().await?;
            leases.push(lease);
            short.push(took);
        }
        let first = leases.first().context("nothing was claimed")?;
        statements::queue_more(&mut database, &first.job, &others, QUEUED).await?;
        for _ in GENERATIONS / 2..GENERATIONS {
            let (lease, took) = worker.claim().await?;
            leases.push(lease);
            long.push(took);
        }
        statements::unqueue(&mut database).await?;
        for lease in &leases {
            worker.intend(lease).await?;
        }
        let (mut changed, mut beside) = (Vec::new(), Vec::new());
        let (mut answered, mut watched) = (Vec::new(), Vec::new());
        let (began, plain_began) = (cost.now(&mut database).await?, plain.cpu().await?);
        for lease in &leases {
            changed.push(worker.submitted(lease).await?);
            beside.push(plain.update().await?);
        }
        let mut used = cost.since(&began, &mut database).await?;
        let began = cost.now(&mut database).await?;
        for number in 0..REPORTS {
            let all = leases.iter().flat_map(|lease| {
                (0..REPORTS_AT_ONCE).map(|one| worker.progress(lease, number * REPORTS_AT_ONCE + one))
            });
            futures::future::try_join_all(all.collect::<Vec<_>>()).await?;
        }
        let reported = cost.since(&began, &mut database).await?;
        let began = cost.now(&mut database).await?;
        for lease in &leases {
            let (answer, event) = worker.finalizing(lease).await?;
            changed.push(answer);
            answered.push(answer);
            watched.push(event);
            beside.push(plain.update().await?);
        }
        used += cost.since(&began, &mut database).await?;
        let each = |time: Duration, count: usize| millis(time) / count as f64;
        let updating = each(plain.cpu().await? - plain_began, beside.len());
        worker.end(leases).await?;
        let whole = cost.since(&whole_began, &mut database).await?.postgres - reported.postgres;
        // The first round prepares statements.
        if number > 0 {
            let round = |ours: Vec<f64>, beside: Vec<f64>| Round {
                ours: median(ours.into_iter()),
                beside: median(beside.into_iter()),
            };
            starts.push(round(started, updated));
            claims.push(round(long, short));
            changes.push(round(changed, beside));
            seen.push(round(watched, answered));
            costs.push(Round { ours: each(used.all(), 2 * GENERATIONS), beside: updating });
            wholes.push(Round { ours: each(whole, GENERATIONS), beside: updating });
            reports.push(Round {
                ours: each(reported.postgres, GENERATIONS * (REPORTS * REPORTS_AT_ONCE) as usize),
                beside: updating,
            });
        }
    }
    let plain = "a plain update of one row of the same table without triggers, committed on one connection";
    Ok(vec![
        Row::new("start", "ms", plain, 2.0, &starts),
        Row::new("status_change", "ms", plain, 2.0, &changes),
        Row::new("status_change_watched", "ms", "the answer to who reported the change", 1.5, &seen),
        Row::new(
            "status_change_cpu",
            "ms",
            "CPU of the backend for the plain update; ours of all processes",
            1.5,
            &costs,
        ),
        Row::new(
            "progress_postgres_cpu",
            "ms",
            "the same; ours of PostgreSQL for one report of progress",
            0.05,
            &reports,
        ),
        Row::new(
            "generation_postgres_cpu",
            "ms",
            "the same; ours of PostgreSQL for a generation from its start to its end, without its reports of progress",
            20.0,
            &wholes,
        ),
        Row::new("claim_long_queue", "ms", "the same while nobody else's work is in the queue", 1.2, &claims),
    ])
}

/// The processes that a change takes time of: the service, Redis, and the backends of the services.
struct Cost {
    processes: [u32; 2],
}

/// What they had used at some moment.
struct Began {
    processes: Duration,
    postgres: Backends,
}

/// What they have used since.
struct Used {
    processes: Duration,
    postgres: Duration,
}

impl Used {
    fn all(&self) -> Duration {
        self.processes + self.postgres
    }
}

impl std::ops::AddAssign for Used {
    fn add_assign(&mut self, other: Self) {
        self.processes += other.processes;
        self.postgres += other.postgres;
    }
}

impl Cost {
    fn of(bench: &Bench) -> Result<Self> {
        let redis = bench.database.redis.id().context("Redis is not running")?;
        Ok(Self { processes: [bench.services.service("generation-status")?.pid(), redis] })
    }

    fn cpu(&self) -> Result<Duration> {
        self.processes.iter().map(|pid| process::cpu(*pid)).sum()
    }

    async fn now(&self, database: &mut PgConnection) -> Result<Began> {
        let postgres = Backends::of(BACKENDS, database).await?;
        Ok(Began { processes: self.cpu()?, postgres })
    }

    async fn since(&self, began: &Began, database: &mut PgConnection) -> Result<Used> {
        let processes = self.cpu()? - began.processes;
        Ok(Used { processes, postgres: began.postgres.since(database).await? })
    }
}

/// Rows without triggers, and a connection that changes one after the other.
struct Plain {
    database: PgConnection,
    ids: Vec<Uuid>,
    next: usize,
}

impl Plain {
    /// In milliseconds.
    async fn update(&mut self) -> Result<f64> {
        let id = self.ids[self.next % self.ids.len()];
        self.next += 1;
        let began = Instant::now();
        statements::plain_update(&mut self.database, id, "rendering").await?;
        Ok(millis(began.elapsed()))
    }

    /// CPU time of its backend so far.
    async fn cpu(&mut self) -> Result<Duration> {
        backends::own(&mut self.database).await
    }
}

/// A user and a worker of one account's generations, and who watches them.
struct Worker {
    account: Uuid,
    generations: GenerationServiceClient<Channel>,
    work: WorkServiceClient<Doors>,
    events: Streaming<WatchGenerationsResponse>,
}

impl Worker {
    async fn open(bench: &Bench, account: Uuid) -> Result<Self> {
        let service = bench.services.service("generation-status")?;
        let mut generations = GenerationServiceClient::new(service.channel().await?);
        let all = on_behalf("generation-status", account, WatchGenerationsRequest::default());
        let events = generations.watch_generations(all).await.context("watching generations")?.into_inner();
        Ok(Self { account, generations, work: WorkServiceClient::new(service.doors()?), events })
    }

    /// Starts a generation; in milliseconds.
    async fn start(&mut self, scene: &str) -> Result<f64> {
        let request = StartGenerationRequest {
            scene: scene.to_owned(),
            input: Some(Input { prompt: "a lantern over quiet water".to_owned(), ..Input::default() }),
            request_id: Uuid::now_v7().to_string(),
            ..StartGenerationRequest::default()
        };
        let request = on_behalf("generation-status", self.account, request);
        let began = Instant::now();
        self.generations.start_generation(request).await.context("starting a generation")?;
        Ok(millis(began.elapsed()))
    }

    /// Claims one piece of work; in milliseconds, from the asking.
    async fn claim(&mut self) -> Result<(Lease, f64)> {
        let request = ClaimWorkRequest {
            worker: "bench".to_owned(),
            providers: vec!["local".to_owned()],
            slots: 1,
            ..ClaimWorkRequest::default()
        };
        let began = Instant::now();
        // A stream that goes on, so that the worker is there while it waits.
        let wanted = futures::stream::iter([request]).chain(futures::stream::pending());
        let mut offered = self.work.claim_work(wanted).await.context("claiming work")?.into_inner();
        let claimed = tokio::time::timeout(LIMIT, offered.message()).await.context("no work was given out")??;
        let took = millis(began.elapsed());
        let lease = claimed.and_then(|claimed| claimed.work?.lease).context("work without a lease")?;
        Ok((lease, took))
    }

    /// What is recorded before an order, which changes no state.
    async fn intend(&mut self, lease: &Lease) -> Result<()> {
        let (lease, provider) = (Some(lease.clone()), "bench".to_owned());
        let intent = RecordIntentRequest { lease, provider, ..RecordIntentRequest::default() };
        self.work.record_intent(intent).await.context("recording an intent")?;
        Ok(())
    }

    /// Reports so many percent.
    fn progress(&self, lease: &Lease, percent: i32) -> impl Future<Output = Result<()>> + use<> {
        let request = ReportProgressRequest {
            lease: Some(lease.clone()),
            percent,
            stage: "rendering".to_owned(),
            finalizing: false,
        };
        let mut work = self.work.clone();
        async move { work.report_progress(request).await.map(drop).context("reporting progress") }
    }

    /// SUBMITTING becomes PROCESSING; in milliseconds.
    async fn submitted(&mut self, lease: &Lease) -> Result<f64> {
        let request =
            RecordSubmissionRequest { lease: Some(lease.clone()), provider_reference: format!("bench-{}", lease.job) };
        let began = Instant::now();
        self.work.record_submission(request).await.context("recording a submission")?;
        Ok(millis(began.elapsed()))
    }

    /// PROCESSING becomes FINALIZING; in milliseconds, until the answer and until who watches has it.
    async fn finalizing(&mut self, lease: &Lease) -> Result<(f64, f64)> {
        let request = ReportProgressRequest {
            lease: Some(lease.clone()),
            percent: 100,
            stage: "fetching".to_owned(),
            finalizing: true,
        };
        let name = format!("generations/{}", lease.job);
        let began = Instant::now();
        let answered = async {
            self.work.report_progress(request).await.context("reporting progress")?;
            anyhow::Ok(millis(began.elapsed()))
        };
        let watched = async {
            loop {
                let event = self.events.message().await?.context("the watch ended")?.event;
                if let Some(Event::Update(generation)) = event
                    && generation.name == name
                    && generation.state() == State::Finalizing
                {
                    return anyhow::Ok(millis(began.elapsed()));
                }
            }
        };
        let watched = async { tokio::time::timeout(LIMIT, watched).await.context("the change was not told")? };
        tokio::try_join!(answered, watched)
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
