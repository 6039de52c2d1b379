-- How much may run at once: of an account, and at a provider, which says by its 429s how much it can take. And where a
-- start is refused: an account has only so many generations under way.

alter table job_accounts
    -- How many may run at once; null: as many as the service lets every account.
    add column running_limit integer constraint job_accounts_running_limit check (running_limit >= 0);

-- What runs, by account and by queue: counted at every claim that has limits to keep.
create index jobs_running on jobs (kind, account_id, queue) where state in ('leased', 'waiting');
-- An account's own order: how a claim gets past those who run as many as they may, however much they have queued.
create index jobs_own on jobs (kind, queue, account_id, priority, vft) where state = 'queued';

-- Who does a queue's work, as a provider; several queues may share one. A queue without a row is its own.
create table job_queues (
    kind   text not null,
    queue  text not null,
    pool   text not null,
    primary key (kind, queue)
);

-- What a pool can take, learnt from its refusals: halved by one, and from there growing with time. A pool without a row has
-- never refused.
create table job_pools (
    kind          text             not null,
    pool          text             not null,
    -- How many ran at once when it was lowered; what may run now follows from that and the time since.
    ceiling       double precision not null constraint job_pools_ceiling check (ceiling >= 1),
    lower_time    timestamptz      not null default now(),
    -- Nothing is given out until then: the pool asked for a pause.
    closed_until  timestamptz      not null default now(),
    primary key (kind, pool)
);
