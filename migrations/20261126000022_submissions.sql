-- Honest submission: what was asked of a provider, by lease, and what follows from not knowing its answer.

-- One row for each order: the intent is committed before the call, the reference after it. `over` is an order that failed and
-- will not be gone on with. At most one is live.
alter table provider_calls
    drop constraint provider_calls_pkey,
    drop constraint provider_calls_phase_check,
    add column fence   bigint  not null default 0,
    add column attempt integer not null default 0,
    add constraint provider_calls_pkey primary key (generation_id, fence),
    add constraint provider_calls_phase check (phase in ('intent', 'known', 'over')),
    add constraint provider_calls_known check (phase <> 'known' or reference is not null);
create unique index provider_calls_live on provider_calls (generation_id) where phase <> 'over';

-- `verdict` is rushes.generations.v1.Charge.Verdict.
alter table generations
    add column start_deadline timestamptz,
    add column total_deadline timestamptz,
    -- Its user asked for it to be stopped; null where the deadline did.
    add column cancel_time    timestamptz,
    add column retried_from   uuid,
    add column verdict        smallint not null default 0 check (verdict between 0 and 3),
    add column queue_position integer  not null default 0 check (queue_position >= 0),
    add column eta_p50        timestamptz,
    add column eta_p80        timestamptz;
update generations set verdict = case state when 6 then 2 else 3 end where state >= 6;
-- What the sweep for deadlines and the reconciler read; by `end_time`, so that the steps between stay heap-only updates.
create index generations_due on generations (total_deadline) where end_time is null;
create index generations_ended on generations (end_time desc) where end_time is not null;

-- Written by generation-status: provider webhooks that were heard, so that a repeated one does nothing. Rows are of no use
-- once the signature's own window has passed.
create table provider_events (
    provider     text        not null,
    event        text        not null,
    job_id       uuid        not null,
    receive_time timestamptz not null default now(),
    primary key (provider, event)
);
create index provider_events_age on provider_events (receive_time);

-- Written by generation-status: how long a model's last generations took, from which progress is estimated.
create table model_paces (
    model       text        primary key,
    p50         interval    not null,
    p80         interval    not null,
    samples     integer     not null check (samples > 0),
    update_time timestamptz not null default now()
);
