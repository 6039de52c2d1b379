//! The business events of this service: for each its one log line, with the ids that lead to it, and its counter.
//!
//! Invariants: an event is reported once, after its transaction has committed, by the process that committed it. No secret is
//! logged: of an API key only its name, never the key, its prefix or its hash.

use domain::id::{AccountId, ProjectId};
use domain::name::SceneName;

use crate::metrics;
use crate::model::ApiKey;

/// An operator created an account.
pub(crate) fn account_created(account: AccountId) {
    metrics::ACCOUNTS_CREATED.get().increment(1);
    tracing::info!(account = account.name(), "account created");
}

/// An operator suspended an account, which was not suspended before.
pub(crate) fn account_suspended(account: AccountId, note: &str) {
    metrics::ACCOUNTS_SUSPENDED.get().increment(1);
    tracing::info!(account = account.name(), note, "account suspended");
}

/// An operator ended the suspension of an account.
pub(crate) fn account_reactivated(account: AccountId) {
    metrics::ACCOUNTS_REACTIVATED.get().increment(1);
    tracing::info!(account = account.name(), "account reactivated");
}

/// An operator began to erase an account; its keys are gone.
pub(crate) fn account_erased(account: AccountId) {
    metrics::ACCOUNTS_ERASED.get().increment(1);
    tracing::info!(account = account.name(), "account erased");
}

/// Nothing is left here of an account that is erased, but for its id.
pub(crate) fn projects_erased(account: AccountId) {
    tracing::info!(account = account.name(), "projects of the account erased");
}

/// An operator set limits of an account's own, or took them back.
pub(crate) fn account_limits_set(account: AccountId, own: bool) {
    tracing::info!(account = account.name(), own, "account limits set");
}

/// An operator bound an API key to networks, or to none.
pub(crate) fn api_key_bound(key: &ApiKey) {
    let networks = key.networks.len();
    tracing::info!(account = key.name.account.name(), api_key = %key.name, networks, "api key bound");
}

/// An operator created an API key.
pub(crate) fn api_key_created(key: &ApiKey) {
    metrics::API_KEYS_CREATED.get().increment(1);
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
    metrics::API_KEYS_REVOKED.get().increment(1);
    tracing::info!(account = key.name.account.name(), api_key = %key.name, "api key revoked");
}

/// A user deleted a project with its scenes; generation-status ends the generations that are under way.
pub(crate) fn project_deleted(account: AccountId, project: ProjectId) {
    metrics::PROJECTS_DELETED.get().increment(1);
    tracing::info!(account = account.name(), project = project.name(), "project deleted");
}

/// A user deleted a scene; generation-status ends the generations that are under way.
pub(crate) fn scene_deleted(account: AccountId, scene: SceneName) {
    metrics::SCENES_DELETED.get().increment(1);
    tracing::info!(account = account.name(), %scene, "scene deleted");
}

#[cfg(test)]
mod tests {
    use domain::id::{ApiKeyId, SceneId};
    use domain::name::ApiKeyName;
    use testkit::logged;

    use super::*;

    #[test]
    fn each_event_is_one_line_with_its_ids_and_without_a_secret() {
        let (account, project) = (AccountId::new(), ProjectId::new());
        let scene = SceneName { project, scene: SceneId::new() };
        let key = ApiKey {
            name: ApiKeyName { account, key: ApiKeyId::new() },
            prefix: "rsk_SHOWN".to_owned(),
            scopes: vec!["read".to_owned(), "write".to_owned()],
            version: 1,
            expire_time: None,
            revoke_time: None,
            networks: Vec::new(),
        };
        let lines = logged(|| {
            account_created(account);
            account_suspended(account, "unpaid");
            account_reactivated(account);
            account_erased(account);
            projects_erased(account);
            account_limits_set(account, true);
            api_key_bound(&key);
            api_key_created(&key);
            api_key_revoked(&key);
            project_deleted(account, project);
            scene_deleted(account, scene);
        });
        let key = key.name.to_string();
        let expected = [
            ("account created", vec![]),
            ("account suspended", vec![("note", "unpaid".to_owned())]),
            ("account reactivated", vec![]),
            ("account erased", vec![]),
            ("projects of the account erased", vec![]),
            ("account limits set", vec![]),
            ("api key bound", vec![("api_key", key.clone())]),
            ("api key created", vec![("api_key", key.clone()), ("scopes", "read write".to_owned())]),
            ("api key revoked", vec![("api_key", key)]),
            ("project deleted", vec![("project", project.name())]),
            ("scene deleted", vec![("scene", scene.to_string())]),
        ];
        assert_eq!(lines.len(), expected.len());
        for (line, (message, ids)) in lines.iter().zip(expected) {
            let fields = &line["fields"];
            assert_eq!(line["level"], "INFO");
            assert_eq!(fields["message"], message);
            assert_eq!(fields["account"], account.name(), "{message}");
            for (field, id) in ids {
                assert_eq!(fields[field], id, "{message}");
            }
            assert!(!line.to_string().contains("rsk_"), "{line}");
        }
    }
}
