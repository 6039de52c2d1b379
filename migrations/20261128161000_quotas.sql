-- What an account may have in storage is set by dashboard, as the other limits are; by hand too, and written down either way.

create function rushes_audit_quota() returns trigger language plpgsql as
$$
declare
    account uuid := case tg_op when 'DELETE' then old.account_id else new.account_id end;
begin
    if tg_op = 'DELETE' then
        -- Of an erased account nothing was decided anew.
        if exists (select from accounts a where a.id = account and a.erase_time is not null) then
            return null;
        end if;
        perform rushes_audit('account.quota', account, 'accounts/' || account, '{"quota": "default"}');
    else
        perform rushes_audit('account.quota', account, 'accounts/' || account, jsonb_build_object(
            'max_bytes', new.max_bytes, 'max_objects', new.max_objects));
    end if;
    return null;
end
$$;
create trigger audit_quota_set after insert or delete on storage_quotas
    for each row execute function rushes_audit_quota();
create trigger audit_quota_update after update on storage_quotas for each row
    when (old.max_bytes is distinct from new.max_bytes or old.max_objects is distinct from new.max_objects)
    execute function rushes_audit_quota();
alter table storage_quotas enable always trigger audit_quota_set;
alter table storage_quotas enable always trigger audit_quota_update;
