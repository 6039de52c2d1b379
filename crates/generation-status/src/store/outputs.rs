//! Stored outputs, which thumbnail-worker registers in `assets`. They are only read here.

use std::collections::HashMap;

use chassis::postgres::statement;
use domain::name;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::Error;
use crate::model::{Output, Picture, Pictures};

/// What is read of an asset. The pictures are all there or none is.
#[derive(FromRow)]
struct Row {
    sha256: Vec<u8>,
    size_bytes: i64,
    poster_large: Option<String>,
    poster_large_width: Option<i32>,
    poster_large_height: Option<i32>,
    poster_small: Option<String>,
    poster_small_width: Option<i32>,
    poster_small_height: Option<i32>,
    thumbhash: Option<Vec<u8>>,
}

impl Row {
    fn pictures(&self) -> Option<Pictures> {
        let picture = |blob: &Option<String>, width: Option<i32>, height: Option<i32>| {
            let sha256 = name::asset(&format!("assets/{}", blob.as_deref()?.strip_suffix(".webp")?)).ok()?;
            Some(Picture { sha256, width: width?, height: height? })
        };
        Some(Pictures {
            large: picture(&self.poster_large, self.poster_large_width, self.poster_large_height)?,
            small: picture(&self.poster_small, self.poster_small_width, self.poster_small_height)?,
            thumbhash: self.thumbhash.clone()?,
        })
    }
}

/// The account's outputs with the pictures that their assets have; an error unless it has the asset of each in the reported size. It
/// keeps them until this transaction has ended.
pub(super) async fn require_outputs(
    tx: &mut PgConnection,
    account: Uuid,
    outputs: &[Output],
) -> Result<Vec<Output>, Error> {
    let hashes: Vec<Vec<u8>> = outputs.iter().map(|output| output.sha256.to_vec()).collect();
    let query = sqlx::query_as::<_, Row>(
        "select sha256, size_bytes, poster_large, poster_large_width, poster_large_height,
                poster_small, poster_small_width, poster_small_height, thumbhash
         from assets where account_id = $1 and sha256 = any ($2)
         order by sha256 for key share",
    )
    .bind(account)
    .bind(hashes);
    let rows = statement("find_outputs", query.fetch_all(tx)).await?;
    let stored: HashMap<Vec<u8>, Row> = rows.into_iter().map(|row| (row.sha256.clone(), row)).collect();
    let require = |output: &Output| {
        let found = stored.get(output.sha256.as_slice());
        output.check_stored(found.map(|row| row.size_bytes))?;
        Ok(Output { pictures: found.and_then(Row::pictures), ..output.clone() })
    };
    outputs.iter().map(require).collect::<Result<_, _>>().map_err(Error::OutputMissing)
}
