-- What the catalogue's prices are multiplied by for one account. A start is held only at the margin that stands here when it commits;
-- what has begun keeps the terms that were frozen with it.
alter table credit_accounts
    add column margin numeric not null default 1 check (margin >= 0.001 and margin <= 1000 and scale(margin) <= 12);

create function rushes_audit_margin() returns trigger language plpgsql as
$$
begin
    -- As text: a number of JSON would lose its places with many a reader.
    perform rushes_audit('account.margin', new.account_id, 'accounts/' || new.account_id, jsonb_build_object(
        'margin', trim_scale(new.margin)::text));
    return null;
end
$$;
create trigger audit_margin_insert after insert on credit_accounts for each row
    when (new.margin <> 1) execute function rushes_audit_margin();
create trigger audit_margin_update after update on credit_accounts for each row
    when (old.margin is distinct from new.margin) execute function rushes_audit_margin();
alter table credit_accounts enable always trigger audit_margin_insert;
alter table credit_accounts enable always trigger audit_margin_update;
