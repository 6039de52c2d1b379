//! The metrics of this service; those of its watches, its pools and its cache are their crates'.

chassis::metrics! {
    /// Accounts that operators created.
    ACCOUNTS_CREATED = counter "rushes_accounts_created_total" in "accounts" by [];
    /// Accounts that operators suspended.
    ACCOUNTS_SUSPENDED = counter "rushes_accounts_suspended_total" in "accounts" by [];
    /// Accounts whose suspension operators ended.
    ACCOUNTS_REACTIVATED = counter "rushes_accounts_reactivated_total" in "accounts" by [];
    /// Accounts that operators erased.
    ACCOUNTS_ERASED = counter "rushes_accounts_erased_total" in "accounts" by [];
    /// API keys that operators created.
    API_KEYS_CREATED = counter "rushes_api_keys_created_total" in "keys" by [];
    /// API keys that operators revoked.
    API_KEYS_REVOKED = counter "rushes_api_keys_revoked_total" in "keys" by [];
    /// Projects that users deleted, each with its scenes.
    PROJECTS_DELETED = counter "rushes_projects_deleted_total" in "projects" by [];
    /// Scenes that users deleted by themselves, without their project.
    SCENES_DELETED = counter "rushes_scenes_deleted_total" in "scenes" by [];
}
