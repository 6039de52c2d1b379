//! Trying a generation again, and what its history shows.

use proto::generations::v1::{
    Generation, ListGenerationEventsRequest, ListGenerationEventsResponse, RetryGenerationRequest, State,
};
use proto::work::v1::FailureClass;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::cluster::{Cluster, PRICE, User, refusal};
use crate::worker::Worker;

async fn retry(cluster: &Cluster, user: &User, name: &str, request_id: &str) -> Result<Generation, Status> {
    let request = RetryGenerationRequest { name: name.to_owned(), request_id: request_id.to_owned() };
    Ok(cluster.node.generations.clone().retry_generation(user.asks(request)).await?.into_inner())
}

async fn events(
    cluster: &Cluster,
    user: &User,
    name: &str,
    token: &str,
) -> Result<ListGenerationEventsResponse, Status> {
    let request = ListGenerationEventsRequest { name: name.to_owned(), page_size: 2, page_token: token.to_owned() };
    Ok(cluster.node.generations.clone().list_generation_events(user.asks(request)).await?.into_inner())
}

#[tokio::test]
async fn a_retry_is_a_new_generation_that_names_its_origin() {
    let cluster = Cluster::new().await;
    let user = cluster.user(2).await;
    let origin = cluster.started(&user).await;
    let request_id = Uuid::now_v7().to_string();
    let open = refusal(retry(&cluster, &user, &origin.name, &request_id).await);
    assert_eq!(open, (Code::FailedPrecondition, "NOT_TERMINAL".to_owned()));
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    worker.fail(&work, FailureClass::Safety).await.unwrap();

    let again = retry(&cluster, &user, &origin.name, &request_id).await.unwrap();
    assert_eq!((again.state(), again.retried_from.as_str()), (State::Queued, origin.name.as_str()));
    assert_ne!(again.name, origin.name);
    assert_eq!((&again.input, &again.scene, &again.model), (&origin.input, &origin.scene, &origin.model));
    assert!(again.start_deadline.unwrap().seconds < again.total_deadline.unwrap().seconds);
    let repeated = retry(&cluster, &user, &origin.name, &request_id).await.unwrap();
    assert_eq!(repeated.name, again.name, "the same request is the same retry");
    // A request id is of one request, whatever kind that was.
    let mut start = user.start_request();
    start.request_id = request_id;
    assert_eq!(refusal(cluster.start(&user, start).await), (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned()));
    assert_eq!(refusal(retry(&cluster, &user, &origin.name, "x").await).0, Code::InvalidArgument);
    worker.free(1).await;
    let work = worker.next().await;
    worker.carry_out(&work).await;
    assert_eq!(cluster.credit(&user).await.spent_micros, PRICE);
    let stranger = cluster.user(1).await;
    let missing = (Code::NotFound, "GENERATION_NOT_FOUND".to_owned());
    assert_eq!(refusal(retry(&cluster, &stranger, &origin.name, &Uuid::now_v7().to_string()).await), missing);
    assert_eq!(refusal(events(&cluster, &stranger, &origin.name, "").await), missing);
}

#[tokio::test]
async fn the_history_comes_in_pages_and_in_order() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    worker.submitted(&work).await.unwrap();
    // Looks that find nothing new are no events.
    let mut seen = work;
    for _ in 0..4 {
        worker.suspend(&seen, |_| {}).await.unwrap();
        worker.free(1).await;
        seen = worker.next().await;
    }
    worker.finalizing(&seen).await.unwrap();
    worker.complete(&seen).await.unwrap();
    let (mut token, mut steps) = (String::new(), Vec::new());
    loop {
        let page = events(&cluster, &user, &name, &token).await.unwrap();
        assert!(page.events.len() <= 2);
        steps.extend(page.events.into_iter().map(|event| (event.from_state, event.to_state, event.attempt)));
        if page.next_page_token.is_empty() {
            break;
        }
        token = page.next_page_token;
    }
    let steps: Vec<_> = steps.iter().map(|(from, to, attempt)| (from.as_str(), to.as_str(), *attempt)).collect();
    assert_eq!(steps, [("", "queued", 0), ("queued", "leased", 1), ("leased", "waiting", 1), ("leased", "done", 1)]);
}
