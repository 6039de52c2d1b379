//! Records as messages.

use std::time::Duration;

use chassis::blobs::Name;
use domain::name::asset_name;
use prost_types::Timestamp;
use proto::assets::v1::thumbnail::State;
use proto::assets::v1::{Asset, Poster, PosterImage, RegisterOutputResponse, Thumbnail, ThumbnailSpec};

use crate::model::{self, Spec, StoredAsset, ThumbnailStatus};

/// Makes messages of records.
pub(super) struct Presenter {
    /// What the addresses of assets begin with, without a slash at its end.
    public_url: String,
}

impl Presenter {
    pub(super) fn new(public_url: String) -> Self {
        Self { public_url }
    }

    /// An asset with its default thumbnail.
    pub(super) fn asset_to_proto(&self, StoredAsset { asset, thumbnail }: StoredAsset) -> Asset {
        Asset {
            name: asset_name(&asset.sha256),
            url: self.url(&asset.blob),
            mime_type: asset.mime_type,
            size_bytes: asset.bytes.cast_signed(),
            width: asset.width.cast_signed(),
            height: asset.height.cast_signed(),
            duration: (!asset.duration.is_zero()).then(|| to_proto(asset.duration)),
            audio: asset.audio,
            frame_rate: asset.frame_rate,
            c2pa: asset.c2pa,
            thumbnail: thumbnail.map(|status| self.thumbnail_to_proto(status, Spec::default())),
            poster: asset.poster.as_ref().map(|poster| self.poster_to_proto(poster)),
            create_time: Some(Timestamp {
                seconds: asset.create_time.unix_timestamp(),
                nanos: asset.create_time.nanosecond().cast_signed(),
            }),
        }
    }

    fn poster_to_proto(&self, poster: &model::Poster) -> Poster {
        let image = |image: &model::PosterImage| PosterImage {
            asset: asset_name(&image.blob.sha256()),
            url: self.url(&image.blob),
            width: image.width.cast_signed(),
            height: image.height.cast_signed(),
        };
        Poster {
            large: Some(image(&poster.large)),
            small: Some(image(&poster.small)),
            thumbhash: poster.thumbhash.clone(),
        }
    }

    pub(super) fn thumbnail_to_proto(&self, status: ThumbnailStatus, spec: Spec) -> Thumbnail {
        let spec = ThumbnailSpec {
            width: spec.width.cast_signed(),
            height: spec.height.cast_signed(),
            quality: spec.quality.into(),
        };
        let mut thumbnail = Thumbnail { spec: Some(spec), ..Thumbnail::default() };
        match status {
            ThumbnailStatus::Processing => thumbnail.set_state(State::Processing),
            ThumbnailStatus::Ready(blob) => {
                thumbnail.set_state(State::Ready);
                thumbnail.asset = asset_name(&blob.sha256());
                thumbnail.url = self.url(&blob);
            }
            ThumbnailStatus::Failed(reason) => {
                thumbnail.set_state(State::Failed);
                thumbnail.failure_reason = reason;
            }
        }
        thumbnail
    }

    /// An output that was registered; its poster is its default thumbnail.
    pub(super) fn output_to_proto(&self, output: StoredAsset) -> RegisterOutputResponse {
        let poster_missing_reason = match &output.thumbnail {
            Some(ThumbnailStatus::Failed(reason)) => reason.clone(),
            _ => String::new(),
        };
        let duration_ms = i64::try_from(output.asset.duration.as_millis()).unwrap_or_default();
        RegisterOutputResponse { asset: Some(self.asset_to_proto(output)), duration_ms, poster_missing_reason }
    }

    fn url(&self, blob: &Name) -> String {
        format!("{}/assets/{blob}", self.public_url)
    }
}

fn to_proto(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: duration.subsec_nanos().cast_signed() }
}
