//! The names of listings, which page tokens are bound to.

use domain::id::ProjectId;

/// The name of ListProjects' listing in page tokens.
pub(crate) const PROJECTS_LISTING: &str = "projects";
/// The name of the listing of an account's keys in page tokens.
pub(crate) const API_KEYS_LISTING: &str = "apiKeys";
/// The name of the dashboard's listing in page tokens.
pub(crate) const DASHBOARD_LISTING: &str = "dashboard";

/// The name of a project's listing of scenes in page tokens.
pub(crate) fn scenes_listing(project: ProjectId) -> String {
    format!("{}/scenes", project.name())
}
