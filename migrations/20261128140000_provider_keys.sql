-- Several keys of one provider, each with a breaker of its own.

-- Written by generation-status: the keys that workers have for a pool, by their public names, `{pool}/{hash}`. A row is a key that some
-- worker had lately, and says when it was given work last.
create table job_keys (
    kind         text        not null,
    -- The public name; no secret.
    key          text        not null,
    pool         text        not null,
    seen_time    timestamptz not null default now(),
    use_time     timestamptz not null default now(),
    -- It asked for a pause, and is left out until then.
    closed_until timestamptz not null default now(),
    primary key (kind, key)
);

alter table job_breakers
    drop constraint job_breakers_scope,
    -- What `target` names: all queues of a pool, one of the keys with which a pool is worked, or one queue.
    add constraint job_breakers_scope check (scope in ('pool', 'key', 'queue'));

alter table provider_calls
    -- The public name of the key that the order was, or may have been, sent with; empty: not known.
    add column key text not null default '' constraint provider_calls_key check (char_length(key) <= 100);
