-- Secrets of webhooks are stored encrypted where the service has a key for it: 32 bytes are a secret in the clear, and 65 an encrypted
-- one, as generation-status' `store/secrets.rs` says.
alter table webhook_endpoints
    drop constraint webhook_endpoints_secret_check,
    add constraint webhook_endpoints_secret_check check (octet_length(secret) in (32, 65)),
    drop constraint webhook_endpoints_previous_secret_check,
    add constraint webhook_endpoints_previous_secret_check check (octet_length(previous_secret) in (32, 65));
