//! What was found of a model when its provider was asked about it.

use super::ModelCost;

/// What was found of one model, with one key of its provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelCheck {
    /// `models/{model}`.
    pub(crate) model: String,
    pub(crate) provider: String,
    /// The public name of the key; empty where it has none.
    pub(crate) key: String,
    pub(crate) finding: Finding,
    /// For operators; empty where it is well.
    pub(crate) detail: String,
    /// What the model's orders cost lately.
    pub(crate) cost: Option<ModelCost>,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    Served,
    KeyMissing,
    KeyRefused,
    ModelUnknown,
    Unreachable,
}

impl Finding {
    /// For logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::KeyMissing => "key_missing",
            Self::KeyRefused => "key_refused",
            Self::ModelUnknown => "model_unknown",
            Self::Unreachable => "unreachable",
        }
    }
}
