//! A service's two doors: who is answered at which, and what a handler is told of its caller.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use chassis::client;
use chassis::drain::Drain;
use chassis::identity::{By, HEADER, Identities, Identity, LIFETIME};
use chassis::keyring::InternalKeys;
use chassis::postgres::{Error, Pool, PoolSettings};
use chassis::request::caller::{Caller, Verified};
use chassis::server::Server;
use http::Request;
use sqlx::PgConnection;
use testkit::Database;
use tonic::Code;
use tonic::body::Body;
use tower::Service as _;
use uuid::Uuid;

use crate::wire::{call, free, ok, status};

const KEYS: &str = "one key of 32 or more characters";
const OTHERS: &str = "two key of 32 or more characters";
const PUBLIC: &str = "/test.Test/Public";
const INTERNAL: &str = "/test.Test/Internal";
const ACCOUNT: Uuid = Uuid::from_u128(7);
const KEY: Uuid = Uuid::from_u128(9);

struct Doors {
    public: SocketAddr,
    internal: SocketAddr,
    _drain: Drain,
}

fn keys(text: &str) -> InternalKeys {
    InternalKeys::parse(text).unwrap()
}

fn guarded() -> Server {
    let callers: &'static [&'static str] = &["worker"];
    Server::new("test", &free())
        .limit(1)
        .guarded(&keys(KEYS), [(PUBLIC, "write")], [(INTERNAL, callers)])
        .method(PUBLIC, chassis::server::Timeouts::default())
        .method(INTERNAL, chassis::server::Timeouts::default())
}

/// A service that says in a header who calls it.
async fn serve() -> Doors {
    let bound = guarded().bind().await.unwrap();
    let (public, internal, drain) = (bound.addr(), bound.internal_addr(), Drain::default());
    let service = tower::service_fn(|request: Request<Body>| async move {
        assert!(!request.headers().contains_key(HEADER), "a token goes no further");
        let verified = request.extensions().get::<Verified>().copied();
        let mut response = ok();
        response.headers_mut().insert("caller", format!("{verified:?}").parse().unwrap());
        Ok::<_, Infallible>(response)
    });
    tokio::spawn(bound.serve_around(service, |rpc| rpc, drain.clone()));
    Doors { public, internal, _drain: drain }
}

fn of_key(scopes: &str) -> Identity<'_> {
    Identity { account: Some(ACCOUNT), by: By::Key { id: KEY, scopes } }
}

fn of_service(name: &str) -> Identity<'_> {
    Identity { account: None, by: By::Service(name) }
}

/// Calls with a token, and says how it ended.
async fn ask(addr: SocketAddr, path: &str, token: Option<String>) -> (Code, String) {
    let token = token.as_deref();
    let headers: Vec<_> = token.iter().map(|token| ("x-rushes-identity", *token)).collect();
    status(&call(addr, path, &headers).await.1)
}

fn sign(by: &str, identity: &Identity<'_>, service: &str, ago: Duration) -> Option<String> {
    let token = Identities::new(&keys(by)).sign_at(identity, service, SystemTime::now() - ago);
    Some(token.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_door_answers_its_own_methods_for_who_may_call_them() {
    let doors = serve().await;
    let now = Duration::ZERO;
    let (write, worker) = (of_key("write"), of_service("worker"));
    let fine = (Code::Ok, String::new());
    assert_eq!(ask(doors.public, PUBLIC, sign(KEYS, &write, "test", now)).await, fine);
    assert_eq!(ask(doors.internal, INTERNAL, sign(KEYS, &worker, "test", now)).await, fine);

    let unknown = (Code::Unimplemented, "METHOD_UNKNOWN".to_owned());
    assert_eq!(ask(doors.internal, PUBLIC, sign(KEYS, &write, "test", now)).await, unknown);
    assert_eq!(ask(doors.public, INTERNAL, sign(KEYS, &worker, "test", now)).await, unknown);
    assert_eq!(ask(doors.public, "/test.Test/Nothing", sign(KEYS, &write, "test", now)).await, unknown);

    for (door, path, right) in [(doors.public, PUBLIC, write), (doors.internal, INTERNAL, worker)] {
        for (what, token) in [
            ("no token", None),
            ("no token of ours", Some("nonsense".to_owned())),
            ("other keys", sign(OTHERS, &right, "test", now)),
            ("another service's token", sign(KEYS, &right, "other", now)),
            ("a token of a minute ago", sign(KEYS, &right, "test", LIFETIME)),
        ] {
            let refused = (Code::Unauthenticated, "IDENTITY_REFUSED".to_owned());
            assert_eq!(ask(door, path, token).await, refused, "{path} with {what}");
        }
    }
    let denied = |reason: &str| (Code::PermissionDenied, reason.to_owned());
    for wrong in [of_key("read"), of_key("read+generate+operate"), of_key(""), worker, of_service("write")] {
        let token = sign(KEYS, &wrong, "test", now);
        assert_eq!(ask(doors.public, PUBLIC, token).await, denied("SCOPE_MISSING"), "{wrong:?}");
    }
    for wrong in [of_service("gateway"), of_service(""), write, of_key("worker")] {
        let token = sign(KEYS, &wrong, "test", now);
        assert_eq!(ask(doors.internal, INTERNAL, token).await, denied("CALLER_NOT_ALLOWED"), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_handler_sees_by_whom_and_for_which_account() {
    let doors = serve().await;
    let uri = |addr: SocketAddr| format!("http://{addr}").parse().unwrap();
    let keys = keys(KEYS);
    let mut public = client::connect("test", &uri(doors.public)).as_key(KEY, "read+write", &keys);
    let mut internal = client::connect("test", &uri(doors.internal)).as_service("worker", &keys);
    let request = |path: &str, account: Option<Uuid>| {
        let mut request = tonic::Request::new(Body::empty());
        if let Some(account) = account {
            Caller::account(account).attach(&mut request);
        }
        let mut http = Request::post(path).body(Body::empty()).unwrap();
        *http.extensions_mut() = request.into_parts().1;
        http
    };
    let response = public.call(request(PUBLIC, Some(ACCOUNT))).await.unwrap();
    let verified = Verified { account: Some(ACCOUNT), key: Some(KEY), service: None };
    assert_eq!(response.headers()["caller"], format!("{:?}", Some(verified)));
    for account in [None, Some(ACCOUNT)] {
        let response = internal.call(request(INTERNAL, account)).await.unwrap();
        let verified = Verified { account, key: None, service: Some("worker") };
        assert_eq!(response.headers()["caller"], format!("{:?}", Some(verified)));
    }
}

#[tokio::test]
async fn a_door_without_methods_is_not_opened() {
    let callers: &'static [&'static str] = &["worker"];
    let server = Server::new("test", &free()).guarded(&keys(KEYS), [], [(INTERNAL, callers)]);
    let bound = server.bind().await.unwrap();
    assert_eq!(bound.addr(), bound.internal_addr());
    let bound = Server::new("test", &free()).guarded(&keys(KEYS), [(PUBLIC, "read")], []).bind().await.unwrap();
    assert_eq!(bound.addr(), bound.internal_addr());
    let bound = guarded().bind().await.unwrap();
    assert_ne!(bound.addr(), bound.internal_addr());
}

/// A statement is not told its account; the call in which it runs is.
#[tokio::test]
async fn statements_of_one_accounts_calls_leave_connections_to_the_others() {
    leave_connections_to_the_others(false).await;
}

/// Nor need a transaction name one.
#[tokio::test]
async fn transactions_of_one_accounts_calls_leave_connections_to_the_others() {
    leave_connections_to_the_others(true).await;
}

async fn leave_connections_to_the_others(in_transaction: bool) {
    let database = Database::fresh().await.unwrap();
    let settings = PoolSettings { min: 0, max: 8, acquire: Duration::from_millis(500), ..PoolSettings::default() };
    let pool = Pool::connect_lazy("test", &database.url(), &settings).unwrap();
    let (held, mut is_held) = tokio::sync::mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (pool, held) = (pool.clone(), held.clone());
        async move {
            let account = request.extensions().get::<Verified>().and_then(|verified| verified.account);
            let work = async |connection: &mut PgConnection| {
                if account == Some(ACCOUNT) {
                    held.send(()).unwrap();
                    std::future::pending::<()>().await;
                }
                sqlx::query("select 1").execute(connection).await.map(drop)
            };
            let done = if in_transaction {
                pool.transaction("work", async |connection| Ok::<_, Error>(work(connection).await?)).await.is_ok()
            } else {
                pool.run("work", work).await.is_ok()
            };
            let mut response = ok();
            response.headers_mut().insert("done", format!("{done}").parse().unwrap());
            Ok::<_, Infallible>(response)
        }
    });
    let server = Server::new("test", &free()).guarded(&keys(KEYS), [(PUBLIC, "write")], []);
    let bound = server.method(PUBLIC, chassis::server::Timeouts::default()).bind().await.unwrap();
    let (public, drain) = (bound.addr(), Drain::default());
    tokio::spawn(bound.serve_around(service, |rpc| rpc, drain.clone()));
    let ask = move |account| async move {
        let by = By::Key { id: KEY, scopes: "write" };
        let token = sign(KEYS, &Identity { account: Some(account), by }, "test", Duration::ZERO).unwrap();
        call(public, PUBLIC, &[("x-rushes-identity", &token)]).await.0.get("done").cloned()
    };
    let holders: Vec<_> = (0..8).map(|_| tokio::spawn(ask(ACCOUNT))).collect();
    for _ in 0..2 {
        is_held.recv().await.unwrap();
    }
    for other in [8, 9] {
        assert_eq!(ask(Uuid::from_u128(other)).await.unwrap(), "true");
    }
    assert!(is_held.try_recv().is_err(), "an account has two connections of eight at most");
    holders.iter().for_each(tokio::task::JoinHandle::abort);
}
