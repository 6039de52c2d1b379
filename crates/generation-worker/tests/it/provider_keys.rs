//! Several keys of one provider: an order is sent, polled and fetched with its own; another is asked only where that one is refused or
//! gone, and never orders it again.

use std::path::PathBuf;

use domain::provider::Provider;
use generation_worker::config::ProviderKey;
use generation_worker::model::{CallOutcome, Trouble};
use generation_worker::providers::Registry;
use proto::work::v1::model_check::Finding;
use proto::work::v1::{
    CheckModelsRequest, FailureClass, OrderTrouble, ProviderCondition, RemoteModel, Trouble as Clock, Work,
};
use provider_double::{Double, Event, Line, MoreToken, Outage, OutageKind, Settings, read_bill};
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::fake_provider::FakeProvider;
use crate::telemetry::{at_provider, registry};

/// The double's tokens, in its order.
const TOKENS: [&str; 2] = ["double-token", "second-token"];
/// The name of a key that no setting has.
const GONE: &str = "fal/00000000";

/// A worker with both keys of the double.
struct Setup {
    double: Double,
    bill: PathBuf,
    cluster: Cluster,
}

impl Setup {
    /// The second key is of this account; the first one's is empty.
    async fn new(account: &str) -> Self {
        let bill = std::env::temp_dir().join(format!("rushes-bill-{}", Uuid::now_v7().simple()));
        let more = MoreToken { token: TOKENS[1].to_owned(), account: account.to_owned() };
        let double = Double::start(Settings { more_tokens: vec![more], ..Settings::new(&bill) }).await.unwrap();
        let cluster = Cluster::start(registry(&double, &TOKENS.join(",")), |_| {}).await;
        Self { double, bill, cluster }
    }

    fn queue(&self, model: &str, key: &str, change: impl FnOnce(&mut Work)) -> String {
        self.cluster.node.queue(|work| {
            let order = work.order.as_mut().unwrap();
            let (provider, name) = at_provider(model);
            (order.provider, order.model) = (provider.to_owned(), name.to_owned());
            order.input = r#"{"prompt": "a harbour"}"#.into();
            key.clone_into(&mut work.provider_key);
            change(work);
        })
    }

    /// Places an order with a key, and returns its reference.
    async fn place(&self, model: &str, key: &str) -> String {
        let job = self.queue(model, key, |_| {});
        let reference = self.cluster.node.submitted(&job).await;
        assert_eq!(self.cluster.node.suspended(&job).await.provider_key, key);
        reference
    }

    /// Queues a poll of an order that was sent with this key.
    fn poll(&self, model: &str, key: &str, reference: &str) -> String {
        self.queue(model, key, |work| (work.poll, work.provider_reference) = (true, reference.to_owned()))
    }

    /// Polls until the order is fetched.
    async fn comes_home(&self, model: &str, key: &str, reference: &str) {
        let is_of = |line: &Line| line.event == Event::Charged && line.order == reference;
        let made = async || read_bill(&self.bill).unwrap().into_iter().find(is_of);
        testkit::eventually("it is made", std::time::Duration::from_secs(20), made).await.unwrap();
        self.cluster.node.completed(&self.poll(model, key, reference)).await;
    }

    fn refuse(&self, token: usize) {
        let kind = OutageKind::Revoked;
        self.double.begin_outage(Outage { kind, after_ms: 0, for_ms: 600_000, protocol: None, token: Some(token) });
    }

    fn ordered(&self) -> Vec<Line> {
        read_bill(&self.bill).unwrap().into_iter().filter(|line| line.event == Event::Ordered).collect()
    }
}

/// The public names of both keys.
fn names(provider: Provider, scheme: &str) -> [String; 2] {
    TOKENS.map(|token| ProviderKey::new(provider, scheme, token).unwrap().name)
}

fn fal() -> [String; 2] {
    names(Provider::Fal, "Key")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_sent_polled_and_fetched_with_the_key_that_it_was_given() {
    // Of two accounts, so that the other key would not find it.
    let setup = Setup::new("another").await;
    for (model, keys) in [
        ("by-fal", fal()),
        ("by-replicate", names(Provider::Replicate, "Bearer")),
        ("by-openrouter", names(Provider::OpenRouter, "Bearer")),
    ] {
        for (token, key) in keys.iter().enumerate() {
            let reference = setup.place(model, key).await;
            assert_eq!(setup.ordered().last().unwrap().token, token, "{model}");
            setup.comes_home(model, key, &reference).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_key_is_revoked_comes_home_by_another_of_its_account() {
    let setup = Setup::new("").await;
    let openrouter = names(Provider::OpenRouter, "Bearer");
    let fals = fal();
    let placed = [("by-fal", &fals[0]), ("by-openrouter", &openrouter[0])];
    let references = [setup.place(placed[0].0, placed[0].1).await, setup.place(placed[1].0, placed[1].1).await];
    setup.refuse(0);
    for ((model, key), reference) in placed.iter().zip(&references) {
        setup.comes_home(model, key, reference).await;
    }
    assert_eq!(setup.ordered().len(), 2);
    // A key of another account does not know it: that says nothing, and it is asked about until somebody can.
    let setup = Setup::new("another").await;
    let reference = setup.place("by-fal", &fal()[0]).await;
    setup.refuse(0);
    let waits = setup.cluster.node.suspended(&setup.poll("by-fal", &fal()[0], &reference)).await;
    assert_eq!((waits.unconfirmed, waits.trouble()), (false, Clock::Poll));
    assert!(waits.message.contains("account_refused"), "{}", waits.message);
    assert_eq!(setup.ordered().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_key_is_gone_is_asked_about_with_what_there_is_and_never_made_again() {
    // The key was exchanged for another of the same account, or is one of several accounts.
    let setup = Setup::new("another").await;
    let reference = setup.place("by-fal", &fal()[1]).await;
    setup.comes_home("by-fal", GONE, &reference).await;

    // No key that is here knows it: the table of outcomes decides.
    let lost = setup.poll("by-fal", GONE, "00000000-0000-0000-0000-000000000000");
    assert_eq!(setup.cluster.node.suspended(&lost).await.trouble(), Clock::Order);
    let elapsed = std::time::Duration::from_secs(600).try_into().ok();
    let late = setup.queue("by-fal", GONE, |work| {
        (work.poll, work.provider_reference) = (true, "00000000-0000-0000-0000-000000000000".to_owned());
        work.troubles = vec![OrderTrouble { trouble: Clock::Order.into(), elapsed }];
    });
    let ended = setup.cluster.node.failed(&late).await;
    assert_eq!((ended.failure_class(), ended.reason.as_str()), (FailureClass::Final, "OUTPUT_UNAVAILABLE"));

    // While one of them cannot be asked, nobody knows that.
    setup.refuse(1);
    let unknown = setup.poll("by-fal", GONE, "00000000-0000-0000-0000-000000000000");
    assert_eq!(setup.cluster.node.suspended(&unknown).await.trouble(), Clock::Poll);
    assert_eq!(setup.ordered().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_key_is_revoked_is_stopped_by_another_of_its_account() {
    let setup = Setup::new("").await;
    let key = &fal()[0];
    let job = setup.queue("by-fal", key, |work| {
        work.order.as_mut().unwrap().input = r#"{"prompt": "[endless]"}"#.into();
    });
    let reference = setup.cluster.node.submitted(&job).await;
    setup.refuse(0);
    let cancel = setup.queue("by-fal", key, |work| {
        (work.poll, work.cancel_requested, work.provider_reference) = (true, true, reference.clone());
    });
    assert_eq!(setup.cluster.node.failed(&cancel).await.failure_class(), FailureClass::Cancelled);
    let stopped = |line: &Line| line.event == Event::Stopped && line.order == reference;
    assert_eq!(read_bill(&setup.bill).unwrap().into_iter().filter(stopped).count(), 1);
}

/// Of an order from before its key was recorded nobody knows which of several it was sent with.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_which_no_key_is_known_is_asked_about_with_each() {
    let setup = Setup::new("another").await;
    for key in &fal() {
        let reference = setup.place("by-fal", key).await;
        setup.comes_home("by-fal", "", &reference).await;
    }
    assert_eq!(setup.ordered().len(), 2);
}

/// A key that costs once costs once in its own account.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_in_doubt_whose_key_is_gone_is_not_sent_again() {
    let provider = FakeProvider::saying([Err(Trouble::new(CallOutcome::NotFound, "404"))]).remote().without_search();
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let doubted = |key: &str| {
        cluster.node.queue(|work| {
            (work.poll, work.in_doubt, work.provider_key) = (true, true, key.to_owned());
        })
    };
    assert!(cluster.node.suspended(&doubted("fake/00000000")).await.unconfirmed);
    let job = cluster.node.queue(|work| {
        (work.poll, work.provider_key) = (true, "fake/00000000".to_owned());
        work.provider_reference = format!("fake-{}", work.lease.as_ref().unwrap().job);
    });
    assert_eq!(cluster.node.suspended(&job).await.trouble(), Clock::Order);
    assert!(provider.script().ordered.is_empty());
    cluster.node.submitted(&doubted("")).await;
    assert!(!provider.script().ordered.is_empty(), "with its key it would have been");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_its_key_and_a_check_tries_each() {
    let setup = Setup::new("").await;
    setup.refuse(1);
    let job = setup.queue("by-fal", &fal()[1], |_| {});
    let refused = setup.cluster.node.failed(&job).await;
    assert_eq!(
        (refused.failure_class(), refused.provider_condition(), refused.provider_key.as_str()),
        (FailureClass::Unavailable, ProviderCondition::AccountRefused, fal()[1].as_str())
    );
    assert!(setup.ordered().is_empty());

    let model = |name: &str, provider: &str| RemoteModel {
        model: name.to_owned(),
        provider: provider.to_owned(),
        remote_name: "acme/video".to_owned(),
        cost: None,
    };
    setup.cluster.node.state().models = vec![model("models/one", "fal"), model("models/two", "nobody")];
    let checks = setup.cluster.providers.clone().check_models(CheckModelsRequest {}).await.unwrap().into_inner().checks;
    let mut found: Vec<_> = checks.iter().map(|check| (check.provider_key.as_str(), check.finding())).collect();
    let mut expected = [
        (fal()[0].clone(), Finding::Served),
        (fal()[1].clone(), Finding::KeyRefused),
        (String::new(), Finding::KeyMissing),
    ];
    expected.sort();
    found.sort();
    assert_eq!(found, expected.iter().map(|(key, finding)| (key.as_str(), *finding)).collect::<Vec<_>>());
    assert!(checks.iter().all(|check| !check.detail.contains(TOKENS[1])), "{checks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_says_which_keys_it_has() {
    let setup = Setup::new("").await;
    let said = async || Some(setup.cluster.node.state().keys.clone()).filter(|keys| !keys.is_empty());
    let mut said = testkit::eventually("it claims", std::time::Duration::from_secs(20), said).await.unwrap();
    let mut expected = [fal(), names(Provider::Replicate, "Bearer"), names(Provider::OpenRouter, "Bearer")].concat();
    said.sort();
    expected.sort();
    assert_eq!(said, expected);
    assert!(Registry::default().keys().is_empty());
}
