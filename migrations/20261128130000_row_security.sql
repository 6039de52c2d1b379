-- Row-level security, a second guard beside the account that every statement names: a transaction that says whose it is writes and locks
-- no row of another account.
--
-- `rushes.account` is the account's id, which `begin` sets, or `any`, with which a service's connection starts: relay, claims, reaper
-- and reconciler work for all accounts. Without it a service writes nothing. Reads are free of it, see docs/security.md. The
-- owner of the tables is, too.

-- Guards the rows of a table by the column with their account's id. For every table that has one.
create function guard_rows(guarded regclass, account_column name) returns void language plpgsql as $$
declare
    -- The setting is read once for a statement, and not for each row.
    own text := format('(select current_setting(''rushes.account'', true)) in (''any'', %I::text)', account_column);
begin
    execute format('alter table %s enable row level security', guarded);
    execute format('create policy everybody_reads on %s for select using (true)', guarded);
    execute format('create policy own_inserts on %s for insert with check (%s)', guarded, own);
    execute format('create policy own_updates on %s for update using (%s) with check (%s)', guarded, own, own);
    execute format('create policy own_deletes on %s for delete using (%s)', guarded, own);
end
$$;

select guard_rows('accounts', 'id');
-- The queue's own tables are not among them: all that is done in them is done for whoever's turn it is.
select guard_rows(relation.oid, 'account_id')
from pg_class relation
join pg_attribute attribute on attribute.attrelid = relation.oid and attribute.attname = 'account_id'
where relation.relnamespace = 'public'::regnamespace and relation.relkind = 'r' and relation.relname !~ '^jobs?(_|$)'
order by relation.relname;
