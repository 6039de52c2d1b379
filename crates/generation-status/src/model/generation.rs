//! A generation as the database has it, and what starts one.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalogue::{Decimal, Line, Model, Price, Resolved};
use chassis::fields::Invalid;
use domain::generation::State;
use domain::id::{AccountId, GenerationId, ProjectId, SceneId};
use domain::money::Micros;
use domain::name::SceneName;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Failure, InputDetails};

/// Why a generation that could go on does not; the numbers of `rushes.generations.v1.WaitReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(crate) enum WaitReason {
    /// No worker is free.
    Capacity = 1,
    /// The provider asked for a pause.
    ProviderThrottled = 2,
    /// It failed and waits for its next attempt.
    Backoff = 6,
    /// It is not known whether the provider took the order.
    SubmissionUnconfirmed = 7,
    /// It waits in the provider's own queue.
    ProviderQueue = 8,
    /// The provider takes no orders, or cannot be asked.
    ProviderUnavailable = 9,
    /// The video is made, and cannot be fetched or stored yet.
    OutputDelayed = 10,
}

/// How much is known of an order at a provider: the words of `provider_calls.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrderPhase {
    /// The call was about to be made; whether it arrived is not known.
    Intent,
    /// The provider took the order, under a reference.
    Known,
    /// Nobody goes on with the order. Every other phase is of a live one.
    Over,
}

impl OrderPhase {
    pub(crate) const ALL: [Self; 3] = [Self::Intent, Self::Known, Self::Over];

    /// The name in the column `provider_calls.phase`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Known => "known",
            Self::Over => "over",
        }
    }

    /// The phase of this name, if there is one.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == name)
    }
}

/// What progress is based on; the numbers of `rushes.generations.v1.Progress.Basis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(crate) enum Basis {
    /// The provider reported it.
    Provider = 1,
    /// It is estimated from how long others took.
    Estimated = 2,
}

/// The provider's own charge, as far as it is known; the numbers of `rushes.generations.v1.Charge.ProviderCharge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(crate) enum ProviderCharge {
    /// The provider did not charge.
    NotCharged = 1,
    /// It charged.
    Charged = 2,
    /// It may have charged.
    Unknown = 3,
}

/// A generation.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    pub(crate) id: GenerationId,
    pub(crate) account: AccountId,
    pub(crate) project: ProjectId,
    pub(crate) scene: SceneId,
    /// Rises by one with every change.
    pub(crate) version: i64,
    pub(crate) state: State,
    /// The number of `rushes.generations.v1.WaitReason`; 0 when it does not wait.
    pub(crate) wait_reason: i16,
    pub(crate) model: String,
    pub(crate) prompt: String,
    pub(crate) seed: Option<i64>,
    /// The rest of the input as resolved.
    pub(crate) input: InputDetails,
    pub(crate) labels: BTreeMap<String, String>,
    /// Empty where it was not said.
    pub(crate) end_user: String,
    pub(crate) percent: i16,
    /// The number of `rushes.generations.v1.Progress.Basis`.
    pub(crate) basis: i16,
    pub(crate) stage: String,
    /// The place in the provider's queue, from 1; 0 when it does not wait there.
    pub(crate) queue_position: i32,
    /// When half of the model's last generations would have ended, and four in five.
    pub(crate) eta: Option<(OffsetDateTime, OffsetDateTime)>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) error: Option<Failure>,
    /// What the price is made up of: the hold's, and once it is COMPLETED the charge's.
    pub(crate) lines: Vec<Line>,
    pub(crate) held: Micros,
    pub(crate) captured: Micros,
    pub(crate) released: Micros,
    /// The number of `rushes.generations.v1.Charge.ProviderCharge`; 0 while it is open.
    pub(crate) provider_charge: i16,
    pub(crate) attempt_count: i32,
    /// Empty when the call that started it was not traced.
    pub(crate) traceparent: String,
    pub(crate) create_time: OffsetDateTime,
    pub(crate) submit_time: Option<OffsetDateTime>,
    pub(crate) start_time: Option<OffsetDateTime>,
    pub(crate) end_time: Option<OffsetDateTime>,
    pub(crate) update_time: OffsetDateTime,
    pub(crate) start_deadline: Option<OffsetDateTime>,
    pub(crate) total_deadline: Option<OffsetDateTime>,
    pub(crate) retried_from: Option<GenerationId>,
}

/// What a generation has in the API besides its texts: names, times and numbers.
const FIXED_BYTES: usize = 960;
/// What an output has besides its texts: names, numbers and addresses.
const OUTPUT_BYTES: usize = 896;
/// What a field has besides its text.
const FIELD_BYTES: usize = 3;
/// What the pictures of a poster have: names, numbers and addresses.
const PICTURES_BYTES: usize = 768;
/// What a line of a price has at most.
const LINE_BYTES: usize = 144;

impl Generation {
    /// About how many bytes it has in the API, and never fewer: what bounds an answer must not depend on who presents it.
    pub(crate) fn max_bytes(&self) -> usize {
        let error = self.error.as_ref().map_or(0, |error| error.reason.len() + error.message.len());
        let outputs: usize = self.outputs.iter().map(Output::max_bytes).sum();
        let labels: usize = self.labels.iter().map(|(key, value)| key.len() + value.len() + 12).sum();
        let lines = self.lines.len() * LINE_BYTES;
        let texts = self.prompt.len() + self.stage.len() + self.model.len() + self.end_user.len();
        FIXED_BYTES + texts + self.input.max_bytes() + labels + lines + error + outputs
    }
}

/// A video, picture or sound in our own storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) sha256: [u8; 32],
    /// The stored object's file ending, without a dot.
    pub(crate) extension: String,
    pub(crate) size_bytes: i64,
    pub(crate) mime_type: String,
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) duration_ms: i64,
    pub(crate) poster: Option<[u8; 32]>,
    pub(crate) poster_missing_reason: String,
    /// What the provider's moderation said of it, where it said something.
    pub(crate) moderation: Option<Moderation>,
    /// Those of its registered asset, where that has any.
    pub(crate) pictures: Option<Pictures>,
}

/// What a provider's own moderation said of an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moderation {
    pub(crate) provider: String,
    pub(crate) flagged: bool,
    #[serde(default)]
    pub(crate) categories: Vec<String>,
    /// Empty where it is not known.
    #[serde(default)]
    pub(crate) effect: String,
}

/// An output's poster in its own shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pictures {
    pub(crate) large: Picture,
    pub(crate) small: Picture,
    pub(crate) thumbhash: Vec<u8>,
}

/// A picture in storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) sha256: [u8; 32],
    pub(crate) width: i32,
    pub(crate) height: i32,
}

impl Picture {
    /// Its object in storage; a poster's pictures are WebP.
    pub(crate) fn object_key(&self) -> String {
        object_key(&self.sha256, "webp")
    }
}

/// Why an output cannot complete a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MissingOutput {
    /// `assets/{sha256}`.
    pub(crate) asset: String,
    pub(crate) why: &'static str,
}

impl Output {
    fn max_bytes(&self) -> usize {
        let said = self.moderation.as_ref().map_or(0, |said| {
            let categories = said.categories.iter().map(|category| category.len() + FIELD_BYTES).sum::<usize>();
            said.provider.len() + said.effect.len() + categories + 4 * FIELD_BYTES
        });
        let pictures = if self.pictures.is_some() { PICTURES_BYTES } else { 0 };
        OUTPUT_BYTES + self.mime_type.len() + self.poster_missing_reason.len() + said + pictures
    }

    /// Compares the output that a worker reports with the size of the account's stored asset, if there is one. A completion
    /// charges the account, so a worker's word is not enough for it.
    pub(crate) fn check_stored(&self, stored_bytes: Option<i64>) -> Result<(), MissingOutput> {
        let why = match stored_bytes {
            None => "the asset is not registered for the account",
            Some(bytes) if bytes != self.size_bytes => "the stored asset has another size",
            Some(_) => return Ok(()),
        };
        Err(MissingOutput { asset: domain::name::asset_name(&self.sha256), why })
    }

    /// The poster's object in storage. Posters are WebP, whatever the video is.
    pub(crate) fn poster_key(&self) -> Option<String> {
        self.poster.as_ref().map(|sha256| object_key(sha256, "webp"))
    }

    /// The output's object in storage.
    pub(crate) fn object_key(&self) -> String {
        object_key(&self.sha256, &self.extension)
    }
}

fn object_key(sha256: &[u8; 32], extension: &str) -> String {
    let name = domain::name::asset_name(sha256);
    format!("{}.{extension}", name.trim_start_matches("assets/"))
}

/// A request to start a generation, read as far as that goes without its model's rules and the database.
#[derive(Clone, Debug)]
pub(crate) struct StartRequest {
    pub(crate) account: AccountId,
    pub(crate) scene: SceneName,
    /// Or why there is none: what the same request started before is found all the same.
    pub(crate) model: Result<Arc<Model>, Invalid>,
    pub(crate) prompt: String,
    pub(crate) seed: Option<i64>,
    /// The seed that is taken where none is given; one is drawn without it.
    pub(crate) drawn_seed: Option<i64>,
    pub(crate) input: InputDetails,
    /// The most that it may hold.
    pub(crate) max_price: Option<Micros>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Empty where it was not said.
    pub(crate) end_user: String,
    /// The idempotency key, with the hash of what it was used for.
    pub(crate) request_id: Uuid,
    pub(crate) request_sha256: [u8; 32],
    /// The generation that this one repeats.
    pub(crate) retried_from: Option<GenerationId>,
    /// It yields to everything of normal priority.
    pub(crate) background: bool,
}

/// A generation to be started: what its model made of the request, and the price.
#[derive(Clone, Debug)]
pub(crate) struct NewGeneration {
    pub(crate) account: AccountId,
    pub(crate) scene: SceneName,
    pub(crate) model: Arc<Model>,
    /// The input, with the order and the price's terms that are frozen with it.
    pub(crate) resolved: Resolved,
    /// What the terms were multiplied by: it starts only while its account has this margin.
    pub(crate) margin: Decimal,
    /// What is held.
    pub(crate) price: Price,
    pub(crate) labels: BTreeMap<String, String>,
    /// Empty where it was not said.
    pub(crate) end_user: String,
    /// The idempotency key, with the hash of what it was used for.
    pub(crate) request_id: Uuid,
    pub(crate) request_sha256: [u8; 32],
    /// The generation that this one repeats.
    pub(crate) retried_from: Option<GenerationId>,
    /// It yields to everything of normal priority.
    pub(crate) background: bool,
}

/// The outcome of a start.
#[derive(Debug)]
pub(crate) enum Started {
    /// It is new.
    New(Box<Generation>),
    /// The same request started it before.
    Existing(Box<Generation>),
}

/// Generations that were found, and where the database snapshot that they come from stands.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) epoch: i64,
    pub(crate) seq: i64,
    pub(crate) generations: Vec<Generation>,
}
