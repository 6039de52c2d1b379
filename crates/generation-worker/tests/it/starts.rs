//! Starts of the worker: each claims work under a name of its own.

use std::time::Duration;

use chassis::drain::Drain;
use generation_worker::Service;

use crate::cluster::config;
use crate::fake_provider::{FakeProvider, done};
use crate::node::Node;

/// A claim keeps an expired job from the worker that let it expire, by name: a pod that is killed and starts again must be another.
#[tokio::test(flavor = "multi_thread")]
async fn two_starts_on_one_host_and_address_have_two_names() {
    let (node, nodes_drain) = (Node::default(), Drain::default().with_grace(Duration::ZERO));
    let uri = node.serve(nodes_drain.clone()).await;
    let folder = std::env::temp_dir().join(format!("rushes-worker-{}", uuid::Uuid::now_v7().simple()));
    let mut config = config(&uri, &folder);
    for start in 1..=2 {
        let providers = FakeProvider::new([done()]).registry();
        let bound = Service::with_providers(&config, providers).unwrap().bind().await.unwrap();
        (config.server.listen, config.server.admin) = (bound.addr(), bound.admin_addr());
        let drain = Drain::default().with_grace(Duration::ZERO);
        let serving = tokio::spawn(bound.serve(drain.clone()));
        let question = async || (node.state().workers.len() == start).then_some(());
        testkit::eventually("the start claims under a new name", Duration::from_secs(10), question).await.unwrap();
        drain.begin();
        serving.await.unwrap().unwrap();
    }
    let names = node.state().workers.clone();
    assert!(names.iter().all(|name| name.starts_with("generation-worker/")), "{names:?}");
    nodes_drain.begin();
    let _ = std::fs::remove_dir_all(folder);
}
