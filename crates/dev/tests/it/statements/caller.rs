//! Calls any method of any service by its name, with JSON, and says how many round trips to PostgreSQL the service counted for it.
//!
//! Invariant: a service is called as the gateway calls it, at its own port, since only there a reply says what it cost.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{Buf as _, BufMut as _};
use chassis::telemetry::attributes;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::Value;
use testkit::{Kind, Spans};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use uuid::Uuid;

use crate::cluster::Cluster;

/// What a call came to.
pub(super) struct Reply {
    /// The first message, as JSON, or why there is none.
    pub(super) outcome: Result<Value, Status>,
    /// How many round trips to PostgreSQL its service made for it.
    pub(super) statements: u64,
}

/// A caller of all services on one account's behalf.
pub(super) struct Caller<'a> {
    cluster: &'a Cluster,
    spans: &'a Spans,
    methods: DescriptorPool,
    pub(super) account: Option<Uuid>,
    answered: Mutex<Vec<Answered>>,
}

/// A public call of an account that was answered.
pub(super) struct Answered {
    pub(super) path: String,
    pub(super) messages: Vec<Value>,
    pub(super) reply: Value,
}

impl<'a> Caller<'a> {
    pub(super) fn new(cluster: &'a Cluster, spans: &'a Spans) -> Result<Self> {
        Ok(Self {
            cluster,
            spans,
            methods: DescriptorPool::decode(proto::DESCRIPTOR_SET)?,
            account: None,
            answered: Mutex::default(),
        })
    }

    /// The calls of accounts that were answered until now; those of operators reach across accounts, and internal ones are of none.
    pub(super) fn take_answered(&self) -> Vec<Answered> {
        std::mem::take(&mut *self.answered.lock().unwrap())
    }

    /// Calls `package.Service/Method` with these messages and reads the first one of the answer.
    pub(super) async fn call(&self, path: &str, messages: &[Value]) -> Result<Reply> {
        let sent = messages;
        let method = self.method(path)?;
        let encode =
            |message: &Value| anyhow::Ok(DynamicMessage::deserialize(method.input(), message)?.encode_to_vec());
        let messages: Vec<_> = messages.iter().map(encode).collect::<Result<_>>()?;
        let route = proto::method(&format!("/{path}")).with_context(|| format!("no route to {path}"))?;
        let mut client = tonic::client::Grpc::new(self.cluster.doors(route.upstream));
        client.ready().await?;
        let trace = Uuid::new_v4().simple().to_string();
        let mut request = Request::new(tokio_stream::iter(messages));
        let metadata = request.metadata_mut();
        metadata.insert("traceparent", format!("00-{trace}-00f067aa0ba902b7-01").parse()?);
        if let Some(account) = self.account {
            chassis::request::caller::Caller::account(account).attach(&mut request);
        }
        let codec = Json { output: method.output() };
        let answer = client.streaming(request, format!("/{path}").parse()?, codec).await;
        let (outcome, statements) = match answer {
            Err(status) => (Err(status.clone()), counted(status.metadata())),
            Ok(response) => {
                let headers = response.metadata().clone();
                let first = response.into_inner().message().await;
                let outcome = first.and_then(|first| first.ok_or_else(|| Status::internal("an empty answer")));
                (outcome, counted(&headers))
            }
        };
        if let Ok(reply) = &outcome
            && route.scope.is_some_and(|scope| scope != proto::Scope::Operate)
        {
            let (path, messages, reply) = (path.to_owned(), sent.to_vec(), reply.clone());
            self.answered.lock().unwrap().push(Answered { path, messages, reply });
        }
        // The headers of a stream leave before its work.
        let statements = match statements {
            Some(statements) if !method.is_server_streaming() => statements,
            _ => self.recorded(&trace, path).await?,
        };
        Ok(Reply { outcome, statements })
    }

    fn method(&self, path: &str) -> Result<MethodDescriptor> {
        let (service, name) = path.split_once('/').context("a path")?;
        let service = self.methods.get_service_by_name(service).with_context(|| format!("no service {service}"))?;
        service.methods().find(|method| method.name() == name).with_context(|| format!("no method {path}"))
    }

    /// What the span of an ended call says.
    async fn recorded(&self, trace: &str, path: &str) -> Result<u64> {
        let count = |spans: &[testkit::Span]| {
            let is_it = |span: &&testkit::Span| span.trace == trace && span.kind == Kind::Server && span.name == path;
            spans.iter().find(is_it)?.attribute(attributes::QUERIES)?.parse().ok()
        };
        self.spans.wait(path, Duration::from_secs(20), count).await
    }
}

fn counted(metadata: &MetadataMap) -> Option<u64> {
    metadata.get("x-rushes-queries")?.to_str().ok()?.parse().ok()
}

/// Sends encoded messages, and reads messages as JSON.
struct Json {
    output: MessageDescriptor,
}

impl Codec for Json {
    type Encode = Vec<u8>;
    type Decode = Value;
    type Encoder = Bytes;
    type Decoder = Self;

    fn encoder(&mut self) -> Bytes {
        Bytes
    }

    fn decoder(&mut self) -> Self {
        Self { output: self.output.clone() }
    }
}

struct Bytes;

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Json {
    type Item = Value;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Value>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        let mut message = DynamicMessage::decode(self.output.clone(), bytes)
            .map_err(|error| Status::internal(format!("not a {}: {error}", self.output.full_name())))?;
        // The details of an error are of types that our protos do not name.
        message.clear_field_by_name("error");
        let options = SerializeOptions::new().skip_default_fields(false);
        let value = message.serialize_with_options(serde_json::value::Serializer, &options);
        value.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// The text at a path of a reply's JSON, such as `/apiKey/name`.
pub(super) fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A request id that no call has had.
pub(super) fn request_id() -> String {
    Uuid::now_v7().to_string()
}
