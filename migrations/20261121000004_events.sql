-- What changes, says so: statement triggers write the outbox inside the changing transaction. A change made by hand in psql
-- or by a migration invalidates caches just as a service's does, and no service can forget it.
--
-- Row keys carry the row's own version; a deletion is one version later than the row's last. `dash:{account}` is an aggregate: its version is the number of changes, and one
-- transaction counts once however many tables it touches.

create function rushes_dashboard_changed(accounts uuid[]) returns void language sql as
$$
    insert into outbox (key)
    select 'dash:' || account_id
      from unnest(accounts) as account_id
     where not exists (
        select 1 from outbox o
         where o.key = 'dash:' || account_id and o.xid = pg_current_xact_id())
$$;

-- For the tables with an account_id that only the dashboard shows.
create function rushes_emit_dashboard() returns trigger language plpgsql as
$$
begin
    perform rushes_dashboard_changed((select array_agg(distinct account_id) from changed));
    return null;
end
$$;

create function rushes_emit_account() returns trigger language plpgsql as
$$
begin
    perform rushes_dashboard_changed((select array_agg(distinct id) from changed));
    return null;
end
$$;

create function rushes_emit_generation() returns trigger language plpgsql as
$$
begin
    insert into outbox (key, ver)
    select 'gen:' || account_id || ':' || id, version + (tg_op = 'DELETE')::int from changed;
    perform rushes_dashboard_changed((select array_agg(distinct account_id) from changed));
    return null;
end
$$;

create function rushes_emit_api_key() returns trigger language plpgsql as
$$
begin
    insert into outbox (key, ver)
    select 'key:' || encode(key_sha256, 'hex'), version + (tg_op = 'DELETE')::int from changed;
    return null;
end
$$;

-- A truncation names no rows: every cached entry goes, by a new epoch and a new namespace.
create function rushes_emit_truncate() returns trigger language plpgsql as
$$
begin
    perform cache_reset();
    return null;
end
$$;

do $$
declare
    emitter record;
    event   text;
begin
    for emitter in
        select * from (values
            ('accounts',        'rushes_emit_account'),
            ('projects',        'rushes_emit_dashboard'),
            ('scenes',          'rushes_emit_dashboard'),
            ('notices',         'rushes_emit_dashboard'),
            ('credit_accounts', 'rushes_emit_dashboard'),
            ('generations',     'rushes_emit_generation'),
            ('api_keys',        'rushes_emit_api_key')
        ) as t (tab, fn)
    loop
        foreach event in array array['insert', 'update', 'delete'] loop
            execute format(
                'create trigger emit_%1$s after %1$s on %2$I referencing %3$s table as changed
                 for each statement execute function %4$I()',
                event, emitter.tab, case event when 'delete' then 'old' else 'new' end, emitter.fn);
            -- Always: also while a restore or a replication role has ordinary triggers off.
            execute format('alter table %I enable always trigger emit_%s', emitter.tab, event);
        end loop;
        execute format(
            'create trigger emit_truncate after truncate on %I for each statement execute function rushes_emit_truncate()',
            emitter.tab);
        execute format('alter table %I enable always trigger emit_truncate', emitter.tab);
    end loop;
end
$$;
