//! The numbers of states that statements spell out, since a partial index serves only a condition that the planner can read: each
//! stands beside its state's name, as `state = 1 /* PENDING */`, and these tests hold the two together. Every other number is a
//! parameter.

use std::collections::BTreeSet;
use std::path::Path;

use domain::generation::State;
use proto::generations::v1 as api;
use proto::webhooks::v1::delivery::State as ApiDeliveryState;
use sqlx::{Connection as _, PgConnection};
use testkit::Database;

use crate::model::{DeliveryState, WaitReason, event_types};

/// The columns whose numbers are those of an enum; 0 means nothing in each.
const COLUMNS: [&str; 6] = ["state", "latest_state", "wait_reason", "basis", "provider_charge", "$3"];
const SIGNS: [&str; 6] = ["<>", "<=", ">=", "=", "<", ">"];
const DELIVERY_STATES: [(&str, DeliveryState); 3] =
    [("PENDING", DeliveryState::Pending), ("DELIVERED", DeliveryState::Delivered), ("FAILED", DeliveryState::Failed)];

/// The names that the statements of a file may have, with their numbers.
fn names(file: &str) -> Vec<(&'static str, i16)> {
    let delivery = DELIVERY_STATES.map(|(name, state)| (name, state as i16));
    let generation = State::ALL.map(|state| (state.as_str(), state.number()));
    let wait = ("SUBMISSION_UNCONFIRMED", WaitReason::SubmissionUnconfirmed as i16);
    if file.starts_with("deliver") { delivery.to_vec() } else { [&generation[..], &[wait]].concat() }
}

/// What a source compares the columns with, or sets them to, where that is a number: the number and the name beside it.
fn spelled(text: &str) -> Vec<(i16, String)> {
    let mut found = Vec::new();
    for column in COLUMNS {
        for (at, _) in text.match_indices(column) {
            let is_longer = text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
            let rest = text[at + column.len()..].trim_start();
            if is_longer {
                continue;
            }
            if let Some(list) = rest.strip_prefix("in (") {
                found.extend(list.split(')').next().unwrap_or_default().split(',').filter_map(number));
            } else if let Some(value) = SIGNS.iter().find_map(|sign| rest.strip_prefix(sign)) {
                found.extend(number(value));
            }
        }
    }
    found
}

/// The number that a text begins with, but 0, and the name in the comment behind it.
fn number(text: &str) -> Option<(i16, String)> {
    let text = text.trim_start();
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].parse().ok().filter(|number| *number != 0)?;
    let comment = text[end..].trim_start().strip_prefix("/*").and_then(|comment| comment.split_once("*/"));
    Some((number, comment.map(|(name, _)| name.trim().to_owned()).unwrap_or_default()))
}

#[test]
fn numbers_are_found_with_their_names() {
    let found = |text| spelled(text).into_iter().map(|(number, name)| format!("{number}{name}")).collect::<Vec<_>>();
    assert_eq!(
        found("set g.state = 6 /* COMPLETED */, wait_reason = 0 where state <> $1 and state >1"),
        ["6COMPLETED", "1"]
    );
    assert_eq!(found("state in (2 /* SUBMITTING */, 5) and job_state = 4 and mystate = 3"), ["2SUBMITTING", "5"]);
    assert_eq!(found("case when $3 > 1 /* PENDING */ then"), ["1PENDING"]);
}

#[test]
fn every_number_in_a_statement_is_that_of_the_name_beside_it() {
    let mut count = 0;
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let files = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>();
    let mut paths = files(&store);
    while let Some(path) = paths.pop() {
        let file = path.file_name().unwrap().to_str().unwrap();
        if file == "numbers.rs" {
            continue;
        }
        if path.is_dir() {
            paths.extend(files(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // Comments name numbers and states as they like.
        let text: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for (number, name) in spelled(&text.join("\n")) {
            let is_known = names(file).iter().any(|known| *known == (&*name, number));
            assert!(is_known, "{file}: the number {number} has the name {name:?} beside it");
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn numbers_are_those_of_the_protos() {
    for (name, state) in DELIVERY_STATES {
        assert_eq!(ApiDeliveryState::from_str_name(name).map(|state| state as i16), Some(state as i16), "{name}");
    }
    for state in State::ALL {
        assert_eq!(api::State::from_str_name(state.as_str()).map(|state| state as i16), Some(state.number()));
    }
    let unconfirmed = api::WaitReason::SubmissionUnconfirmed;
    assert_eq!(unconfirmed as i16, WaitReason::SubmissionUnconfirmed as i16);
    assert_eq!(unconfirmed.as_str_name(), "SUBMISSION_UNCONFIRMED");
}

#[tokio::test]
async fn the_tables_have_the_numbers_of_the_enums() {
    let database = Database::fresh().await.unwrap();
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    let numbers = |sql: &str| -> BTreeSet<i16> {
        sql.split(|char: char| !char.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
    };
    let terminal = State::ALL.into_iter().find(|state| state.is_terminal()).unwrap().number();
    assert!(State::ALL.iter().all(|state| state.is_terminal() == (state.number() >= terminal)));
    let [pending, failed] = [DeliveryState::Pending, DeliveryState::Failed].map(|state| state as i16);
    for (table, condition, expected) in [
        ("generations", "(state <= ", vec![State::ALL[0].number(), State::ALL[State::ALL.len() - 1].number()]),
        ("generations", "= (end_time IS NOT NULL)", vec![terminal]),
        ("webhook_deliveries", "(state <= ", vec![pending, failed]),
        ("webhook_deliveries", "(end_time IS NULL)", vec![pending]),
    ] {
        let check = "select pg_get_constraintdef(oid) from pg_constraint
                     where conrelid = $1::regclass and contype = 'c' and strpos(pg_get_constraintdef(oid), $2) > 0";
        let found: Vec<String> =
            sqlx::query_scalar(check).bind(table).bind(condition).fetch_all(&mut connection).await.unwrap();
        assert_eq!(found.len(), 1, "{table} {condition}: {found:?}");
        assert_eq!(numbers(&found[0]), expected.into_iter().collect(), "{table}: {}", found[0]);
    }
    let indexes = "select pg_get_expr(indpred, indrelid) from pg_index
                   where indrelid = 'webhook_deliveries'::regclass and strpos(pg_get_expr(indpred, indrelid), '(state ') > 0";
    let indexes: Vec<String> = sqlx::query_scalar(indexes).fetch_all(&mut connection).await.unwrap();
    assert!(
        !indexes.is_empty() && indexes.iter().all(|index| numbers(index) == BTreeSet::from([pending])),
        "{indexes:?}"
    );
    for state in State::ALL {
        let event = sqlx::query_scalar("select generation_event($1)").bind(state.number());
        let event: String = event.fetch_one(&mut connection).await.unwrap();
        assert!(event.ends_with(&format!(".{}", state.as_str().to_ascii_lowercase())), "{event}");
        assert_eq!(event_types(std::slice::from_ref(&event)), Some(vec![event]));
    }
}
