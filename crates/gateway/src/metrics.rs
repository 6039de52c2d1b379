//! The metrics of the gateway.
//!
//! Invariant: every label's values are from a closed set of this crate; nothing that a client sends becomes one.

chassis::metrics! {
    /// API keys that calls showed, by the source of the answer: memory, unknown (memory, that nobody has the key) or dashboard.
    KEY_LOOKUPS = counter "rushes_gateway_key_lookups_total" in "lookups" by ["source"];
    /// Calls that were refused with the key that they show, by reason: missing, malformed, unknown, revoked, expired, address (it is bound
    /// to other networks) or suspended (its account is).
    AUTHENTICATIONS_REFUSED = counter "rushes_gateway_authentications_refused_total" in "calls" by ["reason"];
    /// Answers with an asset that were cut off since their client took too little of them.
    ASSETS_CUT_OFF = counter "rushes_gateway_assets_cut_off_total" in "answers" by [];
    /// Calls that were refused because an account or a key has used up a limit: people, polls, background, endpoint-tests, calls or
    /// uploads.
    LIMITS_EXCEEDED = counter "rushes_gateway_limits_exceeded_total" in "calls" by ["limit", "of"];
    /// Gateways that share the limits, as this one counts them.
    LIMIT_GATEWAYS = gauge "rushes_gateway_limit_gateways" in "gateways" by [];
    /// Time from the arrival of a plain HTTP request to the head of its response.
    HTTP_DURATION = histogram "rushes_http_server_duration_seconds" in "seconds" by ["route", "status"];
}
