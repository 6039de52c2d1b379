//! generation-status and thumbnail-worker as scripts: they hand out what a test queues, note every call, and answer as told.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis::drain::Drain;
use chassis::server::{self, Server};
use chassis::{blobs, caller::Caller};
use generation_worker::config::Settings;
use generation_worker::hooks::Hooks;
use generation_worker::providers::Registry;
use proto::assets::v1::asset_service_server::{AssetService, AssetServiceServer};
use proto::assets::v1::thumbnail::State as Thumb;
use proto::assets::v1::{
    Asset, GetAssetRequest, RegisterOutputRequest, RegisterOutputResponse, RenderThumbnailRequest, Thumbnail,
    UploadAssetRequest,
};
use proto::generations::v1::Input;
use proto::work::v1::heartbeat_response::LeaseStatus;
use proto::work::v1::work_service_server::{WorkService, WorkServiceServer};
use proto::work::v1::{
    ClaimWorkRequest, ClaimWorkResponse, CompleteWorkRequest, CompleteWorkResponse, FailWorkRequest, FailWorkResponse,
    HeartbeatRequest, HeartbeatResponse, HintWorkRequest, HintWorkResponse, Lease, RecordIntentRequest,
    RecordIntentResponse, RecordSubmissionRequest, RecordSubmissionResponse, ReleaseWorkRequest, ReleaseWorkResponse,
    ReportProgressRequest, ReportProgressResponse, SuspendWorkRequest, SuspendWorkResponse, Work,
};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

/// What a worker said of one job.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Submitted(String),
    Progress(i32, String),
    Finalizing,
    Completed(Box<CompleteWorkRequest>),
    Failed(Box<FailWorkRequest>),
    Released,
    Intended(String),
    Suspended(Box<SuspendWorkRequest>),
}

#[derive(Default)]
pub(crate) struct State {
    queue: VecDeque<Work>,
    said: HashMap<String, Vec<Said>>,
    /// Leases that are out, and the most that were out at one time.
    out: usize,
    pub(crate) most_out: usize,
    pub(crate) streams: usize,
    /// Statuses with which calls of a method are answered, first one first.
    answers: HashMap<&'static str, VecDeque<Status>>,
    /// What heartbeats say: whether leases are held, and whether they are to be cancelled.
    pub(crate) lost: bool,
    pub(crate) cancel: bool,
    pub(crate) hints: Vec<HintWorkRequest>,
    pub(crate) registered: Vec<(Uuid, RegisterOutputRequest)>,
}

/// The scripts and what they share.
#[derive(Clone)]
pub(crate) struct Peer {
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
    cut: Arc<Notify>,
}

impl Peer {
    pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Queues a piece of work and returns its job.
    pub(crate) fn give(&self, change: impl FnOnce(&mut Work)) -> String {
        let job = Uuid::now_v7().to_string();
        let input = Input { prompt: "A harbour at dawn".into(), seed: Some(7), reference_assets: Vec::new() };
        let mut work = Work {
            lease: Some(Lease { job: job.clone(), fence: 1 }),
            generation: format!("generations/{}", Uuid::now_v7()),
            account: format!("accounts/{}", Uuid::now_v7()),
            model: generation_worker::providers::local::MODEL.into(),
            input: Some(input),
            attempt: 1,
            held_micros: 250_000,
            ..Work::default()
        };
        change(&mut work);
        self.state().queue.push_back(work);
        self.news.notify_waiters();
        job
    }

    /// Answers the next call of `method` with `status`.
    pub(crate) fn answer(&self, method: &'static str, status: Status) {
        self.state().answers.entry(method).or_default().push_back(status);
    }

    /// Breaks every open claim stream.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
    }

    pub(crate) fn said(&self, job: &str) -> Vec<Said> {
        self.state().said.get(job).cloned().unwrap_or_default()
    }

    /// Waits until something that `wanted` likes was said of a job.
    pub(crate) async fn hears<T>(&self, job: &str, what: &str, wanted: impl Fn(&Said) -> Option<T>) -> T {
        let heard =
            testkit::eventually(what, Duration::from_secs(20), async || self.said(job).iter().find_map(&wanted));
        heard.await.unwrap_or_else(|error| panic!("{error}; said: {:?}", self.said(job)))
    }

    pub(crate) async fn completed(&self, job: &str) -> CompleteWorkRequest {
        let wanted = |said: &Said| if let Said::Completed(request) = said { Some((**request).clone()) } else { None };
        self.hears(job, "it completes", wanted).await
    }

    pub(crate) async fn failed(&self, job: &str) -> FailWorkRequest {
        let wanted = |said: &Said| if let Said::Failed(request) = said { Some((**request).clone()) } else { None };
        self.hears(job, "it fails", wanted).await
    }

    pub(crate) async fn suspended(&self, job: &str) -> SuspendWorkRequest {
        let wanted = |said: &Said| if let Said::Suspended(request) = said { Some((**request).clone()) } else { None };
        self.hears(job, "it is suspended", wanted).await
    }

    fn note(&self, method: &'static str, lease: Option<Lease>, said: Said) -> Result<(), Status> {
        let mut state = self.state();
        if let Some(status) = state.answers.get_mut(method).and_then(VecDeque::pop_front) {
            return Err(status);
        }
        if matches!(said, Said::Completed(_) | Said::Failed(_) | Said::Released | Said::Suspended(_)) {
            state.out -= 1;
        }
        state.said.entry(lease.unwrap_or_default().job).or_default().push(said);
        Ok(())
    }

    /// Sends queued work for as many hands as the worker says are free.
    async fn hand_out(
        self,
        mut asks: Streaming<ClaimWorkRequest>,
        send: mpsc::Sender<Result<ClaimWorkResponse, Status>>,
    ) {
        let mut free = 0;
        self.state().streams += 1;
        loop {
            let news = self.news.notified();
            while free > 0 {
                let Some(work) = self.state().queue.pop_front() else { break };
                {
                    let mut state = self.state();
                    state.out += 1;
                    state.most_out = state.most_out.max(state.out);
                }
                free -= 1;
                if send.send(Ok(ClaimWorkResponse { work: Some(work) })).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                ask = asks.message() => match ask {
                    Ok(Some(ask)) => free += ask.slots,
                    _ => return,
                },
                () = news => {}
                () = self.cut.notified() => {
                    let _ = send.send(Err(Status::unavailable("cut"))).await;
                    return;
                }
            }
        }
    }
}

#[tonic::async_trait]
impl WorkService for Peer {
    type ClaimWorkStream = ReceiverStream<Result<ClaimWorkResponse, Status>>;

    async fn claim_work(
        &self,
        request: Request<Streaming<ClaimWorkRequest>>,
    ) -> Result<Response<Self::ClaimWorkStream>, Status> {
        let (send, receive) = mpsc::channel(16);
        tokio::spawn(self.clone().hand_out(request.into_inner(), send));
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        let state = self.state();
        let status = |lease: Lease| LeaseStatus { job: lease.job, held: !state.lost, cancel_requested: state.cancel };
        let statuses = request.into_inner().leases.into_iter().map(status).collect();
        Ok(Response::new(HeartbeatResponse { statuses }))
    }

    async fn record_intent(
        &self,
        request: Request<RecordIntentRequest>,
    ) -> Result<Response<RecordIntentResponse>, Status> {
        let request = request.into_inner();
        self.note("record_intent", request.lease, Said::Intended(request.provider))?;
        Ok(Response::new(RecordIntentResponse::default()))
    }

    async fn suspend_work(
        &self,
        request: Request<SuspendWorkRequest>,
    ) -> Result<Response<SuspendWorkResponse>, Status> {
        let request = request.into_inner();
        self.note("suspend_work", request.lease.clone(), Said::Suspended(request.into()))?;
        Ok(Response::new(SuspendWorkResponse::default()))
    }

    async fn hint_work(&self, request: Request<HintWorkRequest>) -> Result<Response<HintWorkResponse>, Status> {
        let mut state = self.state();
        if let Some(status) = state.answers.get_mut("hint_work").and_then(VecDeque::pop_front) {
            return Err(status);
        }
        state.hints.push(request.into_inner());
        Ok(Response::new(HintWorkResponse { awaited: true }))
    }

    async fn record_submission(
        &self,
        request: Request<RecordSubmissionRequest>,
    ) -> Result<Response<RecordSubmissionResponse>, Status> {
        let request = request.into_inner();
        self.note("record_submission", request.lease, Said::Submitted(request.provider_reference))?;
        Ok(Response::new(RecordSubmissionResponse::default()))
    }

    async fn report_progress(
        &self,
        request: Request<ReportProgressRequest>,
    ) -> Result<Response<ReportProgressResponse>, Status> {
        let request = request.into_inner();
        let said = if request.finalizing { Said::Finalizing } else { Said::Progress(request.percent, request.stage) };
        self.note("report_progress", request.lease, said)?;
        Ok(Response::new(ReportProgressResponse::default()))
    }

    async fn complete_work(
        &self,
        request: Request<CompleteWorkRequest>,
    ) -> Result<Response<CompleteWorkResponse>, Status> {
        let request = request.into_inner();
        self.note("complete_work", request.lease.clone(), Said::Completed(request.into()))?;
        Ok(Response::new(CompleteWorkResponse::default()))
    }

    async fn fail_work(&self, request: Request<FailWorkRequest>) -> Result<Response<FailWorkResponse>, Status> {
        let request = request.into_inner();
        self.note("fail_work", request.lease.clone(), Said::Failed(request.into()))?;
        Ok(Response::new(FailWorkResponse::default()))
    }

    async fn release_work(
        &self,
        request: Request<ReleaseWorkRequest>,
    ) -> Result<Response<ReleaseWorkResponse>, Status> {
        self.note("release_work", request.into_inner().lease, Said::Released)?;
        Ok(Response::new(ReleaseWorkResponse::default()))
    }
}

#[tonic::async_trait]
impl AssetService for Peer {
    async fn upload_asset(&self, _: Request<Streaming<UploadAssetRequest>>) -> Result<Response<Asset>, Status> {
        Err(Status::unimplemented("workers do not upload"))
    }

    async fn get_asset(&self, _: Request<GetAssetRequest>) -> Result<Response<Asset>, Status> {
        Err(Status::unimplemented("workers do not read"))
    }

    async fn render_thumbnail(&self, _: Request<RenderThumbnailRequest>) -> Result<Response<Thumbnail>, Status> {
        Err(Status::unimplemented("workers register"))
    }

    async fn register_output(
        &self,
        request: Request<RegisterOutputRequest>,
    ) -> Result<Response<RegisterOutputResponse>, Status> {
        let account = Caller::of(&request)?.account;
        let request = request.into_inner();
        let mut state = self.state();
        if let Some(status) = state.answers.get_mut("register_output").and_then(VecDeque::pop_front) {
            return Err(status);
        }
        state.registered.push((account, request.clone()));
        let mut thumbnail =
            Thumbnail { asset: "assets/poster".into(), url: "http://poster".into(), ..Thumbnail::default() };
        thumbnail.set_state(Thumb::Ready);
        let asset = Asset {
            name: request.asset,
            mime_type: "video/mp4".into(),
            size_bytes: 1,
            width: 640,
            height: 360,
            url: "http://video".into(),
            thumbnail: Some(thumbnail),
            create_time: None,
        };
        Ok(Response::new(RegisterOutputResponse {
            asset: Some(asset),
            duration_ms: 3_000,
            poster_missing_reason: String::new(),
        }))
    }
}

/// A worker between its scripted neighbours.
pub(crate) struct Stage {
    pub(crate) peer: Peer,
    pub(crate) blobs: blobs::Store,
    pub(crate) drain: Drain,
    pub(crate) working: JoinHandle<()>,
    pub(crate) hooks: Hooks,
    folder: PathBuf,
    scripts: Drain,
}

impl Stage {
    pub(crate) async fn with(providers: Registry, change: impl FnOnce(&mut Settings)) -> Self {
        let peer = Peer { state: Arc::default(), news: Arc::default(), cut: Arc::default() };
        let free = "127.0.0.1:0".parse().unwrap();
        let bound = Server::new("peers", &server::Settings { listen: free, admin: free })
            .streaming(["/rushes.work.v1.WorkService/ClaimWork"])
            .bind()
            .await
            .unwrap();
        let uri: http::Uri = format!("http://{}", bound.addr()).parse().unwrap();
        let routes =
            Routes::new(WorkServiceServer::new(peer.clone())).add_service(AssetServiceServer::new(peer.clone()));
        let scripts = Drain::default().with_grace(Duration::ZERO);
        tokio::spawn(bound.serve(routes, scripts.clone()));

        let folder = std::env::temp_dir().join(format!("rushes-worker-{}", Uuid::now_v7().simple()));
        let mut settings = Settings {
            generation_status: uri.clone(),
            thumbnail_worker: uri,
            blobs: blobs::Settings { url: format!("file://{}", folder.display()), options: Vec::new() },
            slots: 2,
            video_bytes: 8 << 20,
            order_limit: Duration::from_secs(60),
            heartbeat: Duration::from_millis(50),
        };
        change(&mut settings);
        let blobs = blobs::Store::open(&settings.blobs).unwrap();
        let hooks = generation_worker::hooks(&settings, providers.clone());
        let worker = generation_worker::build(&settings, providers, "worker".into()).unwrap();
        let drain = Drain::default().with_grace(Duration::from_secs(2));
        let ports = server::Settings { listen: free, admin: free };
        let bound = Server::new("generation-worker", &ports).bind().await.unwrap();
        let serving = generation_worker::serve(worker, bound, hooks.clone(), drain.clone());
        let working = tokio::spawn(async move { serving.await.unwrap() });
        Self { peer, blobs, drain, working, hooks, folder, scripts }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.working.abort();
        self.scripts.begin();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
