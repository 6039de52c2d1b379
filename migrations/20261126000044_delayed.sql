-- Jobs whose time has not come, out of the way of those that could be claimed: a claim reads the front of an index, and a
-- hundred thousand webhooks for an address that is down, to be tried again in hours, would stand there.

alter table jobs
    -- Queued, and not to be claimed yet. A claim puts to the others, first of all, what has come due.
    add column delayed boolean not null default false;
update jobs set delayed = true where state = 'queued' and run_at > now();

drop index jobs_ready;
create index jobs_ready on jobs (kind, queue, priority, vft) where state = 'queued' and not delayed;
drop index jobs_own;
create index jobs_own on jobs (kind, queue, account_id, priority, vft) where state = 'queued' and not delayed;
create index jobs_delayed on jobs (kind, run_at) where state = 'queued' and delayed;

-- By trigger, so that no transition misses it.
create function delay_job() returns trigger language plpgsql as $$
begin
    new.delayed := new.state = 'queued' and new.run_at > now();
    return new;
end
$$;
create trigger jobs_delayed_insert before insert on jobs
    for each row when (new.run_at > now()) execute function delay_job();
create trigger jobs_delayed_update before update of state, run_at on jobs
    for each row when (new.delayed is distinct from (new.state = 'queued' and new.run_at > now()))
    execute function delay_job();
