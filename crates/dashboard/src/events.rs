//! The business events of this service: for each its one log line, with the ids that lead to it, and its counter.
//!
//! Invariants: an event is reported once, after its transaction has committed, by the process that committed it. No secret is
//! logged: of an API key only its name, never the key, its prefix or its hash.

use domain::id::{AccountId, ProjectId};
use domain::name::SceneName;
use metrics::counter;

use crate::model::ApiKey;

/// An operator created an account.
pub(crate) fn account_created(account: AccountId) {
    counter!("rushes_accounts_created_total").increment(1);
    tracing::info!(account = account.name(), "account created");
}

/// An operator created an API key.
pub(crate) fn api_key_created(key: &ApiKey) {
    counter!("rushes_api_keys_created_total").increment(1);
    tracing::info!(
        account = key.name.account.name(),
        api_key = %key.name,
        scopes = key.scopes.join(" "),
        expire_time = key.expire_time.map(tracing::field::display),
        "api key created"
    );
}

/// An operator revoked an API key, which was not revoked before.
pub(crate) fn api_key_revoked(key: &ApiKey) {
    counter!("rushes_api_keys_revoked_total").increment(1);
    tracing::info!(account = key.name.account.name(), api_key = %key.name, "api key revoked");
}

/// A user deleted a project with its scenes; generation-status ends the generations that are under way.
pub(crate) fn project_deleted(account: AccountId, project: ProjectId) {
    counter!("rushes_projects_deleted_total").increment(1);
    tracing::info!(account = account.name(), project = project.name(), "project deleted");
}

/// A user deleted a scene; generation-status ends the generations that are under way.
pub(crate) fn scene_deleted(account: AccountId, scene: SceneName) {
    counter!("rushes_scenes_deleted_total").increment(1);
    tracing::info!(account = account.name(), %scene, "scene deleted");
}
