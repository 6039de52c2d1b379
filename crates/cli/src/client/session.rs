//! One run of a client command: where the gateway is, who we are, and the trace that it is part of.

use std::time::Duration;

use anyhow::{Context, Result};
use chassis::client::Channel;
use chassis::identity::OPERATOR;
use chassis::keyring::InternalKeys;
use chassis::request::staleness;
use chassis::telemetry::{self, Telemetry};
use http::Uri;
use prost::Message;
use proto::Scope;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use uuid::Uuid;

use crate::client::internal::Internal;
use crate::client::own_writes::{OwnWrites, Remembering};
use crate::connection::Connection;
use crate::failure::{Exit, Failure};
use crate::stack::Stack;
use crate::{json, out};

/// The longest that the gateway lets a call take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Our own spans and those of the calls, and no log lines: what a user should read is printed.
const SPANS: &str = "off,rushes_cli=info,rushes_chassis::client=info";

/// What the gateway is called in messages.
const GATEWAY: &str = "the gateway";

/// What every command needs.
pub(crate) struct Session {
    connection: Connection,
    stack: Option<Stack>,
    traceparent: String,
    json: bool,
}

/// Finds the local stack and, when it collects spans, makes this process one of those that send them.
pub(crate) fn begin() -> Result<(Option<Stack>, Option<Telemetry>)> {
    let stack = Stack::find()?;
    let endpoint = stack.as_ref().and_then(|stack| stack.otlp.clone());
    let telemetry = endpoint.map(|endpoint| {
        let settings = telemetry::Settings {
            filter: SPANS.to_owned(),
            endpoint: Some(endpoint),
            ..telemetry::Settings::default()
        };
        Telemetry::start("rushes", &settings)
    });
    Ok((stack, telemetry))
}

impl Session {
    /// To be called inside the command's span.
    pub(crate) fn new(connection: Connection, stack: Option<Stack>, json: bool) -> Result<Self> {
        // Without a collector of our own the gateway's may still record us: sampled, as a span that nobody sends.
        let traceparent = match telemetry::traceparent() {
            Some(traceparent) => traceparent,
            None => {
                let (trace, span) = (Uuid::now_v7(), Uuid::now_v7().as_u64_pair().1);
                format!("00-{}-{span:016x}-01", trace.simple())
            }
        };
        Ok(Self { connection, stack, traceparent, json })
    }

    /// A lazy channel to the gateway, over which what was written lately shows.
    pub(crate) fn gateway(&self) -> Result<Remembering> {
        let address = self.address()?;
        let own_writes = OwnWrites::of(address, self.key()?);
        Ok(Remembering { channel: channel(GATEWAY, address)?, own_writes })
    }

    /// A lazy channel to a service's port for internal methods, as the operator.
    pub(crate) fn internal(&self, service: &'static str, given: &Internal) -> Result<Channel> {
        let found = self.stack.as_ref().and_then(|stack| stack.internal.get(service)).map(String::as_str);
        let channel = channel(service, located(service, given.internal_url(service).or(found))?)?;
        Ok(channel.as_service(OPERATOR, &self.internal_keys(given)?))
    }

    /// A lazy channel to a service's port for public methods, with the scope of operators and no key of an account.
    pub(crate) fn operator(&self, service: &'static str, given: &Internal) -> Result<Channel> {
        let found = self.stack.as_ref().and_then(|stack| stack.services.get(service)).map(String::as_str);
        let channel = channel(service, located(service, given.public_url(service).or(found))?)?;
        Ok(channel.as_key(Uuid::nil(), Scope::Operate.as_str(), &self.internal_keys(given)?))
    }

    fn internal_keys(&self, given: &Internal) -> Result<InternalKeys> {
        let found = self.stack.as_ref().map(|stack| stack.internal_keys.as_str());
        let text = given.keys().or(found).ok_or_else(|| {
            Failure::new("services take operators' commands from who has their keys, and none were given")
                .todo("set RUSHES_INTERNAL_KEYS to what the services have, or run the command in a service's container")
                .exit(Exit::Denied)
        })?;
        let keys = InternalKeys::parse(text).ok_or_else(|| {
            Failure::new("RUSHES_INTERNAL_KEYS should be what the services have: 32 or more characters a key")
                .exit(Exit::Usage)
        })?;
        Ok(keys)
    }

    /// `message` with the key, the trace and a deadline.
    pub(crate) fn request<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = self.stream(message)?;
        request.set_timeout(TIMEOUT);
        Ok(request)
    }

    /// `message` as [`Session::request`] has it, which may be answered with what is stale when nothing else can be had.
    pub(crate) fn lenient<T>(&self, message: T, allow_stale: bool) -> Result<Request<T>> {
        let mut request = self.request(message)?;
        if allow_stale {
            request.metadata_mut().insert(staleness::MAX_STALE_HEADER, staleness::MAX_STALE.as_secs().into());
        }
        Ok(request)
    }

    /// `message` with the key and the trace, and no deadline: for streams.
    pub(crate) fn stream<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = self.internal_request(message)?;
        request.metadata_mut().insert("authorization", self.bearer()?);
        Ok(request)
    }

    /// `message` with the trace and no key: for the internal network.
    pub(crate) fn internal_request<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("traceparent", self.traceparent.parse()?);
        Ok(request)
    }

    /// What to say of an answer that is an error.
    pub(crate) fn failed(&self, status: &tonic::Status) -> anyhow::Error {
        let failure = Failure::of(status, self.trace());
        match self.address() {
            // Our own channel says this; a gateway that answers says which service behind it does not.
            Ok(address) if status.message().starts_with(GATEWAY) => {
                failure.saying(format!("no gateway answers at {address}")).into()
            }
            _ => failure.into(),
        }
    }

    /// Says so when an answer is stale.
    pub(crate) fn warn_of_age(&self, metadata: &MetadataMap) {
        if let Some(age) = metadata.get(staleness::AGE_HEADER).and_then(|age| age.to_str().ok()) {
            out::warn(format_args!("stale: how it was at most {age} s ago; what is now cannot be read"));
        }
    }

    /// The id of this command's trace, 32 hexadecimal digits.
    pub(crate) fn trace(&self) -> &str {
        self.traceparent.split('-').nth(1).unwrap_or_default()
    }

    /// The local stack, when there is one.
    pub(crate) fn stack(&self) -> Option<&Stack> {
        self.stack.as_ref()
    }

    /// Whether JSON was asked for.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Prints `message`, whose full name is `name`, as JSON or as `text` has it.
    pub(crate) fn show<M: Message>(&self, name: &str, message: &M, text: impl FnOnce(&M) -> String) -> Result<Exit> {
        if self.json {
            json::print(name, message)?;
        } else {
            out::print(text(message))?;
        }
        Ok(Exit::Done)
    }

    fn address(&self) -> Result<&str> {
        let found = self.stack.as_ref().map(|stack| stack.address.as_str());
        let address = self.connection.address.as_deref().or(found);
        address.ok_or_else(|| {
            Failure::new("no local stack runs in this directory or one above, and no address was given")
                .todo("start one with `cargo rushes up`, or give --address and --api-key")
                .exit(Exit::Unreachable)
                .into()
        })
    }

    fn key(&self) -> Result<&str> {
        // The stack's key is for the stack's gateway and is not shown to another.
        let address = self.address()?;
        let found = self.stack.as_ref().filter(|stack| stack.address == address).map(|stack| stack.api_key.as_str());
        let key = self.connection.api_key.as_deref().or(found);
        key.ok_or_else(|| {
            Failure::new(format!("no API key was given for {address}"))
                .todo("give one with --api-key or RUSHES_API_KEY")
                .exit(Exit::Denied)
                .into()
        })
    }

    fn bearer(&self) -> Result<MetadataValue<Ascii>> {
        let key = self.key()?;
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {key}").parse().ok().context("an API key has only letters, digits, - and _")?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn located<'a>(service: &str, address: Option<&'a str>) -> Result<&'a str> {
    let address = address.ok_or_else(|| {
        Failure::new(format!("it is not known where {service} is"))
            .todo("start the local stack with `cargo rushes up`, or say where with the options of this command")
            .exit(Exit::Usage)
    })?;
    Ok(address)
}

fn channel(name: &'static str, address: &str) -> Result<Channel> {
    let uri: Uri = address.parse().ok().with_context(|| format!("{address} is not a URL"))?;
    if uri.scheme_str() != Some("http") || uri.authority().is_none() {
        let error = Failure::new(format!("{address} is not an address such as http://127.0.0.1:8080"))
            .todo("this client speaks plain HTTP/2; reach a gateway behind TLS through a local proxy")
            .exit(Exit::Usage);
        return Err(error.into());
    }
    Ok(chassis::client::connect(name, &uri))
}
