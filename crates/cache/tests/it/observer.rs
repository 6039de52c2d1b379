//! The observer on real servers: it counts what is right, and sees what was made wrong by hand behind the cache's back.
//!
//! It looks at every hit and every change here, and the content of what it looks at is a thing's note.

use std::time::Duration;

use cache::{Asof, Cache, Hit, Lifetime, Loaded, Observed, Settings, Signal, Tier};
use chassis::postgres::Error;
use redis::AsyncCommands as _;
use testkit::eventually;

use crate::stand::{LONG, Process, Stand};

async fn observed(stand: &Stand) -> Process {
    let peeks = [1, 2, 4].map(Duration::from_secs);
    let process = stand.with(Settings { observe: 1.0, peeks, ..stand.settings() }, true).await;
    process.proven().await;
    process
}

/// Reads a thing's note.
async fn note(process: &Process, id: &str) -> Hit {
    let (data, account, of) = (process.data.clone(), process.account, id.to_owned());
    let load = move || async move {
        let (epoch, seq, version, note): (i64, i64, i64, Option<String>) = data
            .run("load_note", async |connection| {
                sqlx::query_as(
                    "select c.epoch, c.seq, coalesce(t.version, 0), t.note from cache_clock c
                     left join thing t on t.account = $1 and t.id = $2 where c.part = 0",
                )
                .bind(account)
                .bind(of)
                .fetch_one(connection)
                .await
            })
            .await?;
        let (asof, body) = (Asof { epoch, seq }, note.unwrap_or_default().into());
        let lifetime = if version == 0 { Lifetime::ABSENT } else { Lifetime::TERMINAL };
        Ok::<_, Error>(Loaded { version, asof, body, lifetime })
    };
    process.cache.get(&process.key(id), None, load).await.unwrap()
}

async fn note_from(process: &Process, tier: Tier, id: &str) -> Hit {
    let read = async || Some(note(process, id).await).filter(|hit| hit.tier == tier);
    eventually(&format!("{id} from {tier:?}"), LONG, read).await.unwrap()
}

/// Changes things without telling the outbox.
async fn unseen(process: &Process, change: &'static str) {
    let mut changing = process.data.sqlx().begin().await.unwrap();
    for statement in ["alter table thing disable trigger all", change, "alter table thing enable trigger all"] {
        sqlx::query(statement).execute(&mut *changing).await.unwrap();
    }
    changing.commit().await.unwrap();
}

/// Overwrites what Redis holds of the only thing that it holds; says whether it held one.
async fn forge(stand: &Stand, fields: &[(&str, &str)]) -> bool {
    let client = redis::Client::open(stand.redis.url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let held: Vec<String> = redis.keys("rushes:c:*").await.unwrap();
    let [entry] = &held[..] else { return false };
    if !redis.hexists::<_, _, bool>(entry, "d").await.unwrap() {
        return false;
    }
    redis.hset_multiple::<_, _, _, ()>(entry, fields).await.unwrap();
    true
}

/// Waits until the observer has found something.
async fn finds(cache: &Cache, what: &str, found: impl Fn(&Observed) -> bool) -> Observed {
    eventually(what, LONG, async || Some(cache.observed()).filter(|observed| found(observed))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_right_is_counted_and_nothing_else_is() {
    let stand = Stand::new().await;
    let (one, two) = tokio::join!(observed(&stand), observed(&stand));
    for round in 0..40 {
        let id = format!("t{}", round % 4);
        let changed = if round % 2 == 0 { one.write(&id).await } else { two.change(&id).await };
        changed.unwrap();
        for process in [&one, &two] {
            process.get(&id).await.unwrap();
            process.from(Tier::L1, &id).await;
            process.get_all().await.unwrap();
        }
    }
    one.delete("t0").await.unwrap();
    one.sees("t0", 0).await;
    let mut samples = 0;
    for process in [&one, &two] {
        let found = finds(&process.cache, "samples", |observed| observed.shadows.samples > 20).await;
        assert_eq!((found.shadows.violations(), found.peeks.violations(), found.last), (0, 0, None));
        assert!((found.shadows.likely_share() * found.shadows.samples as f64 - 3.0).abs() < 0.1);
        samples += found.shadows.samples;
    }
    assert!(samples > 40);
    let peeked = async || {
        let of = |process: &Process| process.cache.observed().peeks;
        [of(&one), of(&two)].into_iter().find(|peeks| peeks.samples > 20)
    };
    let peeks = eventually("answers to the leader's questions", LONG, peeked).await.unwrap();
    assert_eq!(peeks.violations(), 0);
}

/// Nothing else changes, so that what all hold is exactly what was told.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_all_have_heard_of_is_no_violation() {
    let stand = Stand::new().await;
    let (one, two) = tokio::join!(observed(&stand), observed(&stand));
    one.change("a").await.unwrap();
    for process in [&one, &two] {
        note_from(process, Tier::L1, "a").await;
    }
    let peeked = async || {
        let of = |process: &Process| process.cache.observed().peeks;
        [of(&one), of(&two)].into_iter().find(|peeks| peeks.samples >= 4)
    };
    let peeks = eventually("answers to the leader's questions", LONG, peeked).await.unwrap();
    assert_eq!(peeks.violations(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_it_looks_at_nothing() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    process.change("a").await.unwrap();
    for _ in 0..50 {
        process.from(Tier::L1, "a").await;
    }
    assert_eq!(process.cache.observed(), Observed::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_for_an_equal_version_is_seen() {
    let stand = Stand::new().await;
    let process = observed(&stand).await;
    process.change("a").await.unwrap();
    note_from(&process, Tier::L1, "a").await;
    unseen(&process, "update thing set note = 'another'").await;
    assert_eq!(note_from(&process, Tier::L1, "a").await.body, "");
    let found = finds(&process.cache, "other content", |observed| observed.shadows.content > 0).await;
    assert_eq!((found.shadows.bound, found.shadows.ahead), (0, 0));
    let told = found.last.unwrap();
    assert!(told.contains("content") && told.contains("loaded 1, as of"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_a_second_after_the_truth_was_read_is_seen() {
    let stand = Stand::new().await;
    let process = observed(&stand).await;
    process.change("a").await.unwrap();
    note_from(&process, Tier::L1, "a").await;
    unseen(&process, "update thing set version = version + 1").await;
    assert_eq!(note_from(&process, Tier::L1, "a").await.version, 1);
    let found = finds(&process.cache, "an old answer", |observed| observed.shadows.bound > 0).await;
    assert_eq!((found.shadows.content, found.shadows.ahead), (0, 0));
    assert!(found.last.unwrap().contains("answered 1, the truth is 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_exist_is_seen() {
    let stand = Stand::new().await;
    let (one, two) = tokio::join!(observed(&stand), observed(&stand));
    let forged = eventually("a forged value read from Redis", LONG, async || {
        one.change("a").await.ok()?;
        note_from(&one, Tier::L1, "a").await;
        forge(&stand, &[("v", "1000"), ("d", "forged")]).await.then_some(())?;
        Some(note(&two, "a").await).filter(|hit| hit.version == 1000)
    });
    assert_eq!(forged.await.unwrap().tier, Tier::L2);
    finds(&two.cache, "a version ahead", |observed| observed.shadows.ahead > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_differ_are_seen() {
    let stand = Stand::new().await;
    let (one, two) = tokio::join!(observed(&stand), observed(&stand));
    let forged = eventually("a forged value read from Redis", LONG, async || {
        one.change("a").await.ok()?;
        note_from(&one, Tier::L1, "a").await;
        forge(&stand, &[("d", "forged")]).await.then_some(())?;
        Some(note(&two, "a").await).filter(|hit| hit.body == "forged")
    });
    forged.await.unwrap();
    let found = async || {
        let of = |process: &Process| process.cache.observed();
        [of(&one), of(&two)].into_iter().find(|observed| observed.peeks.content > 0)
    };
    let found = eventually("replicas that differ", LONG, found).await.unwrap();
    assert_eq!(found.peeks.bound, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_would_serve_what_is_old_is_seen() {
    let stand = Stand::new().await;
    let process = observed(&stand).await;
    process.change("a").await.unwrap();
    let mut heard = process.cache.changes();
    let changed = process.change("a").await.unwrap();
    // Redis has been told when this process hears of it: what is loaded from now on gets in and stays.
    let told =
        async { while !matches!(heard.next().await.unwrap(), Signal::Changed(change) if change.version == changed) {} };
    tokio::time::timeout(LONG, told).await.unwrap();
    note_from(&process, Tier::L1, "a").await;
    let old = [("v", "1"), ("d", "old")];
    eventually("a filled Redis", LONG, async || forge(&stand, &old).await.then_some(())).await.unwrap();
    let found = finds(&process.cache, "what Redis would serve", |observed| observed.peeks.bound > 0).await;
    assert!(found.last.unwrap().contains("redis answered 1, the truth is 2"));
}
