//! Projects.

use std::collections::BTreeMap;

use domain::id::ProjectId;
use domain::money::Micros;
use time::OffsetDateTime;

/// A project as stored.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) id: ProjectId,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) scene_count: i32,
    /// Written by generation-status, as is `completed_cost`.
    pub(crate) completed_count: i64,
    pub(crate) completed_cost: Micros,
    /// Of what the user wrote: neither a scene that is added nor a generation that completes raises it.
    pub(crate) version: i64,
    pub(crate) create_time: OffsetDateTime,
    pub(crate) update_time: OffsetDateTime,
}

/// A project to be created.
#[derive(Clone, Debug)]
pub(crate) struct NewProject {
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// An update of a project; `None` where it stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProjectChange {
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    /// All of them, in place of those before.
    pub(crate) labels: Option<BTreeMap<String, String>>,
}
