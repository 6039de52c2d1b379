//! What the input of a start names: assets, and outputs of other generations.

use std::collections::HashMap;

use catalogue::Asset;
use domain::id::{AccountId, GenerationId};
use domain::name;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use crate::error::{Error, Noun};
use crate::model::{InputDetails, Output};

#[derive(sqlx::FromRow)]
struct Row {
    sha256: Vec<u8>,
    blob: String,
    mime_type: String,
    size_bytes: i64,
    width: i32,
    height: i32,
    duration_ms: i64,
}

impl From<Row> for Option<(String, Asset)> {
    fn from(row: Row) -> Self {
        let name = name::asset_name(&row.sha256.try_into().ok()?);
        let asset = Asset {
            name: name.clone(),
            extension: row.blob.rsplit_once('.').map(|(_, extension)| extension.to_owned()).unwrap_or_default(),
            mime_type: row.mime_type,
            size_bytes: row.size_bytes.try_into().unwrap_or_default(),
            width: row.width.try_into().unwrap_or_default(),
            height: row.height.try_into().unwrap_or_default(),
            duration_ms: row.duration_ms.try_into().unwrap_or_default(),
        };
        Some((name, asset))
    }
}

impl Store {
    /// The account's assets of these names, by name.
    pub(crate) async fn assets(&self, account: AccountId, names: &[String]) -> Result<HashMap<String, Asset>, Error> {
        let hashes: Vec<Vec<u8>> = names.iter().filter_map(|name| Some(name::asset(name).ok()?.to_vec())).collect();
        let query = sqlx::query_as::<_, Row>(
            "select sha256, blob, mime_type, size_bytes, width, height, duration_ms
             from assets where account_id = $1 and sha256 = any ($2)",
        )
        .bind(account.0)
        .bind(hashes);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let rows = self.pools.read.run("find_input_assets", run).await?;
        Ok(rows.into_iter().filter_map(Option::from).collect())
    }

    /// The input with the asset's name in place of each `generations/{generation}/outputs/{n}`.
    pub(crate) async fn name_outputs(&self, account: AccountId, input: &InputDetails) -> Result<InputDetails, Error> {
        let mut named = input.clone();
        let outputs =
            named.media.iter_mut().filter_map(|medium| Some((parse_output(&medium.asset)?, &mut medium.asset)));
        let outputs: Vec<_> = outputs.collect();
        if outputs.is_empty() {
            return Ok(named);
        }
        let ids: Vec<GenerationId> = outputs.iter().map(|((id, _), _)| *id).collect();
        let found = self.find(account, &ids).await?;
        for ((id, at), asset) in outputs {
            let generation = found.iter().find(|generation| generation.id == id);
            let output: &Output =
                generation.and_then(|found| found.outputs.get(at)).ok_or(Error::NotFound(Noun::Asset))?;
            *asset = name::asset_name(&output.sha256);
        }
        Ok(named)
    }
}

/// The parts of `generations/{generation}/outputs/{n}`.
fn parse_output(text: &str) -> Option<(GenerationId, usize)> {
    let [collection, id, "outputs", at] = text.split('/').collect::<Vec<_>>()[..] else { return None };
    if collection != "generations" {
        return None;
    }
    Some((GenerationId(Uuid::try_parse(id).ok()?), at.parse().ok()?))
}
