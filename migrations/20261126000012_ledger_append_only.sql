-- What was booked stays booked: a correction is another entry.
create function refuse_ledger_change() returns trigger language plpgsql as $$
begin
    raise exception 'the ledger is append only: book another entry';
end
$$;

create trigger ledger_append_only before update or delete or truncate on ledger
    for each statement execute function refuse_ledger_change();
