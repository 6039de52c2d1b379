//! The words that SQL spells out are those of the enums: in the table's checks, its triggers and indexes, and in the sources.

use std::collections::BTreeSet;
use std::path::Path;

use jobs::{Cause, State};

use crate::cluster::Cluster;

fn names(states: impl IntoIterator<Item = State>) -> BTreeSet<String> {
    states.into_iter().map(|state| state.as_str().to_owned()).collect()
}

/// The words in single quotes.
fn quoted(sql: &str) -> Vec<String> {
    sql.split('\'').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The literals that a text compares a state with, or sets one to: `state = 'a'`, `state <> 'a'`, `state in ('a', 'b')`, and
/// PostgreSQL's own spelling of a list.
fn state_literals(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("state") {
        let rest = text[at + "state".len()..].trim_start();
        let Some(list) = ["= ANY (ARRAY[", "not in (", "in ("].iter().find_map(|list| rest.strip_prefix(list)) else {
            let literal = ["<>", "="].iter().find_map(|sign| rest.strip_prefix(sign)).map(str::trim_start);
            if let Some(literal) = literal.filter(|literal| literal.starts_with('\'')) {
                found.extend(literal.split('\'').nth(1).map(str::to_owned));
            }
            continue;
        };
        found.extend(quoted(list.split([')', ']']).next().unwrap()));
    }
    found
}

#[tokio::test]
async fn the_tables_checks_list_the_states() {
    let cluster = Cluster::new().await;
    let check = async |name: &str| -> BTreeSet<String> {
        let query =
            "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'jobs'::regclass and conname = $1";
        let definition: String = sqlx::query_scalar(query).bind(name).fetch_one(&cluster.pool).await.unwrap();
        quoted(&definition).into_iter().collect()
    };
    assert_eq!(check("jobs_state").await, names(State::ALL));
    assert_eq!(check("jobs_finished").await, names(State::ALL.into_iter().filter(|state| !state.is_finished())));
    assert_eq!(check("jobs_leased").await, names([State::Leased]));
    assert_eq!(check("jobs_polling").await, names([State::Leased]));
}

#[tokio::test]
async fn triggers_and_indexes_name_states_that_exist() {
    let cluster = Cluster::new().await;
    let definitions: Vec<String> = sqlx::query_scalar(
        "select pg_get_triggerdef(oid) from pg_trigger where tgrelid = 'jobs'::regclass and not tgisinternal
         union all
         select prosrc from pg_trigger t join pg_proc p on p.oid = t.tgfoid where tgrelid = 'jobs'::regclass and not tgisinternal
         union all
         select pg_get_indexdef(indexrelid) from pg_index where indrelid = 'jobs'::regclass and indpred is not null",
    )
    .fetch_all(&cluster.pool)
    .await
    .unwrap();
    let found: BTreeSet<String> = definitions.iter().flat_map(|definition| state_literals(definition)).collect();
    assert!(found.len() >= 4 && found.is_subset(&names(State::ALL)), "{found:?}");
}

#[test]
fn the_sources_name_states_that_exist() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeSet::new();
    for file in std::fs::read_dir(sources).unwrap() {
        found.extend(state_literals(&std::fs::read_to_string(file.unwrap().path()).unwrap()));
    }
    assert_eq!(found, names(State::ALL));
}

/// The history has no check of its own: what it says is what the trigger copied from `jobs.state`.
#[tokio::test]
async fn the_history_says_states_and_causes_of_the_enums() {
    let cluster = Cluster::new().await;
    let account = uuid::Uuid::now_v7();
    let job = cluster.enqueue_for(account).await;
    let mut connection = cluster.connection().await;
    jobs::release(&mut connection, cluster.claim_only().await.lease).await.unwrap();
    cluster.expire(cluster.claim_only().await.lease).await;
    jobs::reap(&mut connection, crate::cluster::KIND).await.unwrap();
    jobs::cancel(&mut connection, cluster.claim_only().await.lease).await.unwrap();
    let events: Vec<(Option<String>, String, Option<String>)> =
        sqlx::query_as("select from_state, to_state, cause from job_events where job_id = $1 order by id")
            .bind(job)
            .fetch_all(&cluster.pool)
            .await
            .unwrap();
    let [queued, leased, cancelled] = [State::Queued, State::Leased, State::Cancelled].map(State::as_str);
    let line = |from: Option<&str>, to: &str, cause: Option<Cause>| {
        (from.map(str::to_owned), to.to_owned(), cause.map(|cause| cause.as_str().to_owned()))
    };
    let expected = [
        line(None, queued, None),
        line(Some(queued), leased, None),
        line(Some(leased), queued, Some(Cause::Released)),
        line(Some(queued), leased, None),
        line(Some(leased), queued, Some(Cause::LeaseExpired)),
        line(Some(queued), leased, None),
        line(Some(leased), cancelled, Some(Cause::Cancelled)),
    ];
    assert_eq!(events, expected);
}
