//! Records and values that the rules, the cache, the store and the presenters share. They know none of these.

mod accounts;
mod audit;
mod dashboards;
mod listings;
mod projects;
mod scenes;

pub(crate) use accounts::{
    Account, ApiKey, ChangedAccount, ChangedKey, Erasure, KeyWithAccount, Limits, NewApiKey, OPERATE, Profile, Rate,
    SCOPES, Secret, Suspension,
};
pub(crate) use audit::{AuditEntry, AuditFilter};
pub(crate) use dashboards::{
    Contents, Credits, LatestGeneration, Notice, ProjectCard, RecentGeneration, SceneCard, Section, Snapshot, Take,
};
pub(crate) use listings::{API_KEYS_LISTING, DASHBOARD_LISTING, PROJECTS_LISTING, scenes_listing};
pub(crate) use projects::{NewProject, Project, ProjectChange};
pub(crate) use scenes::{CreatedScene, MAX_SCENES, NewScene, Scene, SceneChange};
