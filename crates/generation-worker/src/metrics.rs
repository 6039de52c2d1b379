//! The metrics of this service.
//!
//! Invariant: every label's values come from this crate's own closed sets or from its settings; nothing that a provider or a webhook's sender says
//! becomes one.

chassis::metrics! {
    /// Leases that this worker works on now.
    WORK_RUNNING = gauge "rushes_work_running" in "leases" by [];
    /// Leases whose work ended here: completed, failed, suspended, released, abandoned or panicked.
    WORK_ENDED = counter "rushes_work_total" in "leases" by ["outcome"];
    /// Providers' webhooks: awaited, idle (nothing waited for it), refused (not verified) or undelivered.
    WEBHOOKS = counter "rushes_provider_webhooks_total" in "webhooks" by ["outcome"];
    /// 1 where a model's provider took the key, by its public name, and knew the model when it was last asked, at the start or by an
    /// operator.
    MODEL_SERVED = gauge "rushes_model_served" in "flag" by ["model", "key"];
    /// Calls to providers that were answered, by the HTTP status; `other` for one that HTTP does not name. `key` is the public name of
    /// the key that was used, `{provider}/{hash}`; empty where it has none.
    CALLS = counter "rushes_provider_calls_total" in "calls" by ["provider", "key", "phase", "status"];
    /// Calls to providers, downloads and deliveries that did not come about, by key as above, and by what came of them.
    CALLS_FAILED = counter "rushes_provider_failures_total" in "calls" by ["provider", "key", "phase", "outcome"];
    /// Repetitions of calls that were not made at once, since those to the peer (a service of ours, or a provider) had used up their
    /// share of the calls.
    RETRIES_REFUSED = counter "rushes_retries_refused_total" in "calls" by ["peer"];
    /// The sizes of the outputs that were downloaded.
    DOWNLOADED_BYTES = histogram "rushes_provider_output_bytes" in "bytes" by ["provider"];
    /// Polls that named a state which the provider's documentation did not have when its adapter was written.
    UNKNOWN_STATES = counter "rushes_provider_unknown_states_total" in "polls" by ["provider"];
}
