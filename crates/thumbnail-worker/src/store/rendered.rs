//! Thumbnails that came to their end, written together with the posters that were made with them.

use sqlx::PgConnection;

use super::Store;
use super::assets::set_poster;
use super::thumbnails::settle;
use crate::error::Error;
use crate::model::{Rendered, ThumbnailKey};

impl Store {
    /// Writes a thumbnail that came to its end, and the poster that was made with it; says whether the thumbnail was written.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn keep(&self, key: &ThumbnailKey, rendered: &Rendered) -> Result<bool, Error> {
        self.pool.transaction_of(key.account.0, "settle_thumbnail", async |tx| keep(tx, key, rendered).await).await
    }
}

/// Writes a thumbnail that came to its end, and the poster that was made with it; says whether the thumbnail was written.
pub(super) async fn keep(tx: &mut PgConnection, key: &ThumbnailKey, rendered: &Rendered) -> Result<bool, Error> {
    if let Some(poster) = &rendered.poster {
        set_poster(tx, key, poster).await?;
    }
    settle(tx, key, &rendered.status).await
}
