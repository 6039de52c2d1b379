-- What accounts and their end users used, by day and model, kept by triggers in the transactions that start and settle generations:
-- so that it holds whatever code, of whichever version, writes, and what is read costs the same however long the history is.

-- Written by generation-status. Days are UTC's. A start counts on the day of the start; an end, with its money, on the day of the end,
-- so that a day that is over never changes again.
create table usage_daily (
    account_id           uuid   not null references accounts (id),
    day                  date   not null,
    model                text   not null,
    end_user             text   not null,
    started              bigint not null default 0,
    completed            bigint not null default 0,
    failed               bigint not null default 0,
    cancelled            bigint not null default 0,
    expired              bigint not null default 0,
    captured_micros      bigint not null default 0,
    -- In millionths of the provider's currency, as far as the provider says it.
    provider_cost_micros bigint not null default 0,
    primary key (account_id, day, model, end_user)
) with (fillfactor = 80);
create index usage_by_end_user on usage_daily (account_id, end_user, day) where end_user <> '';

-- Written by generation-status: an end user of an account, from the first generation or limit on. `period` is
-- rushes.credits.v1.EndUser.Period. `day_micros` and `month_micros` are of the UTC day and month that `last_day` is in.
create table end_users (
    id           uuid        not null default rushes_uuid_v7() unique,
    account_id   uuid        not null references accounts (id),
    end_user     text        not null check (char_length(end_user) between 1 and 200),
    limit_micros bigint      check (limit_micros >= 0),
    period       smallint    not null default 3 check (period between 1 and 3),
    held_micros  bigint      not null default 0 check (held_micros >= 0),
    last_day     date        not null,
    day_micros   bigint      not null default 0,
    month_micros bigint      not null default 0,
    total_micros bigint      not null default 0,
    create_time  timestamptz not null default now(),
    primary key (account_id, end_user)
) with (fillfactor = 80);
create index end_users_listing on end_users (account_id, id desc);

create function utc_day(at timestamptz) returns date language sql immutable as $$
    select (at at time zone 'utc')::date
$$;

-- What an end user has spent in the period that is under way.
create function end_user_spent(u end_users) returns bigint language sql stable as $$
    select case u.period
        when 1 then case when u.last_day = utc_day(now()) then u.day_micros else 0 end
        when 2 then case when date_trunc('month', u.last_day) = date_trunc('month', utc_day(now())) then u.month_micros else 0 end
        else u.total_micros
    end
$$;

create function count_usage_start() returns trigger language plpgsql as $$
begin
    insert into usage_daily as u (account_id, day, model, end_user, started)
    values (new.account_id, utc_day(new.create_time), new.model, new.end_user, 1)
    on conflict (account_id, day, model, end_user) do update set started = u.started + 1;
    if new.end_user <> '' and new.end_time is null then
        insert into end_users as u (account_id, end_user, held_micros, last_day)
        values (new.account_id, new.end_user, new.held_micros, utc_day(now()))
        on conflict (account_id, end_user) do update set held_micros = u.held_micros + new.held_micros
            where u.limit_micros is null or u.held_micros + end_user_spent(u) + new.held_micros <= u.limit_micros;
        if not found then
            -- Refused here, under the lock of the end user's row, so that of two starts at once neither spends what the other does.
            raise exception 'the limit of the end user is reached' using errcode = 'check_violation', constraint = 'end_users_limit';
        end if;
    end if;
    return null;
end
$$;

create function count_usage_end() returns trigger language plpgsql as $$
begin
    insert into usage_daily as u (account_id, day, model, end_user, completed, failed, cancelled, expired, captured_micros,
                                  provider_cost_micros)
    select new.account_id, utc_day(new.end_time), new.model, new.end_user, (new.state = 6)::int, (new.state = 7)::int,
           (new.state = 8)::int, (new.state = 9)::int, new.captured_micros,
           coalesce((select o.provider_cost_micros from generation_orders o
                     where o.account_id = new.account_id and o.generation_id = new.id), 0)
    on conflict (account_id, day, model, end_user) do update
        set completed = u.completed + excluded.completed, failed = u.failed + excluded.failed,
            cancelled = u.cancelled + excluded.cancelled, expired = u.expired + excluded.expired,
            captured_micros = u.captured_micros + excluded.captured_micros,
            provider_cost_micros = u.provider_cost_micros + excluded.provider_cost_micros;
    if new.end_user <> '' then
        update end_users u
        set held_micros = u.held_micros - new.held_micros,
            day_micros = new.captured_micros + case when u.last_day = utc_day(now()) then u.day_micros else 0 end,
            month_micros = new.captured_micros
                + case when date_trunc('month', u.last_day) = date_trunc('month', utc_day(now())) then u.month_micros else 0 end,
            total_micros = u.total_micros + new.captured_micros,
            last_day = utc_day(now())
        where u.account_id = new.account_id and u.end_user = new.end_user;
    end if;
    return null;
end
$$;

-- A label is looked for by its key and value, and what has it is read from new to old.
create table generation_labels (
    account_id    uuid not null,
    key           text not null,
    value         text not null,
    generation_id uuid not null references generations (id),
    primary key (account_id, key, value, generation_id)
);

create function list_labels() returns trigger language plpgsql as $$
begin
    insert into generation_labels (account_id, key, value, generation_id)
    select new.account_id, label.key, label.value, new.id from jsonb_each_text(new.labels) label;
    return null;
end
$$;

-- How it ended, or 0 while it is open. The state itself is not indexed, so that the steps between stay heap-only updates.
alter table generations
    add column end_state smallint not null generated always as (case when state >= 6 then state else 0 end) stored;
create index generations_by_end_state on generations (account_id, end_state, id);
create index generations_by_model on generations (account_id, model, id);
create index generations_by_end_user on generations (account_id, end_user, id) where end_user <> '';
-- As these, in one direction, so that what they are for and the id can be compared as one row.
drop index generations_by_scene, generations_by_project;
create index generations_by_scene on generations (account_id, scene_id, id);
create index generations_by_project on generations (account_id, project_id, id);
create index generations_by_end on generations (account_id, end_time) where end_time is not null;

create trigger generations_usage_start after insert on generations
    for each row execute function count_usage_start();
create trigger generations_usage_end after update of end_time on generations
    for each row when (old.end_time is null and new.end_time is not null) execute function count_usage_end();
create trigger generations_labels after insert on generations
    for each row when (new.labels <> '{}') execute function list_labels();

-- What was there before.
insert into usage_daily (account_id, day, model, end_user, started, completed, failed, cancelled, expired, captured_micros,
                         provider_cost_micros)
select account_id, day, model, end_user, sum(started), sum(completed), sum(failed), sum(cancelled), sum(expired), sum(captured), sum(cost)
from (
    select account_id, utc_day(create_time) as day, model, end_user, 1 as started, 0 as completed, 0 as failed, 0 as cancelled,
           0 as expired, 0 as captured, 0 as cost
    from generations
    union all
    select g.account_id, utc_day(g.end_time), g.model, g.end_user, 0, (g.state = 6)::int, (g.state = 7)::int, (g.state = 8)::int,
           (g.state = 9)::int, g.captured_micros, coalesce(o.provider_cost_micros, 0)
    from generations g left join generation_orders o on o.generation_id = g.id
    where g.end_time is not null
) counted
group by account_id, day, model, end_user;

insert into end_users (account_id, end_user, held_micros, last_day, day_micros, month_micros, total_micros)
select account_id, end_user, coalesce(sum(held_micros) filter (where end_time is null), 0), utc_day(now()),
       coalesce(sum(captured_micros) filter (where utc_day(end_time) = utc_day(now())), 0),
       coalesce(sum(captured_micros) filter (where date_trunc('month', utc_day(end_time)) = date_trunc('month', utc_day(now()))), 0),
       sum(captured_micros)
from generations where end_user <> '' group by account_id, end_user;

insert into generation_labels (account_id, key, value, generation_id)
select g.account_id, label.key, label.value, g.id from generations g, jsonb_each_text(g.labels) label;
