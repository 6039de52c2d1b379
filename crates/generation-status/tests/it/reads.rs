//! Get, batch and list: what is seen, by whom, and what it costs.

use bytes::Bytes;
use catalogue::{Catalogue, Format};
use generation_status::LiveCatalogue;
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::{
    BatchGetGenerationsRequest, CancelGenerationRequest, Generation, Input, ListGenerationsRequest,
    ListGenerationsResponse, StartGenerationRequest, State, WatchGenerationsRequest,
};
use testkit::Nats;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::cluster::{Cluster, User, refusal};
use crate::worker::Worker;

async fn batch(cluster: &Cluster, user: &User, names: &[&str]) -> Result<Vec<Generation>, Status> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let request = user.asks(BatchGetGenerationsRequest { names });
    Ok(cluster.node.generations.clone().batch_get_generations(request).await?.into_inner().generations)
}

async fn list(
    cluster: &Cluster,
    user: &User,
    parent: &str,
    size: i32,
    token: &str,
) -> Result<ListGenerationsResponse, Status> {
    let request = ListGenerationsRequest {
        parent: parent.to_owned(),
        page_size: size,
        page_token: token.to_owned(),
        ..ListGenerationsRequest::default()
    };
    Ok(cluster.node.generations.clone().list_generations(user.asks(request)).await?.into_inner())
}

#[tokio::test]
async fn another_account_sees_nothing_through_any_method() {
    let cluster = Cluster::new().await;
    let (user, foreign) = (cluster.user(1).await, cluster.user(1).await);
    let name = cluster.started(&user).await.name;
    let missing = (Code::NotFound, "GENERATION_NOT_FOUND".to_owned());
    let mut client = cluster.node.generations.clone();
    for _ in 0..2 {
        assert_eq!(refusal(cluster.get(&foreign, &name).await), missing);
    }
    assert_eq!(refusal(batch(&cluster, &foreign, &[&name]).await), missing);
    let cancel = CancelGenerationRequest { name: name.clone() };
    assert_eq!(refusal(client.cancel_generation(foreign.asks(cancel)).await), missing);
    let watch = WatchGenerationsRequest { names: vec![name.clone()], ..WatchGenerationsRequest::default() };
    assert_eq!(refusal(client.watch_generations(foreign.asks(watch)).await.map(drop)), missing);
    assert!(list(&cluster, &foreign, "", 0, "").await.unwrap().generations.is_empty());
    for (parent, reason) in [(user.scene(), "SCENE_NOT_FOUND"), (user.project(), "PROJECT_NOT_FOUND")] {
        assert_eq!(refusal(list(&cluster, &foreign, &parent, 0, "").await), (Code::NotFound, reason.to_owned()));
        let watch = WatchGenerationsRequest { parent, ..WatchGenerationsRequest::default() };
        assert_eq!(refusal(client.watch_generations(foreign.asks(watch)).await.map(drop)).1, reason);
    }
    let astray = format!("{}/scenes/{}", foreign.project(), user.scene);
    assert_eq!(refusal(list(&cluster, &user, &astray, 0, "").await), (Code::NotFound, "SCENE_NOT_FOUND".to_owned()));
    assert_eq!(cluster.credit(&foreign).await.held_micros, 0);
    assert_eq!(cluster.get(&user, &name).await.unwrap().version, 1, "untouched");
}

#[tokio::test]
async fn malformed_names_are_refused() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let generation = cluster.started(&user).await;
    let invalid = (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned());
    for name in ["", "x", &generation.name.to_uppercase(), &generation.name.replace("generations", "scenes")] {
        assert_eq!(refusal(cluster.get(&user, name).await), invalid, "{name}");
        assert_eq!(refusal(batch(&cluster, &user, &[name]).await), invalid, "{name}");
    }
    assert_eq!(refusal(cluster.get_from(&user, &generation.name, -1).await), invalid);
    assert_eq!(refusal(batch(&cluster, &user, &[]).await), invalid);
    let many = vec![generation.name.as_str(); 101];
    assert_eq!(refusal(batch(&cluster, &user, &many).await), invalid);
    let ahead = cluster.get_from(&user, &generation.name, 2).await;
    assert_eq!(refusal(ahead), (Code::OutOfRange, "VERSION_AHEAD".to_owned()));
}

#[tokio::test]
async fn no_method_decompresses_more_than_its_row_allows() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let channel = cluster.node.doors();
    for (path, max) in proto::message_limits("generation-status") {
        // A field that no message has, so that only its size can be what is wrong with it.
        let mut message = vec![0x82, 0x7d, 0x80, 0x80, 0x04];
        message.resize(usize::try_from(max).unwrap() + 1, 0);
        let mut client = Grpc::new(channel.clone()).send_compressed(CompressionEncoding::Gzip);
        client.ready().await.unwrap();
        let codec = chassis::encoded::Codec::<()>::default();
        let answer = client.unary(user.asks(Bytes::from(message)), PathAndQuery::from_static(path), codec).await;
        assert_eq!(refusal(answer), (Code::InvalidArgument, "INPUT_TOO_LARGE".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_batch_keeps_the_order_and_its_repetitions() {
    let cluster = Cluster::new().await;
    let user = cluster.user(3).await;
    let (first, second) = (cluster.started(&user).await, cluster.started(&user).await);
    let asked = [second.name.as_str(), &first.name, &second.name];
    let found = batch(&cluster, &user, &asked).await.unwrap();
    assert_eq!(found.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), asked);
    let missing = format!("generations/{}", Uuid::now_v7());
    assert_eq!(refusal(batch(&cluster, &user, &[&first.name, &missing]).await).1, "GENERATION_NOT_FOUND");
}

#[tokio::test]
async fn pages_show_each_generation_once_newest_first() {
    let cluster = Cluster::new().await;
    let user = cluster.user(12).await;
    let other = cluster.scene(&user).await;
    let mut started = Vec::new();
    for at in 0..9 {
        started.push(cluster.started(if at % 3 == 0 { &other } else { &user }).await);
    }
    started.reverse();
    for (parent, of) in [(String::new(), None), (user.project(), None), (user.scene(), Some(user.scene()))] {
        let expected: Vec<_> = started.iter().filter(|g| of.as_ref().is_none_or(|scene| g.scene == *scene)).collect();
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = list(&cluster, &user, &parent, 4, &token).await.unwrap();
            assert!(page.generations.len() <= 4);
            seen.extend(page.generations);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen.iter().collect::<Vec<_>>(), expected, "{parent}");
    }
}

/// A page of a hundred long prompts used to be more than a client takes by default, and so to fail.
#[tokio::test]
async fn a_page_of_long_inputs_is_shorter_and_leaves_none_out() {
    let cluster = Cluster::new().await;
    let user = cluster.user(150).await;
    let mut request = user.start_request();
    request.input.as_mut().unwrap().prompt = "🎬".repeat(2_000);
    request.labels = (0..20).map(|at| (at.to_string(), "🎬".repeat(200))).collect();
    let mut names = cluster.started_many(&user, &request, 150).await;
    names.sort_by(|one, other| other.cmp(one));
    let states = vec![State::Queued.into()];
    for states in [vec![], states] {
        let (mut seen, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
        while pages == 0 || !page_token.is_empty() {
            let asked =
                ListGenerationsRequest { page_size: 100, page_token, states: states.clone(), ..Default::default() };
            let page = cluster.node.generations.clone().list_generations(user.asks(asked)).await.unwrap().into_inner();
            let bytes = prost::Message::encoded_len(&page);
            assert!(bytes <= 1 << 20, "{bytes} bytes");
            seen.extend(page.generations.into_iter().map(|generation| generation.name));
            (page_token, pages) = (page.next_page_token, pages + 1);
        }
        assert!(pages > 2, "{pages} pages");
        assert_eq!(seen, names);
    }
}

/// A hundred long prompts in one answer used to be more than a client takes by default, which then told a fault of the library.
#[tokio::test]
async fn a_batch_that_is_more_than_a_client_takes_is_refused_and_says_what_fits() {
    let schema = r#"{"type": "object", "properties": {"prompt": {"type": "string"}}}"#;
    let entry = "[[model]]\nid = \"wordy\"\nprovider = \"fal\"\nmodel = \"a/b\"\nkind = \"text-to-video\"\nschema = \"s.json\"\n\
                 map = { prompt = \"prompt\" }\nprice = [{ per = \"output\", rows = [{ credits = 0.001 }] }]\n";
    let read = Catalogue::parse(Format::Toml, entry, &|_| Ok(schema.to_owned())).unwrap();
    let cluster = Cluster::with(|config| config.generations.catalogue = LiveCatalogue::fixed(read.clone())).await;
    let user = cluster.user(101).await;
    let mut request = StartGenerationRequest { model: "models/wordy".to_owned(), ..user.start_request() };
    request.input = Some(Input { prompt: "🎬".repeat(12_000), ..Input::default() });
    let long = cluster.started_many(&user, &request, 100).await;
    let short = cluster.started(&user).await.name;
    let ask = async |names: Vec<String>| {
        let channel = cluster.node.doors();
        // As large as messages get, so that it is the service that refuses.
        let client = GenerationServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        client.clone().batch_get_generations(user.asks(BatchGetGenerationsRequest { names })).await
    };
    let whole = long.iter().chain(&long).take(100).cloned().collect::<Vec<_>>();
    let one = prost::Message::encoded_len(&ask(vec![long[0].clone()]).await.unwrap().into_inner());
    let fits = (4 << 20) / one;
    assert!(100 > fits, "{one} bytes each");
    // Twice, from the database and from memory.
    for _ in 0..2 {
        let refused = ask(whole.clone()).await.map(|_| "taken").unwrap_err();
        let said = refused.get_error_details().error_info().unwrap().clone();
        assert_eq!((refused.code(), said.reason.as_str()), (Code::FailedPrecondition, "ANSWER_TOO_LARGE"));
        assert_eq!(said.metadata["fits"], fits.to_string());
        assert!(refused.message().contains(&format!("the first {fits};")), "{refused}");
    }
    let longest = ask(whole[..fits].to_vec()).await.unwrap().into_inner();
    assert_eq!(longest.generations.len(), fits);
    assert!(prost::Message::encoded_len(&longest) <= 4 << 20);
    assert_eq!(refusal(ask(whole[..=fits].to_vec()).await).1, "ANSWER_TOO_LARGE");
    assert_eq!(ask(vec![short; 100]).await.unwrap().into_inner().generations.len(), 100);
}

#[tokio::test]
async fn malformed_pages_are_refused() {
    let cluster = Cluster::new().await;
    let user = cluster.user(3).await;
    for _ in 0..3 {
        cluster.started(&user).await;
    }
    let token = list(&cluster, &user, "", 1, "").await.unwrap().next_page_token;
    assert!(!token.is_empty());
    let foreign = cluster.user(0).await;
    let forged = (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned());
    assert_eq!(refusal(list(&cluster, &user, "", 1, "x").await), forged);
    let changed: String = token.chars().map(|char| if char == 'A' { 'B' } else { 'A' }).collect();
    for token in [changed, "00ff".repeat(14)] {
        assert_eq!(refusal(list(&cluster, &user, "", 1, &token).await), forged, "{token}");
    }
    assert_eq!(refusal(list(&cluster, &user, &user.scene(), 1, &token).await), forged, "another listing's");
    assert_eq!(refusal(list(&cluster, &foreign, "", 1, &token).await), forged, "another account's");
    let invalid = (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned());
    assert_eq!(refusal(list(&cluster, &user, "", -1, "").await), invalid);
    assert_eq!(refusal(list(&cluster, &user, "projects", 1, "").await), invalid);
    assert_eq!(list(&cluster, &user, "", 1_000, "").await.unwrap().generations.len(), 3);
}

#[tokio::test]
async fn a_caller_reads_its_own_write_at_once() {
    let nats = Nats::launch().await.unwrap();
    let cluster = Cluster::with(|config| config.nats_url = Some(nats.url())).await;
    let user = cluster.user(3).await;
    for _ in 0..3 {
        let generation = cluster.started(&user).await;
        assert_eq!(cluster.get(&user, &generation.name).await.unwrap().version, 1);
        let mut worker = Worker::new(&cluster, 1).await;
        let work = worker.next().await;
        let mut version = cluster.get(&user, &generation.name).await.unwrap().version;
        assert_eq!(version, 2);
        worker.submitted(&work).await.unwrap();
        for percent in [10, 40] {
            worker.progress(&work, percent).await.unwrap();
            let seen = cluster.get(&user, &generation.name).await.unwrap();
            assert!(seen.version > version && seen.progress.unwrap().percent == percent);
            version = seen.version;
        }
        worker.finalizing(&work).await.unwrap();
        worker.complete(&work).await.unwrap();
        assert_eq!(
            cluster.get(&user, &generation.name).await.unwrap().state(),
            proto::generations::v1::State::Completed
        );
    }
}
