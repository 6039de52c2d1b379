//! What a deletion left to be ended, as its job names it.

use std::fmt;

use domain::id::ProjectId;
use domain::name::{GenerationParent, SceneName};

/// What was deleted. Never a whole account: a job that names nothing must not end everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeletedName {
    /// A project with its scenes.
    Project(ProjectId),
    /// One scene.
    Scene(SceneName),
}

impl DeletedName {
    /// Reads a job's payload; `None` when it is no name of a project or a scene.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        match GenerationParent::parse(std::str::from_utf8(payload).ok()?).ok()? {
            GenerationParent::Project(project) => Some(Self::Project(project)),
            GenerationParent::Scene(scene) => Some(Self::Scene(scene)),
            GenerationParent::Account => None,
        }
    }
}

impl fmt::Display for DeletedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Project(project) => f.write_str(&project.name()),
            Self::Scene(scene) => scene.fmt(f),
        }
    }
}
