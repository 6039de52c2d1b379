-- Written by generation-status: the queues that some worker was last seen to serve. A model that none serves takes orders that wait
-- for a day, which is worth showing before anybody orders.
create table job_servers (
    kind      text        not null,
    queue     text        not null,
    seen_time timestamptz not null default now(),
    primary key (kind, queue)
);
