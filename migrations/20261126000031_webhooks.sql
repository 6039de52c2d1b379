-- Webhooks to users: where an account wants to be told, what it is told, and what came of every attempt.
--
-- What is to be told is written by trigger, in the transaction that changes the generation: it is there if and only if the
-- change is, whatever code made it, and an account without endpoints pays one look into an index for each change of state.

-- Written by generation-status.
create table webhook_endpoints (
    id              uuid        primary key,
    account_id      uuid        not null references accounts (id),
    url             text        not null check (char_length(url) between 1 and 2000),
    description     text        not null default '' check (char_length(description) <= 200),
    event_types     text[]      not null check (cardinality(event_types) > 0),
    -- In the clear, since they sign: who reads this table can sign in our name.
    secret          bytea       not null check (octet_length(secret) = 32),
    previous_secret bytea       check (octet_length(previous_secret) = 32),
    previous_until  timestamptz,
    -- Nothing is sent while there is a reason; DELETED stays for its deliveries, and is nowhere shown.
    disable_reason  text        check (disable_reason in ('USER', 'GONE', 'FAILING', 'DELETED')),
    disable_time    timestamptz,
    -- Since when no attempt has succeeded.
    failing_since   timestamptz,
    version         bigint      not null default 1,
    request_id      uuid,
    request_sha256  bytea,
    create_time     timestamptz not null default now(),
    update_time     timestamptz not null default now(),
    constraint webhook_endpoints_request unique (account_id, request_id),
    constraint webhook_endpoints_tenant unique (account_id, id),
    check ((disable_reason is null) = (disable_time is null)),
    check ((previous_secret is null) = (previous_until is null))
) with (fillfactor = 70);

-- Written by generation-status, and by the trigger below. The id is what receivers know it by, the same over all attempts.
-- `state`: 1 pending, 2 delivered, 3 given up; the numbers of rushes.webhooks.v1.
create table webhook_deliveries (
    id                 uuid        primary key,
    account_id         uuid        not null,
    endpoint_id        uuid        not null,
    event_type         text        not null,
    -- The generation as it was; nothing for a test.
    generation_id      uuid,
    generation_version bigint,
    generation         jsonb,
    state              smallint    not null default 1 check (state between 1 and 3),
    -- An earlier one of the same generation and endpoint must end first.
    waits              boolean     not null default false,
    -- How often it was put to work, and the job that does it; nothing: it is still to be enqueued.
    round              integer     not null default 0,
    job_id             uuid,
    attempt_count      integer     not null default 0,
    next_attempt_time  timestamptz,
    create_time        timestamptz not null default now(),
    end_time           timestamptz,
    constraint webhook_deliveries_endpoint foreign key (account_id, endpoint_id)
        references webhook_endpoints (account_id, id),
    check ((state = 1) = (end_time is null))
) with (fillfactor = 70);
create index webhook_deliveries_listing on webhook_deliveries (account_id, endpoint_id, id desc);
create index webhook_deliveries_new on webhook_deliveries (id) where state = 1 and job_id is null and not waits;
create index webhook_deliveries_chain on webhook_deliveries (endpoint_id, generation_id, generation_version)
    where state = 1;
create index webhook_deliveries_over on webhook_deliveries (end_time) where state > 1;

-- Written by generation-status: one line for each attempt whose process lived to tell.
create table webhook_attempts (
    delivery_id  uuid        not null references webhook_deliveries (id) on delete cascade,
    number       integer     not null,
    account_id   uuid        not null,
    attempt_time timestamptz not null default now(),
    -- 0 when there was no answer, and then there is a reason.
    http_status  integer     not null,
    latency_ms   integer     not null check (latency_ms >= 0),
    reason       text        not null default '',
    excerpt      text        not null default '' check (char_length(excerpt) <= 1024),
    primary key (delivery_id, number)
);

-- The event of a state: `generation.` and the state's name.
create function generation_event(state smallint) returns text language sql immutable as
$$
    select 'generation.' || (array['queued', 'submitting', 'processing', 'finalizing', 'cancelling', 'completed', 'failed',
                                   'cancelled', 'expired'])[state]
$$;

-- Ids of our own are UUIDv7, so that their order is the order of creation; these are made here.
create function rushes_uuid_v7() returns uuid language sql volatile as
$$
    select encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                    placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6),
            52, 1), 53, 1),
        'hex')::uuid
$$;

create function rushes_tell_endpoints() returns trigger language plpgsql as
$$
begin
    insert into webhook_deliveries (id, account_id, endpoint_id, event_type, generation_id, generation_version, generation)
    select rushes_uuid_v7(), e.account_id, e.id, generation_event(new.state), new.id, new.version,
           to_jsonb(new) - 'request_sha256'
      from webhook_endpoints e
     where e.account_id = new.account_id and e.disable_time is null
       and generation_event(new.state) = any (e.event_types);
    return null;
end
$$;

create trigger tell_endpoints_insert after insert on generations
    for each row execute function rushes_tell_endpoints();
-- Progress is no news: only changes of state.
create trigger tell_endpoints_update after update on generations
    for each row when (old.state is distinct from new.state) execute function rushes_tell_endpoints();
alter table generations enable always trigger tell_endpoints_insert;
alter table generations enable always trigger tell_endpoints_update;
