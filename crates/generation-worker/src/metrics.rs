//! The metrics of this service.
//!
//! Invariant: every label's values come from this crate's own closed sets; nothing that a provider or a webhook's sender says
//! becomes one.

chassis::metrics! {
    /// Leases that this worker works on now.
    WORK_RUNNING = gauge "rushes_work_running" in "leases" by [];
    /// Leases whose work ended here: completed, failed, suspended, released, abandoned or panicked.
    WORK_ENDED = counter "rushes_work_total" in "leases" by ["outcome"];
    /// Providers' webhooks: awaited, idle (nothing waited for it), refused (not verified) or undelivered.
    WEBHOOKS = counter "rushes_provider_webhooks_total" in "webhooks" by ["outcome"];
    /// Polls that named a state which the provider's documentation did not have when its adapter was written.
    UNKNOWN_STATES = counter "rushes_provider_unknown_states_total" in "polls" by ["provider"];
}
