//! One generation as the database has it: what the rules decide on and the wire shows.

use domain::generation::State;
use domain::id::{AccountId, GenerationId, ProjectId, SceneId};
use domain::money::Micros;
use time::OffsetDateTime;

/// Why a generation that could go on does not; the numbers of `rushes.generations.v1.WaitReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(crate) enum Wait {
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
}

/// What is known of the provider's own charge; the numbers of `rushes.generations.v1.Charge.ProviderCharge`.
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
pub(crate) struct Record {
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
    pub(crate) seed: i64,
    pub(crate) reference_assets: Vec<String>,
    pub(crate) percent: i16,
    /// The number of `rushes.generations.v1.Progress.Basis`.
    pub(crate) basis: i16,
    pub(crate) stage: String,
    /// The place in the provider's own queue, from 1; 0 when it does not wait there.
    pub(crate) queue_position: i32,
    /// When half of the model's last generations would have ended, and four in five.
    pub(crate) eta: Option<(OffsetDateTime, OffsetDateTime)>,
    pub(crate) output: Option<Output>,
    pub(crate) error: Option<Flaw>,
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

/// A video in our own storage.
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
}

impl Output {
    /// The poster's object in storage. Posters are WebP, whatever the video is.
    pub(crate) fn poster_blob(&self) -> Option<String> {
        self.poster.as_ref().map(|sha256| blob(sha256, "webp"))
    }

    /// The video's object in storage.
    pub(crate) fn blob(&self) -> String {
        blob(&self.sha256, &self.extension)
    }
}

fn blob(sha256: &[u8; 32], extension: &str) -> String {
    let name = domain::name::asset_name(sha256);
    format!("{}.{extension}", name.trim_start_matches("assets/"))
}

/// Why a generation failed, for its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// A number of `google.rpc.Code`.
    pub(crate) code: i32,
    /// In upper snake case.
    pub(crate) reason: String,
    pub(crate) message: String,
}
