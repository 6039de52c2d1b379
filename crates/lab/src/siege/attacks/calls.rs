//! What can be called: by anybody, and by whoever has a key.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use proto::dashboard::v1::GetDashboardRequest;
use proto::generations::v1::{
    BatchGetGenerationsRequest, BatchStartGenerationsRequest, GetGenerationRequest, Input, ListGenerationsRequest,
    Media, StartGenerationRequest,
};
use proto::projects::v1::{
    CreateProjectRequest, CreateSceneRequest, ListProjectsRequest, Project, ReorderScenesRequest, Scene,
    UpdateProjectRequest,
};
use proto::webhooks::v1::TestEndpointRequest;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use uuid::Uuid;

use super::super::attacker::{Attacker, many};
use super::super::client::authorize;

const GET_DASHBOARD: &str = "/rushes.dashboard.v1.DashboardService/GetDashboard";
const GET_GENERATION: &str = "/rushes.generations.v1.GenerationService/GetGeneration";
const BATCH_GET: &str = "/rushes.generations.v1.GenerationService/BatchGetGenerations";
const LIST_GENERATIONS: &str = "/rushes.generations.v1.GenerationService/ListGenerations";
const START: &str = "/rushes.generations.v1.GenerationService/StartGeneration";
const BATCH_START: &str = "/rushes.generations.v1.GenerationService/BatchStartGenerations";
const WATCH: &str = "/rushes.generations.v1.GenerationService/WatchGenerations";
const LIST_PROJECTS: &str = "/rushes.projects.v1.ProjectService/ListProjects";
const CREATE_PROJECT: &str = "/rushes.projects.v1.ProjectService/CreateProject";
const UPDATE_PROJECT: &str = "/rushes.projects.v1.ProjectService/UpdateProject";
const CREATE_SCENE: &str = "/rushes.projects.v1.ProjectService/CreateScene";
const REORDER: &str = "/rushes.projects.v1.ProjectService/ReorderScenes";
const TEST_ENDPOINT: &str = "/rushes.webhooks.v1.WebhookService/TestEndpoint";

/// How many calls at once.
const CALLERS: usize = 64;

/// Calls in `callers` tasks over a few connections; `each` says what, given the number of the call.
async fn calling<F>(attacker: Arc<Attacker>, until: Instant, callers: usize, path: &'static str, each: F)
where
    F: Fn(&Attacker) -> Bytes + Clone + Send + 'static,
{
    let Ok(channels) = channels(&attacker) else { return };
    many(&attacker, callers, until, move |attacker, number| {
        let (each, channel) = (each.clone(), channels[number % channels.len()].clone());
        async move {
            let message = each(&attacker);
            // What it was told is noted.
            let _ = attacker.call(&channel, path, message).await;
        }
    })
    .await;
}

fn channels(attacker: &Attacker) -> anyhow::Result<Vec<Channel>> {
    (0..6).map(|_| attacker.channel()).collect()
}

fn encoded(message: &impl prost::Message) -> Bytes {
    message.encode_to_vec().into()
}

/// Calls without the attacker's key, each dressed by `dress`.
async fn dressed<D>(attacker: Arc<Attacker>, until: Instant, callers: usize, dress: D)
where
    D: Fn(&Attacker, &mut tonic::Request<Bytes>) + Clone + Send + Sync + 'static,
{
    let Ok(channels) = channels(&attacker) else { return };
    many(&attacker, callers, until, move |attacker, number| {
        let (dress, channel) = (dress.clone(), channels[number % channels.len()].clone());
        async move {
            let message = encoded(&GetDashboardRequest::default());
            // What it was told is noted.
            let _ = attacker.call_as(&channel, GET_DASHBOARD, message, |request| dress(&attacker, request)).await;
        }
    })
    .await;
}

fn text_metadata(request: &mut tonic::Request<Bytes>, name: &'static str, value: &str) {
    if let Ok(value) = value.parse() {
        request.metadata_mut().insert(name, value);
    }
}

pub(super) async fn unknown_methods(attacker: Arc<Attacker>, until: Instant) {
    let Ok(channels) = channels(&attacker) else { return };
    // A path lives as long as the program; there are a thousand.
    let paths = (0..1_000).map(|at| &*Box::leak(format!("/x.y/{at}").into_boxed_str())).collect::<Vec<&'static str>>();
    many(&attacker, CALLERS, until, move |attacker, number| {
        let (path, channel) = (paths[fastrand::usize(0..paths.len())], channels[number % channels.len()].clone());
        async move {
            let strange = |request: &mut tonic::Request<Bytes>| text_metadata(request, "rushes-max-stale", "x");
            // What it was told is noted.
            let _ = attacker.call_as(&channel, path, Bytes::new(), strange).await;
        }
    })
    .await;
}

pub(super) async fn unknown_keys(attacker: Arc<Attacker>, until: Instant) {
    dressed(attacker, until, 120, |attacker, request| {
        // As the attacker's own, with other characters after the prefix.
        let own = attacker.key.as_str();
        let random = own.char_indices().map(|(at, was)| {
            if at > 10 && was.is_ascii_alphanumeric() { fastrand::alphanumeric().to_ascii_lowercase() } else { was }
        });
        authorize(request, &random.collect::<String>());
    })
    .await;
}

pub(super) async fn malformed_keys(attacker: Arc<Attacker>, until: Instant) {
    dressed(attacker, until, CALLERS, |_, request| {
        let length = fastrand::usize(0..4_000);
        authorize(request, &"x".repeat(length));
    })
    .await;
}

pub(super) async fn forged_traces(attacker: Arc<Attacker>, until: Instant) {
    dressed(attacker, until, CALLERS, |_, request| {
        let trace = format!("00-{:032x}-{:016x}-01", fastrand::u128(1..), fastrand::u64(1..));
        text_metadata(request, "traceparent", &trace);
        text_metadata(request, "tracestate", &"a=b,".repeat(100));
    })
    .await;
}

pub(super) async fn long_metadata(attacker: Arc<Attacker>, until: Instant) {
    dressed(attacker, until, CALLERS, |attacker, request| {
        authorize(request, &attacker.key);
        text_metadata(request, "x-long", &"x".repeat(8 << 10));
    })
    .await;
}

pub(super) async fn forged_tokens(attacker: Arc<Attacker>, until: Instant) {
    dressed(attacker, until, CALLERS, |attacker, request| {
        authorize(request, &attacker.key);
        let bytes = (0..64).map(|_| fastrand::u8(..)).collect::<Vec<_>>();
        request.metadata_mut().insert_bin("rushes-token-bin", MetadataValue::from_bytes(&bytes));
    })
    .await;
}

pub(super) async fn forged_pages(attacker: Arc<Attacker>, until: Instant) {
    calling(attacker, until, CALLERS, LIST_PROJECTS, |_| {
        let page_token = (0..200).map(|_| fastrand::alphanumeric()).collect();
        encoded(&ListProjectsRequest { page_token, ..ListProjectsRequest::default() })
    })
    .await;
}

pub(super) async fn dashboards(attacker: Arc<Attacker>, until: Instant) {
    calling(attacker, until, CALLERS, GET_DASHBOARD, |_| encoded(&GetDashboardRequest::default())).await;
}

pub(super) async fn polls(attacker: Arc<Attacker>, until: Instant) {
    calling(attacker, until, CALLERS, GET_GENERATION, |_| {
        let name = format!("generations/{}", Uuid::now_v7());
        encoded(&GetGenerationRequest { name, min_version: 1 << 40 })
    })
    .await;
}

pub(super) async fn long_lists(attacker: Arc<Attacker>, until: Instant) {
    calling(attacker, until, CALLERS, BATCH_GET, |_| {
        let names = (0..1_200).map(|_| format!("generations/{}", Uuid::now_v7())).collect();
        encoded(&BatchGetGenerationsRequest { names })
    })
    .await;
}

pub(super) async fn cancelled(attacker: Arc<Attacker>, until: Instant) {
    let Ok(channels) = channels(&attacker) else { return };
    many(&attacker, CALLERS, until, move |attacker, number| {
        let channel = channels[number % channels.len()].clone();
        async move {
            let message = encoded(&ListGenerationsRequest::default());
            let call = attacker.call(&channel, LIST_GENERATIONS, message);
            let wait = Duration::from_micros(fastrand::u64(0..3_000));
            if tokio::time::timeout(wait, call).await.is_err() {
                attacker.hear("given up");
            }
        }
    })
    .await;
}

pub(super) async fn watch_churn(attacker: Arc<Attacker>, until: Instant) {
    let Ok(channels) = channels(&attacker) else { return };
    many(&attacker, CALLERS, until, move |attacker, number| {
        let channel = channels[number % channels.len()].clone();
        async move {
            // The first message ends what is called as if it had one answer.
            let call = attacker.call(&channel, WATCH, Bytes::new());
            let wait = Duration::from_millis(fastrand::u64(0..50));
            if tokio::time::timeout(wait, call).await.is_err() {
                attacker.hear("left");
            }
        }
    })
    .await;
}

pub(super) async fn many_violations(attacker: Arc<Attacker>, until: Instant) {
    calling(attacker, until, 16, REORDER, |attacker| {
        let scenes = vec![String::new(); 32_000];
        encoded(&ReorderScenesRequest { parent: attacker.project.clone(), scenes })
    })
    .await;
}

pub(super) async fn bomb_names(attacker: Arc<Attacker>, until: Instant) {
    let scenes = vec![String::new(); 1_900_000];
    let message = encoded(&ReorderScenesRequest { parent: attacker.project.clone(), scenes });
    bombing(attacker, until, message, || REORDER).await;
}

fn order(attacker: &Attacker, input: Input) -> Bytes {
    encoded(&one_order(attacker, input))
}

fn one_order(attacker: &Attacker, input: Input) -> StartGenerationRequest {
    StartGenerationRequest {
        scene: attacker.scene.clone(),
        input: Some(input),
        request_id: Uuid::now_v7().to_string(),
        ..StartGenerationRequest::default()
    }
}

pub(super) async fn violating_media(attacker: Arc<Attacker>, until: Instant) {
    calling(attacker, until, 16, START, |attacker| {
        let media = vec![Media { role: 1, asset: "x".to_owned() }; 2_000];
        order(attacker, Input { prompt: "many".into(), media, ..Input::default() })
    })
    .await;
}

pub(super) async fn deep_parameters(attacker: Arc<Attacker>, until: Instant) {
    calling(attacker, until, 16, START, |attacker| {
        let mut value = Value { kind: Some(Kind::BoolValue(true)) };
        for _ in 0..40 {
            value = Value { kind: Some(Kind::ListValue(ListValue { values: vec![value] })) };
        }
        let fields = [("deep".to_owned(), value)].into_iter().collect();
        let input = Input { prompt: "deep".into(), parameters: Some(Struct { fields }), ..Input::default() };
        let mut message = order(attacker, input).to_vec();
        // Further down than a decoder goes, by hand: groups that begin and do not end.
        message.extend([0x0b; 5_000]);
        message.into()
    })
    .await;
}

/// Calls with one message that is compressed once, to whatever method `path` gives.
async fn bombing(attacker: Arc<Attacker>, until: Instant, message: Bytes, path: fn() -> &'static str) {
    let Ok(channels) = channels(&attacker) else { return };
    let gzip = compressed(&message);
    drop(message);
    many(&attacker, 16, until, move |attacker, number| {
        let (gzip, channel) = (gzip.clone(), channels[number % channels.len()].clone());
        async move { attacker.call_compressed(&channel, path(), &gzip).await }
    })
    .await;
}

fn compressed(message: &[u8]) -> Bytes {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    // Into memory; that does not fail.
    let _ = gzip.write_all(message);
    gzip.finish().unwrap_or_default().into()
}

/// Any method of the API.
fn any_method() -> &'static str {
    proto::METHODS[fastrand::usize(0..proto::METHODS.len())].path
}

/// Every method of the API, one after another, with what `each` makes.
async fn everywhere(attacker: Arc<Attacker>, until: Instant, each: fn() -> Bytes) {
    let Ok(channels) = channels(&attacker) else { return };
    many(&attacker, CALLERS, until, move |attacker, number| {
        let (path, channel) = (any_method(), channels[number % channels.len()].clone());
        async move {
            // A stream would go on; what is of interest is the first message.
            let call = attacker.call(&channel, path, each());
            let _ = tokio::time::timeout(Duration::from_secs(1), call).await;
        }
    })
    .await;
}

pub(super) async fn bombs_everywhere(attacker: Arc<Attacker>, until: Instant) {
    bombing(attacker, until, vec![0; 16 << 20].into(), any_method).await;
}

pub(super) async fn garbage_everywhere(attacker: Arc<Attacker>, until: Instant) {
    everywhere(attacker, until, || (0..fastrand::usize(1..2_000)).map(|_| fastrand::u8(..)).collect::<Vec<_>>().into())
        .await;
}

pub(super) async fn writes(attacker: Arc<Attacker>, until: Instant) {
    let Ok(channels) = channels(&attacker) else { return };
    many(&attacker, CALLERS, until, move |attacker, number| {
        let channel = channels[number % channels.len()].clone();
        async move {
            let project = Project { title: "another".into(), ..Project::default() };
            let project = encoded(&CreateProjectRequest { project: Some(project), request_id: String::new() });
            let scene = Scene { title: "another".into(), ..Scene::default() };
            let parent = attacker.project.clone();
            let scene = encoded(&CreateSceneRequest { parent, scene: Some(scene), request_id: String::new() });
            // What it was told is noted.
            let _ = attacker.call(&channel, CREATE_PROJECT, project).await;
            let _ = attacker.call(&channel, CREATE_SCENE, scene).await;
        }
    })
    .await;
}

pub(super) async fn one_row(attacker: Arc<Attacker>, until: Instant) {
    calling(attacker, until, CALLERS, UPDATE_PROJECT, |attacker| {
        let title = fastrand::u64(..).to_string();
        let project = Project { name: attacker.project.clone(), title, ..Project::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["title".into()] });
        encoded(&UpdateProjectRequest { project: Some(project), update_mask })
    })
    .await;
}

pub(super) async fn orders(attacker: Arc<Attacker>, until: Instant) {
    calling(attacker, until, CALLERS, START, |attacker| {
        order(attacker, Input { prompt: "another".into(), ..Input::default() })
    })
    .await;
}

pub(super) async fn batches(attacker: Arc<Attacker>, until: Instant) {
    calling(attacker, until, CALLERS, BATCH_START, |attacker| {
        let one = || one_order(attacker, Input { prompt: "another".into(), ..Input::default() });
        encoded(&BatchStartGenerationsRequest { requests: (0..16).map(|_| one()).collect() })
    })
    .await;
}

pub(super) async fn hook_tests(attacker: Arc<Attacker>, until: Instant) {
    calling(attacker, until, CALLERS, TEST_ENDPOINT, |attacker| {
        encoded(&TestEndpointRequest { name: attacker.endpoint.clone() })
    })
    .await;
}
