-- A queue that is called as a pool is had one breaker with it: a model that is named after a provider, and the provider.

-- What is open now opens again with its next failed attempt; which of the two it is of is not known.
delete from job_breakers;
alter table job_breakers
    -- What `target` names: all queues of a pool, or one queue.
    add column scope text not null constraint job_breakers_scope check (scope in ('pool', 'queue')),
    drop constraint job_breakers_pkey,
    add primary key (kind, scope, target);
