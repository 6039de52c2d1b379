//! A worker as the protocol sees it.

use proto::generations::v1::Output;
use proto::generations::v1::charge::ProviderCharge;
use proto::work::v1::{
    ClaimWorkRequest, ClaimWorkResponse, CompleteWorkRequest, FailWorkRequest, FailureClass, HeartbeatRequest, Lease,
    MadeOutput, RecordIntentRequest, RecordSubmissionRequest, ReleaseWorkRequest, ReportProgressRequest,
    SuspendWorkRequest, Work,
};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::cluster::{Cluster, Node, Works};

pub(crate) const VIDEO: &str = "assets/1111111111111111111111111111111111111111111111111111111111111111";
pub(crate) const VIDEO_BYTES: i64 = 4_321;
pub(crate) const POSTER: &str = "assets/2222222222222222222222222222222222222222222222222222222222222222";
/// The poster in the video's own shape.
pub(crate) const LARGE: &str = "assets/3333333333333333333333333333333333333333333333333333333333333333";
pub(crate) const SMALL: &str = "assets/4444444444444444444444444444444444444444444444444444444444444444";
/// Of the poster.
pub(crate) const THUMBHASH: &[u8] = &[7; 24];

/// A worker with its claim stream open.
pub(crate) struct Worker {
    pub(crate) works: Works,
    /// Where thumbnail-worker's rows are written in its place.
    pool: PgPool,
    asks: mpsc::Sender<ClaimWorkRequest>,
    leases: Streaming<ClaimWorkResponse>,
}

impl Worker {
    /// A worker with so many free slots.
    pub(crate) async fn new(cluster: &Cluster, slots: i32) -> Self {
        Self::at(cluster, &cluster.node, slots).await
    }

    /// A worker that talks to this node.
    pub(crate) async fn at(cluster: &Cluster, node: &Node, slots: i32) -> Self {
        Self::with(cluster, node, asking(slots)).await
    }

    /// A worker that can ask this provider.
    pub(crate) async fn of(cluster: &Cluster, provider: &str, slots: i32) -> Self {
        let asking = ClaimWorkRequest { providers: vec![provider.to_owned()], ..asking(slots) };
        Self::with(cluster, &cluster.node, asking).await
    }

    /// A worker that has these keys of the built-in provider, as if that were one elsewhere.
    pub(crate) async fn with_keys(cluster: &Cluster, keys: &[&str], slots: i32) -> Self {
        let provider_keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Self::with(cluster, &cluster.node, ClaimWorkRequest { provider_keys, ..asking(slots) }).await
    }

    async fn with(cluster: &Cluster, node: &Node, asking: ClaimWorkRequest) -> Self {
        let mut works = node.works.clone();
        let (asks, asked) = mpsc::channel(8);
        asks.send(asking).await.unwrap();
        let leases = works.claim_work(ReceiverStream::new(asked)).await.unwrap().into_inner();
        Self { works, pool: cluster.pool.clone(), asks, leases }
    }

    /// Says that more slots are free.
    pub(crate) async fn free(&self, slots: i32) {
        self.asks.send(asking(slots)).await.unwrap();
    }

    /// The next lease; waits for one.
    pub(crate) async fn next(&mut self) -> Work {
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), self.leases.message());
        next.await.expect("work within 20 s").unwrap().expect("the stream goes on").work.unwrap()
    }

    /// Whether the service ended the stream in order.
    pub(crate) async fn ended(&mut self) -> bool {
        self.leases.message().await.unwrap().is_none()
    }

    pub(crate) async fn intended(&self, work: &Work) -> Result<(), Status> {
        let request = RecordIntentRequest {
            lease: work.lease.clone(),
            provider: "local".to_owned(),
            provider_key: work.provider_key.clone(),
        };
        self.works.clone().record_intent(request).await.map(drop)
    }

    /// Orders as a good worker does: intent, call, reference.
    pub(crate) async fn submitted(&self, work: &Work) -> Result<(), Status> {
        if work.provider_reference.is_empty() {
            self.intended(work).await?;
        }
        self.referred(work, "order-1").await
    }

    pub(crate) async fn referred(&self, work: &Work, reference: &str) -> Result<(), Status> {
        let request = RecordSubmissionRequest { lease: work.lease.clone(), provider_reference: reference.to_owned() };
        self.works.clone().record_submission(request).await.map(drop)
    }

    /// Reports progress; returns whether to stop.
    pub(crate) async fn progress(&self, work: &Work, percent: i32) -> Result<bool, Status> {
        let request = ReportProgressRequest {
            lease: work.lease.clone(),
            percent,
            stage: format!("stage {percent}"),
            finalizing: false,
        };
        Ok(self.works.clone().report_progress(request).await?.into_inner().cancel_requested)
    }

    pub(crate) async fn finalizing(&self, work: &Work) -> Result<(), Status> {
        let request = ReportProgressRequest {
            lease: work.lease.clone(),
            percent: 95,
            stage: "fetching".to_owned(),
            finalizing: true,
        };
        self.works.clone().report_progress(request).await.map(drop)
    }

    pub(crate) async fn complete(&self, work: &Work) -> Result<(), Status> {
        self.complete_with(work, ORDERED_MS).await
    }

    /// Registers an output that plays so long, as thumbnail-worker would, and completes.
    pub(crate) async fn complete_with(&self, work: &Work, duration_ms: i64) -> Result<(), Status> {
        self.register_output(&work.account, VIDEO_BYTES).await;
        self.works.clone().complete_work(completion(work.lease.clone(), duration_ms)).await.map(drop)
    }

    /// Writes the row of an asset of an account.
    pub(crate) async fn register_output(&self, account: &str, size_bytes: i64) {
        sqlx::query(
            "insert into assets (account_id, sha256, blob, mime_type, size_bytes, width, height, duration_ms, thumbhash,
                    poster_large, poster_large_width, poster_large_height,
                    poster_small, poster_small_width, poster_small_height)
             values ($1::uuid, decode($2, 'hex'), $2 || '.mp4', 'video/mp4', $3, 640, 360, 3500, $4,
                     $5 || '.webp', 512, 288, $6 || '.webp', 256, 144)
             on conflict (account_id, sha256) do update set size_bytes = excluded.size_bytes",
        )
        .bind(account.trim_start_matches("accounts/"))
        .bind(VIDEO.trim_start_matches("assets/"))
        .bind(size_bytes)
        .bind(THUMBHASH)
        .bind(LARGE.trim_start_matches("assets/"))
        .bind(SMALL.trim_start_matches("assets/"))
        .execute(&self.pool)
        .await
        .unwrap();
    }

    pub(crate) async fn complete_unregistered(&self, work: &Work) -> Result<(), Status> {
        self.works.clone().complete_work(completion(work.lease.clone(), ORDERED_MS)).await.map(drop)
    }

    /// All that a good worker does after its claim.
    pub(crate) async fn carry_out(&self, work: &Work) {
        self.submitted(work).await.unwrap();
        self.progress(work, 50).await.unwrap();
        self.finalizing(work).await.unwrap();
        self.complete(work).await.unwrap();
    }

    /// Reports a failure; returns whether there will be another attempt.
    pub(crate) async fn fail(&self, work: &Work, class: FailureClass) -> Result<bool, Status> {
        self.fail_with(work, class, |_| {}).await
    }

    /// Reports a failure of which the provider says that it costs nothing.
    pub(crate) async fn fail_uncharged(&self, work: &Work, class: FailureClass) -> Result<bool, Status> {
        self.fail_with(work, class, |request| request.set_provider_charge(ProviderCharge::NotCharged)).await
    }

    /// Reports a failure that `change` has changed.
    pub(crate) async fn fail_with(
        &self,
        work: &Work,
        class: FailureClass,
        change: impl FnOnce(&mut FailWorkRequest),
    ) -> Result<bool, Status> {
        let mut request = FailWorkRequest {
            lease: work.lease.clone(),
            failure_class: class.into(),
            reason: String::new(),
            message: "it did not work".to_owned(),
            provider_key: work.provider_key.clone(),
            ..FailWorkRequest::default()
        };
        change(&mut request);
        Ok(self.works.clone().fail_work(request).await?.into_inner().will_retry)
    }

    /// Leaves an order to its provider, to be polled at once.
    pub(crate) async fn suspend(
        &self,
        work: &Work,
        change: impl FnOnce(&mut SuspendWorkRequest),
    ) -> Result<(), Status> {
        let poll_after = Some(prost_types::Duration::default());
        let mut request = SuspendWorkRequest { lease: work.lease.clone(), poll_after, ..SuspendWorkRequest::default() };
        change(&mut request);
        self.works.clone().suspend_work(request).await.map(drop)
    }

    /// Suspends a submission as unconfirmed.
    pub(crate) async fn suspend_unconfirmed(&self, work: &Work) -> Result<(), Status> {
        self.suspend(work, |request| {
            (request.unconfirmed, request.poll_after, request.message) = (true, None, "cut off".to_owned());
        })
        .await
    }

    pub(crate) async fn release(&self, work: &Work) -> Result<(), Status> {
        self.works.clone().release_work(ReleaseWorkRequest { lease: work.lease.clone() }).await.map(drop)
    }

    /// Prolongs one lease; returns whether it is held and whether to stop.
    pub(crate) async fn heartbeat(&self, work: &Work) -> (bool, bool) {
        let request = HeartbeatRequest { worker: "test".to_owned(), leases: work.lease.clone().into_iter().collect() };
        let statuses = self.works.clone().heartbeat(request).await.unwrap().into_inner().statuses;
        (statuses[0].held, statuses[0].cancel_requested)
    }
}

fn asking(slots: i32) -> ClaimWorkRequest {
    ClaimWorkRequest {
        worker: format!("test-{}", uuid::Uuid::now_v7()),
        providers: vec!["local".to_owned()],
        slots,
        ..ClaimWorkRequest::default()
    }
}

/// How long a video of the model's default plays.
pub(crate) const ORDERED_MS: i64 = 4_000;

/// A completion with a video that plays so long.
pub(crate) fn completion(lease: Option<Lease>, duration_ms: i64) -> CompleteWorkRequest {
    let (seconds, nanos) = (duration_ms / 1_000, i32::try_from(duration_ms % 1_000 * 1_000_000).unwrap());
    let made = MadeOutput {
        output: Some(Output {
            asset: VIDEO.to_owned(),
            size_bytes: VIDEO_BYTES,
            mime_type: "video/mp4".to_owned(),
            width: 640,
            height: 360,
            duration: Some(prost_types::Duration { seconds, nanos }),
            poster: POSTER.to_owned(),
            ..Output::default()
        }),
        extension: "mp4".to_owned(),
    };
    CompleteWorkRequest { lease, outputs: vec![made], usage: None }
}
