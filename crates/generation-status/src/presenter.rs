//! Presenters: API messages made of records. An id becomes a name here, a version an etag, and a stored object a URL.

mod inputs;

use bytes::Bytes;
use catalogue::{File, Line, ModerationRule, Order};
use chassis::links::AssetUrls;
use domain::id::{AccountId, GenerationId};
use domain::name::{self, SceneName};
use prost::Message as _;
use prost_types::{Any, Duration, Timestamp};
use proto::assets::v1::{Poster, PosterImage};
use proto::generations::v1 as api;
use proto::google::rpc;
use proto::work::v1 as work;
use serde_json::Value;
use time::OffsetDateTime;
use tonic_types::pb::ErrorInfo;

use crate::block_reasons::{self, BlockReasons};
use crate::model::{Failure, Generation, InputDetails, NewGeneration, Output, Picture};

pub(crate) use inputs::{parse_struct, role_to_proto};

/// Presents generations, with URLs that clients can reach; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Presenter {
    /// The URLs of stored objects.
    assets: AssetUrls,
    /// Why queued generations are blocked. Absent where the result is cached: these reasons change without a new version.
    block_reasons: Option<BlockReasons>,
}

impl Presenter {
    /// A presenter whose URLs are `assets`'.
    pub(crate) fn new(assets: AssetUrls) -> Self {
        Self { assets, block_reasons: None }
    }

    /// The same, with the current reason why a queued generation is blocked.
    pub(crate) fn with_block_reasons(self, block_reasons: BlockReasons) -> Self {
        Self { block_reasons: Some(block_reasons), ..self }
    }

    /// Puts the current block reason into an encoded generation of `account`.
    pub(crate) fn refresh(&self, account: AccountId, encoded: Bytes) -> Bytes {
        match &self.block_reasons {
            Some(reasons) => reasons.patch(account, encoded),
            None => encoded,
        }
    }

    /// An encoded generation without the current block reason, so that its version determines it.
    pub(crate) fn encoded(&self, generation: &Generation) -> Bytes {
        self.waiting_for(generation, generation.wait_reason).encode_to_vec().into()
    }

    /// The same once the current block reason is put into it.
    pub(crate) fn with_block_reason(&self, generation: &Generation, encoded: Bytes) -> Bytes {
        match self.block_reason(generation) {
            Some(reason) => block_reasons::overridden(&encoded, reason.into()),
            None => encoded,
        }
    }

    /// A generation as its user sees it.
    pub(crate) fn generation(&self, generation: &Generation) -> api::Generation {
        self.waiting_for(generation, self.block_reason(generation).unwrap_or(generation.wait_reason))
    }

    fn block_reason(&self, generation: &Generation) -> Option<i16> {
        self.block_reasons.as_ref().and_then(|reasons| reasons.of(generation))
    }

    fn waiting_for(&self, generation: &Generation, wait_reason: i16) -> api::Generation {
        api::Generation {
            name: generation.id.name(),
            etag: format!("v{}", generation.version),
            version: generation.version,
            state: generation.state.number().into(),
            wait_reason: wait_reason.into(),
            scene: SceneName { project: generation.project, scene: generation.scene }.to_string(),
            model: model_name(&generation.model),
            input: Some(input(generation)),
            progress: Some(api::Progress {
                percent: generation.percent.into(),
                basis: generation.basis.into(),
                stage: generation.stage.clone(),
                queue_position: generation.queue_position,
                eta: generation
                    .eta
                    .map(|(p50, p80)| api::progress::Eta { p50: Some(timestamp(p50)), p80: Some(timestamp(p80)) }),
            }),
            outputs: generation.outputs.iter().map(|output| self.output(generation.account, output)).collect(),
            error: generation.error.as_ref().map(status),
            charge: Some(api::Charge {
                // A settlement ends the hold; the row keeps what was held.
                held_micros: if generation.state.is_terminal() { 0 } else { generation.held.get() },
                captured_micros: generation.captured.get(),
                released_micros: generation.released.get(),
                provider_charge: generation.provider_charge.into(),
                lines: generation.lines.iter().map(line).collect(),
            }),
            attempt_count: generation.attempt_count,
            create_time: Some(timestamp(generation.create_time)),
            submit_time: generation.submit_time.map(timestamp),
            start_time: generation.start_time.map(timestamp),
            end_time: generation.end_time.map(timestamp),
            update_time: Some(timestamp(generation.update_time)),
            traceparent: generation.traceparent.clone(),
            start_deadline: generation.start_deadline.map(timestamp),
            total_deadline: generation.total_deadline.map(timestamp),
            retried_from: generation.retried_from.map(GenerationId::name).unwrap_or_default(),
            labels: generation.labels.clone().into_iter().collect(),
            end_user: generation.end_user.clone(),
        }
    }

    /// What a start would come to: its price and the input as it was resolved. It has no name, since nothing was started.
    pub(crate) fn quote(&self, new: &NewGeneration) -> api::Generation {
        let input = &new.resolved.input;
        api::Generation {
            scene: new.scene.to_string(),
            model: model_name(&new.model.id),
            input: Some(inputs::to_proto(&input.prompt, input.seed, &InputDetails::from(input))),
            charge: Some(api::Charge {
                held_micros: new.price.total.get(),
                lines: new.price.lines.iter().map(line).collect(),
                ..api::Charge::default()
            }),
            labels: new.labels.clone().into_iter().collect(),
            end_user: new.end_user.clone(),
            ..api::Generation::default()
        }
    }

    fn output(&self, account: AccountId, output: &Output) -> api::Output {
        let milliseconds = output.duration_ms.rem_euclid(1_000);
        api::Output {
            asset: name::asset_name(&output.sha256),
            size_bytes: output.size_bytes,
            mime_type: output.mime_type.clone(),
            width: output.width,
            height: output.height,
            duration: Some(Duration {
                seconds: output.duration_ms.div_euclid(1_000),
                nanos: i32::try_from(milliseconds * 1_000_000).unwrap_or_default(),
            }),
            url: self.assets.url(account.0, output.object_key()),
            poster: output.poster.as_ref().map(name::asset_name).unwrap_or_default(),
            poster_url: output.poster_key().map(|key| self.assets.url(account.0, key)).unwrap_or_default(),
            poster_missing_reason: output.poster_missing_reason.clone(),
            moderation: output.moderation.as_ref().map(|said| api::output::Moderation {
                provider: said.provider.clone(),
                flagged: said.flagged,
                categories: said.categories.clone(),
                effect: said.effect.clone(),
            }),
            pictures: output.pictures.as_ref().map(|pictures| Poster {
                large: Some(self.picture(account, &pictures.large)),
                small: Some(self.picture(account, &pictures.small)),
                thumbhash: pictures.thumbhash.clone(),
            }),
        }
    }

    fn picture(&self, account: AccountId, picture: &Picture) -> PosterImage {
        PosterImage {
            asset: name::asset_name(&picture.sha256),
            url: self.assets.url(account.0, picture.object_key()),
            width: picture.width,
            height: picture.height,
        }
    }
}

/// `models/{model}`.
pub(crate) fn model_name(id: &str) -> String {
    format!("models/{id}")
}

/// The input of a generation as it was resolved.
fn input(generation: &Generation) -> api::Input {
    inputs::to_proto(&generation.prompt, generation.seed, &generation.input)
}

/// One line of a price.
pub(crate) fn line(line: &Line) -> api::charge::Line {
    api::charge::Line {
        per: line.per.as_str().to_owned(),
        quantity: line.quantity.to_string(),
        unit_price: line.unit_price.to_string(),
        micros: line.credits.times(1_000_000).unwrap_or_default().to_string(),
    }
}

fn moderation_rule(rule: ModerationRule) -> work::order::ModerationRule {
    work::order::ModerationRule {
        at: rule.at,
        contains: rule.contains.unwrap_or_default(),
        category: rule.category,
        effect: rule.effect.map(|effect| effect.as_str().to_owned()).unwrap_or_default(),
    }
}

/// What a worker sends to the provider.
pub(crate) fn order(order: Order) -> work::Order {
    let file = |file: File| work::order::File {
        pointer: file.pointer,
        asset: file.asset.name,
        extension: file.asset.extension,
        mime_type: file.asset.mime_type,
        size_bytes: i64::try_from(file.asset.size_bytes).unwrap_or(i64::MAX),
        forms: file.forms,
    };
    work::Order {
        provider: order.provider.as_str().to_owned(),
        model: order.model,
        input: Value::Object(order.input).to_string(),
        files: order.files.into_iter().map(file).collect(),
        output: order.output.unwrap_or_default(),
        refusals: order.refusals,
        moderation: order.moderation.into_iter().map(moderation_rule).collect(),
        unasked: order.unasked,
        output_kinds: order.output_kinds.into_iter().map(|kind| kind.as_str().to_owned()).collect(),
        max_outputs: i32::try_from(order.max_outputs).unwrap_or(i32::MAX),
        max_run_time: order.max_run_ms.and_then(|ms| std::time::Duration::from_millis(ms).try_into().ok()),
    }
}

pub(crate) fn timestamp(at: OffsetDateTime) -> Timestamp {
    // Nanoseconds of a second always fit.
    Timestamp { seconds: at.unix_timestamp(), nanos: i32::try_from(at.nanosecond()).unwrap_or_default() }
}

/// The `google.rpc.Status` of a failure, with its reason in an ErrorInfo.
fn status(failure: &Failure) -> rpc::Status {
    let info = ErrorInfo {
        reason: failure.reason.clone(),
        domain: chassis::status::DOMAIN.to_owned(),
        metadata: std::collections::HashMap::new(),
    };
    let details = Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(), value: info.encode_to_vec() };
    rpc::Status { code: failure.code, message: failure.message.clone(), details: vec![details] }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use catalogue::{Length, Role, Settings};
    use chassis::keyring::InternalKeys;
    use domain::generation::State;
    use domain::id::{ProjectId, SceneId};
    use domain::money::Micros;
    use uuid::Uuid;

    use super::*;
    use crate::model::{Moderation, NamedMedium, Pictures};

    #[test]
    fn no_generation_is_larger_than_it_says() {
        let (time, id) = (OffsetDateTime::now_utc(), Uuid::max());
        let picture = Picture { sha256: [255; 32], width: i32::MAX, height: i32::MAX };
        let output = Output {
            sha256: [255; 32],
            extension: "webm".to_owned(),
            size_bytes: i64::MAX,
            mime_type: "video/quicktime".to_owned(),
            width: i32::MAX,
            height: i32::MAX,
            duration_ms: i64::from(i32::MAX),
            poster: Some([255; 32]),
            poster_missing_reason: "no usable picture".to_owned(),
            moderation: Some(Moderation {
                provider: "openrouter".to_owned(),
                flagged: true,
                categories: vec!["🎬".repeat(60); 16],
                effect: "replaced".to_owned(),
            }),
            pictures: Some(Pictures { large: picture.clone(), small: picture, thumbhash: vec![255; 30] }),
        };
        let generation = Generation {
            id: GenerationId(id),
            account: AccountId(id),
            project: ProjectId(id),
            scene: SceneId(id),
            version: i64::MAX,
            state: State::Completed,
            wait_reason: 8,
            model: "m".repeat(200),
            prompt: "🎬".repeat(2_000),
            seed: Some(i64::MIN),
            input: InputDetails {
                negative_prompt: Some("🎬".repeat(500)),
                media: vec![NamedMedium { role: Role::Reference, asset: name::asset_name(&[255; 32]) }; 16],
                settings: Settings {
                    length: Some(Length::Milliseconds(u64::from(u32::MAX))),
                    aspect_ratio: Some("16:9".to_owned()),
                    resolution: Some("1080p".to_owned()),
                    size: Some("1920x1080".to_owned()),
                    audio: Some(true),
                    fps: Some(23.976),
                    outputs: Some(4),
                },
                parameters: serde_json::from_str(r#"{"a": [1, "two", {"three": null}], "cfg": 0.5}"#).unwrap(),
            },
            labels: BTreeMap::from([("key".to_owned(), "🎬".repeat(200))]),
            end_user: "🎬".repeat(200),
            lines: Vec::new(),
            percent: 100,
            basis: 2,
            stage: "🎬".repeat(60),
            queue_position: i32::MAX,
            eta: Some((time, time)),
            outputs: vec![output; 3],
            error: Some(Failure { code: 13, reason: "R".repeat(60), message: "🎬".repeat(1_000) }),
            held: Micros::new(i64::MAX),
            captured: Micros::new(i64::MAX),
            released: Micros::new(i64::MAX),
            provider_charge: 3,
            attempt_count: i32::MAX,
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            create_time: time,
            submit_time: Some(time),
            start_time: Some(time),
            end_time: Some(time),
            update_time: time,
            start_deadline: Some(time),
            total_deadline: Some(time),
            retried_from: Some(GenerationId(id)),
        };
        // As long as an address gets: days of five digits.
        let keys = InternalKeys::parse("0123456789abcdef0123456789abcdef").unwrap();
        let urls = AssetUrls::signed(&format!("https://{}.example.com", "a".repeat(100)), &keys, 365);
        let presenter = Presenter::new(urls);
        let (bytes, max) = (presenter.generation(&generation).encoded_len(), generation.max_bytes());
        assert!(bytes <= max && max < bytes + 1_024, "{bytes} bytes of at most {max}");
    }
}
