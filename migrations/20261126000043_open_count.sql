-- How many generations of an account are under way, kept on the row that every start and every end locks anyway; by trigger,
-- so that it holds whatever code, of whichever version, writes.

alter table credit_accounts add column open_count integer not null default 0;
update credit_accounts c
set open_count = (select count(*) from generations g where g.account_id = c.account_id and g.end_time is null);

create function count_open_generation() returns trigger language plpgsql as $$
begin
    update credit_accounts set open_count = open_count + case tg_op when 'INSERT' then 1 else -1 end
    where account_id = new.account_id;
    return null;
end
$$;

create trigger generations_opened after insert on generations
    for each row when (new.end_time is null) execute function count_open_generation();

create trigger generations_closed after update of end_time on generations
    for each row when (old.end_time is null and new.end_time is not null) execute function count_open_generation();
