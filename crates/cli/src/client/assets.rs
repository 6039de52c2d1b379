//! `rushes upload`, `rushes assets` and `rushes thumbnail`.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use proto::assets::v1::asset_service_client::AssetServiceClient;
use proto::assets::v1::list_assets_request::Kind;
use proto::assets::v1::thumbnail::State;
use proto::assets::v1::upload_asset_request::Part;
use proto::assets::v1::{
    Asset, DeleteAssetRequest, ListAssetsRequest, RenderThumbnailRequest, Thumbnail, ThumbnailSpec, UploadAssetRequest,
    UploadMetadata,
};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use crate::client::projects::deleted;
use crate::client::session::Session;
use crate::failure::{Exit, Failure};
use crate::show;

/// How much of a file goes into one message.
const CHUNK: usize = 256 * 1024;

/// Uploads a picture, a video or a sound.
#[derive(Debug, clap::Args)]
pub struct Upload {
    /// A picture (JPEG, PNG, WebP; at most 20 MiB), a video (MP4, WebM, MOV; 200 MiB) or a sound (WAV, MP3, M4A; 50 MiB).
    file: PathBuf,
}

/// Lists and deletes assets.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List assets, newest first.
    List {
        /// Only those of this kind.
        #[arg(long)]
        kind: Option<KindName>,
        /// How many, at most 100.
        #[arg(long, default_value_t = 20)]
        page_size: i32,
        /// Where the page before ended.
        #[arg(long, default_value = "")]
        page_token: String,
    },
    /// Delete an asset with its thumbnails.
    Delete {
        /// assets/….
        name: String,
        /// That there is none is no error.
        #[arg(long)]
        allow_missing: bool,
    },
}

/// A kind of asset, as the command line has it.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum KindName {
    /// Pictures.
    Picture,
    /// Videos.
    Video,
    /// Sounds.
    Sound,
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::Picture => Self::Picture,
            KindName::Video => Self::Video,
            KindName::Sound => Self::Sound,
        }
    }
}

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let mut client = AssetServiceClient::new(session.gateway()?);
        match self {
            Self::List { kind, page_size, page_token } => {
                let restricted = kind.map_or(Kind::Unspecified, Kind::from).into();
                let request =
                    ListAssetsRequest { kind: restricted, page_size, page_token, ..ListAssetsRequest::default() };
                let answer = client.list_assets(session.request(request)?).await;
                let answer = answer.map_err(|status| session.failed(&status))?;
                session.show("rushes.assets.v1.ListAssetsResponse", answer.get_ref(), |page| {
                    let mut out: String = page.assets.iter().map(list_line).collect();
                    if !page.next_page_token.is_empty() {
                        let kind = kind.and_then(|kind| clap::ValueEnum::to_possible_value(&kind));
                        let kind = kind.map(|kind| format!(" --kind {}", kind.get_name())).unwrap_or_default();
                        let _ = writeln!(out, "more: rushes assets list{kind} --page-token {}", page.next_page_token);
                    }
                    out
                })
            }
            Self::Delete { name, allow_missing } => {
                let request = session.request(DeleteAssetRequest { name: name.clone(), allow_missing })?;
                client.delete_asset(request).await.map_err(|status| session.failed(&status))?;
                deleted(session, &name)
            }
        }
    }
}

/// Renders a thumbnail.
#[derive(Debug, clap::Args)]
pub struct Render {
    /// assets/… of a picture or a video.
    asset: String,
    /// 1 to 1,024 pixels; the next size that there is.
    #[arg(long, default_value_t = 256)]
    width: i32,
    /// 1 to 1,024 pixels; the next size that there is.
    #[arg(long, default_value_t = 256)]
    height: i32,
    /// WebP quality, 1 to 100; the next that there is.
    #[arg(long, default_value_t = 80)]
    quality: i32,
    /// Do not wait for it.
    #[arg(long)]
    later: bool,
}

impl Upload {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        session.show("rushes.assets.v1.Asset", &upload(session, &self.file).await?, text)
    }
}

/// Uploads a file.
pub(crate) async fn upload(session: &Session, file: &Path) -> Result<Asset> {
    let unreadable =
        |error: &io::Error| Failure::new(format!("{} cannot be read: {error}", file.display())).exit(Exit::Usage);
    let opened = File::open(file).await.map_err(|error| unreadable(&error))?;
    let size = opened.metadata().await.map_err(|error| unreadable(&error))?.len();
    let file_name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let metadata = Part::Metadata(UploadMetadata { file_name, size_bytes: i64::try_from(size)? });
    // A stream to the gateway cannot break off with a reason of ours: it ends, and the reason is found here.
    let (failed, failure) = std::sync::mpsc::channel();
    let chunks = stream::unfold((opened, failed), async |(mut file, failed)| match read_chunk(&mut file).await {
        Ok(chunk) if chunk.is_empty() => None,
        Ok(chunk) => Some((Part::Chunk(chunk), (file, failed))),
        Err(error) => {
            let _ = failed.send(error);
            None
        }
    });
    let parts = stream::once(async { metadata }).chain(chunks).map(|part| UploadAssetRequest { part: Some(part) });
    let mut client = AssetServiceClient::new(session.gateway()?);
    // It takes as long as the gateway lets it.
    let answer = client.upload_asset(session.stream(parts)?).await;
    if let Ok(error) = failure.try_recv() {
        return Err(unreadable(&error).into());
    }
    Ok(answer.map_err(|status| session.failed(&status))?.into_inner())
}

impl Render {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let spec = Some(ThumbnailSpec { width: self.width, height: self.height, quality: self.quality });
        let request = RenderThumbnailRequest { asset: self.asset, spec, later: self.later };
        let mut client = AssetServiceClient::new(session.gateway()?);
        let answer = client.render_thumbnail(session.request(request)?).await;
        let answer = answer.map_err(|status| session.failed(&status))?;
        session.show("rushes.assets.v1.Thumbnail", answer.get_ref(), |thumbnail| format!("{}\n", line(thumbnail)))
    }
}

/// The next bytes of a file; none at its end.
async fn read_chunk(file: &mut File) -> io::Result<Bytes> {
    let mut chunk = BytesMut::with_capacity(CHUNK);
    while chunk.len() < CHUNK && file.take((CHUNK - chunk.len()) as u64).read_buf(&mut chunk).await? > 0 {}
    Ok(chunk.freeze())
}

fn text(asset: &Asset) -> String {
    let mut out = format!("{}\n  {}", asset.name, asset.mime_type);
    if asset.width > 0 {
        let _ = write!(out, ", {}x{}", asset.width, asset.height);
    }
    if let Some(duration) = &asset.duration {
        let _ = write!(out, ", {:.1} s", duration.seconds as f64 + f64::from(duration.nanos) / 1e9);
    }
    if asset.frame_rate > 0.0 {
        let _ = write!(out, ", {} frames/s", (asset.frame_rate * 1_000.0).round() / 1_000.0);
    }
    if asset.audio && asset.width > 0 {
        out.push_str(", with sound");
    }
    let c2pa = if asset.c2pa { ", with a C2PA manifest" } else { "" };
    let _ = write!(out, ", {}{c2pa}\n  {}\n", show::bytes(asset.size_bytes), asset.url);
    if let Some(thumbnail) = &asset.thumbnail {
        let _ = writeln!(out, "  thumbnail {}", line(thumbnail));
    }
    out
}

fn list_line(asset: &Asset) -> String {
    format!("{}  {:<16} {:>10}\n", asset.name, asset.mime_type, show::bytes(asset.size_bytes))
}

fn line(thumbnail: &Thumbnail) -> String {
    match State::try_from(thumbnail.state) {
        Ok(State::Ready) => thumbnail.url.clone(),
        Ok(State::Failed) => format!("cannot be made: {}", thumbnail.failure_reason),
        Ok(State::Processing) => "is being made; ask again shortly".to_owned(),
        Ok(State::Unspecified) | Err(_) => "is in a state that this client does not know".to_owned(),
    }
}
