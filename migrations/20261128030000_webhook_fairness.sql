-- Webhooks: the schedule of a delivery stands in its own row, and a job is one attempt. So each endpoint has at most a few jobs at
-- a time, whatever waits for it, and neither a backlog nor a slow endpoint is in the way of others.

alter table webhook_endpoints
    -- How fast it answered last: a slow one is served from slots of its own.
    add column answer_speed text not null default 'unknown' check (answer_speed in ('unknown', 'prompt', 'slow'));

alter table webhook_deliveries
    -- Not to be sent before this.
    add column due_time timestamptz not null default now(),
    -- The attempts that failed since it was made or last redelivered; of these, how often it was refused for good; since when.
    add column failures integer not null default 0,
    add column refusals integer not null default 0,
    add column failing_since timestamptz,
    -- Its user wants it now, whatever waits before it.
    add column expedited boolean not null default false;

-- What waits for its next attempt waits in its own row from now on.
with paused as (
    update jobs set state = 'cancelled', finished_at = now(), cause = 'CANCELLED'
    where kind = 'webhook' and state = 'queued' and delayed
    returning id, run_at
)
update webhook_deliveries d
set job_id = null, due_time = p.run_at, failures = case when d.attempt_count > 9 then 9 else d.attempt_count end, failing_since = d.create_time
from paused p where d.job_id = p.id and d.state = 1;

drop index webhook_deliveries_new;
create index webhook_deliveries_due on webhook_deliveries (endpoint_id, due_time, id)
    where state = 1 and job_id is null and not waits;
-- What is on its way to an endpoint: at most a few rows each.
create index webhook_deliveries_sending on webhook_deliveries (endpoint_id) where state = 1 and job_id is not null;
-- The tests of the last minute.
create index webhook_deliveries_tests on webhook_deliveries (endpoint_id, create_time) where event_type = 'webhook.test';
