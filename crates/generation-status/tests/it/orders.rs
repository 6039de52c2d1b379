//! What a request becomes: an order by the model's schema, at its price, both frozen when the generation is started.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use generation_status::{Config, LiveCatalogue};
use proto::generations::v1::charge::Line;
use proto::generations::v1::media::Role;
use proto::generations::v1::{
    BatchStartGenerationsRequest, Generation, Input, Media, Settings, StartGenerationRequest, State, settings,
};
use serde_json::{Value, json};
use testkit::eventually;
use tonic::Code;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::cluster::{Cluster, User, refusal};
use crate::worker::{Worker, completion};

/// The file is read every five seconds.
pub(crate) const WAIT: Duration = Duration::from_secs(30);
const MODEL: &str = "models/clip";

/// A model that takes lengths, resolutions, sound and two frames, and sells seconds.
pub(crate) const ENTRY: &str = r#"
[[model]]
id = "clip"
aliases = ["clip-latest"]
provider = "fal"
model = "acme/clip"
kind = "image-to-video"
schema = "clip.json"
map = { prompt = "prompt", seed = "seed", duration = "duration", resolution = "resolution", audio = "generate_audio" }
media = [ { role = "FIRST_FRAME", to = "image_url" }, { role = "LAST_FRAME", to = "end_image_url" } ]
output = { at = "/video" }
price = [ { per = "second", rows = [
    { when = { audio = true }, credits = "0.168" },
    { when = { audio = false }, credits = "0.112" },
] } ]
"#;

fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["prompt"],
        "properties": {
            "prompt": {"type": "string", "maxLength": 2500},
            "seed": {"type": "integer"},
            "duration": {"type": "string", "enum": ["4s", "6s", "8s"], "default": "8s"},
            "resolution": {"type": "string", "enum": ["720p", "1080p"], "default": "720p"},
            "generate_audio": {"type": "boolean", "default": true},
            "image_url": {"type": "string"},
            "end_image_url": {"type": "string"},
            "cfg_scale": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5},
        },
    })
}

/// A folder with the catalogue's files.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(entry: &str) -> Self {
        let folder = Self(std::env::temp_dir().join(format!("rushes-catalogue-{}", Uuid::now_v7().simple())));
        std::fs::create_dir_all(&folder.0).unwrap();
        std::fs::write(folder.0.join("clip.json"), schema().to_string()).unwrap();
        folder.write(entry);
        folder
    }

    fn file(&self) -> PathBuf {
        self.0.join("models.toml")
    }

    pub(crate) fn write(&self, entry: &str) {
        std::fs::write(self.file(), entry).unwrap();
    }

    pub(crate) async fn cluster(&self) -> Cluster {
        self.cluster_with(|_| {}).await
    }

    /// A cluster with this catalogue and other settings besides.
    pub(crate) async fn cluster_with(&self, change: impl FnOnce(&mut Config)) -> Cluster {
        let file = self.file();
        Cluster::with(move |config| {
            config.generations.catalogue = open(&file);
            change(config);
        })
        .await
    }
}

fn open(file: &Path) -> LiveCatalogue {
    LiveCatalogue::open(file.to_owned()).unwrap()
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn request(user: &User, input: Input) -> StartGenerationRequest {
    StartGenerationRequest { model: MODEL.to_owned(), input: Some(input), ..user.start_request() }
}

fn seconds(count: i64) -> Option<settings::Length> {
    Some(settings::Length::Duration(prost_types::Duration { seconds: count, nanos: 0 }))
}

pub(crate) fn harbour() -> Input {
    Input { prompt: "a harbour".to_owned(), seed: Some(7), ..Input::default() }
}

async fn asset(cluster: &Cluster, user: &User, byte: u8) -> String {
    sqlx::query(
        "insert into assets (account_id, sha256, blob, mime_type, size_bytes, width, height)
         values ($1, $2, encode($2, 'hex') || '.png', 'image/png', 5000, 640, 360)",
    )
    .bind(user.account)
    .bind(vec![byte; 32])
    .execute(&cluster.pool)
    .await
    .unwrap();
    domain::name::asset_name(&[byte; 32])
}

pub(crate) async fn next_work(cluster: &Cluster) -> (Worker, proto::work::v1::Work) {
    let mut worker = Worker::of(cluster, "fal", 1).await;
    let work = worker.next().await;
    (worker, work)
}

fn lines(generation: &Generation) -> Vec<(String, String, String)> {
    let line = |line: &Line| (line.per.clone(), line.quantity.clone(), line.unit_price.clone());
    generation.charge.as_ref().unwrap().lines.iter().map(line).collect()
}

#[tokio::test]
async fn a_request_becomes_an_order_and_a_price_and_what_was_made_is_charged() {
    let folder = Folder::new(ENTRY);
    let cluster = folder.cluster().await;
    let user = cluster.user(100).await;
    let first = asset(&cluster, &user, 0xab).await;
    let input = Input {
        media: vec![Media { role: Role::FirstFrame.into(), asset: first.clone() }],
        settings: Some(Settings { length: seconds(6), ..Settings::default() }),
        ..harbour()
    };
    let labels = HashMap::from([("cut".to_owned(), "b".to_owned())]);
    let request = StartGenerationRequest { labels, end_user: "ada".to_owned(), ..request(&user, input) };
    let quote = StartGenerationRequest { validate_only: true, ..request.clone() };
    let quote = cluster.start(&user, quote).await.unwrap();
    let started = cluster.start(&user, request.clone()).await.unwrap();
    assert_eq!(lines(&quote), [("second".into(), "6".into(), "0.168".into())]);
    assert_eq!((lines(&started), started.charge.as_ref().unwrap().held_micros), (lines(&quote), 1_008_000));
    assert_eq!((&started.labels, started.end_user.as_str()), (&request.labels, "ada"));
    // The defaults that the price depends on are told; so is what was asked for.
    let settings = started.input.as_ref().unwrap().settings.clone().unwrap();
    assert_eq!((settings.length, settings.audio), (seconds(6), Some(true)));

    let (worker, work) = next_work(&cluster).await;
    let order = work.order.clone().unwrap();
    let sent: Value = serde_json::from_str(&order.input).unwrap();
    assert_eq!((order.provider.as_str(), order.model.as_str(), order.output.as_str()), ("fal", "acme/clip", "/video"));
    assert_eq!(
        (&sent["duration"], &sent["generate_audio"], &sent["image_url"]),
        (&json!("6s"), &json!(true), &Value::Null)
    );
    let file = &order.files[0];
    assert_eq!((file.pointer.as_str(), &file.asset, file.mime_type.as_str()), ("/image_url", &first, "image/png"));

    worker.submitted(&work).await.unwrap();
    worker.finalizing(&work).await.unwrap();
    worker.complete_with(&work, 5_000).await.unwrap();
    let done = cluster.get(&user, &started.name).await.unwrap();
    assert_eq!((done.state(), lines(&done)), (State::Completed, vec![("second".into(), "5".into(), "0.168".into())]));
    assert_eq!(done.charge.unwrap().captured_micros, 840_000);
    let entries = cluster.all_entries(&user, 10).await;
    let told: Vec<_> =
        entries.iter().map(|entry| entry.lines.iter().map(|line| line.quantity.as_str()).collect::<Vec<_>>()).collect();
    assert_eq!(told, [vec!["5"], vec!["6"], vec![]], "the capture, the hold, the grant");
}

#[tokio::test]
async fn everything_that_a_model_does_not_take_is_named_at_once() {
    let folder = Folder::new(ENTRY);
    let cluster = folder.cluster().await;
    let user = cluster.user(100).await;
    let parameters = prost_types::Struct {
        fields: [("cfg", 0.5), ("cfg_scale", 2.0)]
            .map(|(key, number)| {
                let kind = Some(prost_types::value::Kind::NumberValue(number));
                (key.to_owned(), prost_types::Value { kind })
            })
            .into(),
    };
    let input = Input {
        negative_prompt: Some("people".to_owned()),
        settings: Some(Settings {
            length: seconds(7),
            fps: Some(24.0),
            resolution: "4k".to_owned(),
            ..Settings::default()
        }),
        parameters: Some(parameters),
        ..harbour()
    };
    let request = StartGenerationRequest { request_id: String::new(), ..request(&user, input) };
    let status = cluster.start(&user, request).await.unwrap_err();
    let details = status.get_error_details();
    let mut violations: Vec<_> =
        details.bad_request().unwrap().field_violations.iter().map(|v| v.field.as_str()).collect();
    violations.sort_unstable();
    assert_eq!(
        violations,
        [
            "input.negative_prompt",
            "input.parameters.cfg",
            "input.parameters.cfg_scale",
            "input.settings.duration",
            "input.settings.fps",
            "input.settings.resolution",
            "request_id",
        ]
    );
    let duration = details.bad_request().unwrap().field_violations.iter().find(|v| v.field.ends_with("duration"));
    assert!(duration.unwrap().description.contains('4'), "the values are told: {duration:?}");
    assert_eq!(cluster.rows().await, 0);
}

#[tokio::test]
async fn an_order_above_its_maximum_is_refused() {
    let folder = Folder::new(ENTRY);
    let cluster = folder.cluster().await;
    let user = cluster.user(100).await;
    let limited = |max| StartGenerationRequest { max_price_micros: Some(max), ..request(&user, harbour()) };
    let refused = (Code::FailedPrecondition, "PRICE_ABOVE_MAX".to_owned());
    assert_eq!(refusal(cluster.start(&user, limited(1_343_999)).await), refused);
    assert_eq!(cluster.rows().await, 0);
    // Eight seconds with sound.
    assert_eq!(cluster.start(&user, limited(1_344_000)).await.unwrap().charge.unwrap().held_micros, 1_344_000);
}

#[tokio::test]
async fn a_catalogue_that_changes_changes_no_order_that_has_begun() {
    let folder = Folder::new(ENTRY);
    let cluster = folder.cluster().await;
    let user = cluster.user(1_000).await;
    let asked = request(&user, harbour());
    let started = cluster.start(&user, asked.clone()).await.unwrap();
    // Wrong in one place: the last good one stays.
    folder.write(&ENTRY.replace("0.168", "-1"));
    tokio::time::sleep(Duration::from_secs(6)).await;
    let price = async || {
        let quote = StartGenerationRequest { validate_only: true, ..request(&user, harbour()) };
        cluster.start(&user, quote).await.map(|quote| quote.charge.unwrap().held_micros)
    };
    assert_eq!(price().await.unwrap(), 1_344_000);
    folder.write(&ENTRY.replace("0.168", "0.5").replace("acme/clip", "acme/clip-2"));
    eventually("the new price", WAIT, async || price().await.ok().filter(|price| *price == 4_000_000)).await.unwrap();
    let (worker, work) = next_work(&cluster).await;
    assert_eq!(work.order.as_ref().unwrap().model, "acme/clip", "frozen with the generation");
    // The model is gone; its open work is not, nor what a repetition of the request finds.
    folder.write(&ENTRY.replace("\"clip\"", "\"other\""));
    eventually("the model's end", WAIT, async || price().await.err()).await.unwrap();
    assert_eq!(cluster.start(&user, asked).await.unwrap().name, started.name);
    worker.release(&work).await.unwrap();
    let (worker, work) = next_work(&cluster).await;
    worker.submitted(&work).await.unwrap();
    worker.finalizing(&work).await.unwrap();
    worker.complete_with(&work, 8_000).await.unwrap();
    let done = cluster.get(&user, &started.name).await.unwrap();
    assert_eq!(done.charge.unwrap().captured_micros, 1_344_000, "by the terms of its start");
}

#[tokio::test]
async fn a_generations_output_can_be_the_next_ones_first_frame() {
    let folder = Folder::new(ENTRY);
    let cluster = folder.cluster().await;
    let (user, stranger) = (cluster.user(200).await, cluster.user(200).await);
    let still = StartGenerationRequest { model: "models/local-still".to_owned(), ..user.start_request() };
    let still = cluster.start(&user, still).await.unwrap().name;
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    worker.submitted(&work).await.unwrap();
    worker.finalizing(&work).await.unwrap();
    let picture = asset(&cluster, &user, 0xcd).await;
    let mut made = completion(work.lease.clone(), 0);
    let output = made.outputs[0].output.as_mut().unwrap();
    (output.asset, output.size_bytes, output.mime_type) = (picture.clone(), 5000, "image/png".to_owned());
    made.outputs[0].extension = "png".to_owned();
    worker.works.clone().complete_work(made).await.unwrap();

    let media = |at: usize| vec![Media { role: Role::FirstFrame.into(), asset: format!("{still}/outputs/{at}") }];
    let input = Input { media: media(0), ..harbour() };
    let next = cluster.start(&user, request(&user, input.clone())).await.unwrap();
    assert_eq!(next.input.unwrap().media[0].asset, picture);
    let missing = (Code::NotFound, "ASSET_NOT_FOUND".to_owned());
    assert_eq!(refusal(cluster.start(&stranger, request(&stranger, input)).await), missing, "another account's");
    let second = Input { media: media(1), ..harbour() };
    assert_eq!(refusal(cluster.start(&user, request(&user, second)).await), missing, "there is one output");
    assert_eq!(cluster.credit(&user).await.spent_micros, 10_000);
}

#[tokio::test]
async fn a_batch_starts_all_or_none() {
    let folder = Folder::new(ENTRY);
    let cluster = folder.cluster().await;
    // Three of eight seconds with sound, and not a fourth.
    let user = cluster.user(81).await;
    let variant = |seed| request(&user, Input { seed: Some(seed), ..harbour() });
    let start = async |requests: Vec<StartGenerationRequest>| {
        let batch = user.asks(BatchStartGenerationsRequest { requests });
        Ok::<_, tonic::Status>(
            cluster.node.generations.clone().batch_start_generations(batch).await?.into_inner().generations,
        )
    };
    let four: Vec<_> = (0..4).map(variant).collect();
    assert_eq!(refusal(start(four).await).1, "INSUFFICIENT_CREDIT");
    let spoiled = StartGenerationRequest { model: "models/none".to_owned(), ..variant(1) };
    let status = start(vec![variant(0), spoiled]).await.unwrap_err();
    let details = status.get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "requests[1].model");
    let twice = variant(5);
    assert_eq!(refusal(start(vec![twice.clone(), twice]).await).0, Code::InvalidArgument);
    assert_eq!(refusal(start(Vec::new()).await).0, Code::InvalidArgument);
    assert_eq!((cluster.rows().await, cluster.credit(&user).await.held_micros), (0, 0));

    let three: Vec<_> = (0..3).map(variant).collect();
    let quotes: Vec<_> =
        three.iter().map(|one| StartGenerationRequest { validate_only: true, ..one.clone() }).collect();
    assert_eq!(start(quotes).await.unwrap().len(), 3);
    let started = start(three.clone()).await.unwrap();
    let seeds: Vec<_> = started.iter().map(|one| one.input.as_ref().unwrap().seed).collect();
    assert_eq!(seeds, [Some(0), Some(1), Some(2)]);
    assert_eq!(cluster.credit(&user).await.held_micros, 3 * 1_344_000);
    let again = start(three).await.unwrap();
    assert_eq!(again, started, "the same requests find the same generations");
}

#[tokio::test]
async fn a_model_that_is_retired_takes_no_orders() {
    let folder = Folder::new(&ENTRY.replace("kind =", "retire = 2026-01-01\nkind ="));
    let cluster = folder.cluster().await;
    let user = cluster.user(100).await;
    let status = cluster.start(&user, request(&user, harbour())).await.unwrap_err();
    assert!(status.message().contains("2026-01-01"), "{status:?}");
    let alias = StartGenerationRequest { model: "models/clip-latest".to_owned(), ..request(&user, harbour()) };
    assert_eq!(refusal(cluster.start(&user, alias).await).0, Code::InvalidArgument);
}
