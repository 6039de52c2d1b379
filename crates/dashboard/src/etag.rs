//! Etags: a short opaque text for the version of what a user wrote. What other services keep on the same row (a scene's
//! latest generation, a project's cost) does not raise that version, so a running generation never spoils an edit.

/// The version that a caller says to have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The caller did not say: any version will do.
    Any,
    /// This one.
    Version(i64),
    /// A text that is no version's etag.
    None,
}

impl Seen {
    /// Reads the etag of a request.
    pub(crate) fn read(etag: &str) -> Self {
        if etag.is_empty() {
            return Self::Any;
        }
        let version = etag.strip_prefix('v').and_then(|digits| digits.parse().ok());
        version.filter(|version| of(*version) == etag).map_or(Self::None, Self::Version)
    }

    /// The version to compare with, nothing when any will do. No row has the version that stands for "none".
    pub(crate) fn version(self) -> Option<i64> {
        match self {
            Self::Any => None,
            Self::Version(version) => Some(version),
            Self::None => Some(i64::MIN),
        }
    }
}

/// The etag of a version.
pub(crate) fn of(version: i64) -> String {
    format!("v{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_read_back_in_its_one_spelling() {
        for version in [1, 36, i64::MAX] {
            assert_eq!(Seen::read(&of(version)), Seen::Version(version), "{version}");
        }
        assert_eq!(Seen::read(""), Seen::Any);
        for wrong in ["v", "v01", "1", "V1", "v+1", "v1 ", "v99999999999999999999", "\"v1\""] {
            assert_eq!(Seen::read(wrong), Seen::None, "{wrong}");
        }
    }
}
