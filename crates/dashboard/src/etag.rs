//! Etags: a short opaque text for the version of what a user wrote. What other services keep on the same row (a scene's
//! latest generation, a project's cost) does not raise that version, so a running generation never spoils an edit.

/// The version that a write demands of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// The caller sent no etag: any version will do.
    Any,
    /// The version of the caller's etag.
    Version(i64),
    /// The caller's etag is of no version, so no row matches.
    Never,
}

impl IfMatch {
    /// Reads the etag of a request.
    pub(crate) fn parse(etag: &str) -> Self {
        if etag.is_empty() {
            return Self::Any;
        }
        let version = etag.strip_prefix('v').and_then(|digits| digits.parse().ok());
        // Only the spelling that `of` writes is an etag: `v01` or `v+1` is not `v1`.
        version.filter(|version| of(*version) == etag).map_or(Self::Never, Self::Version)
    }

    /// The version to compare with; `None` when any will do. No row has the version that stands for [`IfMatch::Never`].
    pub(crate) fn version(self) -> Option<i64> {
        match self {
            Self::Any => None,
            Self::Version(version) => Some(version),
            Self::Never => Some(i64::MIN),
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
            assert_eq!(IfMatch::parse(&of(version)), IfMatch::Version(version), "{version}");
        }
        assert_eq!(IfMatch::parse(""), IfMatch::Any);
        for wrong in ["v", "v01", "1", "V1", "v+1", "v1 ", "v99999999999999999999", "\"v1\""] {
            assert_eq!(IfMatch::parse(wrong), IfMatch::Never, "{wrong}");
        }
    }
}
