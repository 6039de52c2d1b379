-- An account's generations that are under way: what a watch reads first and, after a gap, again, however long the history
-- is. Rows enter at their start and leave at their end; by `end_time` and not by `state`, so that the steps between stay
-- heap-only updates.
create index generations_open on generations (account_id, id desc) where end_time is null;
