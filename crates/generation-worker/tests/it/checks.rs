//! What an operator is told of keys and models before users order.

use generation_worker::config::{Config, Fal, ProviderKey};
use generation_worker::providers::Registry;
use proto::generations::v1::charge::ProviderCharge;
use proto::work::v1::model_check::Finding;
use proto::work::v1::{CheckModelsRequest, FailureClass, ModelCost, ProviderCondition, RemoteModel};
use provider_double::{Double, Outage, OutageKind, Settings};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::node::Report;
use crate::telemetry::{at_provider, registry};

async fn double() -> Double {
    let bill = std::env::temp_dir().join(format!("rushes-bill-{}", Uuid::now_v7().simple()));
    Double::start(Settings::new(&bill)).await.unwrap()
}

/// What is found of these models, each with its provider.
async fn findings(providers: Registry, models: &[(&str, &str)]) -> Vec<(String, Finding, String)> {
    let cluster = Cluster::start(providers, |_| {}).await;
    let model = |(model, provider): &(&str, &str)| RemoteModel {
        model: (*model).to_owned(),
        provider: (*provider).to_owned(),
        remote_name: "acme/video".to_owned(),
        cost: None,
    };
    cluster.node.state().models = models.iter().map(model).collect();
    let checks = cluster.providers.clone().check_models(CheckModelsRequest {}).await.unwrap().into_inner().checks;
    checks.into_iter().map(|check| (check.model.clone(), check.finding(), check.detail)).collect()
}

const MODELS: [(&str, &str); 2] = [("models/by-replicate", "replicate"), ("models/by-fal", "fal")];

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_with_keys_and_models_is_found_before_an_order() {
    let double = double().await;
    let found = findings(registry(&double, "double-token"), &MODELS).await;
    let served: Vec<_> = found.iter().map(|(model, finding, _)| (model.as_str(), *finding)).collect();
    assert_eq!(served, [("models/by-fal", Finding::Served), ("models/by-replicate", Finding::Served)]);
    let refused = findings(registry(&double, "another"), &MODELS).await;
    assert!(refused.iter().all(|(_, finding, _)| *finding == Finding::KeyRefused), "{refused:?}");
    assert!(refused.iter().all(|(_, _, detail)| !detail.contains("another")), "no key in {refused:?}");
    assert!(refused[1].2.contains("401"), "{refused:?}");
    drop(double);
    let nobody = Fal {
        url: "http://127.0.0.1:1/".parse().unwrap(),
        keys: vec![ProviderKey::new(domain::provider::Provider::Fal, "Key", "k").unwrap()],
        hooks: None,
        users: Vec::new(),
        key_set: "http://127.0.0.1:1/".parse().unwrap(),
        rest_url: "http://127.0.0.1:1/".parse().unwrap(),
        api_url: "http://127.0.0.1:1/".parse().unwrap(),
    };
    let uri = "http://127.0.0.1:1".parse().unwrap();
    let config = Config { fal: Some(nobody), ..crate::cluster::config(&uri, &std::env::temp_dir()) };
    let found = findings(Registry::open(&config).unwrap(), &MODELS).await;
    let found: Vec<_> = found.iter().map(|(model, finding, _)| (model.as_str(), *finding)).collect();
    assert_eq!(found, [("models/by-fal", Finding::Unreachable), ("models/by-replicate", Finding::KeyMissing)]);
}

/// What orders cost is generation-status's to say, and passed on.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_costs_is_passed_on_with_what_was_found() {
    let double = double().await;
    let cluster = Cluster::start(registry(&double, "double-token"), |_| {}).await;
    let cost = Some(ModelCost { expected_micros: 5, cost_micros: 7, outputs: 9, drifted: true });
    let model = |model: &str, cost| RemoteModel {
        model: model.to_owned(),
        provider: "fal".to_owned(),
        remote_name: "acme/video".to_owned(),
        cost,
    };
    cluster.node.state().models = vec![model("models/one", cost), model("models/two", None)];
    let checks = cluster.providers.clone().check_models(CheckModelsRequest {}).await.unwrap().into_inner().checks;
    assert_eq!(checks.iter().map(|check| check.cost).collect::<Vec<_>>(), [cost, None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_its_provider_does_not_know_is_found() {
    let bill = std::env::temp_dir().join(format!("rushes-bill-{}", Uuid::now_v7().simple()));
    let settings = Settings { models: vec!["acme/other".to_owned()], ..Settings::new(&bill) };
    let double = Double::start(settings).await.unwrap();
    let found = findings(registry(&double, "double-token"), &MODELS[..1]).await;
    assert_eq!((found[0].0.as_str(), found[0].1), ("models/by-replicate", Finding::ModelUnknown));
}

/// generation-status says which models there are; while it does not, nobody is told that all is well.
#[tokio::test(flavor = "multi_thread")]
async fn models_that_nobody_lists_are_not_checked() {
    let cluster = Cluster::start(Registry::default(), |_| {}).await;
    for _ in 0..3 {
        cluster.node.refuse_next("list_remote_models", Status::unavailable("away"));
    }
    let refused = cluster.providers.clone().check_models(CheckModelsRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}

/// Queues an order of a model, as the probe of an outage or not.
fn order(cluster: &Cluster, model: &str, ask_first: bool) -> String {
    cluster.node.queue(|work| {
        let order = work.order.as_mut().unwrap();
        let (provider, name) = at_provider(model);
        (order.provider, order.model) = (provider.to_owned(), name.to_owned());
        order.input = r#"{"prompt": "a harbour"}"#.into();
        work.ask_first = ask_first;
    })
}

/// The probe of an outage used to be an order of which nobody knew afterwards whether it had been taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_out_of_order_is_asked_before_it_gets_an_order() {
    let models = ["by-fal", "by-replicate", "by-openrouter"];
    for (kind, condition, sent) in [
        (OutageKind::Errors, ProviderCondition::Outage, false),
        // An answer, and not the order's: the order finds out.
        (OutageKind::Revoked, ProviderCondition::AccountRefused, true),
    ] {
        let double = double().await;
        let cluster = Cluster::start(registry(&double, "double-token"), |_| {}).await;
        double.begin_outage(Outage { kind, after_ms: 0, for_ms: 600_000, protocol: None, token: None });
        for model in models {
            let probe = order(&cluster, model, true);
            let failed = cluster.node.failed(&probe).await;
            let found = (failed.failure_class(), failed.provider_condition(), failed.provider_charge());
            let expected = (FailureClass::Unavailable, condition, ProviderCharge::NotCharged);
            assert_eq!(found, expected, "{kind:?} {model}: {failed:?}");
            let intended = |report: &Report| matches!(report, Report::Intended(_));
            assert_eq!(cluster.node.reports(&probe).iter().any(intended), sent, "{kind:?} {model}");
            if kind == OutageKind::Errors {
                let another = cluster.node.suspended(&order(&cluster, model, false)).await;
                assert!(another.unconfirmed, "{model}: what is sent and answered so may have been taken");
            }
        }
    }
    let double = double().await;
    let cluster = Cluster::start(registry(&double, "double-token"), |_| {}).await;
    for model in models {
        cluster.node.submitted(&order(&cluster, model, true)).await;
    }
}
