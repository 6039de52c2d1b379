//! The scripts as functions: names and numbers in, typed answers out. What they promise stands in the `.lua`
//! files.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue as _, RedisError, RedisResult, Script, Value};

use coherence::entry::Asof;
use coherence::read::{L2, L2Hit};
use coherence::time::PgTime;
use coherence::{FILL_DEADLINE, FLOOR_TTL};

static GET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("get.lua")));
static FILL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("fill.lua")));
static APPLY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("apply.lua")));
static PEEK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("peek.lua")));
static FRESH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("fresh.lua")));

/// After this an unrenewed proof is forgotten: far beyond the age at which it is believed, near enough that a database
/// whose clock went back does not shut Redis out for long.
const PROOF_FORGOTTEN: Duration = Duration::from_secs(10);

/// Where this cache lies in Redis.
pub(crate) struct Names {
    fresh: String,
    entries: String,
}

impl Names {
    pub(crate) fn new(space: &str) -> Self {
        Self { fresh: format!("{space}:fresh"), entries: format!("{space}:c:") }
    }
}

/// What a relay proves.
#[derive(Clone, Copy)]
pub(crate) struct Proof {
    pub(crate) epoch: i64,
    pub(crate) seq: i64,
    pub(crate) at: PgTime,
    pub(crate) space: i64,
}

/// Asks for some keys; `lease` is the token that each is granted if it is missing.
pub(crate) async fn get(
    connection: &mut MultiplexedConnection,
    names: &Names,
    wanted: &[(&str, u64)],
) -> RedisResult<Vec<L2<Bytes>>> {
    let mut call = GET.key(&names.fresh);
    call.arg(&names.entries).arg(millis(FILL_DEADLINE));
    for (key, lease) in wanted {
        call.arg(*key).arg(*lease);
    }
    match call.invoke_async(connection).await? {
        Value::Nil => Ok(vec![L2::NoProof; wanted.len()]),
        Value::Array(proof) => answers(proof, wanted),
        _ => Err(odd("GET answered with neither nil nor a list")),
    }
}

/// Puts a value in under a lease; says whether it was taken.
pub(crate) async fn fill(
    connection: &mut MultiplexedConnection,
    names: &Names,
    key: &str,
    lease: u64,
    version: i64,
    body: &[u8],
    live: Duration,
) -> RedisResult<bool> {
    let mut call = FILL.key(&names.fresh);
    call.arg(&names.entries).arg(key).arg(lease).arg(version).arg(body).arg(millis(live));
    call.invoke_async(connection).await
}

/// Tells of changes, in `space` or, without it, in the one that is proven; a version that is not known deletes.
pub(crate) async fn apply(
    connection: &mut MultiplexedConnection,
    names: &Names,
    space: Option<i64>,
    changes: impl IntoIterator<Item = (&str, Option<i64>)>,
) -> RedisResult<()> {
    let mut call = APPLY.key(&names.fresh);
    call.arg(&names.entries).arg(millis(FLOOR_TTL)).arg(space.map(|space| space.to_string()).unwrap_or_default());
    for (key, version) in changes {
        call.arg(key).arg(version.map(|version| version.to_string()).unwrap_or_default());
    }
    let _touched: i64 = call.invoke_async(connection).await?;
    Ok(())
}

/// Gives a proof; says whether it was newer than what was there.
pub(crate) async fn fresh(connection: &mut MultiplexedConnection, names: &Names, proof: Proof) -> RedisResult<bool> {
    FRESH
        .key(&names.fresh)
        .arg(proof.epoch)
        .arg(proof.seq)
        .arg(proof.at.0)
        .arg(proof.space)
        .arg(millis(PROOF_FORGOTTEN))
        .invoke_async(connection)
        .await
}

/// Looks at a key's value, with the time of the proof beside it; changes nothing.
pub(crate) async fn peek(
    connection: &mut MultiplexedConnection,
    names: &Names,
    key: &str,
) -> RedisResult<Option<(PgTime, i64, Bytes)>> {
    let held: Option<(i64, i64, Bytes)> =
        PEEK.key(&names.fresh).arg(&names.entries).arg(key).invoke_async(connection).await?;
    Ok(held.map(|(at, version, body)| (PgTime(at), version, body)))
}

fn answers(proof: Vec<Value>, wanted: &[(&str, u64)]) -> RedisResult<Vec<L2<Bytes>>> {
    let [epoch, seq, at, Value::Array(answers)] =
        <[Value; 4]>::try_from(proof).map_err(|_| odd("GET's proof has not four parts"))?
    else {
        return Err(odd("GET's answers are not a list"));
    };
    if answers.len() != wanted.len() {
        return Err(odd("GET answered for another number of keys"));
    }
    let asof = Asof { epoch: i64::from_redis_value(epoch)?, seq: i64::from_redis_value(seq)? };
    let at = PgTime(i64::from_redis_value(at)?);
    answers.into_iter().zip(wanted).map(|(answer, (_, lease))| one(answer, asof, at, *lease)).collect()
}

fn one(answer: Value, asof: Asof, at: PgTime, lease: u64) -> RedisResult<L2<Bytes>> {
    let Value::Array(parts) = answer else {
        return Err(odd("an answer of GET is not a list"));
    };
    let mut parts = parts.into_iter();
    let kind = parts.next().ok_or_else(|| odd("an answer of GET is empty"))?;
    match (kind, parts.next(), parts.next(), parts.next()) {
        (Value::BulkString(kind), None, None, None) if kind == b"L" => Ok(L2::Lease { token: lease }),
        (Value::BulkString(kind), None, None, None) if kind == b"B" => Ok(L2::Busy),
        (Value::BulkString(kind), Some(version), Some(Value::BulkString(body)), Some(left)) if kind == b"H" => {
            let left = u64::try_from(i64::from_redis_value(left)?).unwrap_or(0);
            let version = i64::from_redis_value(version)?;
            Ok(L2::Hit(L2Hit { asof, at, version, body: body.into(), left: Duration::from_millis(left) }))
        }
        _ => Err(odd("an answer of GET is of no known form")),
    }
}

fn millis(of: Duration) -> u64 {
    u64::try_from(of.as_millis()).unwrap_or(u64::MAX)
}

fn odd(what: &'static str) -> RedisError {
    (ErrorKind::UnexpectedReturnType, what).into()
}
