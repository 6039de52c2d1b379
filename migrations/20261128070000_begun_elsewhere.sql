-- A lease whose attempt was begun elsewhere, as an order at a provider: should it run out or be given back, its job waits, and a poll
-- is due. The job used to be queued again, behind whatever keeps new attempts back, as the open breaker of its provider.

alter table jobs
    -- Written by the holder of the lease before it begins; the next claim forgets it.
    add column elsewhere boolean not null default false;

update jobs set elsewhere = true
where state = 'leased'
  and exists (select from provider_calls p where p.generation_id = jobs.id and p.phase <> 'over');

-- What was queued again with a live order, before this. Generations that no attempt has begun for (1, QUEUED) are claimed for it.
update jobs set state = 'waiting', run_at = now(), deadline_at = null
from generations g
where jobs.state = 'queued' and g.id = jobs.id and g.account_id = jobs.account_id and g.state <> 1
  and exists (select from provider_calls p where p.generation_id = jobs.id and p.phase <> 'over');
