//! The client of AssetService: has a stored output registered and its poster made.

use std::time::Duration;

use chassis::blobs::Name;
use chassis::client::Channel;
use chassis::request::caller::Caller;
use chassis::request::deadline;
use domain::id::AccountId;
use domain::name::asset_name;
use proto::assets::v1::asset_service_client::AssetServiceClient;
use proto::assets::v1::{RegisterOutputRequest, RegisterOutputResponse};
use tokio::time::Instant;
use tonic::{Code, Request, Status};

use crate::error::Error;
use crate::model::StoredFile;

/// Its name in errors.
const SERVICE: &str = "thumbnail-worker";
/// How long making the poster may take.
const POSTER_TIMEOUT: Duration = Duration::from_secs(30);

/// Talks to thumbnail-worker; clones share the channel.
#[derive(Clone)]
pub(crate) struct AssetClient {
    inner: AssetServiceClient<Channel>,
}

impl AssetClient {
    /// A client on `channel`.
    #[must_use]
    pub(crate) fn new(channel: Channel) -> Self {
        Self { inner: AssetServiceClient::new(channel) }
    }

    /// Registers a stored output of `account` and has its poster made; tried once. Nothing when the answer names no asset.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is no file that can be used, [`Error::Unavailable`] when it may be tried again.
    pub(crate) async fn register_output(&self, account: AccountId, name: &Name) -> Result<Option<StoredFile>, Error> {
        let mut request = Request::new(RegisterOutputRequest {
            asset: asset_name(&name.sha256()),
            extension: name.extension().to_owned(),
        });
        Caller::account(account.0).attach(&mut request);
        let mut client = self.inner.clone();
        let call = client.register_output(request);
        let response = deadline::within(Instant::now() + POSTER_TIMEOUT, call).await.map_err(parse_status)?;
        Ok(parse_file(response.into_inner(), name.extension()))
    }
}

fn parse_file(response: RegisterOutputResponse, extension: &str) -> Option<StoredFile> {
    let asset = response.asset?;
    let thumbnail = asset.thumbnail.unwrap_or_default();
    Some(StoredFile {
        asset: asset.name,
        // Who decoded it has the last word on what it is, and stored it under that ending too.
        extension: extension_of(&asset.mime_type).unwrap_or(extension).to_owned(),
        size_bytes: asset.size_bytes,
        mime_type: asset.mime_type,
        width: asset.width,
        height: asset.height,
        duration: u64::try_from(response.duration_ms).ok().filter(|duration| *duration > 0).map(Duration::from_millis),
        url: asset.url,
        poster: thumbnail.asset,
        poster_url: thumbnail.url,
        poster_missing_reason: response.poster_missing_reason,
        moderation: None,
    })
}

/// The ending of a stored object of this type.
fn extension_of(mime_type: &str) -> Option<&'static str> {
    Some(match mime_type {
        "video/mp4" => "mp4",
        "video/webm" => "webm",
        "video/quicktime" => "mov",
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "image/webp" => "webp",
        "audio/wav" => "wav",
        "audio/mpeg" => "mp3",
        "audio/mp4" => "m4a",
        _ => return None,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "an error is consumed where it is mapped")]
fn parse_status(status: Status) -> Error {
    match status.code() {
        Code::InvalidArgument => Error::Refused(status.message().to_owned()),
        code => {
            Error::Unavailable { service: SERVICE, code: format!("{code:?}"), message: status.message().to_owned() }
        }
    }
}
