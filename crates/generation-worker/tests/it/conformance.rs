//! The adapters and the simulated provider together, over HTTP: an order from end to end in both protocols, each documented refusal,
//! each way in which an answer is lost, and webhooks as they are signed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::TryStreamExt as _;
use generation_worker::config::Config;
use generation_worker::model::{
    CallOutcome, Charge, Made, Order, OrderStatus, Reference, Stopping, Trouble, Usage, Webhook,
};
use generation_worker::provider::Provider;
use generation_worker::providers::Registry;
use generation_worker::providers::fal::Fal;
use http::{HeaderMap, HeaderName, HeaderValue};
use provider_double::{Double, Event, Faults, Line, Settings, read_bill};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::fake_provider::{self, input};
use crate::telemetry::at_provider;

/// Models of the providers that send webhooks.
const MODELS: [&str; 2] = ["by-replicate", "by-fal"];
/// Models of every provider elsewhere.
const ALL: [&str; 4] = ["by-replicate", "by-fal", "by-openrouter", "by-cog"];

/// A double, the providers that are configured to call it, and a port for its webhooks.
struct Providers {
    registry: Registry,
    bill: PathBuf,
    hooks: TcpListener,
    config: Config,
    _double: Double,
}

impl Providers {
    async fn new(faults: Faults, token: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("double-{}", Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).unwrap();
        let bill = folder.join("bill");
        let settings = Settings { faults, ..Settings::new(&bill) };
        let secret = settings.secret.clone();
        let double = Double::start(settings).await.unwrap();
        let hooks = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = |path: &str| format!("http://{}{path}", double.address());
        let source = chassis::settings::Source::of(&[
            ("RUSHES_GENERATION_STATUS_INTERNAL_URL", "http://127.0.0.1:1"),
            ("RUSHES_THUMBNAIL_WORKER_INTERNAL_URL", "http://127.0.0.1:1"),
            ("RUSHES_BLOBS_URL", "file:///tmp"),
            ("RUSHES_HOOKS_URL", &format!("http://{}/hooks", hooks.local_addr().unwrap())),
            ("RUSHES_INTERNAL_KEYS", "test-test-test-test-test-test-test"),
            ("RUSHES_FAL_USER_ID", "user-of-the-double"),
            ("RUSHES_REPLICATE_TOKEN", token),
            ("RUSHES_REPLICATE_URL", &at("/replicate/v1")),
            ("RUSHES_REPLICATE_WEBHOOK_SECRETS", &secret),
            ("RUSHES_FAL_KEY", token),
            ("RUSHES_FAL_URL", &at("/fal")),
            ("RUSHES_FAL_JWKS_URL", &at("/fal-keys")),
            ("RUSHES_FAL_REST_URL", &at("/fal-rest")),
            ("RUSHES_FAL_API_URL", &at("/fal-api")),
            ("RUSHES_OPENROUTER_KEY", token),
            ("RUSHES_OPENROUTER_URL", &at("/openrouter/api/v1")),
            ("RUSHES_COG_URL_GPU", &at("/cog/gpu")),
            ("RUSHES_COG_TOKEN_GPU", token),
        ]);
        let config = Config::read(&source).unwrap();
        let registry = Registry::open(&config).unwrap();
        Self { config, registry, bill, hooks, _double: double }
    }

    async fn without_faults() -> Self {
        Self::new(Faults::default(), "double-token").await
    }

    fn provider(&self, model: &'static str) -> At {
        At { provider: self.registry.named(at_provider(model).0).unwrap(), model }
    }

    fn bill(&self) -> Vec<Line> {
        read_bill(&self.bill).unwrap()
    }

    /// The next webhook that comes, as the worker gets it.
    async fn webhook(&self) -> Webhook {
        let (mut stream, _) = self.hooks.accept().await.unwrap();
        let mut bytes = Vec::new();
        let (head, length) = loop {
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            break (head.to_owned(), length.parse::<usize>().unwrap());
        };
        while bytes.len() < head.len() + 4 + length {
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in head.lines().skip(1).filter_map(|line| line.split_once(": ")) {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let mut path = head.split_whitespace().nth(1).unwrap().splitn(4, '/').skip(2);
        let (provider, path) = (path.next().unwrap(), path.next().unwrap());
        let job = self.config.hooks.as_ref().unwrap().job(provider, path).unwrap();
        Webhook { job, headers, body: Bytes::copy_from_slice(&bytes[head.len() + 4..]), now: SystemTime::now() }
    }
}

/// A provider, and a model of it.
struct At {
    provider: Arc<dyn Provider>,
    model: &'static str,
}

impl At {
    fn order(&self, prompt: &str) -> Order {
        let (provider, model) = at_provider(self.model);
        fake_provider::order(provider, model, prompt)
    }

    async fn submit(&self, order: &Order) -> Result<Reference, Trouble> {
        self.provider.submit(order, &input(order)).await
    }

    /// Orders by a prompt.
    async fn place(&self, prompt: &str) -> (Order, Reference) {
        let order = self.order(prompt);
        let reference = self.submit(&order).await.unwrap();
        (order, reference)
    }

    async fn poll(&self, (order, reference): &(Order, Reference)) -> Result<OrderStatus, Trouble> {
        self.provider.poll(order, reference).await
    }

    async fn cancel(&self, (order, reference): &(Order, Reference)) -> Result<Stopping, Trouble> {
        self.provider.cancel(order, reference).await
    }

    /// What the order comes to, once the provider has decided on it.
    async fn over(&self, placed: &(Order, Reference)) -> Result<Made, Trouble> {
        let poll = async || match self.poll(placed).await {
            Ok(OrderStatus::Waiting { .. } | OrderStatus::Working { .. }) => None,
            Ok(OrderStatus::Done(made)) => Some(Ok(made)),
            Err(trouble) => Some(Err(trouble)),
        };
        testkit::eventually("the order is over", Duration::from_secs(20), poll).await.unwrap()
    }

    /// The bytes of the first file, or what came of fetching it.
    async fn bytes(&self, placed: &(Order, Reference), made: &Made) -> Result<Vec<u8>, Trouble> {
        let pieces: Vec<Bytes> = self.provider.fetch(&placed.1, &made.addresses[0]).await?.try_collect().await?;
        Ok(pieces.concat())
    }
}

#[tokio::test]
async fn an_order_is_made_fetched_and_billed_once() {
    let providers = Providers::without_faults().await;
    for model in ALL {
        let provider = providers.provider(model);
        let placed = provider.place("a harbour").await;
        let made = provider.over(&placed).await.unwrap();
        let bytes = provider.bytes(&placed, &made).await.unwrap();
        assert!(re_mp4::Mp4::read_bytes(&bytes).is_ok());
        use sha2::Digest as _;
        let bill: Vec<_> = providers.bill().into_iter().filter(|line| line.order == placed.1.0).collect();
        assert_eq!(bill.iter().map(|line| line.event).collect::<Vec<_>>(), [Event::Ordered, Event::Charged], "{model}");
        // OpenRouter gets nothing that would name the job.
        let job = (model != "by-openrouter").then(|| placed.0.key.to_string());
        assert_eq!(bill[0].job, job, "{model}");
        assert_eq!(bill[0].input, Some(serde_json::Value::Object(placed.0.input.clone())), "{model}");
        assert_eq!(bill[1].sha256.as_deref(), Some(hex::encode(sha2::Sha256::digest(&bytes)).as_str()));
    }
}

#[tokio::test]
async fn each_end_is_understood_in_both_protocols() {
    let providers = Providers::without_faults().await;
    let charges = [Charge::Unknown, Charge::NotCharged, Charge::Unknown, Charge::NotCharged];
    for (model, failed) in ALL.into_iter().zip(charges) {
        let provider = providers.provider(model);
        let end = async |prompt: &str| {
            let placed = provider.place(prompt).await;
            provider.over(&placed).await.map(drop).map_err(|trouble| trouble.outcome)
        };
        assert_eq!(end("[failed]").await, Err(CallOutcome::Failed(failed)), "{model}");
        for refused in ["[unsafe]", "[unsafe-list]", "[unsafe-object]", "[unsafe-moderated]", "[unsafe-bare]"] {
            let expected = match (model, refused) {
                // It says nothing at all.
                ("by-replicate" | "by-openrouter" | "by-cog", "[unsafe-bare]") => CallOutcome::Failed(failed),
                _ => CallOutcome::SafetyRefused,
            };
            assert_eq!(end(refused).await, Err(expected), "{model} {refused}");
        }
        assert_eq!(end("[forgotten]").await, Err(CallOutcome::NotFound), "{model}");
        assert_eq!(end("[unknown-word]").await, Ok(()), "{model}");

        if !provider.provider.abilities().cancel {
            let placed = provider.place("a harbour").await;
            assert_eq!(provider.cancel(&placed).await.unwrap(), Stopping::Unable);
            continue;
        }
        let placed = provider.place("[endless]").await;
        assert_eq!(provider.cancel(&placed).await.unwrap(), Stopping::Asked);
        let stopped = provider.over(&placed).await.unwrap_err().outcome;
        assert!(matches!(stopped, CallOutcome::Stopped(_)), "{model} {stopped:?}");
        let stubborn = provider.place("[stubborn]").await;
        provider.cancel(&stubborn).await.unwrap();
        assert!(provider.over(&stubborn).await.is_ok(), "{model}");
        let gone = (provider.order("gone"), Reference(Uuid::now_v7().to_string()));
        assert_eq!(provider.poll(&gone).await.unwrap_err().outcome, CallOutcome::NotFound);
        assert_eq!(provider.cancel(&gone).await.unwrap(), Stopping::Asked);
    }
}

#[tokio::test]
async fn what_may_have_been_taken_is_not_what_was_refused() {
    let providers = Providers::without_faults().await;
    for model in ALL.into_iter().filter(|model| *model != "by-openrouter") {
        let provider = providers.provider(model);
        for (prompt, outcome, taken) in [
            ("[cut-before]", CallOutcome::Lost, 0),
            ("[cut-after]", CallOutcome::Lost, 1),
            ("[error-after]", CallOutcome::Unavailable, 1),
            ("[refused-401]", CallOutcome::AccountRefused, 0),
            ("[refused-402]", CallOutcome::AccountRefused, 0),
            ("[refused-403]", CallOutcome::AccountRefused, 0),
            ("[refused-404]", CallOutcome::ModelRefused, 0),
            ("[refused-503]", CallOutcome::Unavailable, 0),
            ("[throttled]", CallOutcome::Throttled, 0),
        ] {
            let order = provider.order(prompt);
            let trouble = provider.submit(&order).await.unwrap_err();
            assert_eq!(trouble.outcome, outcome, "{model} {prompt}: {trouble:?}");
            let key = order.key.to_string();
            let lines = providers.bill().into_iter().filter(|line| line.job.as_deref() == Some(key.as_str()));
            assert_eq!(lines.filter(|line| line.event == Event::Ordered).count(), taken, "{model} {prompt}");
        }
        let busy = provider.submit(&provider.order("[throttled]")).await.unwrap_err();
        assert_eq!(busy.retry_after, Some(Duration::from_secs(1)));
    }
    let strangers = Providers::new(Faults::default(), "another").await;
    for model in ALL {
        let stranger = strangers.provider(model);
        let trouble = stranger.submit(&stranger.order("a harbour")).await.unwrap_err();
        assert_eq!(trouble.outcome, CallOutcome::AccountRefused, "{model}");
    }
    assert!(strangers.bill().is_empty());
}

#[tokio::test]
async fn each_answer_to_a_poll_has_its_own_outcome() {
    let providers = Providers::without_faults().await;
    for model in ALL {
        let provider = providers.provider(model);
        for (prompt, outcome) in [
            ("[poll-404:1]", CallOutcome::NotFound),
            ("[poll-410:1]", CallOutcome::NotFound),
            ("[poll-401:1]", CallOutcome::AccountRefused),
            ("[poll-empty:1]", CallOutcome::Unreadable),
            ("[poll-html:1]", CallOutcome::Unreadable),
        ] {
            let placed = provider.place(prompt).await;
            let first = provider.poll(&placed).await.unwrap_err();
            assert_eq!(first.outcome, outcome, "{model} {prompt}");
            // It said nothing about the order.
            assert!(provider.over(&placed).await.is_ok(), "{model} {prompt}");
        }
        // Its own words for an outage, in front of a video that was made.
        let placed = provider.place("[poll-503:2]").await;
        let outage = if model == "by-fal" { CallOutcome::ResultUnavailable } else { CallOutcome::Unavailable };
        for _ in 0..2 {
            assert_eq!(provider.over(&placed).await.unwrap_err().outcome, outage, "{model}");
        }
        assert!(provider.over(&placed).await.is_ok(), "{model}");
        let placed = provider.place("[poll-long]").await;
        assert!(provider.over(&placed).await.is_ok(), "{model}: two MiB of logs are read past");
    }
}

#[tokio::test]
async fn an_output_is_found_wherever_it_lies() {
    let providers = Providers::without_faults().await;
    for model in ALL {
        let provider = providers.provider(model);
        for prompt in ["[output-object]", "[output-list]", "[output-data]", "[output-bare]"] {
            let placed = provider.place(prompt).await;
            let made = provider.over(&placed).await.unwrap();
            let bytes = provider.bytes(&placed, &made).await.unwrap();
            assert!(re_mp4::Mp4::read_bytes(&bytes).is_ok(), "{model} {prompt}");
        }
        // OpenRouter's files are at their job's own addresses, whatever else is said.
        if model == "by-openrouter" {
            let mut order = provider.order("[output-none]");
            order.max_outputs = 2;
            order.input.insert("num_outputs".to_owned(), 2.into());
            let placed = (order.clone(), provider.submit(&order).await.unwrap());
            let made = provider.over(&placed).await.unwrap();
            assert_eq!((made.addresses.len(), made.unnamed), (2, 2));
            let second = Made { addresses: made.addresses[1..].to_vec(), ..made.clone() };
            let (first, second) = (provider.bytes(&placed, &made).await, provider.bytes(&placed, &second).await);
            assert_ne!(first.unwrap(), second.unwrap());
            continue;
        }
        let placed = provider.place("[output-none]").await;
        assert_eq!(provider.over(&placed).await.unwrap_err().outcome, CallOutcome::OutputMissing, "{model}");
    }
}

#[tokio::test]
async fn each_answer_of_a_file_has_its_own_outcome() {
    let providers = Providers::without_faults().await;
    for model in MODELS {
        let provider = providers.provider(model);
        for (prompt, outcome) in [
            ("[file-short]", CallOutcome::FileCut),
            ("[file-cut]", CallOutcome::FileCut),
            ("[file-403:1]", CallOutcome::FileRefused),
            ("[file-408:1]", CallOutcome::FileUnavailable),
            ("[file-429:1]", CallOutcome::FileUnavailable),
            ("[file-500:1]", CallOutcome::FileUnavailable),
            ("[file-unreachable]", CallOutcome::FileUnavailable),
            ("[file-unnamed]", CallOutcome::FileUnavailable),
            ("[file-untrusted]", CallOutcome::FileUnavailable),
        ] {
            let placed = provider.place(prompt).await;
            let made = provider.over(&placed).await.unwrap();
            let trouble = provider.bytes(&placed, &made).await.unwrap_err();
            assert_eq!(trouble.outcome, outcome, "{model} {prompt}: {trouble:?}");
            if prompt.ends_with(":1]") {
                assert!(provider.bytes(&placed, &made).await.is_ok(), "{model} {prompt}: it said so once");
            }
        }
        for prompt in ["[file-moved]", "[file-webm]", "[file-mov]"] {
            let placed = provider.place(prompt).await;
            let made = provider.over(&placed).await.unwrap();
            assert!(provider.bytes(&placed, &made).await.is_ok(), "{model} {prompt}");
        }
    }
}

#[tokio::test]
async fn webhooks_are_believed_as_they_are_signed_and_forged_ones_are_not() {
    let providers = Providers::without_faults().await;
    for (model, hooks) in MODELS.into_iter().zip([2, 1]) {
        let at = providers.provider(model);
        let provider = &at.provider;
        assert!(provider.abilities().webhook);
        let (order, reference) = at.place("a harbour [hook-twice]").await;
        let mut events = Vec::new();
        for _ in 0..2 * hooks {
            let webhook = providers.webhook().await;
            assert_eq!(webhook.job, order.key);
            let event = provider.verify(&webhook).unwrap();
            assert_eq!(event.reference.as_ref(), Some(&reference.0), "{model}");
            events.push(event.id);
            let altered = Webhook { body: [&webhook.body[..], b" "].concat().into(), ..webhook.clone() };
            assert!(provider.verify(&altered).is_err());
            let late = Webhook { now: webhook.now + Duration::from_secs(400), ..webhook };
            assert!(provider.verify(&late).is_err());
        }
        events.sort_unstable();
        events.dedup();
        assert_eq!(events.len(), hooks, "a repetition is the same event");

        let forged = at.place("a harbour [hook-forged]").await;
        let mut believed = Vec::new();
        for _ in 0..2 * hooks {
            believed.push(provider.verify(&providers.webhook().await).is_ok());
        }
        assert_eq!(believed.iter().filter(|believed| **believed).count(), hooks, "{model} {:?}", forged.1);
    }
}

#[tokio::test]
async fn what_a_provider_says_of_its_use_is_understood() {
    let providers = Providers::without_faults().await;
    let (half, timed) = (Some(500_000), Some(Duration::from_millis(2_500)));
    for (model, expected) in ALL.into_iter().zip([
        Usage { run_time: timed, ..Usage::default() },
        // Four units at 14 cents.
        Usage { cost_micros: Some(560_000), units: "4.0".to_owned(), ..Usage::default() },
        Usage { cost_micros: half, ..Usage::default() },
        Usage { run_time: timed, ..Usage::default() },
    ]) {
        let provider = providers.provider(model);
        let placed = provider.place("a harbour").await;
        assert_eq!(provider.over(&placed).await.unwrap().usage, expected, "{model}");
    }
}

/// A box's order is found by the job's own name, and sending it again makes no other.
#[tokio::test]
async fn a_box_takes_an_order_once_and_finds_it_by_its_key() {
    let providers = Providers::without_faults().await;
    let at = providers.provider("by-cog");
    let order = at.order("a harbour [cut-after]");
    assert_eq!(at.provider.find(&order).await.unwrap(), None);
    assert_eq!(at.submit(&order).await.unwrap_err().outcome, CallOutcome::Lost);
    let reference = at.provider.find(&order).await.unwrap().unwrap();
    assert_eq!(at.submit(&order).await.unwrap(), reference);
    let ordered = providers.bill().into_iter().filter(|line| line.event == Event::Ordered).count();
    assert_eq!((ordered, reference.0), (1, order.key.to_string()));
    let nowhere = Order { model: "cpu".to_owned(), ..at.order("a harbour") };
    assert_eq!(at.submit(&nowhere).await.unwrap_err().outcome, CallOutcome::ModelRefused, "no box is called so");
}

#[tokio::test]
async fn a_poll_that_goes_wrong_says_nothing_about_the_order() {
    let providers = Providers::new(Faults { unavailable: 1.0, ..Faults::default() }, "double-token").await;
    for model in MODELS {
        let provider = providers.provider(model);
        let placed = provider.place("a harbour").await;
        assert!(provider.poll(&placed).await.is_err());
        assert!(provider.cancel(&placed).await.is_err());
    }
}

/// The order is the one that the signed body names; a body that names none is a hint all the same.
#[tokio::test]
async fn a_webhook_names_its_order_in_its_body() {
    let providers = Providers::without_faults().await;
    for (prompt, named) in [("[hook-other-id]", true), ("[hook-no-id]", false)] {
        let provider = providers.provider("by-fal");
        let placed = provider.place(prompt).await;
        let event = provider.provider.verify(&providers.webhook().await).unwrap();
        assert_eq!(event.reference, named.then_some(placed.1.0), "{prompt}");
    }
}

/// A webhook is only a hint, so one with two MiB of logs is one too. It used to be refused, and the video waited for its deadline.
#[tokio::test]
async fn a_webhook_with_more_than_anybody_reads_is_a_hint_like_another() {
    let providers = Providers::without_faults().await;
    for model in MODELS {
        let provider = providers.provider(model);
        let placed = provider.place("a harbour [hook-long]").await;
        let webhook = providers.webhook().await;
        assert!(webhook.body.len() > 2 << 20, "{model}: {} bytes", webhook.body.len());
        let event = provider.provider.verify(&webhook).unwrap();
        assert_eq!((webhook.job, event.reference), (placed.0.key, Some(placed.1.0)), "{model}");
        if model == "by-replicate" {
            // Its first is of the start, and its second of the end.
            providers.webhook().await;
        }
    }
}

/// fal signs with the same keys for everybody, so that a signature alone says nothing of whose webhook it is.
#[tokio::test]
async fn a_webhook_of_another_user_of_fal_is_refused() {
    let providers = Providers::without_faults().await;
    let (order, reference) = providers.provider("by-fal").place("a harbour").await;
    let webhook = providers.webhook().await;
    let mut config = providers.config.fal.clone().unwrap();
    for (users, believed) in [(vec!["another"], false), (vec!["another", "user-of-the-double"], true)] {
        config.users = users.into_iter().map(str::to_owned).collect();
        let fal = Fal::each(&config).unwrap().remove(0);
        // It fetches the keys that are signed with.
        fal.poll(&order, &reference).await.unwrap();
        let event = fal.verify(&webhook).map_err(|refused| refused.to_string());
        assert_eq!(event.is_ok(), believed, "{event:?}");
        assert!(believed || event.unwrap_err().contains("another user"));
    }
}
