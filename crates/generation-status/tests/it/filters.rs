//! Listings that are restricted: what each restriction leaves, alone and together, and through pages.

use std::collections::HashMap;

use proto::generations::v1::{
    CancelGenerationRequest, ListGenerationsRequest, ListGenerationsResponse, StartGenerationRequest, State,
};
use tonic::{Code, Status};

use crate::cluster::{Cluster, User, refusal};
use crate::worker::Worker;

async fn list(
    cluster: &Cluster,
    user: &User,
    request: ListGenerationsRequest,
) -> Result<ListGenerationsResponse, Status> {
    Ok(cluster.node.generations.clone().list_generations(user.asks(request)).await?.into_inner())
}

/// The names on all pages, by pages of two.
async fn names(cluster: &Cluster, user: &User, request: ListGenerationsRequest) -> Vec<String> {
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let page =
            list(cluster, user, ListGenerationsRequest { page_size: 2, page_token, ..request.clone() }).await.unwrap();
        names.extend(page.generations.into_iter().map(|generation| generation.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn none() -> ListGenerationsRequest {
    ListGenerationsRequest::default()
}

fn in_states(states: &[State]) -> ListGenerationsRequest {
    ListGenerationsRequest { states: states.iter().map(|state| (*state).into()).collect(), ..none() }
}

#[tokio::test]
async fn each_restriction_leaves_what_matches_newest_first() {
    let cluster = Cluster::new().await;
    let (user, foreign) = (cluster.user(12).await, cluster.user(1).await);
    let other = cluster.scene(&user).await;
    let mut worker = Worker::new(&cluster, 1).await;
    // 0 is completed, 1 cancelled, 2 to 4 are open; 4 is of another scene.
    let mut all = Vec::new();
    for (of, end_user, labelled) in [
        (&user, "ada", labels(&[("shot", "1"), ("take", "a")])),
        (&user, "ada", labels(&[("shot", "1"), ("take", "b")])),
        (&user, "brahe", labels(&[("shot", "2")])),
        (&user, "", labels(&[])),
        (&other, "ada", labels(&[("shot", "1")])),
    ] {
        let request = StartGenerationRequest { end_user: end_user.to_owned(), labels: labelled, ..of.start_request() };
        all.push(cluster.start(of, request).await.unwrap());
        if all.len() == 1 {
            let work = worker.next().await;
            worker.carry_out(&work).await;
        }
    }
    let theirs = StartGenerationRequest {
        labels: labels(&[("shot", "1")]),
        end_user: "ada".to_owned(),
        ..foreign.start_request()
    };
    cluster.start(&foreign, theirs).await.unwrap();
    let cancel = CancelGenerationRequest { name: all[1].name.clone() };
    cluster.node.generations.clone().cancel_generation(user.asks(cancel)).await.unwrap();

    let after = |at: usize| all[at].create_time;
    let both = ListGenerationsRequest { end_user: "ada".to_owned(), ..in_states(&[State::Cancelled]) };
    let labelled = |pairs: &[(&str, &str)]| ListGenerationsRequest { labels: labels(pairs), ..none() };
    let of = |request: ListGenerationsRequest, parent: String| ListGenerationsRequest { parent, ..request };
    for (request, expected) in [
        (in_states(&[State::Completed]), vec![0]),
        (in_states(&[State::Queued]), vec![4, 3, 2]),
        (in_states(&[State::Queued, State::Processing, State::Submitting]), vec![4, 3, 2]),
        (in_states(&[State::Cancelled, State::Completed, State::Completed]), vec![1, 0]),
        (in_states(&[State::Queued, State::Completed]), vec![4, 3, 2, 0]),
        (in_states(&[State::Failed]), vec![]),
        (of(in_states(&[State::Queued]), user.scene()), vec![3, 2]),
        (of(in_states(&[State::Completed]), user.project()), vec![0]),
        (ListGenerationsRequest { model: "models/local-sketch".to_owned(), ..none() }, vec![4, 3, 2, 1, 0]),
        (ListGenerationsRequest { model: "models/gone".to_owned(), ..none() }, vec![]),
        (ListGenerationsRequest { end_user: "ada".to_owned(), ..none() }, vec![4, 1, 0]),
        (of(ListGenerationsRequest { end_user: "ada".to_owned(), ..none() }, user.scene()), vec![1, 0]),
        (both, vec![1]),
        (labelled(&[("shot", "1")]), vec![4, 1, 0]),
        (labelled(&[("take", "a"), ("shot", "1")]), vec![0]),
        (labelled(&[("shot", "1"), ("take", "c")]), vec![]),
        (labelled(&[("shot", "2")]), vec![2]),
        (of(labelled(&[("shot", "1")]), other.scene()), vec![4]),
        (ListGenerationsRequest { create_time_from: after(3), ..none() }, vec![4, 3]),
        (ListGenerationsRequest { create_time_until: after(3), ..none() }, vec![2, 1, 0]),
        (ListGenerationsRequest { create_time_from: after(1), create_time_until: after(3), ..none() }, vec![2, 1]),
        (ListGenerationsRequest { create_time_from: after(1), ..in_states(&[State::Completed]) }, vec![]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|at: usize| all[at].name.clone()).collect();
        assert_eq!(names(&cluster, &user, request.clone()).await, expected, "{request:?}");
    }
}

#[tokio::test]
async fn a_page_belongs_to_its_restrictions_and_a_wrong_one_is_refused() {
    let cluster = Cluster::new().await;
    let (user, foreign) = (cluster.user(4).await, cluster.user(0).await);
    for _ in 0..3 {
        cluster.started(&user).await;
    }
    let queued = ListGenerationsRequest { page_size: 1, ..in_states(&[State::Queued]) };
    let page_token = list(&cluster, &user, queued.clone()).await.unwrap().next_page_token;
    assert!(!page_token.is_empty());
    let forged = (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned());
    for other in
        [none(), in_states(&[State::Completed]), ListGenerationsRequest { end_user: "ada".to_owned(), ..queued }]
    {
        let request = ListGenerationsRequest { page_token: page_token.clone(), ..other };
        assert_eq!(refusal(list(&cluster, &user, request).await), forged);
    }
    let missing = ListGenerationsRequest { parent: user.scene(), ..in_states(&[State::Queued]) };
    assert_eq!(refusal(list(&cluster, &foreign, missing).await), (Code::NotFound, "SCENE_NOT_FOUND".to_owned()));
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let many = (0..9).map(|key| (key.to_string(), String::new())).collect();
    for wrong in [
        ListGenerationsRequest { states: vec![0], ..none() },
        ListGenerationsRequest { states: vec![10], ..none() },
        ListGenerationsRequest { states: vec![1; 10], ..none() },
        ListGenerationsRequest { model: "sketch".to_owned(), ..none() },
        ListGenerationsRequest { end_user: "two\nlines".to_owned(), ..none() },
        ListGenerationsRequest { labels: many, ..none() },
        ListGenerationsRequest { labels: labels(&[("key", &"x".repeat(201))]), ..none() },
        ListGenerationsRequest { create_time_from: time(i64::MAX), ..none() },
        ListGenerationsRequest { create_time_until: time(0), ..none() },
    ] {
        let refused = refusal(list(&cluster, &user, wrong.clone()).await);
        assert_eq!(refused, (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned()), "{wrong:?}");
    }
}

#[tokio::test]
async fn pages_go_on_where_none_of_many_matches() {
    let cluster = Cluster::new().await;
    let user = cluster.user(3).await;
    let first = cluster.started(&user).await;
    // 1,300 of another state that lie between two that match.
    sqlx::query("alter table generations disable trigger user").execute(&cluster.pool).await.unwrap();
    sqlx::query(
        "insert into generations (id, account_id, project_id, scene_id, state, end_time, provider_charge, model, prompt, seed,
                                  held_micros, request_id, request_sha256)
         select rushes_uuid_v7(), $1, $2, $3, 7, now(), 1, 'local-sketch', 'a prompt', 1, 0, rushes_uuid_v7(), ''
         from generate_series(1, 1300)",
    )
    .bind(user.account)
    .bind(user.project)
    .bind(user.scene)
    .execute(&cluster.pool)
    .await
    .unwrap();
    sqlx::query("alter table generations enable trigger user").execute(&cluster.pool).await.unwrap();
    let last = cluster.started(&user).await;
    let wanted = ListGenerationsRequest {
        parent: user.scene(),
        page_size: 10,
        model: "models/local-sketch".to_owned(),
        ..in_states(&[State::Queued, State::Expired])
    };
    let (mut pages, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = list(&cluster, &user, ListGenerationsRequest { page_token, ..wanted.clone() }).await.unwrap();
        pages.push(page.generations.into_iter().map(|generation| generation.name).collect::<Vec<_>>());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, [vec![last.name], vec![], vec![first.name]]);
    sqlx::query("delete from generations where state = 7").execute(&cluster.pool).await.unwrap();
}
