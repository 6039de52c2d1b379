//! Records as messages.

use std::time::Duration;

use chassis::links::AssetUrls;
use domain::id::AccountId;
use domain::name::asset_name;
use domain::page::Cursor;
use prost_types::Timestamp;
use proto::assets::v1::thumbnail::State;
use proto::assets::v1::{
    Asset, ListAssetsResponse, Poster, PosterImage, RegisterOutputResponse, Thumbnail, ThumbnailSpec,
};

use crate::model::{self, Filter, Listed, Spec, StoredAsset, ThumbnailStatus};
use crate::pages::Pages;

/// Makes messages of records.
pub(super) struct Presenter {
    /// The addresses of assets.
    urls: AssetUrls,
    /// The tokens of pages.
    pages: Pages,
}

impl Presenter {
    pub(super) fn new(urls: AssetUrls, pages: Pages) -> Self {
        Self { urls, pages }
    }

    /// An asset with its default thumbnail.
    pub(super) fn asset_to_proto(&self, account: AccountId, StoredAsset { asset, thumbnail }: StoredAsset) -> Asset {
        Asset {
            name: asset_name(&asset.sha256),
            url: self.urls.url(account.0, &asset.blob),
            mime_type: asset.mime_type,
            size_bytes: asset.bytes.cast_signed(),
            width: asset.width.cast_signed(),
            height: asset.height.cast_signed(),
            duration: (!asset.duration.is_zero()).then(|| to_proto(asset.duration)),
            audio: asset.audio,
            frame_rate: asset.frame_rate,
            c2pa: asset.c2pa,
            thumbnail: thumbnail.map(|status| self.thumbnail_to_proto(account, status, Spec::default())),
            poster: asset.poster.as_ref().map(|poster| self.poster_to_proto(account, poster)),
            create_time: Some(Timestamp {
                seconds: asset.create_time.unix_timestamp(),
                nanos: asset.create_time.nanosecond().cast_signed(),
            }),
        }
    }

    /// A page of a listing.
    pub(super) fn listed_to_proto(&self, account: AccountId, filter: &Filter, listed: Listed) -> ListAssetsResponse {
        let next = listed.next.map(|id| Cursor { position: 0, id });
        ListAssetsResponse {
            assets: listed.assets.into_iter().map(|asset| self.asset_to_proto(account, asset)).collect(),
            next_page_token: self.pages.token(account, &filter.listing(), next),
        }
    }

    fn poster_to_proto(&self, account: AccountId, poster: &model::Poster) -> Poster {
        let image = |image: &model::PosterImage| PosterImage {
            asset: asset_name(&image.blob.sha256()),
            url: self.urls.url(account.0, &image.blob),
            width: image.width.cast_signed(),
            height: image.height.cast_signed(),
        };
        Poster {
            large: Some(image(&poster.large)),
            small: Some(image(&poster.small)),
            thumbhash: poster.thumbhash.clone(),
        }
    }

    pub(super) fn thumbnail_to_proto(&self, account: AccountId, status: ThumbnailStatus, spec: Spec) -> Thumbnail {
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
                thumbnail.url = self.urls.url(account.0, &blob);
            }
            ThumbnailStatus::Failed(reason) => {
                thumbnail.set_state(State::Failed);
                thumbnail.failure_reason = reason;
            }
        }
        thumbnail
    }

    /// An output that was registered; its poster is its default thumbnail.
    pub(super) fn output_to_proto(&self, account: AccountId, output: StoredAsset) -> RegisterOutputResponse {
        let poster_missing_reason = match &output.thumbnail {
            Some(ThumbnailStatus::Failed(reason)) => reason.clone(),
            _ => String::new(),
        };
        let duration_ms = i64::try_from(output.asset.duration.as_millis()).unwrap_or_default();
        RegisterOutputResponse { asset: Some(self.asset_to_proto(account, output)), duration_ms, poster_missing_reason }
    }
}

fn to_proto(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: duration.subsec_nanos().cast_signed() }
}
