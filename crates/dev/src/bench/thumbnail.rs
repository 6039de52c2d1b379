//! What the default thumbnail of a 12-megapixel JPEG costs thumbnail-worker and its decoders in CPU time: reading it from storage, decoding,
//! fitting, encoding, storing and answering. Beside it, where it is installed, what libvips takes to make one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::assets::v1::asset_service_client::AssetServiceClient;
use proto::assets::v1::upload_asset_request::Part;
use proto::assets::v1::{RenderThumbnailRequest, UploadAssetRequest, UploadMetadata, thumbnail};
use tonic::transport::Channel;
use uuid::Uuid;

use super::progress::say;
use super::report::{Round, Row, millis};
use super::services::on_behalf;
use super::setup::Bench;
use super::{picture, process, statements};

/// In milliseconds of one core.
const GOAL: f64 = 45.0;
/// At most so much of what libvips takes.
const GOAL_BESIDE_VIPS: f64 = 0.77;
/// libvips' own programs, for all it does and for thumbnails.
const VIPS: &str = "vips";
const VIPSTHUMBNAIL: &str = "vipsthumbnail";
/// The pictures that it is asked for.
const LARGE: &str = "large.jpg";
const TINY: &str = "tiny.jpg";
/// The default thumbnail in its words: 256 pixels a side, its middle, in the quality of ours.
const AS_OURS: [&str; 6] = ["--size", "256x256", "--smartcrop", "centre", "--output", "vips-%s.webp[Q=80]"];
/// How often it runs in a round: its time is counted in hundredths of a second.
const RUNS_OF_VIPS: u32 = 5;
/// Bytes in a message of the upload.
const CHUNK: usize = 512 * 1024;

/// What libvips makes of the picture, so that other formats are measured too: the row, the file, and how. A PNG of as many pixels with grain would
/// be larger than any that is taken.
const OTHERS: [(&str, &str, &[&str]); 3] = [
    ("thumbnail_progressive_jpeg_vips", "progressive.jpg", &["jpegsave", "--interlace", "--Q", "90"]),
    ("thumbnail_webp_vips", "large.webp", &["webpsave", "--Q", "80"]),
    ("thumbnail_png_3_megapixels_vips", "half.png", &["resize", "0.5"]),
];

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let picture = tokio::task::spawn_blocking(|| picture::jpeg(1)).await.context("drawing the picture")??;
    say(&format!(
        "thumbnails of a picture of 12 megapixels in {:.1} MB",
        f64::from(u32::try_from(picture.len())?) / 1e6
    ));
    let vips = Vips::find(bench.database.folder(), &picture)?;
    let (found, beside) = compare(bench, &picture, vips.as_ref().map(|vips| (vips, LARGE))).await?;
    let figure = "the figure aimed at, CPU time of one core";
    let mut rows = vec![Row::figure_goal("thumbnail_12_megapixels", "ms", GOAL, figure, &found)];
    let Some(vips) = vips else { return Ok(rows) };
    let row = |name: &str, rounds: &[Round]| {
        let what = "vipsthumbnail of the same file to the same size, less that of a picture of 16 pixels";
        Row::new(name, "ms", what, GOAL_BESIDE_VIPS, rounds)
    };
    rows.push(row("thumbnail_12_megapixels_vips", &beside));
    for (name, file, how) in OTHERS {
        let picture = vips.make(file, how)?;
        say(&format!("{name}: {:.1} MB", f64::from(u32::try_from(picture.len())?) / 1e6));
        let (_, beside) = compare(bench, &picture, Some((&vips, file))).await?;
        rows.push(row(name, &beside));
    }
    Ok(rows)
}

/// What a thumbnail takes, in milliseconds, and beside what libvips takes for the same file, if it is here.
async fn compare(bench: &Bench, picture: &[u8], vips: Option<(&Vips, &str)>) -> Result<(Vec<f64>, Vec<Round>)> {
    let account = *bench.seeded.warm().last().context("no account is left")?;
    let service = bench.services.service("thumbnail-worker")?;
    let mut assets = AssetServiceClient::new(service.channel().await?);
    let asset = upload(&mut assets, account, picture).await?;
    let mut database = bench.database.connect().await?;
    let (mut found, mut beside) = (Vec::new(), Vec::new());
    for number in 0..=bench.options.rounds {
        statements::forget_thumbnails(&mut database, account).await?;
        let before = process::cpu_with_children(service.pid())?;
        render(&mut assets, account, &asset).await?;
        let used = process::cpu_with_children(service.pid())?.saturating_sub(before);
        // The first one makes threads and buffers.
        if number > 0 {
            found.push(millis(used));
            if let Some((vips, file)) = vips {
                beside.push(Round { ours: millis(used), beside: millis(vips.thumbnail(file)?) });
            }
        }
    }
    Ok((found, beside))
}

/// libvips, with the pictures that it is asked for.
struct Vips {
    folder: PathBuf,
}

impl Vips {
    /// Nothing where it is not on this machine.
    fn find(folder: &Path, picture: &[u8]) -> Result<Option<Self>> {
        if testkit::find_binary(VIPSTHUMBNAIL).is_err() || testkit::find_binary(VIPS).is_err() {
            say("no vips and vipsthumbnail on this machine: their rows are left out");
            return Ok(None);
        }
        let vips = Self { folder: folder.to_owned() };
        std::fs::write(vips.folder.join(LARGE), picture)?;
        std::fs::write(vips.folder.join(TINY), picture::tiny_jpeg()?)?;
        Ok(Some(vips))
    }

    /// The picture in another format.
    fn make(&self, file: &str, how: &[&str]) -> Result<Vec<u8>> {
        let mut command = Command::new(VIPS);
        command.current_dir(&self.folder).args(&how[..1]).args([LARGE, file]).args(&how[1..]);
        ensure!(command.status().context("running vips")?.success(), "vips failed");
        Ok(std::fs::read(self.folder.join(file))?)
    }

    /// What a thumbnail of a file takes, without the program's start.
    fn thumbnail(&self, file: &str) -> Result<Duration> {
        Ok(self.run(file)?.saturating_sub(self.run(TINY)?))
    }

    fn run(&self, picture: &str) -> Result<Duration> {
        let before = process::cpu_of_ended_children()?;
        for _ in 0..RUNS_OF_VIPS {
            let mut command = Command::new(VIPSTHUMBNAIL);
            command.current_dir(&self.folder).arg(picture).args(AS_OURS);
            ensure!(command.status().context("running vipsthumbnail")?.success(), "vipsthumbnail failed");
        }
        Ok((process::cpu_of_ended_children()? - before) / RUNS_OF_VIPS)
    }
}

/// Asks for the default thumbnail, and waits until it is there.
pub(super) async fn render(assets: &mut AssetServiceClient<Channel>, account: Uuid, asset: &str) -> Result<()> {
    let request = RenderThumbnailRequest { asset: asset.to_owned(), spec: None, later: false };
    let mut request = on_behalf("thumbnail-worker", account, request);
    request.set_timeout(Duration::from_secs(10));
    let thumbnail = assets.render_thumbnail(request).await.context("rendering a thumbnail")?.into_inner();
    ensure!(thumbnail.state() == thumbnail::State::Ready, "the thumbnail is {:?}", thumbnail.state());
    Ok(())
}

pub(super) async fn upload(assets: &mut AssetServiceClient<Channel>, account: Uuid, picture: &[u8]) -> Result<String> {
    let metadata = UploadMetadata { file_name: "bench.jpg".to_owned(), size_bytes: i64::try_from(picture.len())? };
    let parts: Vec<UploadAssetRequest> = std::iter::once(Part::Metadata(metadata))
        .chain(picture.chunks(CHUNK).map(|chunk| Part::Chunk(bytes::Bytes::copy_from_slice(chunk))))
        .map(|part| UploadAssetRequest { part: Some(part) })
        .collect();
    let mut request = on_behalf("thumbnail-worker", account, futures::stream::iter(parts));
    request.set_timeout(Duration::from_secs(10));
    Ok(assets.upload_asset(request).await.context("uploading the picture")?.into_inner().name)
}
