//! StartGeneration: what it stores, what it refuses, and that it happens once.

use std::time::Duration;

use proto::generations::v1::media::Role;
use proto::generations::v1::{Input, Media, StartGenerationRequest, State, WaitReason};
use tonic::Code;
use uuid::Uuid;

use crate::cluster::{Cluster, PRICE, refusal};

#[tokio::test]
async fn a_start_holds_its_price() {
    let cluster = Cluster::new().await;
    let user = cluster.user(3).await;
    let generation = cluster.started(&user).await;
    assert_eq!(generation.state(), State::Queued);
    assert_eq!(generation.wait_reason(), WaitReason::Capacity);
    assert_eq!((generation.version, generation.etag.as_str()), (1, "v1"));
    assert_eq!((generation.scene.clone(), generation.model.as_str()), (user.scene(), "models/local-sketch"));
    assert_eq!(generation.input.as_ref().unwrap().seed, Some(7));
    assert_eq!(generation.charge.clone().unwrap().held_micros, PRICE);
    let credit = cluster.credit(&user).await;
    assert_eq!((credit.available_micros, credit.held_micros, credit.spent_micros), (2 * PRICE, PRICE, 0));
    assert_eq!(cluster.get(&user, &generation.name).await.unwrap(), generation);
}

#[tokio::test]
async fn the_same_request_starts_once() {
    let cluster = Cluster::new().await;
    let user = cluster.user(5).await;
    let start_request = user.start_request();
    let first = cluster.start(&user, start_request.clone()).await.unwrap();
    assert_eq!(cluster.start(&user, start_request.clone()).await.unwrap(), first);
    let spelled = StartGenerationRequest { model: "models/local-sketch".to_owned(), ..start_request.clone() };
    assert_eq!(cluster.start(&user, spelled).await.unwrap(), first, "the default model by its name is the same body");

    let input = start_request.input.clone().unwrap();
    let others = [
        StartGenerationRequest { scene: cluster.scene(&user).await.scene(), ..start_request.clone() },
        StartGenerationRequest {
            input: Some(Input { prompt: "Another".to_owned(), ..input.clone() }),
            ..start_request.clone()
        },
        StartGenerationRequest { input: Some(Input { seed: None, ..input.clone() }), ..start_request.clone() },
        StartGenerationRequest { input: Some(Input { seed: Some(8), ..input }), ..start_request.clone() },
    ];
    for other in others {
        assert_eq!(refusal(cluster.start(&user, other).await), (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned()));
    }
    let foreign = cluster.user(1).await;
    let theirs = StartGenerationRequest { scene: foreign.scene(), ..start_request };
    assert_ne!(cluster.start(&foreign, theirs).await.unwrap().name, first.name, "ids are per account");
    assert_eq!(cluster.credit(&user).await.held_micros, PRICE);
}

#[tokio::test]
async fn a_repetition_finds_the_generation_after_its_scene_was_deleted() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let start_request = user.start_request();
    let first = cluster.start(&user, start_request.clone()).await.unwrap();
    sqlx::query("update scenes set delete_time = now() where id = $1")
        .bind(user.scene)
        .execute(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(cluster.start(&user, start_request).await.unwrap().name, first.name);
}

#[tokio::test]
async fn twenty_parallel_repetitions_start_one() {
    let cluster = Cluster::new().await;
    let user = cluster.user(20).await;
    let start_request = user.start_request();
    let starts = (0..20).map(|_| cluster.start(&user, start_request.clone()));
    let started = futures::future::join_all(starts).await;
    let name = started[0].as_ref().unwrap().name.clone();
    assert!(started.iter().all(|generation| generation.as_ref().unwrap().name == name));
    assert_eq!(cluster.credit(&user).await.held_micros, PRICE);
}

#[tokio::test]
async fn a_hundred_parallel_starts_on_credits_for_ten() {
    let cluster = Cluster::new().await;
    let user = cluster.user(10).await;
    let starts = (0..100).map(async |_| {
        let request = user.start_request();
        loop {
            match cluster.start(&user, request.clone()).await {
                // A crowded machine does not serve a hundred calls at once in time; a client comes again.
                Err(status)
                    if matches!(
                        status.code(),
                        Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded
                    ) => {}
                answer => return answer,
            }
        }
    });
    let (started, refused): (Vec<_>, Vec<_>) =
        futures::future::join_all(starts).await.into_iter().partition(Result::is_ok);
    assert_eq!((started.len(), refused.len()), (10, 90));
    for refused in refused {
        assert_eq!(refusal(refused), (Code::FailedPrecondition, "INSUFFICIENT_CREDIT".to_owned()));
    }
    let credit = cluster.credit(&user).await;
    assert_eq!((credit.available_micros, credit.held_micros), (0, 10 * PRICE));
}

#[tokio::test]
async fn validate_only_returns_the_price_and_stores_nothing() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let check = StartGenerationRequest { validate_only: true, request_id: String::new(), ..user.start_request() };
    let priced = cluster.start(&user, check.clone()).await.unwrap();
    assert_eq!((priced.name.as_str(), priced.charge.unwrap().held_micros), ("", PRICE));
    assert_eq!(cluster.rows().await, 0);
    let poor = cluster.user(0).await;
    let theirs = StartGenerationRequest { scene: poor.scene(), ..check.clone() };
    assert_eq!(refusal(cluster.start(&poor, theirs).await).1, "INSUFFICIENT_CREDIT");
    assert_eq!(refusal(cluster.start(&poor, check).await).1, "SCENE_NOT_FOUND");
}

#[tokio::test]
async fn an_invalid_start_is_refused_and_nothing_is_stored() {
    let cluster = Cluster::new().await;
    let (user, foreign) = (cluster.user(5).await, cluster.user(5).await);
    let asset = format!("assets/{}", "ab".repeat(32));
    let check = async |what: &str, start_request: StartGenerationRequest, code: Code, reason: &str| {
        assert_eq!(refusal(cluster.start(&user, start_request).await), (code, reason.to_owned()), "{what}");
        assert_eq!(cluster.rows().await, 0, "{what}");
    };
    let (invalid, schema) = (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION");
    let start_request = || user.start_request();
    let said = |prompt: &str| {
        let input = Input { prompt: prompt.to_owned(), ..Input::default() };
        StartGenerationRequest { input: Some(input), ..start_request() }
    };
    let shown = |assets: Vec<String>| {
        let media = |asset| Media { role: Role::Reference.into(), asset };
        let media = assets.into_iter().map(media).collect();
        let input = Input { prompt: "A cat".to_owned(), media, ..Input::default() };
        StartGenerationRequest { input: Some(input), ..start_request() }
    };
    check("no input", StartGenerationRequest { input: None, ..start_request() }, invalid, schema).await;
    check("an empty prompt", said(""), invalid, schema).await;
    check("a blank prompt", said(" \n "), invalid, schema).await;
    check("a prompt that shows nothing", said("\u{200b}\u{2800}"), invalid, schema).await;
    check("a prompt too long", said(&"é".repeat(2_001)), invalid, schema).await;
    check("a zero byte", said("a\0b"), invalid, schema).await;
    check("no request id", StartGenerationRequest { request_id: String::new(), ..start_request() }, invalid, schema)
        .await;
    check(
        "a malformed request id",
        StartGenerationRequest { request_id: "7".into(), ..start_request() },
        invalid,
        schema,
    )
    .await;
    check(
        "an unknown model",
        StartGenerationRequest { model: "models/none".into(), ..start_request() },
        invalid,
        schema,
    )
    .await;
    for scene in ["", "scenes/1", &user.project(), &user.scene().to_uppercase()] {
        check(scene, StartGenerationRequest { scene: scene.to_owned(), ..start_request() }, invalid, schema).await;
    }
    check("five assets", shown((0..5).map(|at| format!("assets/{at:064}")).collect()), invalid, schema).await;
    check("the same asset twice", shown(vec![asset.clone(), asset.clone()]), invalid, schema).await;
    check("no asset's name", shown(vec!["assets/x".to_owned()]), invalid, schema).await;
    check("an asset that is not there", shown(vec![asset]), Code::NotFound, "ASSET_NOT_FOUND").await;

    let unknown = format!("{}/scenes/{}", user.project(), Uuid::now_v7());
    let astray = format!("{}/scenes/{}", foreign.project(), user.scene);
    for scene in [unknown, foreign.scene(), astray] {
        check(
            &scene,
            StartGenerationRequest { scene: scene.clone(), ..start_request() },
            Code::NotFound,
            "SCENE_NOT_FOUND",
        )
        .await;
    }
    for table in ["scenes", "projects"] {
        let mark = async |time: &str| {
            let sql = format!("update {table} set delete_time = {time} where account_id = $1");
            sqlx::query(sqlx::AssertSqlSafe(sql)).bind(user.account).execute(&cluster.pool).await.unwrap();
        };
        mark("now()").await;
        check(table, start_request(), Code::NotFound, "SCENE_NOT_FOUND").await;
        mark("null").await;
    }
    let mut anonymous = cluster.node.generations.clone();
    assert_eq!(refusal(anonymous.start_generation(start_request()).await).0, Code::Unauthenticated);
    cluster.start(&user, said(&"é".repeat(2_000))).await.unwrap();
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    use tonic_types::StatusExt as _;
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let status = cluster.start(&user, StartGenerationRequest::default()).await.unwrap_err();
    let details = status.get_error_details();
    let fields: Vec<_> = details.bad_request().unwrap().field_violations.iter().map(|v| v.field.clone()).collect();
    assert_eq!(fields, ["scene", "request_id", "input.prompt"]);
}

#[tokio::test]
async fn a_reference_picture_must_be_the_accounts() {
    let cluster = Cluster::new().await;
    let user = cluster.user(3).await;
    sqlx::query("insert into assets (account_id, sha256, blob, mime_type, size_bytes, width, height) values ($1, $2, 'x.png', 'image/png', 1, 1, 1)")
        .bind(user.account)
        .bind(vec![0xab_u8; 32])
        .execute(&cluster.pool)
        .await
        .unwrap();
    let asset = format!("assets/{}", "ab".repeat(32));
    let media = Media { role: Role::Reference.into(), asset };
    #[expect(deprecated, reason = "it is the same as media with its role")]
    let named = Input { reference_assets: vec![media.asset.clone()], ..Input::default() };
    for input in [named, Input { media: vec![media.clone()], ..Input::default() }] {
        let input = Input { prompt: "A cat".to_owned(), ..input };
        let start_request = StartGenerationRequest { input: Some(input), ..user.start_request() };
        assert_eq!(
            cluster.start(&user, start_request).await.unwrap().input.unwrap().media,
            std::slice::from_ref(&media)
        );
    }
    let input = Input { prompt: "A cat".to_owned(), ..Input::default() };
    let start_request = StartGenerationRequest { input: Some(input), ..user.start_request() };
    let input = cluster.start(&user, start_request).await.unwrap().input.unwrap();
    assert!(input.seed.is_some(), "a seed was chosen, and is returned");
}

/// Starts of an account wait for one another, one of them with a connection.
#[tokio::test]
async fn an_account_that_starts_many_leaves_others_their_starts() {
    let cluster = Cluster::new().await;
    let (busy, other) = (cluster.user(50).await, cluster.user(3).await);
    // Whatever the account starts now waits for this transaction.
    let mut slow = cluster.pool.begin().await.unwrap();
    sqlx::query("select from credit_accounts where account_id = $1 for update")
        .bind(busy.account)
        .execute(&mut *slow)
        .await
        .unwrap();
    let generations = cluster.node.generations.clone();
    let starts: Vec<_> = (0..40)
        .map(|_| {
            let (mut generations, request) = (generations.clone(), busy.asks(busy.start_request()));
            tokio::spawn(async move { generations.start_generation(request).await.map(drop) })
        })
        .collect();
    let waiting = async || {
        let blocked = "select count(*) from pg_stat_activity where application_name = 'rushes/write'
                       and datname = current_database() and wait_event_type = 'Lock'";
        let count: i64 = sqlx::query_scalar(blocked).fetch_one(&cluster.pool).await.ok()?;
        (count >= 1).then_some(count)
    };
    testkit::eventually("one waits", Duration::from_secs(10), waiting).await.unwrap();
    for _ in 0..3 {
        cluster.start(&other, other.start_request()).await.unwrap();
        assert_eq!(waiting().await, Some(1));
    }
    slow.rollback().await.unwrap();
    for start in starts {
        if let Err(status) = start.await.unwrap() {
            assert_eq!(refusal::<()>(Err(status)).1, "OVERLOADED");
        }
    }
}
