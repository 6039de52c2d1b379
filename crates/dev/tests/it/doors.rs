//! Every method of the descriptor set, at both doors of the service that has it, called by everybody who may not call it.
//!
//! Invariant: a method that is added is in here by itself, and each is also called by one who may, so that a refusal is never that of
//! a service that refuses everybody.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use chassis::identity::{self, By, Identities, Identity, LIFETIME};
use chassis::keyring::InternalKeys;
use http::HeaderValue;
use proto::{Method, Scope};
use testkit::AsBytes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::cluster::{Cluster, Options};

const OTHER_KEYS: &str = "else-else-else-else-else-else-else";
const SCOPES: [Scope; 4] = [Scope::Read, Scope::Write, Scope::Generate, Scope::Operate];
const SERVICES: [&str; 6] =
    ["dashboard", "generation-status", "thumbnail-worker", "generation-worker", "gateway", identity::OPERATOR];

/// The reasons of refusals at a door.
const OF_DOORS: [&str; 4] = ["IDENTITY_REFUSED", "SCOPE_MISSING", "CALLER_NOT_ALLOWED", "METHOD_UNKNOWN"];

/// A call, and how it must end.
struct Case {
    what: String,
    door: SocketAddr,
    token: Option<HeaderValue>,
    refused: (Code, &'static str),
}

fn sign(keys: &str, by: By<'_>, service: &str, at: SystemTime) -> HeaderValue {
    // On behalf of an account that there is not.
    let identity = Identity { account: Some(Uuid::from_u128(1)), by };
    Identities::new(&InternalKeys::parse(keys).unwrap()).sign_at(&identity, service, at)
}

fn key(scopes: &str) -> By<'_> {
    By::Key { id: testkit::KEY, scopes }
}

/// By what right a method is called.
fn right(method: &Method) -> By<'static> {
    method.scope.map_or_else(|| By::Service(method.callers[0]), |scope| key(scope.as_str()))
}

/// The address of one of the doors; the service's only one where it has one.
fn door(cluster: &Cluster, service: &str, public: bool) -> SocketAddr {
    if public { cluster.address(service) } else { cluster.internal(service) }
}

fn cases(cluster: &Cluster, method: &Method) -> Vec<Case> {
    let now = SystemTime::now();
    let (ours, service) = (testkit::INTERNAL_KEYS, method.upstream);
    let here = door(cluster, service, method.scope.is_some());
    let right = right(method);
    let refused = (Code::Unauthenticated, "IDENTITY_REFUSED");
    let case = |what: &str, token, refused| Case { what: what.to_owned(), door: here, token, refused };
    let mut cases = vec![
        case("no token", None, refused),
        case("no token of ours", Some(HeaderValue::from_static("x-rushes-account")), refused),
        case("other keys", Some(sign(OTHER_KEYS, right, service, now)), refused),
        case("a token that has run out", Some(sign(ours, right, service, now - LIFETIME)), refused),
    ];
    let others = SERVICES.into_iter().filter(|other| *other != service);
    cases.extend(others.map(|other| {
        case(
            &format!("a token for {other}"),
            Some(sign(ours, right, other, now)),
            (Code::Unauthenticated, "IDENTITY_REFUSED"),
        )
    }));
    let denied = if method.scope.is_some() { "SCOPE_MISSING" } else { "CALLER_NOT_ALLOWED" };
    let scopes = SCOPES.into_iter().filter(|scope| method.scope != Some(*scope)).map(Scope::as_str);
    let without = scopes.collect::<Vec<_>>().join("+");
    let mut wrong = vec![key(&without), key("")];
    wrong.extend(SERVICES.into_iter().filter(|name| !method.callers.contains(name)).map(By::Service));
    cases.extend(
        wrong
            .into_iter()
            .map(|by| case(&format!("{by:?}"), Some(sign(ours, by, service, now)), (Code::PermissionDenied, denied))),
    );
    // generation-worker has internal methods alone, and no other door.
    let elsewhere = door(cluster, service, method.scope.is_none());
    if service != "generation-worker" {
        for by in [right, key("read+write+generate+operate"), By::Service(identity::OPERATOR)] {
            let token = Some(sign(ours, by, service, now));
            let refused = (Code::Unimplemented, "METHOD_UNKNOWN");
            cases.push(Case { what: format!("the other door, {by:?}"), door: elsewhere, token, refused });
        }
    }
    cases
}

/// Sends one empty message, and gives the status of the answer.
async fn call(channel: Channel, path: &'static str, token: Option<HeaderValue>) -> Result<(), Status> {
    let mut request = Request::new(tokio_stream::once(bytes::Bytes::new()));
    if let Some(token) = token {
        request.metadata_mut().as_mut().insert(identity::HEADER, token);
    }
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let answer = client.streaming(request, http::uri::PathAndQuery::from_static(path), AsBytes);
    let first = async { answer.await?.into_inner().message().await.map(drop) };
    // A stream that says nothing yet has been let in.
    tokio::time::timeout(Duration::from_secs(10), first).await.unwrap_or(Ok(()))
}

fn reason(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    (status.code(), details.error_info().map(|info| info.reason.clone()).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_method_of_any_service_answers_who_may_not_call_it() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let connect = |door: SocketAddr| anyhow::Ok(Endpoint::from_shared(format!("http://{door}"))?.connect_lazy());
    let (mut wrong, mut count) = (Vec::new(), 0);
    // The gateway shows no token to itself: its own methods are behind the keys.
    for method in proto::METHODS.iter().filter(|method| method.upstream != "gateway") {
        for Case { what, door, token, refused } in cases(&cluster, method) {
            count += 1;
            match call(connect(door)?, method.path, token).await {
                Err(status) if reason(&status) == (refused.0, refused.1.to_owned()) => {}
                answer => wrong.push(format!("{} with {what}: {answer:?} instead of {refused:?}", method.path)),
            }
        }
        // And by one who may, it is asked what it is asked.
        let here = door(&cluster, method.upstream, method.scope.is_some());
        let token = sign(testkit::INTERNAL_KEYS, right(method), method.upstream, SystemTime::now());
        if let Err(status) = call(connect(here)?, method.path, Some(token)).await
            && (status.code() == Code::Unknown || OF_DOORS.contains(&reason(&status).1.as_str()))
        {
            wrong.push(format!("{} by who may call it: {status:?}", method.path));
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 15 * proto::METHODS.len(), "{count} calls are too few");
    cluster.end().await
}
