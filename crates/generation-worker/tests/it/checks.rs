//! What an operator is told of keys and models before users order.

use generation_worker::config::{Config, Fal};
use generation_worker::model::{RemoteModel, RemoteProvider};
use generation_worker::providers::Registry;
use proto::work::v1::CheckModelsRequest;
use proto::work::v1::model_check::Finding;
use provider_double::{Double, Settings};
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::telemetry::registry;

async fn double() -> Double {
    let bill = std::env::temp_dir().join(format!("rushes-bill-{}", Uuid::now_v7().simple()));
    Double::start(Settings::new(&bill)).await.unwrap()
}

async fn findings(providers: Registry) -> Vec<(String, Finding, String)> {
    let cluster = Cluster::start(providers, |_| {}).await;
    let checks = cluster.providers.clone().check_models(CheckModelsRequest {}).await.unwrap().into_inner().checks;
    checks.into_iter().map(|check| (check.model.clone(), check.finding(), check.detail)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_with_keys_and_models_is_found_before_an_order() {
    let double = double().await;
    let served: Vec<_> = findings(registry(&double, "double-token")).await.into_iter().map(|found| found.1).collect();
    assert_eq!(served, [Finding::Served; 3]);
    let refused = findings(registry(&double, "another")).await;
    assert_eq!(refused[0].1, Finding::KeyRefused);
    assert_eq!(refused[1].1, Finding::KeyRefused);
    assert_eq!(refused[2].1, Finding::Served, "the built-in one needs no key");
    assert!(refused.iter().all(|(_, _, detail)| !detail.contains("another")), "no key in {refused:?}");
    assert!(refused[1].2.contains("401"), "{refused:?}");
    drop(double);
    let nobody = Fal {
        url: "http://127.0.0.1:1/".parse().unwrap(),
        authorization: "Key k".parse().unwrap(),
        hooks: None,
        keys: "http://127.0.0.1:1/".parse().unwrap(),
    };
    let model = |name: &str, provider| RemoteModel {
        name: name.into(),
        provider,
        model: "acme/video".into(),
        refusals: Vec::new(),
        output: None,
    };
    let uri = "http://127.0.0.1:1".parse().unwrap();
    let config = Config {
        fal: Some(nobody),
        models: vec![model("models/a", RemoteProvider::Fal), model("models/b", RemoteProvider::Replicate)],
        ..crate::cluster::config(&uri, &std::env::temp_dir())
    };
    let found = findings(Registry::open(&config).unwrap()).await;
    let found: Vec<_> = found.iter().map(|(model, finding, _)| (model.as_str(), *finding)).collect();
    let expected = [
        ("models/a", Finding::Unreachable),
        ("models/b", Finding::KeyMissing),
        ("models/local-sketch", Finding::Served),
    ];
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_its_provider_does_not_know_is_found() {
    let bill = std::env::temp_dir().join(format!("rushes-bill-{}", Uuid::now_v7().simple()));
    let settings = Settings { models: vec!["acme/other".to_owned()], ..Settings::new(&bill) };
    let double = Double::start(settings).await.unwrap();
    let found = findings(registry(&double, "double-token")).await;
    assert_eq!((found[1].0.as_str(), found[1].1), ("models/by-replicate", Finding::ModelUnknown));
}
