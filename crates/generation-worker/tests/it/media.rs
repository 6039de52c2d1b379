//! Orders with files, from the work to the delivery, through the double of each provider: every role of media, each of the three
//! ways in which a file is given, several outputs, and other kinds than videos.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use chassis::blobs::{Name, Store};
use chassis::keyring::InternalKeys;
use chassis::links::{FETCH, FetchLinks, verify_fetch};
use proto::generations::v1::charge::ProviderCharge;
use proto::work::v1::{CompleteWorkRequest, FailureClass, MadeOutput, Order, ProviderCondition, Work, order};
use provider_double::{Double, Event, Faults, Line, Outage, OutageKind, Settings, read_bill};
use serde_json::{Value, json};
use sha2::Digest as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::node::Report;
use crate::telemetry::registry;

/// A place for each role: first and last frame, two references, a source, a sound, a mask.
const PLACES: [(&str, &str); 7] = [
    ("/start_image", "png"),
    ("/end_image", "png"),
    ("/reference_images/0", "png"),
    ("/reference_images/1", "png"),
    ("/video", "mp4"),
    ("/audio", "wav"),
    ("/mask", "png"),
];
const SMALL: usize = 1_000;
const LARGE: usize = 300 << 10;

/// The double, and a worker that calls it.
struct Setup {
    cluster: Cluster,
    double: Double,
    bill: PathBuf,
}

impl Setup {
    async fn start(links: Option<FetchLinks>) -> Self {
        let bill = std::env::temp_dir().join(format!("rushes-bill-{}", Uuid::now_v7().simple()));
        let any = json!({"properties": {
            "prompt": {"type": "string"}, "start_image": {"type": "string"}, "end_image": {"type": "string"},
            "reference_images": {"type": "array"}, "video": {"type": "string"}, "audio": {"type": "string"},
            "mask": {"type": "string"}, "duration": {"type": "integer", "enum": [5, 10]}, "num_outputs": {"type": "integer"},
        }, "required": ["prompt"]});
        let models = ["acme/film", "acme/image", "acme/speech", "gpu"];
        let schemas = models.into_iter().map(|model| (model.to_owned(), any.clone())).collect();
        let double = Double::start(Settings { schemas, ..Settings::new(&bill) }).await.unwrap();
        let cluster = Cluster::start(registry(&double, "double-token"), |config| config.links = links).await;
        Self { cluster, double, bill }
    }

    fn lines(&self, event: Event) -> Vec<Line> {
        read_bill(&self.bill).unwrap().into_iter().filter(|line| line.event == event).collect()
    }

    /// Stores a file, each with other bytes, and returns it as an order names it.
    async fn file(&self, pointer: &str, extension: &str, bytes: usize) -> order::File {
        let mut content = vec![7; bytes];
        content[..16].copy_from_slice(Uuid::now_v7().as_bytes());
        let name = self.cluster.blobs.put(content.into(), extension).await.unwrap();
        order::File {
            pointer: pointer.to_owned(),
            asset: format!("assets/{}", hex::encode(name.sha256())),
            extension: extension.to_owned(),
            mime_type: name.content_type().to_owned(),
            size_bytes: i64::try_from(bytes).unwrap(),
            forms: Vec::new(),
        }
    }

    /// Queues an order, and what follows of it until it is delivered.
    async fn made(&self, order: Order) -> CompleteWorkRequest {
        let queue = |reference: &str| {
            self.cluster.node.queue(|work| {
                (work.poll, work.provider_reference) = (!reference.is_empty(), reference.to_owned());
                work.order = Some(order.clone());
            })
        };
        let reference = self.cluster.node.submitted(&queue("")).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let polls = async || {
            let job = queue(&reference);
            let ended = |report: &Report| match report {
                Report::Completed(request) => Some(Some((**request).clone())),
                Report::Suspended(request) => {
                    assert_eq!(request.message, "", "it is in trouble");
                    Some(None)
                }
                Report::Failed(request) => panic!("{request:?}"),
                _ => None,
            };
            self.cluster.node.wait_for(&job, "it is polled", ended).await
        };
        testkit::eventually("it is made", Duration::from_secs(20), polls).await.unwrap()
    }
}

fn order(provider: &str, model: &str, input: &Value) -> Order {
    Order {
        provider: provider.into(),
        model: model.into(),
        input: input.to_string(),
        output_kinds: vec!["video".into()],
        max_outputs: 1,
        ..Order::default()
    }
}

fn empty_input() -> Value {
    json!({
        "prompt": "a harbour", "start_image": null, "end_image": null, "reference_images": [null, null], "video": null,
        "audio": null, "mask": null, "duration": 5,
    })
}

/// A gateway as far as links go: what its key says, with a length and a type, and no redirect.
async fn gateway(store: impl Fn() -> Option<Store> + Send + 'static, key: InternalKeys) -> url::Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|four| four == b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0);
            }
            let head = String::from_utf8(head).unwrap();
            let mut words = head.split_whitespace();
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let name: Name = verify_fetch(&key, path.strip_prefix(FETCH).unwrap(), SystemTime::now()).unwrap();
            let bytes = store().unwrap().get(&name).await.unwrap();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                name.content_type(),
                bytes.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            if method == "GET" {
                stream.write_all(&bytes).await.unwrap();
            }
        }
    });
    url
}

/// A worker whose links lead to a gateway over the same storage.
async fn with_links() -> Setup {
    let shared = std::sync::Arc::new(std::sync::Mutex::new(None));
    let store = shared.clone();
    let key = InternalKeys::parse("0123456789abcdef0123456789abcdef").unwrap();
    let url = gateway(move || store.lock().unwrap().clone(), key.clone()).await;
    let setup = Setup::start(Some(FetchLinks::new(&key, url))).await;
    *shared.lock().unwrap() = Some(setup.cluster.blobs.clone());
    setup
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_of_media_reaches_every_provider_in_the_form_that_it_takes() {
    let setup = with_links().await;
    for (provider, model, large) in [
        ("replicate", "acme/film", "upload"),
        ("fal", "acme/film", "upload"),
        ("openrouter", "acme/film", "url"),
        ("cog", "gpu", "url"),
    ] {
        for (bytes, form) in [(SMALL, "data"), (LARGE, large)] {
            let before = setup.lines(Event::Ordered).len();
            let mut order = order(provider, model, &empty_input());
            for (pointer, extension) in PLACES {
                order.files.push(setup.file(pointer, extension, bytes).await);
            }
            let completed = setup.made(order.clone()).await;
            let ordered = setup.lines(Event::Ordered);
            let [line] = &ordered[before..] else { panic!("ordered once: {ordered:?}") };
            let mut given: Vec<_> = line
                .given
                .iter()
                .map(|given| (given.pointer.as_str(), given.form.as_str(), given.sha256.clone()))
                .collect();
            given.sort_unstable();
            let mut expected: Vec<_> = order
                .files
                .iter()
                .map(|file| (file.pointer.as_str(), form, file.asset["assets/".len()..].to_owned()))
                .collect();
            expected.sort_unstable();
            assert_eq!(given, expected, "{provider}, {bytes} bytes");
            assert!(line.dropped.is_empty(), "{provider} dropped {:?}", line.dropped);
            // The bill and the delivery are of one file.
            let charged = setup.lines(Event::Charged).into_iter().find(|charged| charged.order == line.order).unwrap();
            let asset = completed.outputs[0].output.as_ref().unwrap().asset.clone();
            assert_eq!(charged.sha256.map(|sha256| format!("assets/{sha256}")), Some(asset), "{provider}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_outputs_pictures_and_sounds_come_from_every_provider() {
    let setup = Setup::start(None).await;
    for (provider, models) in [
        ("replicate", ["acme/image", "acme/speech"]),
        ("fal", ["acme/image", "acme/speech"]),
        ("openrouter", ["acme/image", "acme/speech"]),
    ] {
        for (model, kind, extension, outputs) in [(models[0], "image", "png", 3), (models[1], "audio", "wav", 1)] {
            let input = json!({"prompt": "a harbour", "num_outputs": outputs});
            let mut order = order(provider, model, &input);
            (order.output_kinds, order.max_outputs) = (vec![kind.into()], 4);
            let completed = setup.made(order).await;
            let charged = setup.lines(Event::Charged).pop().unwrap();
            let hashes: Vec<_> = charged.sha256.into_iter().chain(charged.more).collect();
            let made: Vec<_> = completed
                .outputs
                .iter()
                .map(|made| made.output.as_ref().unwrap().asset["assets/".len()..].to_owned())
                .collect();
            assert_eq!((made.len(), &made), (outputs, &hashes), "{provider} {kind}");
            assert!(completed.outputs.iter().all(|made| made.extension == extension), "{provider} {kind}");
        }
    }
    let mut several = order("cog", "gpu", &json!({"prompt": "a harbour", "num_outputs": 2}));
    several.max_outputs = 2;
    assert_eq!(setup.made(several).await.outputs.len(), 2);
}

/// What a file is uploaded for once is there for the next order.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_uploaded_once_for_each_provider() {
    let setup = Setup::start(None).await;
    let file = setup.file("/start_image", "png", LARGE).await;
    for (provider, uploads) in [("replicate", 1), ("replicate", 1), ("fal", 2), ("fal", 2)] {
        let mut order = order(provider, "acme/film", &json!({"prompt": "a harbour", "start_image": null}));
        order.files = vec![file.clone()];
        setup.made(order).await;
        assert_eq!(setup.double.uploads().len(), uploads, "{provider}");
    }
}

/// fal takes large files in parts, and now and then one part is lost or refused: it is put again, and what is found is the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_uploaded_in_parts() {
    let setup = Setup::start(None).await;
    let bytes = (90 << 20) + 12_345;
    let file = setup.file("/video", "mp4", bytes).await;
    let sha256 = file.asset["assets/".len()..].to_owned();
    let mut order = order("fal", "acme/film", &json!({"prompt": "a harbour", "video": null}));
    order.files = vec![file];
    setup.double.set_faults(Faults { unavailable: 0.2, ..Faults::default() });
    let job = setup.cluster.node.queue(|work| work.order = Some(order.clone()));
    setup.cluster.node.submitted(&job).await;
    let ordered = setup.lines(Event::Ordered);
    let given = &ordered[0].given[0];
    assert_eq!((given.form.as_str(), &given.sha256), ("upload", &sha256));
    assert_eq!(setup.double.uploads(), std::slice::from_ref(&sha256), "one file, whole");
    // Where no part arrives there is no file, and no order.
    setup.double.set_faults(Faults { unavailable: 1.0, ..Faults::default() });
    order.files = vec![setup.file("/video", "mp4", bytes + 1).await];
    let failed = setup.cluster.node.failed(&setup.cluster.node.queue(|work| work.order = Some(order))).await;
    assert_eq!(failed.failure_class(), FailureClass::Unavailable);
    assert_eq!((setup.lines(Event::Ordered).len(), setup.double.uploads()), (1, vec![sha256]));
}

/// An upload that fails is no order: nothing is intended, nothing is ordered, and the attempt does not count.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_orders_nothing() {
    let setup = Setup::start(None).await;
    let mut order = order("replicate", "acme/film", &json!({"prompt": "a harbour", "start_image": null}));
    order.files = vec![setup.file("/start_image", "png", LARGE).await];
    let place = |order: Order| setup.cluster.node.queue(|work| work.order = Some(order));
    setup.double.begin_outage(Outage {
        kind: OutageKind::Errors,
        after_ms: 0,
        for_ms: 600_000,
        protocol: None,
        token: None,
    });
    let job = place(order.clone());
    let failed = setup.cluster.node.failed(&job).await;
    assert_eq!(
        (failed.failure_class(), failed.provider_condition()),
        (FailureClass::Unavailable, ProviderCondition::Outage)
    );
    assert_eq!(failed.provider_charge(), ProviderCharge::NotCharged);
    let intended = |report: &Report| matches!(report, Report::Intended(_) | Report::Submitted(_));
    assert!(!setup.cluster.node.reports(&job).iter().any(intended), "nothing is in doubt");
    assert!(setup.lines(Event::Ordered).is_empty());

    // A file that is not there is the order's own fault, and ends it.
    let file = &mut order.files[0];
    file.asset = format!("assets/{}", hex::encode(sha2::Sha256::digest(b"nothing")));
    let failed = setup.cluster.node.failed(&place(order)).await;
    assert_eq!(
        (failed.failure_class(), failed.reason.as_str()),
        (FailureClass::InvalidInput, "INPUT_SCHEMA_VIOLATION")
    );
}

/// Without links a provider that takes large files by an address alone gets none, and operators read which settings are missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_cannot_be_had_is_the_operators_to_mend() {
    let setup = Setup::start(None).await;
    let file = setup.file("/video", "mp4", 5 << 20).await;
    let place = |provider: &str, forms: &[&str]| {
        let mut order = order(provider, "acme/film", &json!({"prompt": "a harbour", "video": null}));
        let forms = forms.iter().map(|form| (*form).to_owned()).collect();
        order.files = vec![order::File { forms, ..file.clone() }];
        setup.cluster.node.queue(|work: &mut Work| work.order = Some(order))
    };
    for (job, says) in [
        (place("openrouter", &[]), "RUSHES_INTERNAL_KEYS"),
        (place("replicate", &["url"]), "RUSHES_PUBLIC_URL"),
        (place("replicate", &["data"]), "in no form that the model's entry allows"),
    ] {
        let failed = setup.cluster.node.failed(&job).await;
        assert_eq!(
            (failed.failure_class(), failed.reason.as_str()),
            (FailureClass::Unavailable, "MODEL_MISCONFIGURED")
        );
        assert!(failed.detail.contains(says), "{}", failed.detail);
    }
    assert!(setup.lines(Event::Ordered).is_empty());
}

/// The double drops what the model does not have, as the real ones do, and says so: that is how a test sees that nothing was.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_does_not_have_is_dropped_and_on_the_bill() {
    let setup = Setup::start(None).await;
    setup.made(order("replicate", "acme/film", &json!({"prompt": "a harbour", "fps": 24}))).await;
    assert_eq!(setup.lines(Event::Ordered)[0].dropped, ["fps"]);
    let wrong = order("replicate", "acme/film", &json!({"prompt": "a harbour", "duration": 6}));
    let job = setup.cluster.node.queue(|work| work.order = Some(wrong));
    assert_eq!(setup.cluster.node.failed(&job).await.reason, "INPUT_SCHEMA_VIOLATION");
}

/// The built-in provider gets the files themselves, and makes as many stills as are asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_sketch_is_made_of_files_and_in_several_takes() {
    let setup = Setup::start(None).await;
    let node = &setup.cluster.node;
    let still = json!({"prompt": "a harbour", "size": {"width": 160, "height": 128}, "outputs": 3});
    let mut stills = order("local", "sketch", &still);
    (stills.output_kinds, stills.max_outputs) = (vec!["image".into()], 3);
    let completed = node.completed(&node.queue(|work| work.order = Some(stills))).await;
    assert_eq!(completed.outputs.len(), 3);
    let made = completed.outputs[0].output.as_ref().unwrap();
    let mut film = order(
        "local",
        "sketch",
        &json!({"prompt": "a harbour", "duration": 1, "resolution": "144p", "first_frame": null, "references": [null]}),
    );
    film.files = ["/first_frame", "/references/0"]
        .map(|pointer| order::File {
            pointer: pointer.into(),
            asset: made.asset.clone(),
            extension: "png".into(),
            mime_type: "image/png".into(),
            size_bytes: 1,
            forms: Vec::new(),
        })
        .into();
    let completed = node.completed(&node.queue(|work| work.order = Some(film))).await;
    assert_eq!((completed.outputs.len(), completed.outputs[0].extension.as_str()), (1, "mp4"));
    // A file that is no picture is refused, and ends it.
    let mut wrong = order("local", "sketch", &json!({"prompt": "a harbour", "first_frame": null}));
    wrong.files = vec![setup.file("/first_frame", "png", SMALL).await];
    let failed = node.failed(&node.queue(|work| work.order = Some(wrong))).await;
    assert_eq!(failed.reason, "INPUT_SCHEMA_VIOLATION");
}

/// What was told of each output: by whom, whether it was flagged, as what, and what was done.
fn moderated(completed: &CompleteWorkRequest) -> Vec<Option<String>> {
    let told = |made: &MadeOutput| {
        let said = made.output.as_ref()?.moderation.as_ref()?;
        Some(format!("{} {} {} {}", said.provider, said.flagged, said.categories.join("+"), said.effect))
    };
    completed.outputs.iter().map(told).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_providers_moderation_said_is_delivered_and_nothing_is_made_up() {
    let setup = Setup::start(None).await;
    let rule = |at: &str, contains: &str, effect: &str| order::ModerationRule {
        at: at.to_owned(),
        contains: contains.to_owned(),
        category: "nsfw".to_owned(),
        effect: effect.to_owned(),
    };
    let of_each = rule("/has_nsfw_concepts", "", "replaced");
    let in_logs = rule("/logs", "NSFW content detected", "blurred");
    for (provider, model, kind, rule, prompt, expected) in [
        (
            "fal",
            "acme/image",
            "image",
            &of_each,
            "a harbour [flagged]",
            [Some("fal true nsfw replaced"), Some("fal false  ")],
        ),
        ("fal", "acme/image", "image", &of_each, "a harbour", [Some("fal false  "), Some("fal false  ")]),
        // A model that says nothing of it.
        ("fal", "acme/film", "video", &of_each, "a harbour", [None, None]),
        ("replicate", "acme/film", "video", &in_logs, "a harbour [flagged]", [Some("replicate true nsfw blurred"); 2]),
        ("replicate", "acme/film", "video", &in_logs, "a harbour", [None, None]),
        ("cog", "gpu", "video", &in_logs, "a harbour [flagged]", [Some("cog true nsfw blurred"); 2]),
        ("openrouter", "acme/film", "video", &of_each, "a harbour [flagged]", [None, None]),
    ] {
        let mut order = order(provider, model, &json!({"prompt": prompt, "num_outputs": 2}));
        order.output_kinds = vec![kind.to_owned()];
        order.max_outputs = 2;
        order.moderation = vec![rule.clone()];
        let told = moderated(&setup.made(order.clone()).await);
        let told: Vec<_> = told.iter().map(Option::as_deref).collect();
        assert_eq!(told, expected, "{provider} {model} {prompt}");
        order.moderation.clear();
        assert_eq!(moderated(&setup.made(order).await), [None, None], "nobody says where it would stand");
    }
}
