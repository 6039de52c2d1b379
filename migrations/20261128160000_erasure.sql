-- Accounts that are erased: what is left of one is its books, by ids that lead nowhere.

alter table accounts
    add column erase_time timestamptz,
    -- Nobody takes back what is gone.
    add constraint accounts_erased check (erase_time is null or suspend_time is not null);

-- How far an account is erased. A row is written by dashboard, in the transaction that decides it; each of the three services deletes
-- what is its own in batches, and stamps its column once nothing is left.
create table account_erasures (
    account_id       uuid primary key references accounts (id),
    -- By generation-status, the first of the three: what the others have is named by generations.
    generations_time timestamptz,
    -- By thumbnail-worker.
    assets_time      timestamptz,
    -- By dashboard.
    projects_time    timestamptz
);
select guard_rows('account_erasures', 'account_id');
create index account_erasures_open on account_erasures (account_id) where assets_time is null or projects_time is null;

-- The ledger outlives what it was booked for, and a deletion must not look through all labels for those of one generation.
alter table ledger drop constraint ledger_generation_id_fkey;
alter table generation_labels drop constraint generation_labels_generation_id_fkey;
create index notices_by_account on notices (account_id, id);

create or replace function rushes_audit_account() returns trigger language plpgsql as
$$
declare
    subject text := 'accounts/' || new.id;
begin
    if tg_op = 'INSERT' then
        perform rushes_audit('account.create', new.id, subject, jsonb_build_object('display_name', new.display_name));
        return null;
    end if;
    if old.erase_time is null and new.erase_time is not null then
        perform rushes_audit('account.erase', new.id, subject, '{}');
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
drop trigger audit_account_update on accounts;
create trigger audit_account_update after update on accounts for each row
    when (old.suspend_time is distinct from new.suspend_time or old.suspend_note is distinct from new.suspend_note
          or old.limits is distinct from new.limits or old.erase_time is distinct from new.erase_time)
    execute function rushes_audit_account();
alter table accounts enable always trigger audit_account_update;

-- The audit log is append only but for this: of an account that is erased its name and the networks of its keys are taken out, and
-- nothing else of an entry changes.
create function refuse_audit_update() returns trigger language plpgsql as $$
begin
    if to_jsonb(new) - 'detail' = to_jsonb(old) - 'detail'
        and new.detail = old.detail - array['display_name', 'allowed_networks']
        and exists (select from accounts a where a.id = old.account_id and a.erase_time is not null)
    then
        return new;
    end if;
    raise exception 'the audit log is append only';
end
$$;
drop trigger audit_append_only on audit_entries;
create trigger audit_append_only before delete or truncate on audit_entries
    for each statement execute function refuse_audit_change();
create trigger audit_unchanged before update on audit_entries
    for each row execute function refuse_audit_update();
alter table audit_entries enable always trigger audit_append_only;
alter table audit_entries enable always trigger audit_unchanged;

-- Takes them out of up to `batch` entries, as the owner of the log; returns of how many.
create function rushes_redact_audit(account uuid, batch bigint) returns bigint
language sql security definer set search_path = public, pg_temp as
$$
    with redacted as (
        update audit_entries e set detail = e.detail - array['display_name', 'allowed_networks']
        where e.id in (
            select r.id from audit_entries r
            where r.account_id = account and r.detail ?| array['display_name', 'allowed_networks']
            order by r.id desc limit batch)
        returning 1
    )
    select count(*) from redacted
$$;
