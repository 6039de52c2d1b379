//! What is known of what happened at a provider: whether it costs something, and what operators see of it.

/// Whether the provider takes money for an order that it did not deliver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Charge {
    /// It says, or its documentation does, that it takes none.
    NotCharged,
    /// It says, or its documentation does, that it takes some.
    Charged,
    /// It says nothing that can be relied on.
    #[default]
    Unknown,
}

impl Charge {
    /// For logs and the documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotCharged => "not charged",
            Self::Charged => "charged",
            Self::Unknown => "charge unknown",
        }
    }
}

/// What operators see of a failure and users do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The first 200 characters of the answer's body, or what broke on the way; no secrets.
    pub excerpt: String,
}

impl Evidence {
    /// What broke on the way, where there was no answer.
    #[must_use]
    pub fn cause(cause: impl Into<String>) -> Self {
        Self { status: None, excerpt: cause.into() }
    }
}
