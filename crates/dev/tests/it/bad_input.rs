//! What a client may get wrong, each with the code and the reason that it is told, and nothing stored.

use std::time::Duration;

use anyhow::{Context, Result};
use proto::assets::v1::upload_asset_request::Part;
use proto::assets::v1::{UploadAssetRequest, UploadMetadata};
use proto::generations::v1::{GetGenerationRequest, Input, ListGenerationsRequest};
use proto::projects::v1::{DeleteProjectRequest, GetProjectRequest, ListProjectsRequest};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::client::{Client, order};
use crate::cluster::{Cluster, Options};

/// A refusal's code and reason.
#[track_caller]
fn check<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, Status>, code: Code, reason: &str) {
    let status = answer.expect_err("it must be refused");
    let info = status.get_details_error_info();
    let told = info.as_ref().map_or("", |info| info.reason.as_str());
    assert_eq!((status.code(), told), (code, reason), "{status:?}");
    assert!(!status.message().is_empty());
}

/// The rows of all tables that a request may write.
async fn rows(pool: &sqlx::PgPool) -> Result<Vec<i64>> {
    let counts = sqlx::query_scalar(
        "select count(*) from projects union all select count(*) from scenes union all
         select count(*) from generations union all select count(*) from ledger union all
         select count(*) from jobs union all select count(*) from assets union all select count(*) from thumbnails",
    );
    Ok(counts.fetch_all(pool).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn is_refused_with_a_reason_and_leaves_nothing() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let pool = sqlx::PgPool::connect(&cluster.database.url()).await?;
    let client = cluster.client(1).await?;
    let poor = cluster.client(0).await?;
    let project = client.project("Kept").await?;
    let scene = client.scene(&project, "One").await?;
    let poor_project = poor.project("Poor").await?;
    let poor_scene = poor.scene(&poor_project, "One").await?;
    let gone = client.project("Gone").await?;
    let gone_scene = client.scene(&gone, "One").await?;
    client.projects().delete_project(DeleteProjectRequest { name: gone.name.clone(), etag: String::new() }).await?;
    let first = order(&scene.name, "a lighthouse");
    let started = client.generations().start_generation(first.clone()).await?.into_inner();
    client.outcome(&started.name).await?;
    let before = rows(&pool).await?;

    keys(&client, &project.name).await;
    names(&client, &poor, &project.name, &started.name).await;
    orders(&client, &first).await;

    let empty = order(&scene.name, "");
    check(client.generations().start_generation(empty).await, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION");
    let long = order(&scene.name, &"x".repeat(2001));
    check(client.generations().start_generation(long).await, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION");
    let deleted = order(&gone_scene.name, "a lighthouse");
    check(client.generations().start_generation(deleted).await, Code::NotFound, "SCENE_NOT_FOUND");
    let foreign = order(&scene.name, "a lighthouse");
    check(poor.generations().start_generation(foreign).await, Code::NotFound, "SCENE_NOT_FOUND");
    let unpaid = order(&poor_scene.name, "a lighthouse");
    check(poor.generations().start_generation(unpaid).await, Code::FailedPrecondition, "INSUFFICIENT_CREDIT");

    uploads(&client).await;
    deadlines(&client, &project.name).await;
    let price = first.clone();
    let priced = proto::generations::v1::StartGenerationRequest {
        validate_only: true,
        request_id: Uuid::now_v7().to_string(),
        ..price
    };
    let priced = client.generations().start_generation(priced).await?.into_inner();
    assert!(priced.charge.context("a price")?.held_micros > 0);
    assert_eq!(priced.name, "");

    assert_eq!(rows(&pool).await?, before, "something was stored");
    pool.close().await;
    cluster.end().await
}

async fn keys(client: &Client, project: &str) {
    let get = GetProjectRequest { name: project.into() };
    let nobody = client.with_key(None);
    check(nobody.projects().get_project(get.clone()).await, Code::Unauthenticated, "KEY_MISSING");
    let unknown = client.with_key(Some("rsk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1McdoK"));
    check(unknown.projects().get_project(get.clone()).await, Code::Unauthenticated, "KEY_UNKNOWN");
    let malformed = client.with_key(Some("hunter2"));
    check(malformed.projects().get_project(get).await, Code::Unauthenticated, "KEY_UNKNOWN");
}

async fn names(client: &Client, stranger: &Client, project: &str, generation: &str) {
    let get = |name: &str| GetProjectRequest { name: name.into() };
    check(stranger.projects().get_project(get(project)).await, Code::NotFound, "PROJECT_NOT_FOUND");
    for wrong in ["", "projects/", "projects/1", "scenes/x", "projects/00000000-0000-0000-0000-00000000000G"] {
        check(client.projects().get_project(get(wrong)).await, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION");
    }
    let theirs = GetGenerationRequest { name: generation.into(), ..Default::default() };
    check(stranger.generations().get_generation(theirs).await, Code::NotFound, "GENERATION_NOT_FOUND");

    let page = |size: i32, token: &str| ListProjectsRequest { page_size: size, page_token: token.into() };
    check(client.projects().list_projects(page(-1, "")).await, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION");
    check(client.projects().list_projects(page(0, "forged")).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    let generations = ListGenerationsRequest { page_token: "00ff".repeat(14), ..Default::default() };
    check(client.generations().list_generations(generations).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
}

async fn orders(client: &Client, first: &proto::generations::v1::StartGenerationRequest) {
    let mut generations = client.generations();
    let again = generations.start_generation(first.clone()).await.unwrap().into_inner();
    let third = generations.start_generation(first.clone()).await.unwrap().into_inner();
    assert_eq!(again.name, third.name);
    let mut other = first.clone();
    other.input = Some(Input { prompt: "something else".into(), ..Input::default() });
    check(generations.start_generation(other).await, Code::AlreadyExists, "REQUEST_ID_REUSED");
    let mut unnamed = first.clone();
    unnamed.request_id = String::new();
    check(generations.start_generation(unnamed).await, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION");
    let mut unknown = first.clone();
    unknown.model = "models/none".into();
    unknown.request_id = Uuid::now_v7().to_string();
    check(generations.start_generation(unknown).await, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION");
}

async fn upload(
    client: &Client,
    name: &str,
    bytes: &[u8],
) -> Result<tonic::Response<proto::assets::v1::Asset>, Status> {
    let metadata = UploadMetadata { file_name: name.into(), size_bytes: 0 };
    let mut messages = vec![UploadAssetRequest { part: Some(Part::Metadata(metadata)) }];
    messages.extend(bytes.chunks(256 << 10).map(|c| UploadAssetRequest { part: Some(Part::Chunk(c.to_vec().into())) }));
    client.assets().upload_asset(tokio_stream::iter(messages)).await
}

async fn uploads(client: &Client) {
    let png = png(32, 32);
    check(upload(client, "half.png", &png[..png.len() / 2]).await, Code::InvalidArgument, "IMAGE_TRUNCATED");
    let vast = self::png(40_000, 40_000);
    check(upload(client, "vast.png", &vast).await, Code::InvalidArgument, "IMAGE_LIMIT_EXCEEDED");
    let text = b"This is not a picture, whatever it is called.";
    check(upload(client, "text.jpg", text).await, Code::InvalidArgument, "MEDIA_FORMAT_UNSUPPORTED");
    check(upload(client, "none.jpg", b"").await, Code::InvalidArgument, "IMAGE_FORMAT_UNSUPPORTED");
    // It begins as a JPEG does.
    let mut heavy = vec![0; 22 << 20];
    heavy[..4].copy_from_slice(b"\xff\xd8\xff\xe0");
    check(upload(client, "heavy.jpg", &heavy).await, Code::InvalidArgument, "INPUT_TOO_LARGE");

    let mut large = order("projects/x", "");
    large.input.as_mut().unwrap().prompt = "x".repeat(100_000);
    check(client.generations().start_generation(large).await, Code::InvalidArgument, "INPUT_TOO_LARGE");
}

async fn deadlines(client: &Client, project: &str) {
    let mut request = Request::new(GetProjectRequest { name: project.into() });
    request.set_timeout(Duration::from_nanos(1));
    let status = client.projects().get_project(request).await.expect_err("its deadline has passed");
    // The client's own clock may be the one that ends it; it then says so itself.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
}

/// A grey PNG of one colour. Its size stands in its header; only a small one has all its pixels.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 0, 0, 0, 0]);
    chunk(&mut file, b"IHDR", &header);
    let rows = height.min(64);
    let raw = vec![0; usize::try_from(rows * (width.min(64) + 1)).unwrap()];
    // One stored block of deflate, in zlib's frame.
    let length = u16::try_from(raw.len()).unwrap();
    let mut data = vec![0x78, 0x01, 0x01];
    data.extend(length.to_le_bytes());
    data.extend((!length).to_le_bytes());
    data.extend(&raw);
    let (a, b) = raw.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    data.extend((b << 16 | a).to_be_bytes());
    chunk(&mut file, b"IDAT", &data);
    chunk(&mut file, b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    let start = file.len();
    file.extend(kind);
    file.extend(data);
    let crc = file[start..].iter().fold(u32::MAX, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
        crc
    });
    file.extend((!crc).to_be_bytes());
}
