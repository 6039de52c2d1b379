//! A client of both protocols, and a server that takes webhooks, with nothing of ours in between.

use std::path::PathBuf;
use std::time::Duration;

use provider_double::{Double, Event, Line, Protocol, Settings, read_bill};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The two protocols that send webhooks.
pub(crate) const BOTH: [Protocol; 2] = [Protocol::Replicate, Protocol::Fal];

/// A double, and what it is called with.
pub(crate) struct Client {
    pub(crate) double: Double,
    http: reqwest::Client,
    bill: PathBuf,
    /// What webhooks are sent to.
    hooks: TcpListener,
}

/// What was answered; `None` in place of a status where the connection ended first.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: Option<u16>,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Whether the body came whole.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A webhook as it came.
pub(crate) struct Hook {
    pub(crate) head: String,
    pub(crate) body: Value,
    pub(crate) bytes: usize,
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let so = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), so).await.unwrap_or_else(|_| panic!("{what}"));
}

impl Client {
    pub(crate) async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        // Process-wide; an error only says that another test was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = std::env::temp_dir().join(format!("provider-double-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).unwrap();
        let bill = folder.join("bill");
        let mut settings = Settings { renders: (0, 0), drip_ms: 5, ..Settings::new(&bill) };
        change(&mut settings);
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        Self {
            double: Double::start(settings).await.unwrap(),
            http: http.build().unwrap(),
            bill,
            hooks: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub(crate) async fn plain() -> Self {
        Self::start(|_| {}).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        match request.send().await {
            Ok(mut response) => {
                let (status, headers) = (Some(response.status().as_u16()), response.headers().clone());
                let (mut body, mut whole) = (Vec::new(), true);
                loop {
                    match response.chunk().await {
                        Ok(Some(piece)) => body.extend_from_slice(&piece),
                        Ok(None) => break,
                        Err(_) => {
                            whole = false;
                            break;
                        }
                    }
                }
                Answer { status, headers, body, whole }
            }
            Err(_) => {
                Answer { status: None, headers: reqwest::header::HeaderMap::new(), body: Vec::new(), whole: false }
            }
        }
    }

    /// Gets any address.
    pub(crate) async fn get(&self, url: &str) -> Answer {
        self.send(self.http.get(url)).await
    }

    /// Posts to a path of the double's own.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.http.post(self.url(path)).body(body.to_string())).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.double.address())
    }

    async fn call(&self, protocol: Protocol, method: reqwest::Method, path: &str, body: Option<Value>) -> Answer {
        let (base, scheme) = match protocol {
            Protocol::Replicate => ("/replicate/v1", "Bearer"),
            Protocol::Fal => ("/fal", "Key"),
            Protocol::OpenRouter | Protocol::Cog => panic!("not here"),
        };
        let request = self.http.request(method, self.url(&format!("{base}{path}")));
        let request = request.header("authorization", format!("{scheme} double-token"));
        self.send(match body {
            Some(body) => request.body(body.to_string()),
            None => request,
        })
        .await
    }

    /// Orders with this input, and a webhook.
    pub(crate) async fn order_input(&self, protocol: Protocol, input: Value) -> Answer {
        let hook = format!("http://{}/hooks/job-1", self.hooks.local_addr().unwrap());
        let post = reqwest::Method::POST;
        match protocol {
            Protocol::Replicate => {
                let body = json!({"input": input, "webhook": hook});
                self.call(protocol, post, "/models/acme/video/predictions", Some(body)).await
            }
            Protocol::Fal => {
                self.call(protocol, post, &format!("/fal-ai/video/text?fal_webhook={hook}"), Some(input)).await
            }
            Protocol::OpenRouter | Protocol::Cog => panic!("not here"),
        }
    }

    pub(crate) async fn order(&self, protocol: Protocol, prompt: &str) -> Answer {
        self.order_input(protocol, json!({"prompt": prompt})).await
    }

    /// Orders, and gives the order's name.
    pub(crate) async fn taken(&self, protocol: Protocol, prompt: &str) -> String {
        let answer = self.order(protocol, prompt).await.json();
        answer["id"].as_str().or(answer["request_id"].as_str()).unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    pub(crate) async fn poll(&self, protocol: Protocol, id: &str) -> Answer {
        let path = match protocol {
            Protocol::Replicate => format!("/predictions/{id}"),
            Protocol::Fal => format!("/fal-ai/video/requests/{id}/status"),
            Protocol::OpenRouter | Protocol::Cog => panic!("not here"),
        };
        self.call(protocol, reqwest::Method::GET, &path, None).await
    }

    pub(crate) async fn cancel(&self, protocol: Protocol, id: &str) -> Answer {
        match protocol {
            Protocol::Replicate => {
                self.call(protocol, reqwest::Method::POST, &format!("/predictions/{id}/cancel"), Some(json!({}))).await
            }
            Protocol::Fal => {
                self.call(protocol, reqwest::Method::PUT, &format!("/fal-ai/video/requests/{id}/cancel"), None).await
            }
            Protocol::OpenRouter | Protocol::Cog => panic!("not here"),
        }
    }

    /// The prediction, or the result, of an order once it is over.
    pub(crate) async fn result(&self, protocol: Protocol, id: &str) -> Answer {
        loop {
            let answer = self.poll(protocol, id).await;
            let word = answer.json()["status"].as_str().unwrap_or_default().to_owned();
            if ["succeeded", "failed", "canceled"].contains(&word.as_str()) {
                return answer;
            }
            if word == "COMPLETED" {
                return self.call(protocol, reqwest::Method::GET, &format!("/fal-ai/video/requests/{id}"), None).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// An order with this prompt, made, and what its output is.
    pub(crate) async fn output(&self, protocol: Protocol, prompt: &str) -> (String, Value) {
        let id = self.taken(protocol, prompt).await;
        let result = self.result(protocol, &id).await.json();
        (id, if protocol == Protocol::Replicate { result["output"].clone() } else { result })
    }

    /// An order with this prompt, made, and where its file lies.
    pub(crate) async fn file(&self, protocol: Protocol, prompt: &str) -> (String, String) {
        let (id, output) = self.output(protocol, prompt).await;
        let url = output.as_str().or(output["video"]["url"].as_str()).unwrap_or_else(|| panic!("{output}"));
        (id, url.to_owned())
    }

    /// The next webhook.
    pub(crate) async fn hook(&self) -> Hook {
        let (mut stream, _) = self.hooks.accept().await.unwrap();
        let mut bytes = Vec::new();
        loop {
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length: usize =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
            while bytes.len() < end + 4 + length {
                assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
            let body = serde_json::from_slice(&bytes[end + 4..]).unwrap();
            return Hook { head, body, bytes: length };
        }
    }

    /// The lines of an order, or all.
    pub(crate) fn bill(&self, id: Option<&str>) -> Vec<Line> {
        let mut lines = read_bill(&self.bill).unwrap();
        lines.retain(|line| id.is_none_or(|id| line.order == id));
        lines
    }

    /// What happened to an order, without its faults and webhooks.
    pub(crate) fn events(&self, id: &str) -> Vec<Event> {
        let events = self.bill(Some(id)).into_iter().map(|line| line.event);
        events.filter(|event| !matches!(event, Event::Faulted | Event::Notified)).collect()
    }

    /// The faults of an order that are on the bill, and whether they are hopeless.
    pub(crate) fn faults(&self, id: &str) -> Vec<(String, bool)> {
        self.bill(Some(id)).into_iter().filter_map(|line| Some((line.fault?, line.hopeless))).collect()
    }
}
