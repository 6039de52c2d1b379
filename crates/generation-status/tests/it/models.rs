//! The catalogue through the front door: what it offers can be ordered at its price, and what it limits is refused.

use catalogue::{Catalogue, Format};
use generation_status::LiveCatalogue;
use proto::generations::v1::{Input, RetryGenerationRequest, StartGenerationRequest};
use proto::models::v1::model_service_client::ModelServiceClient;
use proto::models::v1::{GetModelRequest, ListModelsRequest, Model};
use proto::work::v1::FailureClass;
use testkit::Doors;
use tonic::{Code, Status};

use crate::cluster::{Cluster, User, refusal};
use crate::worker::Worker;

const FILE: &str = r#"{"models": [
    {"id": "one", "provider": "replicate", "model": "acme/one", "price_micros": 120000,
     "prompt_characters": 20, "max_attempts": 2, "start_deadline": "90s", "total_deadline": "30m"},
    {"id": "two", "provider": "fal", "model": "fal-ai/two/text-to-video", "price_micros": 340000, "seed": false}
]}"#;

async fn cluster() -> Cluster {
    let read = Catalogue::parse(Format::Json, FILE, &|_| Err("no file".to_owned())).unwrap();
    Cluster::with(|config| config.generations.catalogue = LiveCatalogue::fixed(read.clone())).await
}

fn client(cluster: &Cluster) -> ModelServiceClient<Doors> {
    ModelServiceClient::new(cluster.node.doors())
}

async fn get(cluster: &Cluster, user: &User, name: &str) -> Result<Model, Status> {
    let request = user.asks(GetModelRequest { name: name.to_owned() });
    Ok(client(cluster).get_model(request).await?.into_inner())
}

fn start_request(user: &User, model: &str, prompt: &str) -> StartGenerationRequest {
    let input = Input { prompt: prompt.to_owned(), ..Input::default() };
    StartGenerationRequest { model: model.to_owned(), input: Some(input), ..user.start_request() }
}

#[tokio::test]
async fn models_are_listed_page_by_page_in_the_catalogues_order() {
    let cluster = cluster().await;
    let user = cluster.user(0).await;
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = user.asks(ListModelsRequest { page_size: 2, page_token });
        let page = client(&cluster).list_models(request).await.unwrap().into_inner();
        names.push(page.models.into_iter().map(|model| model.name).collect::<Vec<_>>());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, [["models/local-sketch", "models/local-still"], ["models/one", "models/two"]]);
    let astray = ListModelsRequest { page_size: 0, page_token: "0".to_owned() };
    let refused = refusal(client(&cluster).list_models(user.asks(astray)).await);
    assert_eq!(refused, (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned()));
}

/// A hundred models with long schemas used to be one answer, which no client takes by default.
#[tokio::test]
async fn a_page_of_long_schemas_is_shorter_and_leaves_none_out() {
    let choices: Vec<_> = (0..4_000).map(|at| format!("{at:0>60}")).collect();
    let schema = serde_json::json!({"type": "object", "properties": {
        "prompt": {"type": "string"}, "style": {"type": "string", "enum": choices},
    }});
    let entries = (0..30).map(|at| {
        format!(
            "[[model]]\nid = \"long-{at}\"\nprovider = \"fal\"\nmodel = \"a/b\"\nkind = \"text-to-video\"\nschema = \"s.json\"\n\
             map = {{ prompt = \"prompt\" }}\nprice = [{{ per = \"output\", rows = [{{ credits = 1 }}] }}]\n"
        )
    });
    let read = Catalogue::parse(Format::Toml, &entries.collect::<String>(), &|_| Ok(schema.to_string())).unwrap();
    let cluster = Cluster::with(|config| config.generations.catalogue = LiveCatalogue::fixed(read.clone())).await;
    let user = cluster.user(0).await;
    let (mut names, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    while pages == 0 || !page_token.is_empty() {
        let request = user.asks(ListModelsRequest { page_size: 100, page_token });
        let page = client(&cluster).list_models(request).await.unwrap().into_inner();
        let bytes = prost::Message::encoded_len(&page);
        assert!(bytes <= (1 << 20) + 100, "{bytes} bytes");
        names.extend(page.models.into_iter().map(|model| model.name));
        (pages, page_token) = (pages + 1, page.next_page_token);
    }
    assert!(pages > 5, "{pages} pages");
    let all: Vec<_> = (0..30).map(|at| format!("models/long-{at}")).collect();
    assert_eq!(names[2..], all, "behind the built-in ones");
}

#[tokio::test]
async fn a_model_shows_its_price_its_limits_and_its_pace() {
    let cluster = cluster().await;
    let user = cluster.user(0).await;
    let one = get(&cluster, &user, "models/one").await.unwrap();
    let limits = one.input_limits.unwrap();
    assert_eq!((one.provider.as_str(), one.price_micros, one.max_attempts), ("replicate", 120_000, 2));
    assert_eq!((limits.prompt_characters, limits.reference_assets), (20, 0));
    assert_eq!((one.start_deadline.unwrap().seconds, one.total_deadline.unwrap().seconds), (90, 1_800));
    assert!(one.pace.is_none());
    sqlx::query("insert into model_paces (model, p50, p80, samples) values ('one', '41.5 s', '70 s', 12)")
        .execute(&cluster.pool)
        .await
        .unwrap();
    let pace = get(&cluster, &user, "models/one").await.unwrap().pace.unwrap();
    assert_eq!((pace.p50.unwrap().seconds, pace.p80.unwrap().seconds, pace.samples), (41, 70, 12));
    for unknown in ["", "one", "models/none"] {
        assert_eq!(refusal(get(&cluster, &user, unknown).await), (Code::NotFound, "MODEL_NOT_FOUND".to_owned()));
    }
}

#[tokio::test]
async fn a_model_of_the_file_is_started_at_its_price_and_within_its_limits() {
    let cluster = cluster().await;
    let user = cluster.user(10).await;
    let started = cluster.start(&user, start_request(&user, "models/one", "A lighthouse")).await.unwrap();
    assert_eq!((started.model.as_str(), started.charge.unwrap().held_micros), ("models/one", 120_000));
    let span = |until: Option<prost_types::Timestamp>| until.unwrap().seconds - started.create_time.unwrap().seconds;
    assert_eq!((span(started.start_deadline), span(started.total_deadline)), (90, 1_800));
    let (queue, attempts): (String, i32) =
        sqlx::query_as("select queue, max_attempts from jobs").fetch_one(&cluster.pool).await.unwrap();
    assert_eq!((queue.as_str(), attempts), ("one", 2));
    let long =
        refusal(cluster.start(&user, start_request(&user, "models/one", "A lighthouse at dawn, in the rain")).await);
    assert_eq!(long, (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned()));
    cluster.cancel_many(&user, &[&started.name]).await;
    let retry = RetryGenerationRequest { name: started.name.clone(), request_id: uuid::Uuid::now_v7().to_string() };
    let again = cluster.node.generations.clone().retry_generation(user.asks(retry)).await.unwrap().into_inner();
    assert_eq!((again.model.as_str(), again.retried_from), ("models/one", started.name));
    assert_eq!(cluster.credit(&user).await.held_micros, 120_000);
}

/// Whoever reads a refusal has to know whether a user gave what is refused.
#[tokio::test]
async fn an_order_says_which_seed_was_drawn() {
    let cluster = Cluster::new().await;
    let user = cluster.user(2).await;
    let mut worker = Worker::new(&cluster, 2).await;
    for (seed, unasked) in [(Some(7), vec![]), (None, vec!["seed".to_owned()])] {
        let mut request = user.start_request();
        request.input.as_mut().unwrap().seed = seed;
        let started = cluster.node.generations.clone().start_generation(user.asks(request)).await.unwrap().into_inner();
        let work = worker.next().await;
        assert_eq!(work.order.as_ref().unwrap().unasked, unasked);
        worker.fail(&work, FailureClass::Safety).await.unwrap();
        worker.free(1).await;
        // A retry has the same seed, and nobody has given it by that.
        let retry = RetryGenerationRequest { name: started.name, request_id: uuid::Uuid::now_v7().to_string() };
        let again = cluster.node.generations.clone().retry_generation(user.asks(retry)).await.unwrap().into_inner();
        assert_eq!(again.input.unwrap().seed, started.input.unwrap().seed);
        let work = worker.next().await;
        assert_eq!(work.order.as_ref().unwrap().unasked, unasked);
        worker.fail(&work, FailureClass::Safety).await.unwrap();
        worker.free(1).await;
    }
}

#[tokio::test]
async fn a_model_without_a_seed_is_given_none() {
    let cluster = cluster().await;
    let user = cluster.user(9).await;
    assert!(!get(&cluster, &user, "models/two").await.unwrap().input_limits.unwrap().seed);
    assert!(get(&cluster, &user, "models/one").await.unwrap().input_limits.unwrap().seed);
    let mut request = start_request(&user, "models/two", "A cat");
    request.input.as_mut().unwrap().seed = Some(7);
    let refused = cluster.node.generations.clone().start_generation(user.asks(request.clone())).await.unwrap_err();
    assert!(refused.message().contains("input.seed"), "{refused:?}");
    request.input.as_mut().unwrap().seed = None;
    let started = cluster.node.generations.clone().start_generation(user.asks(request)).await.unwrap().into_inner();
    assert_eq!(started.input.unwrap().seed, None);
}
