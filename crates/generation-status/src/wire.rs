//! Messages made of records. Here an id becomes a name, a version an etag, and a stored object an address.

use bytes::Bytes;
use domain::id::{AccountId, GenerationId};
use domain::name::{self, SceneName};
use prost::Message as _;
use prost_types::{Any, Duration, Timestamp};
use proto::generations::v1 as api;
use proto::google::rpc;
use time::OffsetDateTime;
use tonic_types::pb::ErrorInfo;

use crate::holds::Holds;
use crate::record::{Flaw, Output, Record};

/// Makes generations, with addresses that the outside can reach.
#[derive(Clone, Debug)]
pub(crate) struct Face {
    /// `{public URL}/assets/`, to which a stored object's name is added.
    assets: String,
    /// Why generations are held back, for those who read one; what is cached is without it.
    holds: Option<Holds>,
}

impl Face {
    /// Addresses below the gateway's public URL.
    pub(crate) fn new(public_url: &str) -> Self {
        Self { assets: format!("{}/assets/", public_url.trim_end_matches('/')), holds: None }
    }

    /// The same, which also tells of what is held back.
    pub(crate) fn telling(self, holds: Holds) -> Self {
        Self { holds: Some(holds), ..self }
    }

    /// An encoded generation of `account`, as its user is told of it.
    pub(crate) fn retold(&self, account: AccountId, encoded: Bytes) -> Bytes {
        match &self.holds {
            Some(holds) => holds.retold(account, encoded),
            None => encoded,
        }
    }

    /// A generation as its user sees it.
    pub(crate) fn generation(&self, record: &Record) -> api::Generation {
        let held = self.holds.as_ref().and_then(|holds| holds.of(record));
        api::Generation {
            name: record.id.name(),
            etag: format!("v{}", record.version),
            version: record.version,
            state: record.state.number().into(),
            wait_reason: held.unwrap_or(record.wait_reason).into(),
            scene: SceneName { project: record.project, scene: record.scene }.to_string(),
            model: model_name(&record.model),
            input: Some(input(record)),
            progress: Some(api::Progress {
                percent: record.percent.into(),
                basis: record.basis.into(),
                stage: record.stage.clone(),
                queue_position: record.queue_position,
                eta: record
                    .eta
                    .map(|(p50, p80)| api::progress::Eta { p50: Some(timestamp(p50)), p80: Some(timestamp(p80)) }),
            }),
            outputs: record.output.iter().map(|output| self.output(output)).collect(),
            error: record.error.as_ref().map(error),
            charge: Some(api::Charge {
                // What is settled is no longer held.
                held_micros: if record.state.is_terminal() { 0 } else { record.held.get() },
                captured_micros: record.captured.get(),
                released_micros: record.released.get(),
                provider_charge: record.provider_charge.into(),
            }),
            attempt_count: record.attempt_count,
            create_time: Some(timestamp(record.create_time)),
            submit_time: record.submit_time.map(timestamp),
            start_time: record.start_time.map(timestamp),
            end_time: record.end_time.map(timestamp),
            update_time: Some(timestamp(record.update_time)),
            traceparent: record.traceparent.clone(),
            start_deadline: record.start_deadline.map(timestamp),
            total_deadline: record.total_deadline.map(timestamp),
            retried_from: record.retried_from.map(GenerationId::name).unwrap_or_default(),
        }
    }

    fn output(&self, output: &Output) -> api::Output {
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
            url: format!("{}{}", self.assets, output.blob()),
            poster: output.poster.as_ref().map(name::asset_name).unwrap_or_default(),
            poster_url: output.poster_blob().map(|blob| format!("{}{blob}", self.assets)).unwrap_or_default(),
            poster_missing_reason: output.poster_missing_reason.clone(),
        }
    }
}

/// `models/{model}`.
pub(crate) fn model_name(id: &str) -> String {
    format!("models/{id}")
}

/// What a generation was asked for, with the seed that was chosen.
pub(crate) fn input(record: &Record) -> api::Input {
    api::Input {
        prompt: record.prompt.clone(),
        seed: Some(record.seed),
        reference_assets: record.reference_assets.clone(),
    }
}

pub(crate) fn timestamp(at: OffsetDateTime) -> Timestamp {
    // Nanoseconds of a second always fit.
    Timestamp { seconds: at.unix_timestamp(), nanos: i32::try_from(at.nanosecond()).unwrap_or_default() }
}

fn error(flaw: &Flaw) -> rpc::Status {
    let info = ErrorInfo {
        reason: flaw.reason.clone(),
        domain: chassis::status::DOMAIN.to_owned(),
        metadata: std::collections::HashMap::new(),
    };
    let details = Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(), value: info.encode_to_vec() };
    rpc::Status { code: flaw.code, message: flaw.message.clone(), details: vec![details] }
}
