-- What operators do about queues: a scope of their own, pauses, and the shares of accounts.

alter table api_keys
    drop constraint api_keys_scopes_check,
    add constraint api_keys_scopes_check check (scopes <@ array['read', 'write', 'generate', 'operate']);

-- What is not given out, by the part of a kind; '' is all of the kind. What was given out goes on.
create table job_pauses (
    kind        text        not null,
    queue       text        not null,
    -- Who paused it, and why.
    note        text        not null,
    pause_time  timestamptz not null default now(),
    primary key (kind, queue)
);

-- What is set for an account, in all queues of a kind. A row is there only where something was.
create table job_accounts (
    kind        text             not null,
    account_id  uuid             not null,
    -- With 2, two turns where another gets one. Takes the place of job_turns.weight, which nothing reads any more.
    weight      double precision not null default 1 constraint job_accounts_weight check (weight > 0),
    primary key (kind, account_id)
);
insert into job_accounts (kind, account_id, weight)
select kind, account_id, max(weight) from job_turns group by kind, account_id having max(weight) <> 1;
