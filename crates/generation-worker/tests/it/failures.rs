//! What may go wrong with a provider, and what is reported of it: refusals, lost answers, results that cannot be used.

use std::collections::VecDeque;
use std::time::Duration;

use generation_worker::model::{CallOutcome, Charge, Evidence, Trouble};
use proto::generations::v1::charge::ProviderCharge;
use proto::work::v1::{FailWorkRequest, FailureClass, Order, ProviderCondition, Work};
use tonic::Status;
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::fake_provider::{FakeProvider, WORKING, done, film};
use crate::node::Report;

async fn failed(provider: &FakeProvider) -> FailWorkRequest {
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|_| {});
    cluster.node.failed(&job).await
}

fn trouble(outcome: CallOutcome) -> Trouble {
    let evidence = Evidence { status: Some(418), excerpt: "as it said".to_owned() };
    let trouble = Trouble::new(outcome, "the provider answered 418").with_evidence(evidence);
    Trouble { retry_after: Some(Duration::from_secs(7)), ..trouble }
}

fn lost() -> Trouble {
    Trouble::new(CallOutcome::Lost, "the connection broke")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_of_a_submission_is_reported_as_it_is() {
    use ProviderCondition::{AccountRefused, Misconfigured, Outage, Unspecified};
    for (outcome, class, reason, condition) in [
        (CallOutcome::NotSent, FailureClass::Unavailable, "PROVIDER_QUOTA", Outage),
        (CallOutcome::AccountRefused, FailureClass::Unavailable, "PROVIDER_QUOTA", AccountRefused),
        (CallOutcome::ModelRefused, FailureClass::Unavailable, "MODEL_MISCONFIGURED", Misconfigured),
        (CallOutcome::Throttled, FailureClass::Throttled, "PROVIDER_QUOTA", Unspecified),
        (CallOutcome::InputRefused, FailureClass::InvalidInput, "INPUT_SCHEMA_VIOLATION", Unspecified),
        (CallOutcome::SafetyRefused, FailureClass::Safety, "SAFETY_INPUT", Unspecified),
    ] {
        let provider = FakeProvider::new([done()]);
        provider.script().submits.push_back(trouble(outcome));
        let request = failed(&provider).await;
        assert_eq!((request.failure_class(), request.reason.as_str()), (class, reason), "{outcome:?}");
        assert_eq!((request.provider_charge(), request.provider_condition()), (ProviderCharge::NotCharged, condition));
        assert_eq!(request.retry_after.unwrap().seconds, 7);
        // Users read the reason's sentence, operators what the provider said.
        assert!(!request.message.contains("as it said"), "{}", request.message);
        assert_eq!(request.detail, "the provider answered 418; 418: as it said");
        assert_eq!(provider.script().ordered.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_end_of_an_order_is_reported_with_what_is_known_of_its_charge() {
    let (uncharged, unknown) = (ProviderCharge::NotCharged, ProviderCharge::Unspecified);
    for (outcome, class, reason, charge) in [
        (CallOutcome::Failed(Charge::NotCharged), FailureClass::Internal, "PROVIDER_INTERNAL", uncharged),
        (CallOutcome::Failed(Charge::Unknown), FailureClass::Final, "PROVIDER_INTERNAL", unknown),
        (CallOutcome::Failed(Charge::Charged), FailureClass::Final, "PROVIDER_INTERNAL", ProviderCharge::Charged),
        (CallOutcome::TimedOut(Charge::NotCharged), FailureClass::Internal, "PROVIDER_TIMEOUT", uncharged),
        (CallOutcome::TimedOut(Charge::Unknown), FailureClass::Final, "PROVIDER_TIMEOUT", unknown),
        (CallOutcome::Stopped(Charge::Unknown), FailureClass::Final, "PROVIDER_INTERNAL", unknown),
        (CallOutcome::SafetyRefused, FailureClass::Safety, "SAFETY_INPUT", unknown),
        (CallOutcome::InputRefused, FailureClass::InvalidInput, "INPUT_SCHEMA_VIOLATION", unknown),
        (CallOutcome::ModelRefused, FailureClass::Final, "MODEL_MISCONFIGURED", unknown),
    ] {
        let request = failed(&FakeProvider::saying([Ok(WORKING), Err(trouble(outcome))])).await;
        assert_eq!((request.failure_class(), request.reason.as_str()), (class, reason), "{outcome:?}");
        assert_eq!(request.provider_charge(), charge, "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again_under_the_same_key() {
    let provider = FakeProvider::new([done()]);
    provider.script().submits = VecDeque::from([lost(), lost()]);
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|_| {});
    cluster.node.completed(&job).await;
    let key = Uuid::try_parse(&job).unwrap();
    assert_eq!(provider.script().ordered, [key; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_that_promise_nothing_is_ordered_twice() {
    // What can be searched is searched for again later, what cannot be waits for a webhook or an operator.
    for (provider, searched) in [
        (FakeProvider::new([done()]).not_idempotent(), true),
        (FakeProvider::new([done()]).not_idempotent().without_search(), false),
    ] {
        provider.script().submits.push_back(lost());
        let cluster = Cluster::start(provider.registry(), |_| {}).await;
        let job = cluster.node.queue(|_| {});
        let unconfirmed = cluster.node.suspended(&job).await;
        assert!(unconfirmed.unconfirmed && unconfirmed.poll_after.is_some() == searched, "{unconfirmed:?}");
        assert_eq!(unconfirmed.message, "lost: the connection broke");
        assert_eq!(unconfirmed.provider_condition(), ProviderCondition::Outage);
        assert_eq!(provider.script().ordered.len(), 1);

        // Nor by whoever takes it over, not even when nothing is found under the key.
        let job = cluster.node.queue(|work| work.in_doubt = true);
        let taken_over = cluster.node.suspended(&job).await;
        assert!(taken_over.unconfirmed);
        // It sent nothing, and heard nothing of the provider's health.
        assert_eq!(taken_over.provider_condition(), ProviderCondition::Unspecified);
        assert_eq!(provider.script().ordered.len(), 1);
        let reports = cluster.node.reports(&job);
        assert!(matches!(reports[..], [Report::Suspended(_)]), "{reports:?}");
    }
    let found = FakeProvider::new([done()]).not_idempotent();
    found.script().finds = true;
    let cluster = Cluster::start(found.registry(), |_| {}).await;
    let job = cluster.node.queue(|work| work.in_doubt = true);
    cluster.node.completed(&job).await;
    assert!(found.script().ordered.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unconfirmed_order_is_confirmed_under_the_same_key_where_that_costs_nothing() {
    let provider = FakeProvider::new([done()]).without_search();
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|work| work.in_doubt = true);
    cluster.node.completed(&job).await;
    assert_eq!(provider.script().ordered, [Uuid::try_parse(&job).unwrap()]);
    assert!(
        !cluster.node.reports(&job).iter().any(|report| matches!(report, Report::Intended(_))),
        "it stands already"
    );
}

/// That the second submission is refused says nothing about the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_after_a_lost_answer_settles_nothing() {
    for outcome in [CallOutcome::Throttled, CallOutcome::AccountRefused, CallOutcome::NotSent] {
        let provider = FakeProvider::new([done()]).without_search();
        provider.script().submits.push_back(lost());
        provider.script().submits.extend(std::iter::repeat_n(trouble(outcome), 10));
        let cluster = Cluster::start(provider.registry(), |_| {}).await;
        let job = cluster.node.queue(|_| {});
        assert!(cluster.node.suspended(&job).await.unconfirmed, "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_leaves_before_the_intent_is_committed() {
    let provider = FakeProvider::new([done()]);
    // With one slot the second is begun once the first was let go of.
    let cluster = Cluster::start(provider.registry(), |config| config.work.slots = 1).await;
    cluster.node.refuse_next("record_intent", Status::aborted("another has it"));
    let job = cluster.node.queue(|_| {});
    let next = cluster.node.queue(|_| {});
    cluster.node.completed(&next).await;
    assert!(cluster.node.reports(&job).is_empty());
    assert_eq!(provider.script().ordered, [Uuid::try_parse(&next).unwrap()]);
}

/// A cancel between the claim and the intent used to wait for two leases to run out.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_cancelled_before_its_intent_ends_at_once() {
    let provider = FakeProvider::new([done()]);
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    cluster.node.refuse_next("record_intent", Status::failed_precondition("SUBMITTING cannot follow"));
    let job = cluster.node.queue(|_| {});
    let failed = cluster.node.failed(&job).await;
    assert_eq!(
        (failed.failure_class(), failed.provider_charge()),
        (FailureClass::Cancelled, ProviderCharge::NotCharged)
    );
    assert!(provider.script().ordered.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_searched_for_first() {
    for provider in [FakeProvider::new([done()]), FakeProvider::new([done()]).not_idempotent()] {
        provider.script().finds = true;
        provider.script().submits.push_back(lost());
        let cluster = Cluster::start(provider.registry(), |_| {}).await;
        let job = cluster.node.queue(|_| {});
        cluster.node.completed(&job).await;
        assert_eq!(provider.script().ordered.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_of_this_process_that_cannot_be_asked_for_a_while_is_waited_for() {
    let unavailable = || Err(trouble(CallOutcome::Unavailable));
    let polls = std::iter::repeat_with(unavailable).take(15).chain([Ok(WORKING), Ok(done())]);
    let provider = FakeProvider::saying(polls);
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|_| {});
    cluster.node.completed(&job).await;
    provider.script().polls = VecDeque::from([unavailable()]);
    let job = cluster.node.queue(|_| {});
    assert_eq!(cluster.node.failed(&job).await.reason, "PROVIDER_INTERNAL");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_takes_too_long_is_stopped() {
    let provider = FakeProvider::new([WORKING]);
    let cluster =
        Cluster::start(provider.registry(), |config| config.work.order_timeout = Duration::from_millis(100)).await;
    let job = cluster.node.queue(|_| {});
    assert_eq!(cluster.node.failed(&job).await.reason, "PROVIDER_TIMEOUT");
    assert_eq!(provider.script().cancels, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poster_is_waited_for_while_its_maker_is_away() {
    let provider = FakeProvider::new([done()]);
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    cluster.node.refuse_next("register_output", Status::unavailable("restarting"));
    cluster.node.refuse_next("register_output", Status::resource_exhausted("busy"));
    let mut account = String::new();
    let job = cluster.node.queue(|work| account.clone_from(&work.account));
    cluster.node.completed(&job).await;
    let registered = cluster.node.state().registered.clone();
    assert_eq!(registered.len(), 1);
    assert_eq!(format!("accounts/{}", registered[0].0), account);
    assert_eq!(registered[0].1.extension, "mp4");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_cannot_be_read_is_reported_so() {
    let provider = FakeProvider::new([done()]);
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let order = |work: &mut Work, change: fn(&mut Order)| change(work.order.as_mut().unwrap());
    let unserved = cluster.node.queue(|work| order(work, |order| order.provider = "elsewhere".into()));
    let nothing = cluster.node.queue(|work| work.order = None);
    for job in [unserved, nothing] {
        let failed = cluster.node.failed(&job).await;
        assert_eq!(
            (failed.failure_class(), failed.reason.as_str()),
            (FailureClass::Unavailable, "MODEL_MISCONFIGURED")
        );
        assert_eq!(failed.provider_condition(), ProviderCondition::Misconfigured);
        assert_eq!(failed.provider_charge(), ProviderCharge::NotCharged);
    }
    let nobody = cluster.node.queue(|work| work.account = "nobody".into());
    let no_object = cluster.node.queue(|work| order(work, |order| order.input = "[1]".into()));
    let no_kind = cluster.node.queue(|work| order(work, |order| order.output_kinds = vec!["smell".into()]));
    for job in [nobody, no_object, no_kind] {
        assert_eq!(cluster.node.failed(&job).await.failure_class(), FailureClass::Final);
    }
    assert!(provider.script().ordered.is_empty());
}

/// What is made in this process costs nothing, so that it is made again.
#[tokio::test(flavor = "multi_thread")]
async fn an_output_of_this_process_that_cannot_be_used_is_made_again() {
    for video in [Vec::new(), film(8 << 20), b"<html>".to_vec()] {
        let provider = FakeProvider::new([done()]);
        provider.script().files = vec![video];
        let request = failed(&provider).await;
        assert_eq!(
            (request.failure_class(), request.provider_charge()),
            (FailureClass::Internal, ProviderCharge::NotCharged)
        );
    }
}
