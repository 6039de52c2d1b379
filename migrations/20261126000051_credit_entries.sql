-- What an account is shown of the ledger, and corrections by hand, which say why.

-- Rows from before have no reason, and none of them is a correction: nothing booked one, so the check need not look.
alter table ledger
    add column reason text,
    add constraint ledger_reason check ((entry = 'adjust') = (reason is not null)) not valid;

-- An entry is two or three lines, and exactly one of them is of what is held or of what was issued: an account's entries,
-- newest first. It takes the place of the index over all lines, which nothing read.
create index ledger_entries on ledger (account_id, id desc) where book in ('held', 'issued');
drop index ledger_listing;
