//! DeleteGeneration: nothing shows a deleted generation, and the money that it cost stays where it was.

use proto::credits::v1::CreditEntry;
use proto::generations::v1::watch_generations_response::Event;
use proto::generations::v1::{
    BatchGetGenerationsRequest, CancelGenerationRequest, DeleteGenerationRequest, Generation,
    ListGenerationEventsRequest, ListGenerationsRequest, RetryGenerationRequest, State, WatchGenerationsRequest,
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::cluster::{Cluster, PRICE, User, refusal};
use crate::watches::Watch;
use crate::worker::Worker;

impl Cluster {
    async fn delete_generation(&self, user: &User, name: &str, allow_missing: bool) -> Result<(), Status> {
        let request = user.asks(DeleteGenerationRequest { name: name.to_owned(), allow_missing });
        self.node.generations.clone().delete_generation(request).await.map(drop)
    }

    /// The names that a listing has.
    async fn names_listed(&self, user: &User, request: ListGenerationsRequest) -> Vec<String> {
        let listed = self.node.generations.clone().list_generations(user.asks(request)).await.unwrap().into_inner();
        listed.generations.into_iter().map(|generation| generation.name).collect()
    }

    /// A generation that was carried out.
    async fn completed(&self, user: &User, worker: &mut Worker) -> Generation {
        let started = self.started(user).await;
        let work = worker.next().await;
        worker.carry_out(&work).await;
        self.get(user, &started.name).await.unwrap()
    }

    /// What the scene shows, and the project's count and cost.
    async fn shown(&self, user: &User) -> (Option<Uuid>, Option<i16>, i64, i64) {
        sqlx::query_as(
            "select s.latest_generation, s.latest_state, p.completed_count, p.completed_cost_micros
             from scenes s join projects p on p.id = s.project_id where s.id = $1",
        )
        .bind(user.scene)
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }
}

fn id(generation: &Generation) -> Uuid {
    generation.name.trim_start_matches("generations/").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_generation_is_nowhere_and_its_price_stays() {
    let cluster = Cluster::new().await;
    let (user, stranger) = (cluster.user(9).await, cluster.user(1).await);
    let mut worker = Worker::new(&cluster, 4).await;
    let first = cluster.completed(&user, &mut worker).await;
    let second = cluster.completed(&user, &mut worker).await;
    assert_eq!(cluster.shown(&user).await, (Some(id(&second)), Some(6), 2, 2 * PRICE));
    let entries: Vec<CreditEntry> = cluster.all_entries(&user, 50).await;
    let credit = cluster.credit(&user).await;

    let not_found = (Code::NotFound, "GENERATION_NOT_FOUND".to_owned());
    assert_eq!(refusal(cluster.delete_generation(&stranger, &second.name, false).await), not_found);
    cluster.delete_generation(&stranger, &second.name, true).await.unwrap();
    assert!(cluster.get(&user, &second.name).await.is_ok(), "it is not the stranger's");

    cluster.delete_generation(&user, &second.name, false).await.unwrap();
    assert_eq!(refusal(cluster.get(&user, &second.name).await), not_found, "at once, though it was cached");
    let named = user.asks(BatchGetGenerationsRequest { names: vec![second.name.clone()] });
    assert_eq!(refusal(cluster.node.generations.clone().batch_get_generations(named).await), not_found);
    let (all, ended) = (ListGenerationsRequest::default(), vec![State::Completed.into()]);
    let states = ListGenerationsRequest { states: ended, ..all.clone() };
    let parent = |parent| ListGenerationsRequest { parent, ..ListGenerationsRequest::default() };
    for request in [all, states, parent(user.project()), parent(user.scene())] {
        assert_eq!(cluster.names_listed(&user, request).await, std::slice::from_ref(&first.name));
    }
    let mut generations = cluster.node.generations.clone();
    let events = ListGenerationEventsRequest { name: second.name.clone(), ..ListGenerationEventsRequest::default() };
    assert_eq!(refusal(generations.list_generation_events(user.asks(events)).await), not_found);
    let retry = RetryGenerationRequest { name: second.name.clone(), request_id: Uuid::now_v7().to_string() };
    assert_eq!(refusal(generations.retry_generation(user.asks(retry)).await), not_found);
    let cancel = CancelGenerationRequest { name: second.name.clone() };
    assert_eq!(refusal(generations.cancel_generation(user.asks(cancel)).await), not_found);

    // The scene shows the other one, and the project what is left; the money is as it was.
    assert_eq!(cluster.shown(&user).await, (Some(id(&first)), Some(6), 1, PRICE));
    assert_eq!(cluster.all_entries(&user, 50).await, entries);
    assert_eq!(cluster.credit(&user).await, credit);
    let (prompt, outputs): (String, bool) =
        sqlx::query_as("select prompt, outputs is not null or thumbhash is not null from generations where id = $1")
            .bind(id(&second))
            .fetch_one(&cluster.pool)
            .await
            .unwrap();
    assert_eq!((prompt.as_str(), outputs), ("", false));

    assert_eq!(refusal(cluster.delete_generation(&user, &second.name, false).await), not_found);
    cluster.delete_generation(&user, &second.name, true).await.unwrap();
    cluster.delete_generation(&user, &first.name, false).await.unwrap();
    assert_eq!(cluster.shown(&user).await, (None, None, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_not_deleted() {
    let cluster = Cluster::new().await;
    let user = cluster.user(2).await;
    let started = cluster.started(&user).await;
    let refused = (Code::FailedPrecondition, "NOT_TERMINAL".to_owned());
    assert_eq!(refusal(cluster.delete_generation(&user, &started.name, true).await), refused);
    cluster.cancel_many(&user, &[&started.name]).await;
    cluster.delete_generation(&user, &started.name, false).await.unwrap();
    assert_eq!(cluster.shown(&user).await, (None, None, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_generation_was_deleted_starts_no_other() {
    let cluster = Cluster::new().await;
    let user = cluster.user(2).await;
    let request = user.start_request();
    let started = cluster.start(&user, request.clone()).await.unwrap();
    cluster.cancel_many(&user, &[&started.name]).await;
    cluster.delete_generation(&user, &started.name, false).await.unwrap();
    assert_eq!(refusal(cluster.start(&user, request).await), (Code::NotFound, "GENERATION_NOT_FOUND".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn its_outputs_are_in_use_until_it_is_deleted() {
    let cluster = Cluster::new().await;
    let user = cluster.user(2).await;
    let mut worker = Worker::new(&cluster, 1).await;
    let generation = cluster.completed(&user, &mut worker).await;
    let uses = async || {
        let query = "select count(*) from asset_uses where account_id = $1 and role = 2";
        sqlx::query_scalar::<_, i64>(query).bind(user.account).fetch_one(&cluster.pool).await.unwrap()
    };
    assert_eq!(uses().await, 1);
    cluster.delete_generation(&user, &generation.name, false).await.unwrap();
    assert_eq!(uses().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_sent_nothing_and_a_later_one_does_not_have_it() {
    let cluster = Cluster::new().await;
    let user = cluster.user(3).await;
    let gone = cluster.started(&user).await;
    cluster.cancel_many(&user, &[&gone.name]).await;
    let mut watch = Watch::of(&cluster.node, &user, WatchGenerationsRequest::default()).await.unwrap();
    assert_eq!(watch.snapshot().await.len(), 1);
    cluster.delete_generation(&user, &gone.name, false).await.unwrap();
    let next = cluster.started(&user).await;
    let event = loop {
        match watch.next().await.unwrap().0 {
            Event::Heartbeat(_) => {}
            event => break event,
        }
    };
    assert!(matches!(&event, Event::Update(update) if update.name == next.name), "{event:?}");
    let mut later = Watch::of(&cluster.node, &user, WatchGenerationsRequest::default()).await.unwrap();
    let names: Vec<_> = later.snapshot().await.into_iter().map(|generation| generation.name).collect();
    assert_eq!(names, [next.name]);
    let named = WatchGenerationsRequest { names: vec![gone.name], ..WatchGenerationsRequest::default() };
    let refused = Watch::of(&cluster.node, &user, named).await;
    assert_eq!(refused.err().unwrap().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_deletions_in_one_scene_leave_it_showing_what_is_left() {
    let cluster = Cluster::new().await;
    let user = cluster.user(40).await;
    for _ in 0..6 {
        let mut names = Vec::new();
        for _ in 0..3 {
            names.push(cluster.started(&user).await);
        }
        let all: Vec<&str> = names.iter().map(|generation| generation.name.as_str()).collect();
        cluster.cancel_many(&user, &all).await;
        let (one, other) = tokio::join!(
            cluster.delete_generation(&user, all[2], false),
            cluster.delete_generation(&user, all[1], false)
        );
        one.unwrap();
        other.unwrap();
        assert_eq!(cluster.shown(&user).await.0, Some(id(&names[0])));
    }
}
