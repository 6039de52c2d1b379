//! One's own writes at another replica: one that hears of nothing shows them to a caller who brings the token of the write.

use std::time::Duration;

use chassis::request::token;
use proto::generations::v1::{CancelGenerationRequest, Generation, GetGenerationRequest, State};
use testkit::{Direction, Nats, Proxy, eventually};
use tonic::Response;
use tonic::metadata::BinaryMetadataValue;

use crate::cluster::{Cluster, Node, User};

/// Longer than anything here takes on a crowded machine.
const LONG: Duration = Duration::from_secs(30);

/// What a replica shows, with a token or without.
async fn shown(replica: &Node, user: &User, name: &str, token: Option<&[u8]>) -> Option<Response<Generation>> {
    let mut request = user.asks(GetGenerationRequest { name: name.to_owned(), min_version: 0 });
    if let Some(token) = token {
        request.metadata_mut().insert_bin(token::HEADER, BinaryMetadataValue::from_bytes(token));
    }
    replica.generations.clone().get_generation(request).await.ok()
}

/// Whether an answer cost nothing: it came from the replica's memory.
fn is_warm(response: &Response<Generation>) -> bool {
    response.metadata().get("x-rushes-queries").is_some_and(|queries| queries == "0")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_messages_shows_a_cancel_to_a_caller_with_its_token() {
    let nats = Nats::launch().await.unwrap();
    let proxy = Proxy::before(nats.address().to_string()).await.unwrap();
    let cluster = Cluster::with(|config| config.nats_url = Some(nats.url())).await;
    let mut config = cluster.config.clone();
    config.nats_url = Some(proxy.url(&nats.url()).unwrap());
    // It must not hear of changes by leading the relay either.
    config.cache.relay = false;
    let replica = Node::start(&config).await;
    let user = cluster.user(200).await;
    // A round on a machine so busy that the proof ran out before the read shows nothing: then there is another.
    let rounds = eventually("the replica shows what is old to who brings no token", LONG, async || {
        proxy.heal();
        proxy.reset();
        let name = cluster.started(&user).await.name;
        let warm = async || shown(&replica, &user, &name, None).await.filter(is_warm);
        eventually("the replica answers from memory", LONG, warm).await.ok()?;
        proxy.black_hole(Direction::ToClient);
        let request = user.asks(CancelGenerationRequest { name: name.clone() });
        let cancelled = cluster.node.generations.clone().cancel_generation(request).await.ok()?;
        let token = cancelled.metadata().get_bin(token::HEADER).expect("a token").to_bytes().unwrap();
        let without = shown(&replica, &user, &name, None).await?;
        let with = shown(&replica, &user, &name, Some(&token)).await?;
        assert_eq!(with.get_ref().state(), State::Cancelled, "with the token the write is seen");
        (is_warm(&without) && without.get_ref().state() == State::Queued).then_some(())
    });
    rounds.await.unwrap();
}
