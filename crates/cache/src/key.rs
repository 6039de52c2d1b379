//! The names of what is cached. The account always stands outside of the id, so no two accounts can share a name.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

/// How a key's version is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// By the row itself: its `version` column.
    Row,
    /// By the outbox: `cache_key.ver + count(outbox)`.
    Aggregate,
}

/// The name of a cached value; cheap to clone.
#[derive(Clone)]
pub struct Key {
    text: Arc<str>,
    kind: &'static str,
    class: Class,
}

impl Key {
    /// One row of an account: `{kind}:{account}:{id}`.
    #[must_use]
    pub fn row(kind: &'static str, account: Uuid, id: impl fmt::Display) -> Self {
        Self { text: format!("{kind}:{account}:{id}").into(), kind, class: Class::Row }
    }

    /// One value made of many rows of an account: `{kind}:{account}`.
    #[must_use]
    pub fn aggregate(kind: &'static str, account: Uuid) -> Self {
        Self { text: format!("{kind}:{account}").into(), kind, class: Class::Aggregate }
    }

    /// One row that is found before its account is known, such as an API key by its hash: `{kind}:{id}`.
    #[must_use]
    pub fn global(kind: &'static str, id: impl fmt::Display) -> Self {
        Self { text: format!("{kind}:{id}").into(), kind, class: Class::Row }
    }

    /// The name as it stands in the outbox, in Redis and in messages.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The kind, the label of metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// How its version is kept.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.text)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Key {}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendered_as_the_database_writes_them() {
        let account = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
        let text = "01900000-0000-7000-8000-000000000001";
        assert_eq!(Key::row("gen", account, account).as_str(), format!("gen:{text}:{text}"));
        assert_eq!(Key::aggregate("sum", account).as_str(), format!("sum:{text}"));
        assert_eq!(Key::global("key", "ab12").as_str(), "key:ab12");
    }
}
