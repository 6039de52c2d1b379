//! The main job, end to end: "generate" is pressed, a worker makes a real video, its state goes by live, the poster
//! appears, and the dashboard shows it with its cost.

use anyhow::{Context as _, Result};
use chassis::request::token;
use proto::assets::v1::{GetAssetRequest, RenderThumbnailRequest, ThumbnailSpec, thumbnail};
use proto::credits::v1::GetCreditAccountRequest;
use proto::dashboard::v1::{Dashboard, GetDashboardRequest};
use proto::generations::v1::{DeleteGenerationRequest, GetGenerationRequest, SetTakeRequest, State};
use sha2::{Digest, Sha256};
use tonic::codec::CompressionEncoding::Gzip;
use tonic::metadata::BinaryMetadataValue;
use tonic::{Request, Response};

use crate::client::Client;
use crate::cluster::{Cluster, Options};
use crate::commands::rushes;

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_completes_and_the_dashboard_shows_it() -> Result<()> {
    let cluster = Cluster::start(Options { pace: "1", ..Options::default() }).await?;
    let client = cluster.client(10).await?;
    let project = client.project("The harbour").await?;
    let scene = client.scene(&project, "Dawn").await?;

    let started = client.start(&scene, "a harbour at dawn, boats in the mist").await?;
    assert_eq!(started.state(), State::Queued);
    let price = started.charge.unwrap().held_micros;
    assert!(price > 0);
    let seen = client.watch(&started.name).await?;

    // Live: in order of versions, along the table of states, never backwards.
    assert!(seen.windows(2).all(|pair| pair[0].version < pair[1].version));
    let states: Vec<_> = seen.iter().map(|g| g.state() as i32).collect();
    for pair in states.windows(2) {
        assert!(pair[0] <= pair[1], "{states:?}");
    }
    let percents: Vec<_> = seen.iter().map(|g| g.progress.as_ref().map_or(0, |p| p.percent)).collect();
    assert!(percents.is_sorted(), "{percents:?}");
    assert!(percents.iter().any(|p| (1..100).contains(p)), "no progress was seen: {percents:?}");
    assert!(seen.iter().any(|g| g.progress.as_ref().is_some_and(|p| !p.stage.is_empty())));

    let done = seen.last().unwrap();
    assert_eq!(done.state(), State::Completed, "{:?}", done.error);
    assert_eq!(done.charge.as_ref().unwrap().captured_micros, price);
    assert_eq!(done.attempt_count, 1);
    let output = &done.outputs[0];

    // The video is the bytes that its name says, and it plays: its decoder renders another picture of it.
    let video = client.fetch(&output.url, &[]).await?;
    assert_eq!((video.status, video.header("content-type")), (200, Some("video/mp4")));
    assert_eq!(&video.body[4..8], b"ftyp");
    assert_eq!(output.asset, format!("assets/{}", hex::encode(Sha256::digest(&video.body))));
    assert_eq!(output.size_bytes, i64::try_from(video.body.len())?);
    assert!(output.width > 0 && output.height > 0 && output.duration.is_some_and(|d| d.seconds > 0));
    let small = RenderThumbnailRequest {
        asset: output.asset.clone(),
        spec: Some(ThumbnailSpec { width: 64, height: 48, quality: 60 }),
        later: false,
    };
    let small = client.assets().render_thumbnail(small).await?.into_inner();
    assert_eq!(small.state(), thumbnail::State::Ready, "{}", small.failure_reason);
    assert_eq!(webp_size(&client.fetch(&small.url, &[]).await?.body), Some((64, 48)));

    // The poster.
    assert_eq!(output.poster_missing_reason, "");
    let poster = client.fetch(&output.poster_url, &[]).await?;
    assert_eq!((poster.status, poster.header("content-type")), (200, Some("image/webp")));
    assert_eq!(webp_size(&poster.body), Some((256, 256)));
    let asset = client.assets().get_asset(GetAssetRequest { name: output.asset.clone() }).await?.into_inner();
    assert_eq!(asset.mime_type, "video/mp4");
    assert_eq!(output.pictures, asset.poster, "the same pictures at the same addresses");
    let large = output.pictures.clone().unwrap_or_default().large.unwrap_or_default();
    let size = (large.width.unsigned_abs(), large.height.unsigned_abs());
    assert_eq!(webp_size(&client.fetch(&large.url, &[]).await?.body), Some(size));

    // Assets are content-addressed: a part, and nothing at all for who has it.
    let part = client.fetch(&output.url, &[("range", "bytes=4-7")]).await?;
    assert_eq!((part.status, part.body.as_slice()), (206, b"ftyp".as_slice()));
    let etag = video.header("etag").unwrap().to_owned();
    assert_eq!(client.fetch(&output.url, &[("if-none-match", &etag)]).await?.status, 304);
    assert!(video.header("cache-control").unwrap().contains("immutable"));

    // The dashboard.
    let dashboard = client.dashboard().await?;
    assert!(dashboard.unreachable.is_empty());
    let card = &dashboard.projects[0];
    assert_eq!((card.scene_count, card.completed_count, card.completed_cost_micros), (1, 1, price));
    let latest = card.scenes[0].latest.as_ref().unwrap();
    assert_eq!((latest.name.as_str(), latest.state(), latest.percent), (done.name.as_str(), State::Completed, 100));
    assert_eq!(latest.thumbnail_url, output.poster_url);
    let thumbhash = asset.poster.unwrap_or_default().thumbhash;
    assert!(thumbhash.len() > 10 && latest.thumbhash == thumbhash, "{thumbhash:?} {latest:?}");
    assert_eq!(dashboard.recent_generations[0].thumbhash, thumbhash);
    let recent = &dashboard.recent_generations[0];
    assert_eq!((recent.name.as_str(), recent.cost_micros), (done.name.as_str(), price));
    let credits = dashboard.credits.unwrap();
    assert_eq!((credits.available_micros, credits.held_micros), (10_000_000 - price, 0));
    assert_eq!(dashboard.profile.unwrap().display_name, "Ada");
    assert_eq!(dashboard.notices.len(), 1);

    // The same, compressed for who asks for it.
    let mut zipped = client.dashboards().send_compressed(Gzip).accept_compressed(Gzip);
    let zipped = zipped.get_dashboard(GetDashboardRequest::default()).await?;
    assert_eq!(zipped.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(zipped.into_inner(), client.dashboard().await?);

    let account = client.credits().get_credit_account(GetCreditAccountRequest {}).await?.into_inner();
    assert_eq!((account.available_micros, account.spent_micros), (10_000_000 - price, price));

    // Nobody else sees it.
    let stranger = cluster.client(0).await?;
    let theirs = stranger
        .generations()
        .get_generation(GetGenerationRequest { name: done.name.clone(), ..Default::default() })
        .await;
    assert_eq!(theirs.unwrap_err().code(), tonic::Code::NotFound);
    cluster.end().await
}

/// The dashboard as a read with the token of a write has it at once, whichever process and cache answers.
async fn dashboard_after<T>(client: &Client, written: &Response<T>) -> Result<Dashboard> {
    let written = written.metadata().get_bin(token::HEADER).context("the reply has a token")?.to_bytes()?;
    let mut request = Request::new(GetDashboardRequest::default());
    request.metadata_mut().insert_bin(token::HEADER, BinaryMetadataValue::from_bytes(&written));
    Ok(client.dashboards().get_dashboard(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chosen_take_stays_until_it_is_deleted() -> Result<()> {
    let cluster = Cluster::start(Options { pace: "1", ..Options::default() }).await?;
    let client = cluster.client(10).await?;
    let scene = client.scene(&client.project("The harbour").await?, "Dawn").await?;
    let first = client.outcome(&client.start(&scene, "a harbour at dawn").await?.name).await?;
    // So that it is warm.
    client.dashboard().await?;

    let choose = SetTakeRequest { scene: scene.name.clone(), generation: first.name.clone() };
    let chosen = client.generations().set_take(choose).await?;
    let card = dashboard_after(&client, &chosen).await?.projects[0].scenes[0].clone();
    let take = card.take.context("the take")?;
    assert!(
        !take.thumbhash.is_empty() && Some(&take.thumbhash) == card.latest.as_ref().map(|latest| &latest.thumbhash)
    );
    assert_eq!(
        (take.name.as_str(), take.thumbnail_url.as_str()),
        (first.name.as_str(), first.outputs[0].poster_url.as_str())
    );

    let second = client.outcome(&client.start(&scene, "a harbour at noon").await?.name).await?;
    let state = std::env::temp_dir().join(format!("rushes-state-{}", uuid::Uuid::now_v7().simple()));
    let said = rushes(&client, &state, &["dashboard"]).await?.out;
    for shown in [format!("take    {}", first.name), second.name.clone(), first.outputs[0].url.clone()] {
        assert!(said.contains(&shown), "{shown}: {said}");
    }
    let said = rushes(&client, &state, &["scenes", "take", &scene.name, &second.name]).await?.out;
    assert!(said.contains(&format!("take {}", second.name)), "{said}");
    let said = rushes(&client, &state, &["dashboard"]).await?.out;
    assert!(said.contains(&format!("take    {}  (the latest)", second.name)), "{said}");
    rushes(&client, &state, &["scenes", "take", &scene.name, "--none"]).await?;
    let said = rushes(&client, &state, &["scenes", "get", &scene.name]).await?.out;
    assert!(said.contains("latest") && !said.contains("take"), "{said}");
    let refused =
        rushes(&client, &state, &["scenes", "take", &scene.name]).await.err().context("it was not refused")?;
    assert!(refused.to_string().contains("exit status: 2"), "{refused}");
    let _ = std::fs::remove_dir_all(state);

    let choose = SetTakeRequest { scene: scene.name.clone(), generation: first.name.clone() };
    client.generations().set_take(choose).await?;
    let delete = DeleteGenerationRequest { name: first.name, ..Default::default() };
    let deleted = client.generations().delete_generation(delete).await?;
    let card = dashboard_after(&client, &deleted).await?.projects[0].scenes[0].clone();
    assert_eq!((card.take, card.latest.map(|latest| latest.name)), (None, Some(second.name)));
    cluster.end().await
}

/// The size in a WebP's header: `RIFF`, a size, `WEBP`, then a lossy or an extended chunk.
pub(crate) fn webp_size(bytes: &[u8]) -> Option<(u32, u32)> {
    if bytes.get(..4)? != b"RIFF" || bytes.get(8..12)? != b"WEBP" {
        return None;
    }
    let at = |i: usize| bytes.get(i).copied().map(u32::from);
    match bytes.get(12..16)? {
        b"VP8 " => Some(((at(26)? | at(27)? << 8) & 0x3fff, (at(28)? | at(29)? << 8) & 0x3fff)),
        b"VP8X" => Some((1 + (at(24)? | at(25)? << 8 | at(26)? << 16), 1 + (at(27)? | at(28)? << 8 | at(29)? << 16))),
        _ => None,
    }
}
