//! generation-status and thumbnail-worker as one scripted node: it hands out what a test queues, records every call, and answers as
//! the test wants.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis::blobs::Name;
use chassis::drain::Drain;
use chassis::identity::{self, By, Identities};
use chassis::keyring::InternalKeys;
use chassis::server::{self, Server};
use proto::assets::v1::asset_service_server::{AssetService, AssetServiceServer};
use proto::assets::v1::thumbnail::State as Thumb;
use proto::assets::v1::{
    Asset, DeleteAssetRequest, GetAssetRequest, GetStorageUseRequest, ListAssetsRequest, ListAssetsResponse,
    RegisterOutputRequest, RegisterOutputResponse, RenderThumbnailRequest, StorageUse, Thumbnail, UploadAssetRequest,
};
use proto::work::v1::heartbeat_response::LeaseStatus;
use proto::work::v1::hint_work_request::Confirmation;
use proto::work::v1::work_service_server::{WorkService, WorkServiceServer};
use proto::work::v1::{
    ClaimWorkRequest, ClaimWorkResponse, CompleteWorkRequest, CompleteWorkResponse, FailWorkRequest, FailWorkResponse,
    HeartbeatRequest, HeartbeatResponse, HintWorkRequest, HintWorkResponse, Lease, ListRemoteModelsRequest,
    ListRemoteModelsResponse, Order, RecordIntentRequest, RecordIntentResponse, RecordSubmissionRequest,
    RecordSubmissionResponse, ReleaseWorkRequest, ReleaseWorkResponse, RemoteModel, ReportProgressRequest,
    ReportProgressResponse, SuspendWorkRequest, SuspendWorkResponse, Work,
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

/// The trace context of whoever started every generation.
pub(crate) const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What a worker reported of one job.
#[derive(Clone, Debug)]
pub(crate) enum Report {
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
    reports: HashMap<String, Vec<Report>>,
    /// Leases that are given now.
    leased: usize,
    pub(crate) max_leased: usize,
    pub(crate) streams: usize,
    /// The names of the workers that opened a claim stream, each once.
    pub(crate) workers: BTreeSet<String>,
    /// The public names of the keys that they said to have.
    pub(crate) keys: Vec<String>,
    /// Statuses with which calls of a method are refused, first one first.
    refusals: HashMap<&'static str, VecDeque<Status>>,
    /// What heartbeats say: whether leases are held, and whether they are to be cancelled.
    pub(crate) lost: bool,
    pub(crate) cancel: bool,
    /// The catalogue's models elsewhere.
    pub(crate) models: Vec<RemoteModel>,
    pub(crate) hints: Vec<HintWorkRequest>,
    /// What the provider calls the model of an order that is not known yet; empty: all are.
    pub(crate) unsettled: String,
    pub(crate) registered: Vec<(Uuid, RegisterOutputRequest)>,
}

/// The scripted node; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Node {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    cut: Arc<Notify>,
}

impl Node {
    /// Serves both services on one port until `drain` begins. Returns where.
    pub(crate) async fn serve(&self, drain: Drain) -> http::Uri {
        let bound = Server::new("node", &server::Settings::FREE)
            .describe(proto::DESCRIPTOR_SET)
            .streaming(["/rushes.work.v1.WorkService/ClaimWork"])
            .bind()
            .await
            .unwrap();
        let uri = format!("http://{}", bound.addr()).parse().unwrap();
        let work = WorkServiceServer::new(self.clone());
        let routes = Routes::new(work).add_service(AssetServiceServer::new(self.clone()));
        tokio::spawn(bound.serve(routes, drain));
        uri
    }

    pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Queues work and returns its job. An order that names no provider is for the first that the worker has.
    pub(crate) fn queue(&self, change: impl FnOnce(&mut Work)) -> String {
        let job = Uuid::now_v7().to_string();
        let order = Order {
            input: r#"{"prompt": "A harbour at dawn", "seed": 7}"#.into(),
            output_kinds: vec!["video".into()],
            max_outputs: 1,
            ..Order::default()
        };
        let mut work = Work {
            lease: Some(Lease { job: job.clone(), fence: 1 }),
            generation: format!("generations/{}", Uuid::now_v7()),
            account: format!("accounts/{}", Uuid::now_v7()),
            model: "models/local-sketch".into(),
            order: Some(order),
            attempt: 1,
            held_micros: 250_000,
            ..Work::default()
        };
        change(&mut work);
        self.state().queue.push_back(work);
        self.changed.notify_waiters();
        job
    }

    /// Refuses the next call of `method` with `status`.
    pub(crate) fn refuse_next(&self, method: &'static str, status: Status) {
        self.state().refusals.entry(method).or_default().push_back(status);
    }

    /// Breaks every open claim stream.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
    }

    pub(crate) fn reports(&self, job: &str) -> Vec<Report> {
        self.state().reports.get(job).cloned().unwrap_or_default()
    }

    /// Waits until a report of a job is `wanted`.
    pub(crate) async fn wait_for<T>(&self, job: &str, what: &str, wanted: impl Fn(&Report) -> Option<T>) -> T {
        let question = async || self.reports(job).iter().find_map(&wanted);
        let report = testkit::eventually(what, Duration::from_secs(20), question);
        report.await.unwrap_or_else(|error| panic!("{error}; reports: {:?}", self.reports(job)))
    }

    /// The reference of a job's order, once it is recorded.
    pub(crate) async fn submitted(&self, job: &str) -> String {
        let wanted =
            |report: &Report| if let Report::Submitted(reference) = report { Some(reference.clone()) } else { None };
        self.wait_for(job, "it is submitted", wanted).await
    }

    pub(crate) async fn completed(&self, job: &str) -> CompleteWorkRequest {
        let wanted =
            |report: &Report| if let Report::Completed(request) = report { Some((**request).clone()) } else { None };
        self.wait_for(job, "it completes", wanted).await
    }

    pub(crate) async fn failed(&self, job: &str) -> FailWorkRequest {
        let wanted =
            |report: &Report| if let Report::Failed(request) = report { Some((**request).clone()) } else { None };
        self.wait_for(job, "it fails", wanted).await
    }

    pub(crate) async fn suspended(&self, job: &str) -> SuspendWorkRequest {
        let wanted =
            |report: &Report| if let Report::Suspended(request) = report { Some((**request).clone()) } else { None };
        self.wait_for(job, "it is suspended", wanted).await
    }

    fn record(&self, method: &'static str, lease: Option<Lease>, report: Report) -> Result<(), Status> {
        let mut state = self.state();
        if let Some(status) = state.refusals.get_mut(method).and_then(VecDeque::pop_front) {
            return Err(status);
        }
        if matches!(report, Report::Completed(_) | Report::Failed(_) | Report::Released | Report::Suspended(_)) {
            state.leased -= 1;
        }
        state.reports.entry(lease.unwrap_or_default().job).or_default().push(report);
        Ok(())
    }

    /// Sends queued work for as many slots as the worker says are free.
    async fn dispatch(
        self,
        mut asks: Streaming<ClaimWorkRequest>,
        send: mpsc::Sender<Result<ClaimWorkResponse, Status>>,
    ) {
        let (mut free, mut providers) = (0, Vec::new());
        self.state().streams += 1;
        loop {
            let changed = self.changed.notified();
            while free > 0 {
                let Some(mut work) = self.state().queue.pop_front() else { break };
                if let Some(order) = work.order.as_mut().filter(|order| order.provider.is_empty()) {
                    order.provider.clone_from(&providers[0]);
                }
                {
                    let mut state = self.state();
                    state.leased += 1;
                    state.max_leased = state.max_leased.max(state.leased);
                }
                free -= 1;
                if send.send(Ok(ClaimWorkResponse { work: Some(work) })).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                ask = asks.message() => match ask {
                    Ok(Some(ask)) => {
                        free += ask.slots;
                        providers.extend(ask.providers);
                        self.state().keys.extend(ask.provider_keys);
                        self.state().workers.extend(Some(ask.worker).filter(|name| !name.is_empty()));
                    }
                    _ => return,
                },
                () = changed => {}
                () = self.cut.notified() => {
                    let _ = send.send(Err(Status::unavailable("cut"))).await;
                    return;
                }
            }
        }
    }
}

#[tonic::async_trait]
impl WorkService for Node {
    type ClaimWorkStream = ReceiverStream<Result<ClaimWorkResponse, Status>>;

    async fn claim_work(
        &self,
        request: Request<Streaming<ClaimWorkRequest>>,
    ) -> Result<Response<Self::ClaimWorkStream>, Status> {
        let (send, receive) = mpsc::channel(16);
        tokio::spawn(self.clone().dispatch(request.into_inner(), send));
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
        self.record("record_intent", request.lease, Report::Intended(request.provider))?;
        Ok(Response::new(RecordIntentResponse::default()))
    }

    async fn suspend_work(
        &self,
        request: Request<SuspendWorkRequest>,
    ) -> Result<Response<SuspendWorkResponse>, Status> {
        let request = request.into_inner();
        self.record("suspend_work", request.lease.clone(), Report::Suspended(request.into()))?;
        Ok(Response::new(SuspendWorkResponse::default()))
    }

    async fn hint_work(&self, request: Request<HintWorkRequest>) -> Result<Response<HintWorkResponse>, Status> {
        let mut state = self.state();
        if let Some(status) = state.refusals.get_mut("hint_work").and_then(VecDeque::pop_front) {
            return Err(status);
        }
        let hint = request.into_inner();
        let confirm_at_model = match hint.confirmation() {
            Confirmation::Confirmed => String::new(),
            _ => state.unsettled.clone(),
        };
        state.hints.push(hint);
        let traceparent = TRACEPARENT.into();
        Ok(Response::new(HintWorkResponse { awaited: true, traceparent, confirm_at_model, ..Default::default() }))
    }

    async fn record_submission(
        &self,
        request: Request<RecordSubmissionRequest>,
    ) -> Result<Response<RecordSubmissionResponse>, Status> {
        let request = request.into_inner();
        self.record("record_submission", request.lease, Report::Submitted(request.provider_reference))?;
        Ok(Response::new(RecordSubmissionResponse::default()))
    }

    async fn report_progress(
        &self,
        request: Request<ReportProgressRequest>,
    ) -> Result<Response<ReportProgressResponse>, Status> {
        let request = request.into_inner();
        let report =
            if request.finalizing { Report::Finalizing } else { Report::Progress(request.percent, request.stage) };
        self.record("report_progress", request.lease, report)?;
        Ok(Response::new(ReportProgressResponse::default()))
    }

    async fn complete_work(
        &self,
        request: Request<CompleteWorkRequest>,
    ) -> Result<Response<CompleteWorkResponse>, Status> {
        let request = request.into_inner();
        self.record("complete_work", request.lease.clone(), Report::Completed(request.into()))?;
        Ok(Response::new(CompleteWorkResponse::default()))
    }

    async fn fail_work(&self, request: Request<FailWorkRequest>) -> Result<Response<FailWorkResponse>, Status> {
        let request = request.into_inner();
        self.record("fail_work", request.lease.clone(), Report::Failed(request.into()))?;
        Ok(Response::new(FailWorkResponse::default()))
    }

    async fn list_remote_models(
        &self,
        _: Request<ListRemoteModelsRequest>,
    ) -> Result<Response<ListRemoteModelsResponse>, Status> {
        let mut state = self.state();
        if let Some(status) = state.refusals.get_mut("list_remote_models").and_then(VecDeque::pop_front) {
            return Err(status);
        }
        Ok(Response::new(ListRemoteModelsResponse { models: state.models.clone() }))
    }

    async fn release_work(
        &self,
        request: Request<ReleaseWorkRequest>,
    ) -> Result<Response<ReleaseWorkResponse>, Status> {
        self.record("release_work", request.into_inner().lease, Report::Released)?;
        Ok(Response::new(ReleaseWorkResponse::default()))
    }
}

#[tonic::async_trait]
impl AssetService for Node {
    async fn upload_asset(&self, _: Request<Streaming<UploadAssetRequest>>) -> Result<Response<Asset>, Status> {
        Err(Status::unimplemented("workers do not upload"))
    }

    async fn get_asset(&self, _: Request<GetAssetRequest>) -> Result<Response<Asset>, Status> {
        Err(Status::unimplemented("workers do not read"))
    }

    async fn list_assets(&self, _: Request<ListAssetsRequest>) -> Result<Response<ListAssetsResponse>, Status> {
        Err(Status::unimplemented("workers do not list"))
    }

    async fn delete_asset(&self, _: Request<DeleteAssetRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("workers do not delete"))
    }

    async fn get_storage_use(&self, _: Request<GetStorageUseRequest>) -> Result<Response<StorageUse>, Status> {
        Err(Status::unimplemented("workers do not ask"))
    }

    async fn render_thumbnail(&self, _: Request<RenderThumbnailRequest>) -> Result<Response<Thumbnail>, Status> {
        Err(Status::unimplemented("workers register"))
    }

    async fn register_output(
        &self,
        request: Request<RegisterOutputRequest>,
    ) -> Result<Response<RegisterOutputResponse>, Status> {
        let account = account_of(request.metadata())?;
        let request = request.into_inner();
        let mut state = self.state();
        if let Some(status) = state.refusals.get_mut("register_output").and_then(VecDeque::pop_front) {
            return Err(status);
        }
        let name: Name = format!("{}.{}", &request.asset["assets/".len()..], request.extension).parse().unwrap();
        state.registered.push((account, request.clone()));
        let mut thumbnail =
            Thumbnail { asset: "assets/poster".into(), url: "http://poster".into(), ..Thumbnail::default() };
        thumbnail.set_state(Thumb::Ready);
        let asset = Asset {
            name: request.asset,
            mime_type: name.content_type().into(),
            size_bytes: 1,
            width: 640,
            height: 360,
            url: "http://video".into(),
            thumbnail: Some(thumbnail),
            ..Asset::default()
        };
        Ok(Response::new(RegisterOutputResponse {
            asset: Some(asset),
            duration_ms: 3_000,
            poster_missing_reason: String::new(),
        }))
    }
}

/// The account on whose behalf the worker says that it calls thumbnail-worker.
fn account_of(metadata: &MetadataMap) -> Result<Uuid, Status> {
    let refused = || Status::unauthenticated("no token of the worker");
    let token = metadata.as_ref().get(identity::HEADER).ok_or_else(refused)?;
    let identities = Identities::new(&InternalKeys::parse(testkit::INTERNAL_KEYS).unwrap());
    let caller = identities.verify(token, "thumbnail-worker", std::time::SystemTime::now()).map_err(|_| refused())?;
    assert_eq!(caller.by, By::Service("generation-worker"));
    caller.account.ok_or_else(refused)
}
