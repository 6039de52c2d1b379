//! The scripts as functions: names and numbers in, typed answers out. The `.lua` files say what each promises.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue as _, RedisError, RedisResult, Script, Value};

use coherence::asof::Asof;
use coherence::read::{L2, L2Hit};
use coherence::time::PgTime;
use coherence::{FILL_DEADLINE, WATERMARK_TTL};

static GET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("get.lua")));
static FILL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("fill.lua")));
static APPLY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("apply.lua")));
static PROBE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("probe.lua")));
static PROVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("prove.lua")));

/// An unrenewed proof is deleted after this: far beyond the age at which it is believed, and soon enough that a database whose
/// clock went back does not keep Redis unused for long.
const PROOF_LIFETIME: Duration = Duration::from_secs(10);

/// The names of this cache's keys in Redis.
pub(crate) struct Names {
    proof: String,
    entries: String,
}

impl Names {
    /// The names of sealed values and of their proof differ from those of plain ones: a process that does not seal must neither read
    /// them nor prove them.
    pub(crate) fn new(space: &str, sealed: bool) -> Self {
        if sealed {
            return Self { proof: format!("{space}:fresh-sealed"), entries: format!("{space}:s:") };
        }
        Self { proof: format!("{space}:fresh"), entries: format!("{space}:c:") }
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
    let mut call = GET.key(&names.proof);
    call.arg(&names.entries).arg(millis(FILL_DEADLINE));
    for (key, lease) in wanted {
        call.arg(*key).arg(*lease);
    }
    match call.invoke_async(connection).await? {
        Value::Nil => Ok(vec![L2::NoProof; wanted.len()]),
        Value::Array(proof) => parse_answers(proof, wanted),
        _ => Err(unexpected("GET answered with neither nil nor a list")),
    }
}

/// Puts a value in under a lease; returns whether Redis took it.
pub(crate) async fn fill(
    connection: &mut MultiplexedConnection,
    names: &Names,
    key: &str,
    lease: u64,
    version: i64,
    body: &[u8],
    lifetime: Duration,
) -> RedisResult<bool> {
    let mut call = FILL.key(&names.proof);
    call.arg(&names.entries).arg(key).arg(lease).arg(version).arg(body).arg(millis(lifetime));
    call.invoke_async(connection).await
}

/// Applies changes in `space` or, without it, in the one that is proven; a version that is not known deletes.
pub(crate) async fn apply(
    connection: &mut MultiplexedConnection,
    names: &Names,
    space: Option<i64>,
    changes: impl IntoIterator<Item = (&str, Option<i64>)>,
) -> RedisResult<()> {
    let mut call = APPLY.key(&names.proof);
    call.arg(&names.entries).arg(millis(WATERMARK_TTL)).arg(space.map(|space| space.to_string()).unwrap_or_default());
    for (key, version) in changes {
        call.arg(key).arg(version.map(|version| version.to_string()).unwrap_or_default());
    }
    let _changed: i64 = call.invoke_async(connection).await?;
    Ok(())
}

/// Gives Redis a proof.
pub(crate) async fn prove(connection: &mut MultiplexedConnection, names: &Names, proof: Proof) -> RedisResult<()> {
    PROVE
        .key(&names.proof)
        .arg(proof.epoch)
        .arg(proof.seq)
        .arg(proof.at.0)
        .arg(proof.space)
        .arg(millis(PROOF_LIFETIME))
        .invoke_async(connection)
        .await
}

/// A key's value, with the time of the proof that Redis has beside it; changes nothing.
pub(crate) async fn probe(
    connection: &mut MultiplexedConnection,
    names: &Names,
    key: &str,
) -> RedisResult<Option<(PgTime, i64, Bytes)>> {
    let found: Option<(i64, i64, Bytes)> =
        PROBE.key(&names.proof).arg(&names.entries).arg(key).invoke_async(connection).await?;
    Ok(found.map(|(at, version, body)| (PgTime(at), version, body)))
}

fn parse_answers(proof: Vec<Value>, wanted: &[(&str, u64)]) -> RedisResult<Vec<L2<Bytes>>> {
    let [epoch, seq, at, Value::Array(answers)] =
        <[Value; 4]>::try_from(proof).map_err(|_| unexpected("GET's proof has not four parts"))?
    else {
        return Err(unexpected("GET's answers are not a list"));
    };
    if answers.len() != wanted.len() {
        return Err(unexpected("GET answered for another number of keys"));
    }
    let asof = Asof { epoch: i64::from_redis_value(epoch)?, seq: i64::from_redis_value(seq)? };
    let at = PgTime(i64::from_redis_value(at)?);
    answers.into_iter().zip(wanted).map(|(answer, (_, lease))| parse_answer(answer, asof, at, *lease)).collect()
}

fn parse_answer(answer: Value, asof: Asof, at: PgTime, lease: u64) -> RedisResult<L2<Bytes>> {
    let Value::Array(parts) = answer else {
        return Err(unexpected("an answer of GET is not a list"));
    };
    let mut parts = parts.into_iter();
    let kind = parts.next().ok_or_else(|| unexpected("an answer of GET is empty"))?;
    match (kind, parts.next(), parts.next(), parts.next()) {
        (Value::BulkString(kind), None, None, None) if kind == b"L" => Ok(L2::Lease { token: lease }),
        (Value::BulkString(kind), None, None, None) if kind == b"B" => Ok(L2::Busy),
        (Value::BulkString(kind), Some(version), Some(Value::BulkString(body)), Some(left)) if kind == b"H" => {
            let left = u64::try_from(i64::from_redis_value(left)?).unwrap_or(0);
            let version = i64::from_redis_value(version)?;
            Ok(L2::Hit(L2Hit { asof, at, version, body: body.into(), left: Duration::from_millis(left) }))
        }
        _ => Err(unexpected("an answer of GET is of no known form")),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unexpected(what: &'static str) -> RedisError {
    (ErrorKind::UnexpectedReturnType, what).into()
}
