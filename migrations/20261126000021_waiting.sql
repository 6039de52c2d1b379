-- Waiting without a lease: a job whose work goes on elsewhere stands in `waiting`, with the time of the next look in `run_at`.

alter table jobs
    -- The lease was given for a look: no attempt, and back to `waiting` should it run out.
    add column looking boolean not null default false,
    -- Looks since the job was last queued.
    add column looks   integer not null default 0;

alter table jobs
    drop constraint jobs_state,
    add constraint jobs_state
        check (state in ('queued', 'leased', 'waiting', 'done', 'failed', 'cancelled', 'dead')),
    drop constraint jobs_finished,
    add constraint jobs_finished check ((state in ('queued', 'leased', 'waiting')) = (finished_at is null)),
    add constraint jobs_looking check (not looking or state = 'leased');

create index jobs_looks on jobs (kind, queue, run_at) where state = 'waiting';

-- A look that finds nothing new is no event: an order that renders for an hour would have hundreds.
drop trigger jobs_moved on jobs;
create trigger jobs_moved after update of state on jobs
    for each row when (
        old.state is distinct from new.state
        and not (old.state = 'waiting' and new.state = 'leased')
        and not (old.looking and new.state = 'waiting' and old.cause is not distinct from new.cause)
    ) execute function record_job_event();
