//! What a watch is about.

use std::sync::Arc;

use domain::id::GenerationId;
use domain::name::{GenerationParent, SceneName};

use crate::model::Generation;

/// The generations that are watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Selection {
    /// These generations, sorted and each once.
    Named(Arc<[GenerationId]>),
    /// All of this parent, also those to come.
    Of(GenerationParent),
}

impl Selection {
    pub(super) fn includes(&self, generation: &Generation) -> bool {
        match self {
            Self::Named(_) => self.may_include(generation.id),
            Self::Of(GenerationParent::Account) => true,
            Self::Of(GenerationParent::Project(project)) => generation.project == *project,
            Self::Of(GenerationParent::Scene(SceneName { project, scene })) => {
                generation.scene == *scene && generation.project == *project
            }
        }
    }

    /// Whether a generation of which only the id is known can be one of these.
    pub(super) fn may_include(&self, id: GenerationId) -> bool {
        match self {
            Self::Named(ids) => ids.binary_search(&id).is_ok(),
            Self::Of(_) => true,
        }
    }
}
