-- The audit log: who did what to accounts, keys, credits and queues.
--
-- Triggers write it in the transaction of the act, so that nothing is done without its entry and no entry is there without the act, and
-- a change by hand in psql has one too. Who acts is a setting of the transaction, `rushes.actor`, as the trace is; without it, the role
-- that is connected. The functions run as their owner: no service needs the right to write the table, and none has it.

create table audit_entries (
    id          uuid        primary key,
    create_time timestamptz not null default now(),
    actor       text        not null check (actor <> ''),
    act         text        not null,
    -- Whose thing it was done to; null for what is nobody's. No foreign key: an entry outlives what it tells of.
    account_id  uuid,
    subject     text        not null,
    detail      jsonb       not null default '{}',
    -- 32 hexadecimal digits.
    trace_id    text        not null default ''
);
create index audit_entries_account on audit_entries (account_id, id desc);

create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    raise exception 'the audit log is append only';
end
$$;
create trigger audit_append_only before update or delete or truncate on audit_entries
    for each statement execute function refuse_audit_change();
alter table audit_entries enable always trigger audit_append_only;

create function rushes_audit(act text, account uuid, subject text, detail jsonb) returns void
language sql security definer set search_path = public, pg_temp as
$$
    insert into audit_entries (id, actor, act, account_id, subject, detail, trace_id)
    values (
        rushes_uuid_v7(),
        coalesce(nullif(current_setting('rushes.actor', true), ''), 'database: ' || session_user),
        act, account, subject, jsonb_strip_nulls(detail),
        coalesce(nullif(split_part(current_setting('rushes.traceparent', true), '-', 2), ''), ''))
$$;

-- Operators' states of an account. `version` of accounts rises with each change of these.
alter table accounts
    add column suspend_time timestamptz,
    add column suspend_note text not null default '' check (char_length(suspend_note) <= 500),
    -- What it may ask of the gateways in place of the defaults, by the fields of rushes.limits.v1.Limits; null: nothing was set.
    add column limits jsonb;

alter table api_keys
    -- The networks that calls may come from, each in its one canonical form; empty: from anywhere.
    add column allowed_networks text[] not null default '{}' check (cardinality(allowed_networks) <= 32);

-- What was set for an account reaches the gateways with each of its keys: those that have not ended get a new version.
create function rushes_renew_keys() returns trigger language plpgsql as
$$
begin
    update api_keys set version = version + 1 where account_id = new.id and revoke_time is null;
    return null;
end
$$;
create trigger renew_keys after update on accounts for each row
    when (old.suspend_time is distinct from new.suspend_time or old.limits is distinct from new.limits)
    execute function rushes_renew_keys();
alter table accounts enable always trigger renew_keys;

create function rushes_audit_account() returns trigger language plpgsql as
$$
declare
    subject text := 'accounts/' || new.id;
begin
    if tg_op = 'INSERT' then
        perform rushes_audit('account.create', new.id, subject, jsonb_build_object('display_name', new.display_name));
        return null;
    end if;
    if old.suspend_time is not null and new.suspend_time is null then
        perform rushes_audit('account.reactivate', new.id, subject, '{}');
    elsif old.suspend_time is distinct from new.suspend_time or old.suspend_note is distinct from new.suspend_note then
        perform rushes_audit('account.suspend', new.id, subject, jsonb_build_object('note', new.suspend_note));
    end if;
    if old.limits is distinct from new.limits then
        perform rushes_audit('account.limits', new.id, subject, jsonb_build_object('limits', coalesce(new.limits, '{}')));
    end if;
    return null;
end
$$;
create trigger audit_account_insert after insert on accounts for each row execute function rushes_audit_account();
create trigger audit_account_update after update on accounts for each row
    when (old.suspend_time is distinct from new.suspend_time or old.suspend_note is distinct from new.suspend_note
          or old.limits is distinct from new.limits)
    execute function rushes_audit_account();

create function rushes_audit_api_key() returns trigger language plpgsql as
$$
declare
    subject text := 'accounts/' || new.account_id || '/apiKeys/' || new.id;
begin
    if tg_op = 'INSERT' then
        perform rushes_audit('key.create', new.account_id, subject, jsonb_build_object(
            'scopes', new.scopes, 'expire_time', new.expire_time, 'allowed_networks', new.allowed_networks));
    elsif old.revoke_time is distinct from new.revoke_time then
        perform rushes_audit('key.revoke', new.account_id, subject, '{}');
    else
        perform rushes_audit('key.update', new.account_id, subject, jsonb_build_object(
            'scopes', new.scopes, 'expire_time', new.expire_time, 'allowed_networks', new.allowed_networks));
    end if;
    return null;
end
$$;
create trigger audit_api_key_insert after insert on api_keys for each row execute function rushes_audit_api_key();
create trigger audit_api_key_update after update on api_keys for each row
    when (old.revoke_time is distinct from new.revoke_time or old.scopes is distinct from new.scopes
          or old.expire_time is distinct from new.expire_time or old.allowed_networks is distinct from new.allowed_networks)
    execute function rushes_audit_api_key();

-- What operators book, by the line that stands for the entry; holds and charges follow from generations and stand in the ledger.
create function rushes_audit_credits() returns trigger language plpgsql as
$$
begin
    perform rushes_audit('credits.' || new.entry, new.account_id, 'creditAccount/entries/' || new.id, jsonb_build_object(
        'amount_micros', -new.amount_micros, 'reason', new.reason));
    return null;
end
$$;
create trigger audit_credits after insert on ledger for each row
    when (new.book = 'issued' and new.entry in ('grant', 'adjust')) execute function rushes_audit_credits();

create function rushes_audit_pause() returns trigger language plpgsql as
$$
begin
    if tg_op = 'DELETE' then
        perform rushes_audit('queue.resume', null, old.kind || '/' || old.queue, '{}');
    else
        perform rushes_audit('queue.pause', null, new.kind || '/' || new.queue, jsonb_build_object('note', new.note));
    end if;
    return null;
end
$$;
create trigger audit_pause after insert or update or delete on job_pauses
    for each row execute function rushes_audit_pause();

create function rushes_audit_share() returns trigger language plpgsql as
$$
declare
    subject text := 'accounts/' || new.account_id;
begin
    if (tg_op = 'INSERT' and new.weight <> 1) or (tg_op = 'UPDATE' and old.weight is distinct from new.weight) then
        perform rushes_audit('account.weight', new.account_id, subject, jsonb_build_object('kind', new.kind, 'weight', new.weight));
    end if;
    if (tg_op = 'INSERT' and new.running_limit is not null)
        or (tg_op = 'UPDATE' and old.running_limit is distinct from new.running_limit) then
        perform rushes_audit('account.running-limit', new.account_id, subject, jsonb_build_object(
            'kind', new.kind, 'limit', coalesce(to_jsonb(new.running_limit), '"default"')));
    end if;
    return null;
end
$$;
create trigger audit_share_insert after insert on job_accounts for each row execute function rushes_audit_share();
create trigger audit_share_update after update on job_accounts for each row
    when (old.weight is distinct from new.weight or old.running_limit is distinct from new.running_limit)
    execute function rushes_audit_share();

do $$
declare
    audited record;
begin
    for audited in
        select * from (values
            ('accounts', 'audit_account_insert'), ('accounts', 'audit_account_update'),
            ('api_keys', 'audit_api_key_insert'), ('api_keys', 'audit_api_key_update'),
            ('ledger', 'audit_credits'), ('job_pauses', 'audit_pause'),
            ('job_accounts', 'audit_share_insert'), ('job_accounts', 'audit_share_update')
        ) as t (tab, name)
    loop
        execute format('alter table %I enable always trigger %I', audited.tab, audited.name);
    end loop;
end
$$;
