//! What a watch gets that is taken up again, at another server than the one that died.

use std::collections::HashMap;
use std::time::Duration;

use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::watch_generations_response::Event;
use proto::generations::v1::{Generation, WatchGenerationsRequest};
use testkit::{Doors, Nats, Proxy, eventually};

use crate::cluster::{Cluster, Generations, Node, User};
use crate::watches::{Watch, all, named};

/// Generations watched.
const WATCHED: usize = 1_000;
/// A server dies after it has sent this many events.
const LIFE: usize = 350;

/// What a client knows, and what went wrong on the way.
#[derive(Debug, Default)]
struct Client {
    known: HashMap<String, Generation>,
    token: String,
    resumes: usize,
    gaps: usize,
    doubles: usize,
    backwards: usize,
}

impl Client {
    fn take(&mut self, generation: Generation) {
        let old = self.known.get(&generation.name).map_or(0, |old| old.version);
        self.doubles += usize::from(generation.version == old);
        self.backwards += usize::from(generation.version < old);
        self.known.insert(generation.name.clone(), generation);
    }

    fn open(&self) -> usize {
        self.known.values().filter(|generation| generation.end_time.is_none()).count()
    }

    /// Follows a watch until its server dies, which it does after `life` events, or until all is over.
    async fn follow(&mut self, mut watch: Watch, server: &Proxy, life: usize) {
        let mut seen = 0;
        while let Ok(Some((event, token))) = watch.try_next().await {
            match event {
                Event::Snapshot(snapshot) => snapshot.generations.into_iter().for_each(|one| self.take(one)),
                Event::Update(generation) => self.take(generation),
                Event::Gap(_) => self.gaps += 1,
                Event::Heartbeat(_) => {}
                Event::Moved(_) => panic!("nobody moved it"),
            }
            self.token = token;
            seen += 1;
            if self.open() == 0 {
                return;
            }
            if seen == life {
                server.reset();
            }
        }
        self.resumes += 1;
    }
}

/// The way to a server over which the server can be seen to die.
async fn mortal(node: &Node) -> (Proxy, Generations) {
    let proxy = Proxy::before(node.address.to_string()).await.unwrap();
    let doors = Doors::of("generation-status", proxy.address(), node.internal);
    (proxy, GenerationServiceClient::new(doors))
}

/// Ends generations that hold nothing, in one statement.
async fn end_all(executor: impl sqlx::PgExecutor<'_>, ids: &[uuid::Uuid]) {
    sqlx::query("update generations set state = 8, end_time = now(), provider_charge = 1 where id = any ($1)")
        .bind(ids)
        .execute(executor)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_watch_of_a_thousand_outlives_its_servers_without_a_gap_or_a_duplicate() {
    let nats = Nats::launch().await.unwrap();
    let cluster = Cluster::with(|config| config.nats_url = Some(nats.url())).await;
    let other = Node::start(&cluster.config).await;
    let user = cluster.user(i64::try_from(WATCHED).unwrap()).await;
    let names = cluster.started_many(&user, &user.start_request(), WATCHED).await;
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let servers = [mortal(&cluster.node).await, mortal(&other).await];

    let mut client = Client::default();
    let request = named(&names);
    let follow = async {
        for turn in 0.. {
            let (proxy, server) = &servers[turn % 2];
            let request = WatchGenerationsRequest { resume_token: client.token.clone(), ..request.clone() };
            let watch = Watch::by(server, &user, request).await.unwrap();
            client.follow(watch, proxy, LIFE).await;
            if client.open() == 0 {
                break;
            }
        }
    };
    let change = async {
        for percent in (10..=60).step_by(10) {
            cluster.set_progress(percent).await;
        }
        cluster.cancel_many(&user, &names).await;
    };
    let both = async { futures::join!(follow, change) };
    tokio::time::timeout(Duration::from_secs(180), both).await.expect("every terminal state is seen");

    assert_eq!((client.gaps, client.doubles, client.backwards), (0, 0, 0));
    assert!(client.resumes >= 2, "the servers died {} times", client.resumes);
    let versions: HashMap<String, i64> =
        sqlx::query_as("select 'generations/' || id, version from generations where end_time is not null")
            .fetch_all(&cluster.pool)
            .await
            .unwrap()
            .into_iter()
            .collect();
    assert_eq!(versions.len(), WATCHED);
    let known: HashMap<_, _> = client.known.into_iter().map(|(name, last)| (name, last.version)).collect();
    assert_eq!(known, versions, "the last of each was seen");
    assert!(client.token.len() < 2_000, "a token has {} characters", client.token.len());
}

#[tokio::test]
async fn a_watcher_that_missed_too_much_gets_a_gap() {
    let cluster = Cluster::new().await;
    let config = generation_status::Config {
        // It hears of no change, and reads for itself.
        cache: cache::Settings { relay: false, ..cluster.config.cache.clone() },
        ..cluster.config.clone()
    };
    let isolated = Node::start(&config).await;
    let user = cluster.user(0).await;
    let mut watch = Watch::of(&isolated, &user, all()).await.unwrap();
    assert!(watch.snapshot().await.is_empty());
    let ids: Vec<_> = (0..=WATCHED).map(|_| uuid::Uuid::now_v7()).collect();
    // Begun and ended in one transaction: a watch that read between the two would have its gap too early.
    let mut transaction = cluster.pool.begin().await.unwrap();
    sqlx::query(
        "with jobs as (
             insert into jobs (id, account_id, kind, state, vft, max_attempts, idem_key, request_hash, payload, finished_at)
             select id, $2, 'generation', 'cancelled', 0, 1, id::text, '', '', now() from unnest($1::uuid[]) as id
         )
         insert into generations (id, account_id, project_id, scene_id, model, prompt, seed, held_micros, request_id,
                                  request_sha256)
         select unnest($1::uuid[]), $2, $3, $4, 'local', 'a prompt', 1, 0, gen_random_uuid(), ''",
    )
    .bind(&ids)
    .bind(user.account)
    .bind(user.project)
    .bind(user.scene)
    .execute(&mut *transaction)
    .await
    .unwrap();
    end_all(&mut *transaction, &ids).await;
    transaction.commit().await.unwrap();
    loop {
        match watch.next().await.unwrap().0 {
            Event::Heartbeat(_) => {}
            Event::Gap(_) => break,
            other => panic!("{other:?} in place of a gap"),
        }
    }
    assert_eq!(watch.snapshot().await.len(), 100, "the snapshot follows at once");
}

/// All that a watch that was resumed with `token` sends before it is up to date, and its last token.
async fn resumed(node: &Node, user: &User, token: &str) -> (Vec<Event>, String) {
    let request = WatchGenerationsRequest { resume_token: token.to_owned(), ..all() };
    let mut watch = Watch::of(node, user, request).await.unwrap();
    let (mut events, mut last) = (Vec::new(), token.to_owned());
    // It says at first that it stands, or that there is a gap; up to date it has nothing but heartbeats.
    while let Some((event, token)) = watch.next().await {
        if matches!(event, Event::Heartbeat(_)) && !events.is_empty() {
            break;
        }
        last = token;
        events.push(event);
    }
    (events, last)
}

/// The names of the updated generations, and whether they have ended. Updates of two generations come in any order.
fn updates(events: &[Event]) -> Vec<(String, bool)> {
    let update = |event: &'_ Event| match event {
        Event::Update(generation) => (generation.name.clone(), generation.end_time.is_some()),
        other => panic!("{other:?} where only updates were due"),
    };
    let mut updates: Vec<_> = events.iter().map(update).collect();
    updates.sort();
    updates
}

#[tokio::test]
async fn a_resumed_watch_of_an_account_gets_new_and_changed_generations() {
    let cluster = Cluster::with(|config| config.watch.heartbeat = Duration::from_millis(300)).await;
    let other = Node::start(&cluster.config).await;
    let user = cluster.user(700).await;
    let started = cluster.started_many(&user, &user.start_request(), 130).await;
    let mut watch = Watch::of(&cluster.node, &user, all()).await.unwrap();
    let (first, token) = watch.next().await.unwrap();
    let Event::Snapshot(snapshot) = first else { panic!("{first:?}") };
    assert_eq!(snapshot.generations.len(), 130, "what is under way is shown beyond the latest hundred");
    drop(watch);

    // Nothing happened.
    let (events, token) = resumed(&other, &user, &token).await;
    assert!(matches!(events[..], [Event::Heartbeat(_)]), "{events:?}");
    // An old one ended, a new one began, and one began and ended.
    let oldest = snapshot.generations.last().unwrap().name.clone();
    let begun = cluster.started(&user).await.name;
    let brief = cluster.started(&user).await.name;
    cluster.cancel_many(&user, &[&oldest, &brief]).await;
    let (events, token) = resumed(&other, &user, &token).await;
    assert_eq!(updates(&events[1..]), [(oldest, true), (begun, false), (brief, true)]);
    // And that was all of it.
    let (events, token) = resumed(&cluster.node, &user, &token).await;
    assert!(matches!(events[..], [Event::Heartbeat(_)]), "{events:?}");

    // More under way than a token names: a snapshot says it.
    cluster.started_many(&user, &user.start_request(), 140).await;
    let (events, token) = resumed(&other, &user, &token).await;
    assert_eq!(updates(&events[1..]).len(), 140);
    let (events, token) = resumed(&cluster.node, &user, &token).await;
    assert!(matches!(events[0], Event::Gap(_)), "a gap comes first");
    let parts = events[1..].iter().map(|event| match event {
        Event::Snapshot(part) => part.generations.len(),
        other => panic!("a part of a snapshot, and not {other:?}"),
    });
    assert_eq!(parts.sum::<usize>(), 270, "all that is under way; what is over is beyond the latest hundred");
    // Most of them end unseen; after that a token can name the rest.
    let names: Vec<_> = started.iter().map(String::as_str).collect();
    cluster.cancel_many(&user, &names).await;
    let (events, token) = resumed(&other, &user, &token).await;
    // The news of them may still be on its way to this server, and then come one by one.
    let [Event::Gap(_), Event::Snapshot(_), late @ ..] = &events[..] else { panic!("{events:?}") };
    assert!(updates(late).iter().all(|(_, ended)| *ended), "{late:?}");
    let (events, _) = resumed(&cluster.node, &user, &token).await;
    assert!(matches!(events[..], [Event::Heartbeat(_)]), "{events:?}");
}

#[tokio::test]
async fn a_late_message_does_not_resend_an_old_terminal_state() {
    let cluster = Cluster::with(|config| config.watch.heartbeat = Duration::from_millis(300)).await;
    let user = cluster.user(10).await;
    // Ten minutes old, by its id, and over.
    let age = std::time::SystemTime::now() - Duration::from_secs(600);
    let since = age.duration_since(std::time::UNIX_EPOCH).unwrap();
    let old = uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, since.as_secs(), 0));
    sqlx::query(
        "with job as (
             insert into jobs (id, account_id, kind, state, vft, max_attempts, idem_key, request_hash, payload, finished_at)
             values ($1, $2, 'generation', 'cancelled', 0, 1, $1::text, '', '', now())
         )
         insert into generations (id, account_id, project_id, scene_id, model, prompt, seed, held_micros, request_id,
                                  request_sha256)
         values ($1, $2, $3, $4, 'local', 'a prompt', 1, 0, gen_random_uuid(), '')",
    )
    .bind(old)
    .bind(user.account)
    .bind(user.project)
    .bind(user.scene)
    .execute(&cluster.pool)
    .await
    .unwrap();
    end_all(&cluster.pool, &[old]).await;
    cluster.started(&user).await;
    let mut watch = Watch::of(&cluster.node, &user, all()).await.unwrap();
    let (first, token) = watch.next().await.unwrap();
    let Event::Snapshot(snapshot) = first else { panic!("{first:?}") };
    assert_eq!(snapshot.generations.len(), 2);
    drop(watch);

    let request = WatchGenerationsRequest { resume_token: token, ..all() };
    let mut watch = Watch::of(&cluster.node, &user, request).await.unwrap();
    sqlx::query("insert into outbox (key, ver) select 'gen:' || account_id || ':' || id, version from generations where id = $1")
        .bind(old)
        .execute(&cluster.pool)
        .await
        .unwrap();
    let drained = async || {
        let left: i64 = sqlx::query_scalar("select count(*) from outbox").fetch_one(&cluster.pool).await.ok()?;
        (left == 0).then_some(())
    };
    eventually("the message is out", Duration::from_secs(20), drained).await.unwrap();
    let new = cluster.started(&user).await.name;
    loop {
        match watch.next().await.unwrap().0 {
            Event::Heartbeat(_) => {}
            Event::Update(update) => {
                assert_eq!(update.name, new);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}
