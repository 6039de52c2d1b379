-- What a change writes to the outbox, in one statement for each trigger: a function in SQL is planned anew in every call, which cost a
-- change of a generation, with its scene, as much as all the rest of it.
--
-- That one transaction counts once for an account's dashboard, however many tables it touches, is the index's business now. It is found
-- there at once too where many changes of one account wait for the relay.

create unique index outbox_dashboard_once on outbox (key, xid) where ver is null and key like 'dash:%';

create or replace function rushes_emit_dashboard() returns trigger language plpgsql as
$$
begin
    insert into outbox (key)
    select distinct 'dash:' || account_id from changed
    on conflict (key, xid) where ver is null and key like 'dash:%' do nothing;
    return null;
end
$$;

create or replace function rushes_emit_account() returns trigger language plpgsql as
$$
begin
    insert into outbox (key)
    select distinct 'dash:' || id from changed
    on conflict (key, xid) where ver is null and key like 'dash:%' do nothing;
    return null;
end
$$;

create or replace function rushes_emit_generation() returns trigger language plpgsql as
$$
begin
    insert into outbox (key, ver)
    select 'gen:' || account_id || ':' || id, version + (tg_op = 'DELETE')::int from changed
    union all
    select distinct 'dash:' || account_id, null::bigint from changed
    on conflict (key, xid) where ver is null and key like 'dash:%' do nothing;
    return null;
end
$$;

drop function rushes_dashboard_changed(uuid[]);
