//! Scenes.

use std::collections::BTreeMap;

use domain::id::GenerationId;
use domain::name::SceneName;
use time::OffsetDateTime;

/// How many scenes a project may have. ReorderScenes names them all in one message, and this many fit into 64 KiB.
pub(crate) const MAX_SCENES: i32 = 500;

/// A scene as stored.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) name: SceneName,
    pub(crate) title: String,
    pub(crate) script: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) position: i32,
    /// Of what the user wrote: a generation that runs does not raise it.
    pub(crate) version: i64,
    /// Written by generation-status.
    pub(crate) latest_generation: Option<GenerationId>,
    /// The generation that was chosen; written by generation-status.
    pub(crate) take: Option<GenerationId>,
    pub(crate) create_time: OffsetDateTime,
    pub(crate) update_time: OffsetDateTime,
}

/// A scene to be created.
#[derive(Clone, Debug)]
pub(crate) struct NewScene {
    pub(crate) title: String,
    pub(crate) script: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// An update of a scene; `None` where it stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct SceneChange {
    pub(crate) title: Option<String>,
    pub(crate) script: Option<String>,
    /// All of them, in place of those before.
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

/// The scene that a create returns.
#[derive(Debug)]
pub(crate) enum CreatedScene {
    /// This request created it.
    New(Scene),
    /// An earlier request with the same id created it.
    Existing {
        /// The scene, deleted or not.
        scene: Scene,
        /// The SHA-256 of that request's body.
        body_sha256: Vec<u8>,
    },
}
