//! A row of `generations`, and the generation that it becomes. The list of columns exists once, here.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use catalogue::Line;
use domain::generation::State;
use domain::id::{AccountId, GenerationId, ProjectId, SceneId};
use domain::money::Micros;
use domain::name;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, Row};

use crate::model::{Failure, Generation, InputDetails, Moderation, OrderPhase, Output, Picture, Pictures};
use crate::transitions::Facts;
use crate::transitions::deadlines::JobFacts;
use crate::transitions::suspensions::{Shown, SuspendedFacts};

/// The columns that a [`Generation`] is read from, of a table or subquery called `g`.
macro_rules! columns {
    () => {
        "g.id, g.account_id, g.project_id, g.scene_id, g.version, g.state, g.wait_reason, g.model, g.prompt, g.seed,
         g.input, g.labels, g.end_user, g.lines, g.percent, g.basis, g.stage, g.outputs, g.error_code, g.error_reason, g.error_message,
         g.held_micros, g.captured_micros, g.released_micros, g.attempt_count, g.traceparent, g.create_time,
         g.submit_time, g.start_time, g.end_time, g.update_time, g.start_deadline, g.total_deadline, g.retried_from,
         g.provider_charge, g.queue_position, g.eta_p50, g.eta_p80"
    };
}

/// The columns that [`Facts`] are read from, of a table called `g`.
macro_rules! facts_columns {
    () => {
        "g.state, g.cancel_time is not null as cancelled, coalesce(g.total_deadline <= now(), false) as overdue,
         coalesce(g.total_deadline <= now() + (select p50 from model_paces pace where pace.model = g.model), false) as no_time_left,
         (select phase from provider_calls p where p.generation_id = g.id and p.phase <> 'over') as phase"
    };
}
pub(super) use {columns, facts_columns};

/// One of `generations.outputs`.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredOutput {
    asset: String,
    extension: String,
    size_bytes: i64,
    mime_type: String,
    width: i32,
    height: i32,
    duration_ms: i64,
    poster: Option<String>,
    #[serde(default)]
    poster_missing_reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moderation: Option<Moderation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pictures: Option<StoredPictures>,
}

/// The pictures of one of `generations.outputs`, its ThumbHash in Base64.
#[derive(Serialize, Deserialize)]
struct StoredPictures {
    large: StoredPicture,
    small: StoredPicture,
    thumbhash: String,
}

#[derive(Serialize, Deserialize)]
struct StoredPicture {
    asset: String,
    width: i32,
    height: i32,
}

impl From<&Pictures> for StoredPictures {
    fn from(Pictures { large, small, thumbhash }: &Pictures) -> Self {
        Self { large: large.into(), small: small.into(), thumbhash: BASE64.encode(thumbhash) }
    }
}

impl From<&Picture> for StoredPicture {
    fn from(Picture { sha256, width, height }: &Picture) -> Self {
        Self { asset: name::asset_name(sha256), width: *width, height: *height }
    }
}

impl TryFrom<StoredPictures> for Pictures {
    type Error = name::Malformed;

    fn try_from(stored: StoredPictures) -> Result<Self, name::Malformed> {
        let picture = |stored: StoredPicture| {
            Ok(Picture { sha256: name::asset(&stored.asset)?, width: stored.width, height: stored.height })
        };
        let thumbhash = BASE64.decode(stored.thumbhash).unwrap_or_default();
        Ok(Self { large: picture(stored.large)?, small: picture(stored.small)?, thumbhash })
    }
}

impl From<&Output> for StoredOutput {
    fn from(output: &Output) -> Self {
        Self {
            asset: name::asset_name(&output.sha256),
            extension: output.extension.clone(),
            size_bytes: output.size_bytes,
            mime_type: output.mime_type.clone(),
            width: output.width,
            height: output.height,
            duration_ms: output.duration_ms,
            poster: output.poster.as_ref().map(name::asset_name),
            poster_missing_reason: output.poster_missing_reason.clone(),
            moderation: output.moderation.clone(),
            pictures: output.pictures.as_ref().map(StoredPictures::from),
        }
    }
}

impl TryFrom<StoredOutput> for Output {
    type Error = name::Malformed;

    fn try_from(stored: StoredOutput) -> Result<Self, name::Malformed> {
        Ok(Self {
            sha256: name::asset(&stored.asset)?,
            extension: stored.extension,
            size_bytes: stored.size_bytes,
            mime_type: stored.mime_type,
            width: stored.width,
            height: stored.height,
            duration_ms: stored.duration_ms,
            poster: stored.poster.as_deref().map(name::asset).transpose()?,
            poster_missing_reason: stored.poster_missing_reason,
            moderation: stored.moderation,
            pictures: stored.pictures.map(Pictures::try_from).transpose()?,
        })
    }
}

impl FromRow<'_, PgRow> for Generation {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let outputs: Option<Json<Vec<StoredOutput>>> = row.try_get("outputs")?;
        let outputs = outputs.map(|Json(stored)| stored).unwrap_or_default();
        let outputs = outputs.into_iter().map(Output::try_from).collect::<Result<_, _>>();
        let reason: Option<String> = row.try_get("error_reason")?;
        let error = match reason {
            Some(reason) => Some(Failure {
                code: row.try_get::<Option<i32>, _>("error_code")?.unwrap_or_default(),
                reason,
                message: row.try_get::<Option<String>, _>("error_message")?.unwrap_or_default(),
            }),
            None => None,
        };
        Ok(Self {
            id: GenerationId(row.try_get("id")?),
            account: AccountId(row.try_get("account_id")?),
            project: ProjectId(row.try_get("project_id")?),
            scene: SceneId(row.try_get("scene_id")?),
            version: row.try_get("version")?,
            state: state(row)?,
            wait_reason: row.try_get("wait_reason")?,
            model: row.try_get("model")?,
            prompt: row.try_get("prompt")?,
            seed: row.try_get("seed")?,
            input: row.try_get::<Json<InputDetails>, _>("input")?.0,
            labels: row.try_get::<Json<BTreeMap<String, String>>, _>("labels")?.0,
            end_user: row.try_get("end_user")?,
            lines: row.try_get::<Json<Vec<Line>>, _>("lines")?.0,
            percent: row.try_get("percent")?,
            basis: row.try_get("basis")?,
            stage: row.try_get("stage")?,
            queue_position: row.try_get("queue_position")?,
            eta: row.try_get::<Option<_>, _>("eta_p50")?.zip(row.try_get("eta_p80")?),
            outputs: outputs.map_err(|error| decode("outputs", error))?,
            error,
            held: Micros::new(row.try_get("held_micros")?),
            captured: Micros::new(row.try_get("captured_micros")?),
            released: Micros::new(row.try_get("released_micros")?),
            provider_charge: row.try_get("provider_charge")?,
            attempt_count: row.try_get("attempt_count")?,
            traceparent: row.try_get("traceparent")?,
            create_time: row.try_get("create_time")?,
            submit_time: row.try_get("submit_time")?,
            start_time: row.try_get("start_time")?,
            end_time: row.try_get("end_time")?,
            update_time: row.try_get("update_time")?,
            start_deadline: row.try_get("start_deadline")?,
            total_deadline: row.try_get("total_deadline")?,
            retried_from: row.try_get::<Option<_>, _>("retried_from")?.map(GenerationId),
        })
    }
}

impl FromRow<'_, PgRow> for Facts {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            state: state(row)?,
            cancelled: row.try_get("cancelled")?,
            overdue: row.try_get("overdue")?,
            no_time_left: row.try_get("no_time_left")?,
            order: order(row)?,
        })
    }
}

impl FromRow<'_, PgRow> for JobFacts {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let state: String = row.try_get("job_state")?;
        Ok(Self {
            state: state.try_into().map_err(|error| decode("job_state", error))?,
            stop_ignored: row.try_get("stop_ignored")?,
            unconfirmed: row.try_get("unconfirmed")?,
        })
    }
}

impl FromRow<'_, PgRow> for SuspendedFacts {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            state: state(row)?,
            order: order(row)?,
            shown: Shown {
                wait_reason: row.try_get("wait_reason")?,
                percent: row.try_get("percent")?,
                basis: row.try_get("basis")?,
                stage: row.try_get("stage")?,
                queue_position: row.try_get("queue_position")?,
            },
            elapsed: row.try_get("elapsed")?,
            usual: row.try_get("usual")?,
            troubled: row.try_get("troubled")?,
        })
    }
}

/// A generation's state, from its number in the column `state`.
fn state(row: &PgRow) -> sqlx::Result<State> {
    let number: i16 = row.try_get("state")?;
    State::from_number(number).ok_or_else(|| decode("state", format!("no state has the number {number}")))
}

/// The phase of a generation's live order, from the column `phase`.
fn order(row: &PgRow) -> sqlx::Result<Option<OrderPhase>> {
    let name: Option<String> = row.try_get("phase")?;
    let parse = |name: String| {
        OrderPhase::from_name(&name).ok_or_else(|| decode("phase", format!("no phase of an order is called {name}")))
    };
    name.map(parse).transpose()
}

fn decode(column: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.into() }
}
