-- Providers that take no orders, and orders that are in trouble.

-- Written by generation-status: the breaker of a pool or of a queue. A row is there while the last attempts failed; from
-- `open_time` on nothing is given out there but one probe at a time.
create table job_breakers (
    kind        text        not null,
    -- A pool or a queue.
    target      text        not null,
    -- Why, in upper snake case.
    cause       text        not null,
    -- The other side's own words.
    detail      text        not null default '',
    -- Attempts in a row that failed so.
    failures    integer     not null default 0 constraint job_breakers_failures check (failures >= 0),
    -- Since when it is open; null: it counts, and holds nothing back.
    open_time   timestamptz,
    -- No probe is given out before.
    probe_time  timestamptz not null default now(),
    -- The job that probes it now.
    probe_job   uuid,
    update_time timestamptz not null default now(),
    primary key (kind, target)
);

-- Since when which part of a live order has been in trouble; null: it is well.
alter table provider_calls
    -- Its provider cannot be asked.
    add column poll_trouble_time    timestamptz,
    -- Its provider answers, and does not know it or names no output.
    add column order_trouble_time   timestamptz,
    -- Its output cannot be fetched.
    add column output_trouble_time  timestamptz,
    -- Its output cannot be stored.
    add column storage_trouble_time timestamptz;
