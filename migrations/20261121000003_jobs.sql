-- Durable work: the queue itself, the accounts' turns in it, and the history of every job. Nothing here knows what the work
-- is about; `account_id` is only whose turn it takes, and therefore references no table.

create table jobs (
    id              uuid primary key,
    account_id      uuid not null,
    kind            text not null,
    -- The part of a kind that not every worker can serve, as a model's name; '' where all can.
    queue           text not null default '',
    state           text not null default 'queued'
                    constraint jobs_state check (state in ('queued', 'leased', 'done', 'failed', 'cancelled', 'dead')),
    -- Lower goes first.
    priority        smallint not null default 100,
    -- Virtual finish time of start-time fair queueing: the order within a priority.
    vft             double precision not null,
    run_at          timestamptz not null default now(),
    -- Attempts that count against max_attempts; counted at the claim, so that a job that kills its worker runs out too.
    attempt         integer not null default 0,
    max_attempts    integer not null constraint jobs_max_attempts check (max_attempts > 0),
    -- Every claim there ever was; never lowered.
    claims          integer not null default 0,
    expired_in_row  integer not null default 0,
    lease_until     timestamptz,
    -- Rises with every lease and with nothing else; every write of a worker names it.
    fence           bigint not null default 0,
    worker          text,
    idem_key        text not null,
    request_hash    bytea not null,
    payload         bytea not null,
    traceparent     text,
    -- Someone asked for it to be stopped.
    cancel_at       timestamptz,
    -- Not to be begun after this; no matter once a worker has taken it up.
    deadline_at     timestamptz,
    -- Why it last went back or ended, in upper snake case, and the sentence that goes with it.
    cause           text,
    last_error      text,
    created_at      timestamptz not null default now(),
    finished_at     timestamptz,
    constraint jobs_idem unique (account_id, kind, idem_key),
    constraint jobs_leased check ((state = 'leased') = (lease_until is not null)),
    constraint jobs_finished check ((state in ('queued', 'leased')) = (finished_at is null))
) with (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 1,
    autovacuum_analyze_scale_factor = 0.02
);

create index jobs_ready on jobs (kind, queue, priority, vft) where state = 'queued';
create index jobs_overdue on jobs (kind, deadline_at) where state = 'queued' and deadline_at is not null;
-- Not by lease_until: there are as many leases as workers have hands, so reading all of them is cheap, and without that
-- column in an index a heartbeat is a heap-only update.
create index jobs_leases on jobs (kind, queue) where state = 'leased';
create index jobs_dead on jobs (kind, id) where state = 'dead';

-- An account's place in a queue: the virtual finish time of what it queued last. An account with weight 2 gets two turns
-- where another gets one.
create table job_turns (
    kind        text not null,
    queue       text not null,
    account_id  uuid not null,
    last_vft    double precision not null,
    weight      double precision not null default 1 constraint job_turns_weight check (weight > 0),
    primary key (kind, queue, account_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);

create index job_turns_last on job_turns (kind, queue, last_vft);

-- The history of every job, only ever added to.
create table job_events (
    id          bigint generated always as identity primary key,
    job_id      uuid not null,
    at          timestamptz not null default clock_timestamp(),
    from_state  text,
    to_state    text not null,
    fence       bigint not null,
    attempt     integer not null,
    worker      text,
    cause       text,
    detail      text
);

create index job_events_job on job_events (job_id, id);

-- By trigger, so that no transition, a hand-made one included, goes unrecorded.
create function record_job_event() returns trigger language plpgsql as $$
begin
    insert into job_events (job_id, from_state, to_state, fence, attempt, worker, cause, detail)
    values (
        new.id,
        case when tg_op = 'UPDATE' then old.state end,
        new.state,
        new.fence,
        new.attempt,
        case when new.state = 'leased' then new.worker when tg_op = 'UPDATE' then old.worker end,
        case when new.state <> 'leased' then new.cause end,
        case when new.state <> 'leased' then new.last_error end
    );
    return null;
end
$$;

create trigger jobs_created after insert on jobs
    for each row execute function record_job_event();

create trigger jobs_moved after update of state on jobs
    for each row when (old.state is distinct from new.state) execute function record_job_event();

create function refuse_job_event_change() returns trigger language plpgsql as $$
begin
    raise exception 'job_events is append only';
end
$$;

create trigger job_events_append_only before update on job_events
    for each statement execute function refuse_job_event_change();
