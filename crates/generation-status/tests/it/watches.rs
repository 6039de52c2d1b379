//! WatchGenerations: order, completeness, and what a slow or moved watcher gets.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chassis::keyring::InternalKeys;
use proto::generations::v1::watch_generations_response::Event;
use proto::generations::v1::{Generation, State, WatchGenerationsRequest, WatchGenerationsResponse};
use testkit::{INTERNAL_KEYS, Nats, eventually};
use tonic::{Code, Status, Streaming};

use crate::cluster::{Cluster, Generations, Node, User, refusal};
use crate::worker::Worker;

/// How many generations a slow reader watches: 8 kB each.
const COUNT: i64 = 400;

pub(crate) struct Watch(Streaming<WatchGenerationsResponse>);

impl Watch {
    pub(crate) async fn of(node: &Node, user: &User, request: WatchGenerationsRequest) -> Result<Self, Status> {
        Self::by(&node.generations, user, request).await
    }

    pub(crate) async fn by(
        generations: &Generations,
        user: &User,
        request: WatchGenerationsRequest,
    ) -> Result<Self, Status> {
        Ok(Self(generations.clone().watch_generations(user.asks(request)).await?.into_inner()))
    }

    /// The next event with its token; nothing when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<(Event, String)> {
        self.try_next().await.unwrap()
    }

    /// The same, of a stream that may break.
    pub(crate) async fn try_next(&mut self) -> Result<Option<(Event, String)>, Status> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.0.message()).await;
        let response = next.expect("an event within 20 s")?;
        Ok(response.map(|response| (response.event.unwrap(), response.resume_token)))
    }

    /// All parts of the snapshot that comes next.
    pub(crate) async fn snapshot(&mut self) -> Vec<Generation> {
        let mut all = Vec::new();
        for part in 0.. {
            match self.next().await {
                Some((Event::Snapshot(snapshot), _)) if snapshot.part == part => {
                    all.extend(snapshot.generations);
                    if !snapshot.more {
                        break;
                    }
                }
                other => panic!("part {part} of a snapshot comes next, not {other:?}"),
            }
        }
        all
    }

    /// The next change, past heartbeats.
    pub(crate) async fn update(&mut self) -> Generation {
        loop {
            match self.next().await {
                Some((Event::Update(generation), _)) => return generation,
                Some((Event::Heartbeat(_), _)) => {}
                other => panic!("an update was due, not {other:?}"),
            }
        }
    }
}

pub(crate) fn all() -> WatchGenerationsRequest {
    WatchGenerationsRequest::default()
}

pub(crate) fn named(names: &[&str]) -> WatchGenerationsRequest {
    WatchGenerationsRequest { names: names.iter().map(|name| (*name).to_owned()).collect(), ..all() }
}

/// Reads updates of one generation to its end; returns the versions and the states.
async fn to_the_end(watch: &mut Watch, name: &str) -> (Vec<i64>, Vec<State>) {
    let (mut versions, mut states) = (Vec::new(), Vec::new());
    loop {
        let update = watch.update().await;
        if update.name != name {
            continue;
        }
        versions.push(update.version);
        states.push(update.state());
        if update.end_time.is_some() {
            return (versions, states);
        }
    }
}

#[tokio::test]
async fn a_watcher_sees_a_generation_from_start_to_end() {
    let cluster = Cluster::new().await;
    let user = cluster.user(2).await;
    let before = cluster.started(&user).await;
    let mut watch = Watch::of(&cluster.node, &user, all()).await.unwrap();
    assert_eq!(watch.snapshot().await, [before]);
    let started = cluster.started(&user).await;
    let mut worker = Worker::new(&cluster, 2).await;
    for _ in 0..2 {
        let work = worker.next().await;
        worker.carry_out(&work).await;
    }
    let (versions, states) = to_the_end(&mut watch, &started.name).await;
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    assert_eq!(states.first(), Some(&State::Queued));
    assert_eq!(states.last(), Some(&State::Completed));
}

/// The only message of a change comes when it cannot be read; nothing else will ever tell of it.
#[tokio::test]
async fn a_change_that_could_not_be_read_when_its_message_came_is_read_later() {
    let cluster = Cluster::with(|config| config.watch.heartbeat = Duration::from_millis(300)).await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    let mut watch = Watch::of(&cluster.node, &user, all()).await.unwrap();
    assert_eq!(watch.snapshot().await.len(), 1);
    let mut tx = cluster.pool.begin().await.unwrap();
    sqlx::raw_sql(
        "update generations set percent = 42, version = version + 1;
         update scenes set latest_percent = 42, latest_version = latest_version + 1 where latest_generation is not null;
         alter table generations rename to hidden",
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    testkit::eventually("the change arrives", Duration::from_secs(20), async || {
        let left: i64 = sqlx::query_scalar("select count(*) from outbox").fetch_one(&cluster.pool).await.ok()?;
        (left == 0).then_some(())
    })
    .await
    .unwrap();
    // Meanwhile it polls, in vain.
    for _ in 0..2 {
        assert!(matches!(watch.next().await, Some((Event::Heartbeat(_), _))));
    }
    sqlx::raw_sql("alter table hidden rename to generations").execute(&cluster.pool).await.unwrap();
    for beats in 0.. {
        match watch.next().await {
            Some((Event::Update(update), _)) => {
                assert_eq!((&update.name, update.progress.unwrap().percent), (&name, 42));
                break;
            }
            Some((Event::Heartbeat(_), _)) => assert!(beats < 60, "it polls no more"),
            other => panic!("an update was due, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_watcher_at_another_node_sees_the_same() {
    let nats = Nats::launch().await.unwrap();
    let cluster = Cluster::with(|config| config.nats_url = Some(nats.url())).await;
    let other = Node::start(&cluster.config).await;
    let user = cluster.user(5).await;
    let mut watch = Watch::of(&other, &user, all()).await.unwrap();
    assert!(watch.snapshot().await.is_empty());
    let mut worker = Worker::new(&cluster, 5).await;
    for _ in 0..5 {
        let name = cluster.started(&user).await.name;
        let work = worker.next().await;
        worker.carry_out(&work).await;
        let (versions, states) = to_the_end(&mut watch, &name).await;
        assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
        assert_eq!(states.last(), Some(&State::Completed));
    }
}

#[tokio::test]
async fn without_nats_another_node_reads_for_itself() {
    let cluster = Cluster::new().await;
    let other = Node::start(&cluster.config).await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    let mut watch = Watch::of(&other, &user, named(&[&name])).await.unwrap();
    watch.snapshot().await;
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    worker.carry_out(&work).await;
    let (versions, states) = to_the_end(&mut watch, &name).await;
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    assert_eq!(states.last(), Some(&State::Completed));
}

#[tokio::test]
async fn a_watch_until_terminal_ends() {
    let cluster = Cluster::new().await;
    let user = cluster.user(2).await;
    let (first, second) = (cluster.started(&user).await, cluster.started(&user).await);
    let until = |names: &[&str]| WatchGenerationsRequest { until_terminal: true, ..named(names) };
    let mut watch = Watch::of(&cluster.node, &user, until(&[&first.name, &second.name])).await.unwrap();
    assert_eq!(watch.snapshot().await.len(), 2);
    let mut worker = Worker::new(&cluster, 2).await;
    for _ in 0..2 {
        let work = worker.next().await;
        worker.carry_out(&work).await;
    }
    let mut ended = 0;
    while let Some((event, _)) = watch.next().await {
        if let Event::Update(update) = event {
            ended += i32::from(update.end_time.is_some());
        }
    }
    assert_eq!(ended, 2, "no terminal state was left out");
    let mut over = Watch::of(&cluster.node, &user, until(&[&first.name])).await.unwrap();
    assert_eq!(over.snapshot().await[0].state(), State::Completed);
    assert!(over.next().await.is_none());
}

#[tokio::test]
async fn a_watcher_gets_only_its_selection() {
    let cluster = Cluster::new().await;
    let user = cluster.user(3).await;
    let elsewhere = cluster.scene(&user).await;
    let parent = WatchGenerationsRequest { parent: user.scene(), ..all() };
    let mut of_scene = Watch::of(&cluster.node, &user, parent).await.unwrap();
    let mut of_project =
        Watch::of(&cluster.node, &user, WatchGenerationsRequest { parent: user.project(), ..all() }).await.unwrap();
    of_scene.snapshot().await;
    of_project.snapshot().await;
    let other = cluster.started(&elsewhere).await;
    let ours = cluster.started(&user).await;
    assert_eq!(of_scene.update().await, ours);
    assert_eq!(of_project.update().await, other);
    assert_eq!(of_project.update().await, ours);
}

#[tokio::test]
async fn a_large_snapshot_comes_in_parts_between_which_a_watch_can_be_resumed() {
    let cluster = Cluster::new().await;
    let user = cluster.user(COUNT).await;
    let mut start_request = user.start_request();
    start_request.input.as_mut().unwrap().prompt = "🎬".repeat(2_000);
    let names = cluster.started_many(&user, &start_request, 300).await;
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for (request, resumed_exactly) in [(named(&names), true), (all(), false)] {
        let mut watch = Watch::of(&cluster.node, &user, request.clone()).await.unwrap();
        let (mut parts, mut more, mut token) = (0, true, String::new());
        let (mut seen, mut first) = (HashSet::new(), HashSet::new());
        while more {
            let Some((Event::Snapshot(snapshot), resume_token)) = watch.next().await else { panic!("a part") };
            let bytes = prost::Message::encoded_len(&snapshot);
            assert!(bytes <= 66 << 10, "part {parts} has {bytes} bytes");
            assert_eq!(snapshot.part, parts);
            let before = seen.len();
            seen.extend(snapshot.generations.iter().map(|generation| generation.name.clone()));
            assert_eq!(seen.len(), before + snapshot.generations.len(), "no generation comes twice");
            (parts, more) = (parts + 1, snapshot.more);
            if parts == 1 {
                (token, first) = (resume_token, seen.clone());
            }
        }
        assert!(parts >= 20 && seen.len() == names.len(), "{} in {parts} parts", seen.len());

        // A client that has the first part alone gets the others, or all of them.
        let request = WatchGenerationsRequest { resume_token: token, ..request };
        let mut watch = Watch::of(&cluster.node, &user, request).await.unwrap();
        if resumed_exactly {
            assert!(matches!(watch.next().await, Some((Event::Heartbeat(_), _))));
            let mut rest = HashSet::new();
            while first.len() + rest.len() < names.len() {
                let update = watch.update().await;
                assert!(
                    !first.contains(&update.name) && rest.insert(update.name.clone()),
                    "{} came again",
                    update.name
                );
            }
        } else {
            assert!(matches!(watch.next().await, Some((Event::Gap(_), _))));
            assert_eq!(watch.snapshot().await.len(), names.len());
        }
    }
}

#[tokio::test]
async fn a_slow_reader_gets_the_latest_of_each() {
    let cluster = Cluster::new().await;
    // Together more than what the wire between the two holds, so that the snapshot alone fills it.
    let user = cluster.user(COUNT).await;
    let mut start_request = user.start_request();
    start_request.input.as_mut().unwrap().prompt = "🎬".repeat(2_000);
    let names = cluster.started_many(&user, &start_request, usize::try_from(COUNT).unwrap()).await;
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut slow = Watch::of(&cluster.node, &user, named(&names)).await.unwrap();
    // The hub feeds the reader after the slow one: what the reader was sent, the slow one was offered before.
    let mut quick = Watch::of(&cluster.node, &user, named(&names)).await.unwrap();
    assert_eq!(quick.snapshot().await.len(), names.len());
    let mut sent = 0;
    for percent in [10, 20, 30] {
        cluster.set_progress(percent).await;
        let mut behind: HashSet<_> = names.iter().map(|name| (*name).to_owned()).collect();
        while !behind.is_empty() {
            let update = quick.update().await;
            sent += 1;
            if update.progress.is_some_and(|progress| progress.percent >= percent) {
                behind.remove(&update.name);
            }
        }
    }
    cluster.cancel_many(&user, &names).await;
    let mut open = names.len();
    while open > 0 {
        sent += 1;
        open -= usize::from(quick.update().await.end_time.is_some());
    }
    // Most parts of its snapshot were not read before it takes them, so they have the ends already.
    let snapshot = slow.snapshot().await;
    assert_eq!(snapshot.len(), names.len());
    let (mut ended, mut versions, mut updates) = (HashSet::new(), HashMap::new(), 0);
    for generation in snapshot {
        assert!(versions.insert(generation.name.clone(), generation.version).is_none());
        if generation.end_time.is_some() {
            ended.insert(generation.name);
        }
    }
    assert!(ended.len() > names.len() / 2, "{} had ended by the time they were sent", ended.len());
    while ended.len() < names.len() {
        let update = slow.update().await;
        let before = versions.insert(update.name.clone(), update.version).unwrap();
        assert!(before < update.version, "{before} and then {}", update.version);
        updates += 1;
        if update.end_time.is_some() {
            assert!(ended.insert(update.name), "it ended twice");
        }
    }
    // The wire may hold a few more than the snapshot.
    assert!(updates < names.len() / 2, "{updates} updates reached it of {sent}");
    assert_eq!(sent, 4 * names.len(), "the quick one was sent every change");
}

#[tokio::test]
async fn a_watch_sends_heartbeats_moves_and_is_resumed() {
    let cluster = Cluster::with(|config| {
        config.watch.heartbeat = Duration::from_millis(50);
        config.watch.age = Duration::from_millis(500);
    })
    .await;
    let user = cluster.user(3).await;
    cluster.started(&user).await;
    let second = cluster.started(&user).await;
    let mut watch = Watch::of(&cluster.node, &user, all()).await.unwrap();
    assert_eq!(watch.snapshot().await.len(), 2);
    let (mut beats, mut token) = (0, String::new());
    loop {
        match watch.next().await {
            Some((Event::Heartbeat(_), _)) => beats += 1,
            Some((Event::Moved(_), moved)) => token = moved,
            None => break,
            other => panic!("nothing happened, but {other:?}"),
        }
    }
    assert!(beats >= 2 && !token.is_empty(), "{beats} heartbeats, then {token:?}");
    let again = WatchGenerationsRequest { resume_token: token.clone(), ..all() };
    let mut watch = Watch::of(&cluster.node, &user, again).await.unwrap();
    assert!(matches!(watch.next().await, Some((Event::Heartbeat(_), _))), "it says at once that it stands");
    let third = cluster.started(&user).await;
    assert_eq!(watch.update().await, third, "and what did not change is not sent again");

    let expired = (Code::OutOfRange, "RESUME_TOKEN_EXPIRED".to_owned());
    let mut forged = token.clone().into_bytes();
    forged[20] ^= 1;
    for token in ["x".to_owned(), String::from_utf8(forged).unwrap()] {
        let forged = WatchGenerationsRequest { resume_token: token, ..all() };
        assert_eq!(refusal(Watch::of(&cluster.node, &user, forged).await.map(drop)), expired);
    }
    let elsewhere = [named(&[&second.name]), WatchGenerationsRequest { parent: user.project(), ..all() }];
    for request in elsewhere {
        let request = WatchGenerationsRequest { resume_token: token.clone(), ..request };
        assert_eq!(refusal(Watch::of(&cluster.node, &user, request).await.map(drop)), expired);
    }
    let stranger = cluster.user(0).await;
    let stolen = WatchGenerationsRequest { resume_token: token, ..all() };
    assert_eq!(refusal(Watch::of(&cluster.node, &stranger, stolen).await.map(drop)), expired);
}

/// The keys of the services are changed in steps, in each of which processes with two lists of them serve the same clients.
#[tokio::test]
async fn a_watch_is_resumed_while_keys_change_and_no_longer() {
    const NEW: &str = "new-new-new-new-new-new-new-new-new";
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    cluster.started(&user).await;
    let with = async |keys: &str| {
        let mut config = cluster.config.clone();
        config.internal_keys = InternalKeys::parse(keys).unwrap();
        Node::start(&config).await
    };
    let behind = with(&format!("{INTERNAL_KEYS},{NEW}")).await;
    let before = with(&format!("{NEW},{INTERNAL_KEYS}")).await;
    let token_of = async |node: &Node| Watch::of(node, &user, all()).await.unwrap().next().await.unwrap().1;
    let resume = async |node: &Node, resume_token: &str| {
        let request = WatchGenerationsRequest { resume_token: resume_token.to_owned(), ..all() };
        Watch::of(node, &user, request).await.map(drop)
    };
    for (made, taken) in [(&cluster.node, &behind), (&behind, &before), (&before, &behind)] {
        resume(taken, &token_of(made).await).await.unwrap();
    }
    let refused = resume(&cluster.node, &token_of(&before).await).await;
    assert_eq!(refusal(refused), (Code::OutOfRange, "RESUME_TOKEN_EXPIRED".to_owned()));
}

#[tokio::test]
async fn an_invalid_watch_is_refused_at_once() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    let invalid = (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned());
    for request in [
        WatchGenerationsRequest { until_terminal: true, ..all() },
        WatchGenerationsRequest { parent: user.scene(), ..named(&[&name]) },
        WatchGenerationsRequest { parent: "scenes".to_owned(), ..all() },
        named(&["x"]),
        WatchGenerationsRequest { names: vec![name; 1_001], ..all() },
    ] {
        assert_eq!(refusal(Watch::of(&cluster.node, &user, request).await.map(drop)), invalid);
    }
}

/// What a watch shows first takes long to be read and made, and a thousand watches cost no more than their own account's time.
#[tokio::test]
async fn the_watches_of_one_account_read_one_at_a_time() {
    let cluster = Cluster::new().await;
    let (many, one) = (cluster.user(1).await, cluster.user(1).await);
    for user in [&many, &one] {
        cluster.started(user).await;
    }
    // Whoever reads generations now waits for this transaction.
    let mut slow = cluster.pool.begin().await.unwrap();
    sqlx::query("lock table generations in access exclusive mode").execute(&mut *slow).await.unwrap();
    let open = |user: &User| {
        let (generations, user) = (cluster.node.generations.clone(), *user);
        tokio::spawn(async move { Watch::by(&generations, &user, all()).await.unwrap().snapshot().await.len() })
    };
    let reading = async |count: i64| {
        let reading = async || {
            let blocked = "select count(*) from pg_stat_activity where application_name = 'rushes/read'
                           and datname = current_database() and wait_event_type = 'Lock'";
            let reading: i64 = sqlx::query_scalar(blocked).fetch_one(&cluster.pool).await.ok()?;
            (reading >= count).then_some(reading)
        };
        eventually("they read", Duration::from_secs(10), reading).await.unwrap()
    };
    let mut watches: Vec<_> = (0..20).map(|_| open(&many)).collect();
    assert_eq!(reading(1).await, 1);
    watches.push(open(&one));
    assert_eq!(reading(2).await, 2, "another account's does not wait for them");
    slow.rollback().await.unwrap();
    for watch in watches {
        assert_eq!(watch.await.unwrap(), 1);
    }
}
