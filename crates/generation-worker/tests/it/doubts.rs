//! What may go wrong with a provider, and what is told of it: failure classes, lost answers, results that cannot be used.

use std::collections::VecDeque;
use std::time::Duration;

use generation_worker::providers::{Class, Failure, NotSubmitted, OrderStatus};
use proto::generations::v1::charge::ProviderCharge;
use proto::work::v1::{FailWorkRequest, FailureClass};
use tonic::Status;
use uuid::Uuid;

use crate::peers::{Said, Stage};
use crate::scripted::{DONE, Scripted, WORKING};

async fn failed(provider: &Scripted) -> FailWorkRequest {
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|_| {});
    stage.peer.failed(&job).await
}

fn failure(class: Class) -> Failure {
    Failure { class, retry_after: Some(Duration::from_secs(7)), ..Failure::internal("as it said") }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_class_is_told_as_it_is() {
    for (class, told) in [
        (Class::Internal, FailureClass::Internal),
        (Class::Throttled, FailureClass::Throttled),
        (Class::InvalidInput, FailureClass::InvalidInput),
        (Class::Safety, FailureClass::Safety),
        (Class::BadOutput, FailureClass::BadOutput),
    ] {
        let at_look = Scripted::new([WORKING, OrderStatus::Failed(failure(class))]);
        let at_order = Scripted::new([DONE]);
        at_order.script().submits.push_back(NotSubmitted::Refused(failure(class)));
        for provider in [at_look, at_order] {
            let charged = if provider.script().submits.is_empty() {
                ProviderCharge::Unspecified
            } else {
                ProviderCharge::NotCharged
            };
            let request = failed(&provider).await;
            assert_eq!((request.failure_class(), request.provider_charge()), (told, charged));
            assert_eq!((request.message.as_str(), request.retry_after.unwrap().seconds), ("as it said", 7));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again_under_the_same_key() {
    let provider = Scripted::new([DONE]);
    provider.script().submits = VecDeque::from([
        NotSubmitted::Unconfirmed("the connection broke".into()),
        NotSubmitted::Unconfirmed("the connection broke".into()),
    ]);
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|_| {});
    stage.peer.completed(&job).await;
    let key = Uuid::try_parse(&job).unwrap();
    assert_eq!(provider.script().ordered, [key; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_that_promise_nothing_is_ordered_twice() {
    // What can be looked up is looked for again later, what cannot be waits for a word from outside.
    for (provider, looked_for) in
        [(Scripted::new([DONE]).not_idempotent(), true), (Scripted::new([DONE]).not_idempotent().blind(), false)]
    {
        provider.script().submits.push_back(NotSubmitted::Unconfirmed("the connection broke".into()));
        let stage = Stage::with(provider.registry(), |_| {}).await;
        let job = stage.peer.give(|_| {});
        let unconfirmed = stage.peer.suspended(&job).await;
        assert!(unconfirmed.unconfirmed && unconfirmed.poll_after.is_some() == looked_for, "{unconfirmed:?}");
        assert_eq!(unconfirmed.message, "the connection broke");
        assert_eq!(provider.script().ordered.len(), 1);

        // Nor by whoever takes it over, not even when nothing is found under the key.
        let job = stage.peer.give(|work| work.in_doubt = true);
        assert!(stage.peer.suspended(&job).await.unconfirmed);
        assert_eq!(provider.script().ordered.len(), 1);
        let said = stage.peer.said(&job);
        assert!(matches!(said[..], [Said::Suspended(_)]), "{said:?}");
    }
    let found = Scripted::new([DONE]).not_idempotent();
    found.script().finds = true;
    let stage = Stage::with(found.registry(), |_| {}).await;
    let job = stage.peer.give(|work| work.in_doubt = true);
    stage.peer.completed(&job).await;
    assert!(found.script().ordered.is_empty());

    let forgetful = Scripted::new([WORKING, OrderStatus::Unknown]).not_idempotent();
    assert_eq!(failed(&forgetful).await.reason, "OUTPUT_UNAVAILABLE");
    assert_eq!(forgetful.script().ordered.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubt_is_settled_under_the_same_key_where_that_costs_nothing() {
    let provider = Scripted::new([DONE]).blind();
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|work| work.in_doubt = true);
    stage.peer.completed(&job).await;
    assert_eq!(provider.script().ordered, [Uuid::try_parse(&job).unwrap()]);
    assert!(!stage.peer.said(&job).iter().any(|said| matches!(said, Said::Intended(_))), "it stands already");
}

/// That the second sending is refused says nothing about the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_after_a_lost_answer_settles_nothing() {
    let provider = Scripted::new([DONE]).blind();
    let refusals = std::iter::repeat_n(NotSubmitted::Refused(failure(Class::Throttled)), 10);
    provider.script().submits.push_back(NotSubmitted::Unconfirmed("the connection broke".into()));
    provider.script().submits.extend(refusals);
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|_| {});
    assert!(stage.peer.suspended(&job).await.unconfirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_leaves_before_the_intent_is_committed() {
    let provider = Scripted::new([DONE]);
    // With one hand the second is begun once the first was let go of.
    let stage = Stage::with(provider.registry(), |settings| settings.slots = 1).await;
    stage.peer.answer("record_intent", Status::aborted("another has it"));
    let job = stage.peer.give(|_| {});
    let next = stage.peer.give(|_| {});
    stage.peer.completed(&next).await;
    assert!(stage.peer.said(&job).is_empty());
    assert_eq!(provider.script().ordered, [Uuid::try_parse(&next).unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_looked_up_first() {
    for provider in [Scripted::new([DONE]), Scripted::new([DONE]).not_idempotent()] {
        provider.script().finds = true;
        provider.script().submits.push_back(NotSubmitted::Unconfirmed("the connection broke".into()));
        let stage = Stage::with(provider.registry(), |_| {}).await;
        let job = stage.peer.give(|_| {});
        stage.peer.completed(&job).await;
        assert_eq!(provider.script().ordered.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_be_asked_for_a_while_is_waited_for() {
    let provider = Scripted::new([]);
    let mut polls: VecDeque<_> = (0..15).map(|_| Err(failure(Class::Internal))).collect();
    polls.extend([Ok(WORKING), Ok(DONE)]);
    provider.script().polls = polls;
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|_| {});
    stage.peer.completed(&job).await;
    provider.script().polls = VecDeque::from([Err(failure(Class::Internal))]);
    let job = stage.peer.give(|_| {});
    assert_eq!(stage.peer.failed(&job).await.reason, "PROVIDER_INTERNAL");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_takes_too_long_is_stopped() {
    let provider = Scripted::new([WORKING]);
    let stage = Stage::with(provider.registry(), |settings| settings.order_limit = Duration::from_millis(100)).await;
    let job = stage.peer.give(|_| {});
    assert_eq!(stage.peer.failed(&job).await.reason, "PROVIDER_TIMEOUT");
    assert_eq!(provider.script().cancels, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_used_is_told_so() {
    for video in [Vec::new(), vec![0; (8 << 20) + 1]] {
        let provider = Scripted::new([DONE]);
        provider.script().video = video;
        let request = failed(&provider).await;
        assert_eq!(
            (request.failure_class(), request.reason.as_str()),
            (FailureClass::BadOutput, "PROVIDER_BAD_OUTPUT")
        );
    }
    let provider = Scripted::new([DONE]);
    let stage = Stage::with(provider.registry(), |_| {}).await;
    stage.peer.answer("register_output", Status::invalid_argument("is neither MP4 nor WebM"));
    let job = stage.peer.give(|_| {});
    let request = stage.peer.failed(&job).await;
    assert_eq!(request.failure_class(), FailureClass::BadOutput);
    assert!(request.message.contains("neither MP4 nor WebM"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poster_is_waited_for_while_its_maker_is_away() {
    let provider = Scripted::new([DONE]);
    let stage = Stage::with(provider.registry(), |_| {}).await;
    stage.peer.answer("register_output", Status::unavailable("restarting"));
    stage.peer.answer("register_output", Status::resource_exhausted("busy"));
    let mut account = String::new();
    let job = stage.peer.give(|work| account.clone_from(&work.account));
    stage.peer.completed(&job).await;
    let registered = stage.peer.state().registered.clone();
    assert_eq!(registered.len(), 1);
    assert_eq!(format!("accounts/{}", registered[0].0), account);
    assert_eq!(registered[0].1.extension, "mp4");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_cannot_be_read_is_told_so() {
    let provider = Scripted::new([DONE]);
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let unknown = stage.peer.give(|work| work.model = "models/none".into());
    let nobody = stage.peer.give(|work| work.account = "nobody".into());
    for job in [unknown, nobody] {
        assert_eq!(stage.peer.failed(&job).await.failure_class(), FailureClass::Internal);
    }
    assert!(provider.script().ordered.is_empty());
}
