//! A stored file that an order may be made from, as far as it matters to a model's limits.

use serde::{Deserialize, Serialize};

use crate::MediaKind;

/// A picture, video or sound of the account, as it was probed when it was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// `assets/{sha256}`.
    pub name: String,
    /// The stored object's file ending, without a dot.
    pub extension: String,
    /// Its type, by its bytes: `image/png`.
    pub mime_type: String,
    /// In bytes.
    pub size_bytes: u64,
    /// In pixels, upright; 0 for a sound.
    pub width: u32,
    /// In pixels, upright; 0 for a sound.
    pub height: u32,
    /// 0 for a picture.
    pub duration_ms: u64,
}

impl Asset {
    /// What it is, by its type.
    #[must_use]
    pub fn kind(&self) -> Option<MediaKind> {
        MediaKind::of(&self.mime_type)
    }
}
