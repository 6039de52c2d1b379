-- A generation that its account deleted: a tombstone, which keeps what money and usage are counted by, and nothing of its content.

alter table generations
    add column delete_time timestamptz,
    -- What is under way is cancelled, and not deleted.
    add constraint generations_deleted check (delete_time is null or end_time is not null);

create function forget_generation() returns trigger language plpgsql as $$
begin
    delete from asset_uses where generation_id = new.id;
    delete from generation_labels l using jsonb_each_text(old.labels) label
    where l.account_id = new.account_id and l.key = label.key and l.value = label.value and l.generation_id = new.id;
    update generation_orders set work_order = '{}', terms = '{}' where account_id = new.account_id and generation_id = new.id;
    return null;
end
$$;
create trigger generations_forgotten after update of delete_time on generations
    for each row when (old.delete_time is null and new.delete_time is not null) execute function forget_generation();
