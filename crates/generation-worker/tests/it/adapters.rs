//! The adapters over real HTTP, against a server that answers as the providers' documentation says, or breaks off.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use generation_worker::config::{self, ProviderKey};
use generation_worker::model::{CallOutcome, Order, OrderStatus, Reference, Stopping, Trouble, Usage};
use generation_worker::provider::Provider;
use generation_worker::providers::fal::Fal;
use generation_worker::providers::replicate::Replicate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;
use uuid::Uuid;

use crate::fake_provider::{self, input};

const JOB: Uuid = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001);

/// What the server does with a request.
#[derive(Clone)]
enum Reply {
    /// Status, further header lines, body. `{base}` becomes its own address.
    Answer(u16, &'static str, &'static str),
    /// Reads it and breaks off.
    Cut,
}

/// A server that answers by a script, request by request, and keeps what it was asked.
struct FakeServer {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeServer {
    async fn replying(script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Vec<_> = script.into_iter().collect();
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            for reply in script {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = request(&mut stream).await;
                kept.lock().unwrap().push(request);
                if let Reply::Answer(code, headers, body) = reply {
                    let body = body.replace("{base}", &format!("http://{at}"));
                    let length = body.len();
                    let head =
                        format!("HTTP/1.1 {code} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
                    stream.write_all((head + &body).as_bytes()).await.unwrap();
                }
            }
        });
        Self { at, asked }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.at)).unwrap()
    }

    fn replicate(&self) -> Replicate {
        let config = config::Replicate {
            url: self.url("/v1"),
            keys: vec![ProviderKey::new(domain::provider::Provider::Replicate, "Bearer", "token").unwrap()],
            hooks: Some(crate::cluster::hooks()),
            secrets: Vec::new(),
        };
        Replicate::each(&config).unwrap().remove(0)
    }

    fn fal(&self) -> Fal {
        let config = config::Fal {
            url: self.url("/"),
            keys: vec![ProviderKey::new(domain::provider::Provider::Fal, "Key", "key").unwrap()],
            hooks: None,
            users: Vec::new(),
            key_set: self.url("/keys"),
            rest_url: self.url("/rest"),
            api_url: self.url("/api"),
        };
        Fal::each(&config).unwrap().remove(0)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A whole request, its body by `content-length`.
async fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return text;
        }
    }
}

/// An order at either: each reads as much of the model's name as it has a place for.
fn order() -> Order {
    Order { key: JOB, ..fake_provider::order("any", "acme/film", "A lighthouse") }
}

fn fal_order() -> Order {
    Order { model: "fal-ai/kling-video/v2/text-to-video".to_owned(), ..order() }
}

async fn submit(provider: &dyn Provider, order: &Order) -> Result<Reference, Trouble> {
    provider.submit(order, &input(order)).await
}

fn outcome(result: Result<Reference, Trouble>) -> CallOutcome {
    result.unwrap_err().outcome
}

/// The answer of `/docs/reference/http#predictions.create`.
const CREATED: &str = r#"{"id":"gm3qorzdhgbfurvjtvhg6dckhu","status":"starting","output":null,"error":null}"#;
const SUBMITTED: &str =
    r#"{"request_id":"80e732af-660e-45cd-bd63-580e4f2a94cc","status":"IN_QUEUE","queue_position":0}"#;

#[tokio::test]
async fn replicate_is_asked_for_a_model_or_a_version() {
    let server = FakeServer::replying([Reply::Answer(201, "", CREATED), Reply::Answer(201, "", CREATED)]).await;
    let provider = server.replicate();
    let reference = submit(&provider, &order()).await.unwrap();
    assert_eq!(reference, Reference("gm3qorzdhgbfurvjtvhg6dckhu".into()));
    let limit = Some(std::time::Duration::from_millis(90_500));
    let version = Order { model: "acme/film:5c7d5dc6".to_owned(), max_run_time: limit, ..order() };
    submit(&provider, &version).await.unwrap();
    let asked = server.asked();
    assert!(asked[0].starts_with("POST /v1/models/acme/film/predictions HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[1].starts_with("POST /v1/predictions HTTP/1.1\r\n"), "{}", asked[1]);
    let body = |request: &str| -> serde_json::Value {
        serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let (model, version) = (body(&asked[0]), body(&asked[1]));
    assert_eq!((&model["version"], &version["version"]), (&serde_json::Value::Null, &"5c7d5dc6".into()));
    assert_eq!(model["input"], serde_json::json!({"prompt": "A lighthouse", "seed": 7}));
    assert_eq!(
        model["webhook"],
        format!("https://rushes.test/hooks/replicate/{}", crate::cluster::hook_path("replicate", JOB))
    );
    assert!(asked[0].contains("authorization: Bearer token\r\n"), "{}", asked[0]);
    assert!(!asked[0].contains("cancel-after") && asked[1].contains("cancel-after: 91s\r\n"), "{}", asked[1]);
}

/// A model that takes no seed refuses whatever it does not know.
#[tokio::test]
async fn nothing_is_sent_that_the_model_does_not_have() {
    let server = FakeServer::replying([Reply::Answer(201, "", CREATED), Reply::Answer(200, "", SUBMITTED)]).await;
    let mut order = order();
    order.input.remove("seed");
    submit(&server.replicate(), &order).await.unwrap();
    submit(&server.fal(), &order).await.unwrap();
    let bodies: Vec<_> =
        server.asked().iter().map(|asked| asked.split_once("\r\n\r\n").unwrap().1.to_owned()).collect();
    assert!(bodies.iter().all(|body| body.contains("A lighthouse") && !body.contains("seed")), "{bodies:?}");
}

/// A drawn seed that the provider refused used to be told to the user as a fault of their input.
#[tokio::test]
async fn a_refused_seed_is_the_users_only_where_they_gave_it() {
    let of_replicate = r#"{"detail":"- input.seed: Must be less than or equal to 65535\n"}"#;
    let of_fal = r#"{"detail":[{"loc":["body","seed"],"msg":"too large","type":"less_than_equal"}]}"#;
    for (unasked, expected) in
        [(vec!["seed".to_owned()], CallOutcome::ModelRefused), (vec![], CallOutcome::InputRefused)]
    {
        let server = FakeServer::replying([
            Reply::Answer(422, "", of_replicate),
            Reply::Answer(422, "", of_fal),
            Reply::Answer(200, "", r#"{"status":"COMPLETED"}"#),
            Reply::Answer(422, "", of_fal),
        ])
        .await;
        let order = Order { unasked, ..fal_order() };
        assert_eq!(outcome(submit(&server.replicate(), &order).await), expected);
        assert_eq!(outcome(submit(&server.fal(), &order).await), expected);
        let polled = server.fal().poll(&order, &Reference("80e732af".to_owned())).await;
        assert_eq!(polled.unwrap_err().outcome, expected, "a result");
    }
}

#[tokio::test]
async fn what_never_left_is_not_taken_for_what_was_lost() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = nobody.local_addr().unwrap();
    drop(nobody);
    let gone = FakeServer { at, asked: Arc::default() };
    for provider in [&gone.replicate() as &dyn Provider, &gone.fal()] {
        assert_eq!(outcome(submit(provider, &order()).await), CallOutcome::NotSent);
    }
    for (reply, expected) in [
        (Reply::Cut, CallOutcome::Lost),
        (Reply::Answer(500, "", "{}"), CallOutcome::Unavailable),
        (Reply::Answer(504, "", "{}"), CallOutcome::Unavailable),
        (Reply::Answer(302, "location: /elsewhere\r\n", ""), CallOutcome::Unreadable),
        (Reply::Answer(409, "", "{}"), CallOutcome::Unreadable),
        (Reply::Answer(201, "", "{}"), CallOutcome::Unreadable),
        (Reply::Answer(201, "", "no json"), CallOutcome::Unreadable),
    ] {
        let server = FakeServer::replying([reply.clone(), reply]).await;
        for provider in [&server.replicate() as &dyn Provider, &server.fal()] {
            assert_eq!(outcome(submit(provider, &order()).await), expected);
        }
        // Neither a retry nor a redirect: each was asked once.
        assert_eq!(server.asked().len(), 2);
    }
}

#[tokio::test]
async fn a_documented_refusal_is_no_other_answer() {
    let throttled = r#"{"detail":"Request was throttled. Your rate limit resets in ~30s."}"#;
    for (code, headers, body, expected) in [
        (429, "retry-after: 30\r\n", throttled, CallOutcome::Throttled),
        (422, "", r#"{"detail":"- input.prompt: too long"}"#, CallOutcome::InputRefused),
        (422, "", r#"{"detail":"unexpected field seed"}"#, CallOutcome::ModelRefused),
        (404, "", r#"{"detail":"no such model"}"#, CallOutcome::ModelRefused),
        (401, "", "{}", CallOutcome::AccountRefused),
        (402, "", r#"{"title":"Insufficient credit"}"#, CallOutcome::AccountRefused),
        (403, "", r#"{"detail":"User is locked"}"#, CallOutcome::AccountRefused),
    ] {
        let answer = Reply::Answer(code, headers, body);
        let server = FakeServer::replying([answer.clone(), answer]).await;
        for provider in [&server.replicate() as &dyn Provider, &server.fal()] {
            let trouble = submit(provider, &order()).await.unwrap_err();
            assert_eq!(trouble.outcome, expected, "{code} {body}");
            assert_eq!(trouble.retry_after.map(|after| after.as_secs()), (code == 429).then_some(30));
            assert_eq!(trouble.evidence.status, Some(code));
        }
    }
}

/// Each hop of a download is answered like the first: with the file, a refusal, or where else it is.
#[tokio::test]
async fn redirects_of_a_file_are_followed_a_few_times() {
    let hop = || Reply::Answer(302, "location: /next.mp4\r\n", "");
    let server = FakeServer::replying([hop(), hop(), Reply::Answer(200, "", "the film")]).await;
    let made = server.url("/out.mp4").to_string();
    let (provider, reference) = (server.fal(), Reference("p".into()));
    let pieces: Vec<_> = provider.fetch(&reference, &made).await.unwrap().collect().await;
    assert_eq!(pieces.into_iter().flat_map(|piece| piece.unwrap().to_vec()).collect::<Vec<_>>(), b"the film");
    for (replies, expected) in [
        ((0..6).map(|_| hop()).collect::<Vec<_>>(), CallOutcome::FileUnavailable),
        (vec![Reply::Answer(302, "", "")], CallOutcome::FileRefused),
        (vec![Reply::Answer(302, "location: file:///etc/passwd\r\n", "")], CallOutcome::FileRefused),
        (vec![Reply::Answer(403, "", "")], CallOutcome::FileRefused),
        (vec![Reply::Answer(404, "", "")], CallOutcome::FileRefused),
        (vec![Reply::Answer(500, "", "")], CallOutcome::FileUnavailable),
        (vec![Reply::Answer(408, "", "")], CallOutcome::FileUnavailable),
        (vec![Reply::Answer(429, "", "")], CallOutcome::FileUnavailable),
        (vec![Reply::Cut], CallOutcome::FileUnavailable),
    ] {
        let server = FakeServer::replying(replies).await;
        let made = server.url("/out.mp4").to_string();
        let trouble = server.fal().fetch(&reference, &made).await.map(drop).unwrap_err();
        assert_eq!(trouble.outcome, expected);
    }
    let data = "data:video/mp4;base64,dGhlIGZpbG0=";
    let pieces: Vec<_> = provider.fetch(&reference, data).await.unwrap().collect().await;
    assert_eq!(&pieces.into_iter().next().unwrap().unwrap()[..], b"the film");
}

#[tokio::test]
async fn replicates_output_is_fetched_without_the_token() {
    let done = r#"{"id":"p","status":"succeeded","output":"{base}/out.mp4"}"#;
    let server = FakeServer::replying([
        Reply::Answer(200, "", done),
        Reply::Answer(200, "", "the film"),
        Reply::Answer(404, "", r#"{"detail":"not found"}"#),
        Reply::Answer(200, "", "{}"),
    ])
    .await;
    let (provider, order) = (server.replicate(), order());
    let reference = Reference("p".into());
    let Ok(OrderStatus::Done(made)) = provider.poll(&order, &reference).await else { panic!("it is done") };
    let pieces: Vec<_> = provider.fetch(&reference, &made.addresses[0]).await.unwrap().collect().await;
    let film: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap().to_vec()).collect();
    assert_eq!(film, b"the film");
    assert_eq!(provider.poll(&order, &reference).await.unwrap_err().outcome, CallOutcome::NotFound);
    assert_eq!(provider.cancel(&order, &reference).await, Ok(Stopping::Asked));
    let asked = server.asked();
    assert!(asked[0].starts_with("GET /v1/predictions/p HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[1].starts_with("GET /out.mp4 ") && !asked[1].contains("authorization"), "{}", asked[1]);
    assert!(asked[3].starts_with("POST /v1/predictions/p/cancel "), "{}", asked[3]);
}

#[tokio::test]
async fn fal_is_asked_below_the_app_and_completed_means_only_that_there_is_a_result() {
    let server = FakeServer::replying([
        Reply::Answer(200, "", SUBMITTED),
        Reply::Answer(200, "", r#"{"status":"IN_QUEUE","queue_position":2}"#),
        Reply::Answer(200, "", r#"{"status":"IN_PROGRESS","logs":[]}"#),
        Reply::Answer(200, "", r#"{"status":"COMPLETED"}"#),
        Reply::Answer(422, "", r#"{"detail":[{"loc":["body"],"msg":"no","type":"content_policy_violation"}]}"#),
        Reply::Answer(200, "", r#"{"status":"COMPLETED"}"#),
        Reply::Answer(200, "x-fal-billable-units: 4.0\r\n", r#"{"video":{"url":"{base}/v.mp4"}}"#),
        Reply::Answer(
            200,
            "",
            r#"{"prices":[{"endpoint_id":"fal-ai/kling-video/v2/text-to-video","unit_price":0.14}]}"#,
        ),
        Reply::Answer(400, "", r#"{"status":"ALREADY_COMPLETED"}"#),
    ])
    .await;
    let provider = server.fal();
    let order = fal_order();
    let reference = submit(&provider, &order).await.unwrap();
    assert_eq!(provider.poll(&order, &reference).await, Ok(OrderStatus::Waiting { position: Some(3) }));
    assert!(matches!(provider.poll(&order, &reference).await, Ok(OrderStatus::Working { .. })));
    assert_eq!(provider.poll(&order, &reference).await.unwrap_err().outcome, CallOutcome::SafetyRefused);
    let Ok(OrderStatus::Done(made)) = provider.poll(&order, &reference).await else { panic!("it is done") };
    assert_eq!(made.usage, Usage { cost_micros: Some(560_000), units: "4.0".to_owned(), ..Usage::default() });
    assert_eq!(provider.cancel(&order, &reference).await, Ok(Stopping::Asked));
    let asked: Vec<_> =
        server.asked().iter().map(|request| request.split(" HTTP").next().unwrap().to_owned()).collect();
    let below = "/fal-ai/kling-video/requests/80e732af-660e-45cd-bd63-580e4f2a94cc";
    assert_eq!(asked[0], "POST /fal-ai/kling-video/v2/text-to-video");
    assert_eq!(asked[1], format!("GET {below}/status"));
    assert_eq!(asked[4], format!("GET {below}"));
    assert_eq!(asked[7], "GET /api/models/pricing?endpoint_id=fal-ai%2Fkling-video%2Fv2%2Ftext-to-video");
    assert_eq!(asked[8], format!("PUT {below}/cancel"));
}
