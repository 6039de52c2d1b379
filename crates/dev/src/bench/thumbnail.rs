//! What the default thumbnail of a 12-megapixel JPEG costs thumbnail-worker and its decoders in CPU time: reading it from storage, decoding,
//! fitting, encoding, storing and answering.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::assets::v1::asset_service_client::AssetServiceClient;
use proto::assets::v1::upload_asset_request::Part;
use proto::assets::v1::{RenderThumbnailRequest, UploadAssetRequest, UploadMetadata, thumbnail};
use tonic::transport::Channel;
use uuid::Uuid;

use super::progress::say;
use super::report::{Row, millis};
use super::services::on_behalf;
use super::setup::Bench;
use super::{picture, process, statements};

/// In milliseconds of one core.
const GOAL: f64 = 45.0;
/// Bytes in a message of the upload.
const CHUNK: usize = 512 * 1024;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let picture = tokio::task::spawn_blocking(|| picture::jpeg(1)).await.context("drawing the picture")??;
    say(&format!(
        "thumbnails of a picture of 12 megapixels in {:.1} MB",
        f64::from(u32::try_from(picture.len())?) / 1e6
    ));
    let account = *bench.seeded.warm().last().context("no account is left")?;
    let service = bench.services.service("thumbnail-worker")?;
    let mut assets = AssetServiceClient::new(service.channel().await?);
    let asset = upload(&mut assets, account, &picture).await?;
    let mut database = bench.database.connect().await?;
    let mut found = Vec::new();
    for number in 0..=bench.options.rounds {
        statements::forget_thumbnails(&mut database, account).await?;
        let before = process::cpu_with_children(service.pid())?;
        let request = RenderThumbnailRequest { asset: asset.clone(), spec: None, later: false };
        let mut request = on_behalf("thumbnail-worker", account, request);
        request.set_timeout(Duration::from_secs(10));
        let thumbnail = assets.render_thumbnail(request).await.context("rendering a thumbnail")?.into_inner();
        let used = process::cpu_with_children(service.pid())?.saturating_sub(before);
        ensure!(thumbnail.state() == thumbnail::State::Ready, "the thumbnail is {:?}", thumbnail.state());
        // The first one makes threads and buffers.
        if number > 0 {
            found.push(millis(used));
        }
    }
    Ok(vec![Row::figure_goal(
        "thumbnail_12_megapixels",
        "ms",
        GOAL,
        "the figure aimed at, CPU time of one core",
        &found,
    )])
}

async fn upload(assets: &mut AssetServiceClient<Channel>, account: Uuid, picture: &[u8]) -> Result<String> {
    let metadata = UploadMetadata { file_name: "bench.jpg".to_owned(), size_bytes: i64::try_from(picture.len())? };
    let parts: Vec<UploadAssetRequest> = std::iter::once(Part::Metadata(metadata))
        .chain(picture.chunks(CHUNK).map(|chunk| Part::Chunk(bytes::Bytes::copy_from_slice(chunk))))
        .map(|part| UploadAssetRequest { part: Some(part) })
        .collect();
    let mut request = on_behalf("thumbnail-worker", account, futures::stream::iter(parts));
    request.set_timeout(Duration::from_secs(10));
    Ok(assets.upload_asset(request).await.context("uploading the picture")?.into_inner().name)
}
