//! Why a document cannot be used, and how large one may be.

/// How deep schemas may nest, references resolved.
pub(super) const MAX_DEPTH: usize = 48;
/// How many parts a schema may have, references resolved. The largest real ones have about 600.
pub(super) const MAX_NODES: usize = 30_000;

/// Why a document cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has not the form of the provider's documents.
    #[error("this is not {expected}: {missing} is missing")]
    Form {
        /// What was to be read.
        expected: &'static str,
        /// The place that is not there.
        missing: String,
    },
    /// It tells of several models.
    #[error("this tells of several models; say which: {0}")]
    Several(String),
    /// It does not tell of the model.
    #[error("this does not tell of {0}")]
    Other(String),
    /// The provider has an error in its place.
    #[error("the provider has no document of this model: {0}")]
    Absent(String),
    /// Its schemas nest too far.
    #[error("its schema is nested deeper than {} levels", MAX_DEPTH)]
    TooDeep,
    /// With its references resolved it is too large.
    #[error("its schema has more than {} parts once its references are resolved", MAX_NODES)]
    TooLarge,
    /// It refers to another document.
    #[error("it refers to {0}, which lies outside of it")]
    Foreign(String),
    /// What it takes is not an object with fields.
    #[error("its input is not an object with fields")]
    NoFields,
    /// No provider publishes such documents.
    #[error("{0} publishes no documents of models")]
    NoDocuments(&'static str),
}
