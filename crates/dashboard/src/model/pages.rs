//! Pages of a listing.

use domain::id::ProjectId;
use domain::page::{self, Cursor};
use uuid::Uuid;

/// The name of ListProjects' listing in page tokens.
pub(crate) const PROJECTS_LISTING: &str = "projects";
/// The name of the dashboard's listing in page tokens.
pub(crate) const DASHBOARD_LISTING: &str = "dashboard";

/// The name of a project's listing of scenes in page tokens.
pub(crate) fn scenes_listing(project: ProjectId) -> String {
    format!("{}/scenes", project.name())
}

/// A page that is asked for: how many rows, after which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// 1 to [`page::MAX_SIZE`].
    pub(crate) size: i64,
    /// The row before the page; `None` for the first page.
    pub(crate) after: Option<Cursor>,
}

impl Page {
    /// The first page in the default size.
    pub(crate) const DEFAULT: Self = Self { size: page::DEFAULT_SIZE as i64, after: None };

    /// The position and id that the page's rows come after.
    pub(crate) fn start(self) -> (i32, Uuid) {
        self.after.map_or((-1, Uuid::nil()), |cursor| (cursor.position, cursor.id))
    }

    /// The id that the page's rows come before, in listings that run from new to old.
    pub(crate) fn below(self) -> Uuid {
        self.after.map_or(Uuid::max(), |cursor| cursor.id)
    }

    /// Cuts `rows`, which were read with one more than the size, and returns the cursor of the next page if there is one;
    /// `key` is where a row stands in the listing.
    pub(crate) fn cut<T>(self, rows: &mut Vec<T>, key: impl Fn(&T) -> Cursor) -> Option<Cursor> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        rows.last().filter(|_| more).map(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cut_where_more_follows() {
        let page = Page { size: 2, after: None };
        let key = |n: &u128| Cursor { position: 0, id: Uuid::from_u128(*n) };
        let mut rows = vec![1, 2, 3];
        assert_eq!(page.cut(&mut rows, key), Some(key(&2)));
        assert_eq!(rows, [1, 2]);
        assert_eq!(page.cut(&mut rows, key), None);
        assert_eq!(page.cut(&mut Vec::new(), key), None);
    }
}
