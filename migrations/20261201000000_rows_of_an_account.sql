-- What an account has of each of these, for the planner. Most accounts have a handful of rows, some have a hundred thousand, and a plan is made
-- once for all of them. Where the average is about one, every index that begins with account_id is as good to the planner as the one that has the
-- row's own key too, and it took whichever was made last: a batch of two generations, or the look for an earlier request of the same id, read
-- all generations of the account. A hundred rows for an account let the whole key win wherever there is one.
alter table assets alter column account_id set (n_distinct = -0.01);
alter table end_users alter column account_id set (n_distinct = -0.01);
alter table generations alter column account_id set (n_distinct = -0.01);
alter table ledger alter column account_id set (n_distinct = -0.01);
alter table notices alter column account_id set (n_distinct = -0.01);
alter table projects alter column account_id set (n_distinct = -0.01);
alter table scenes alter column account_id set (n_distinct = -0.01);
alter table usage_daily alter column account_id set (n_distinct = -0.01);
alter table webhook_endpoints alter column account_id set (n_distinct = -0.01);

-- It counts from the next time on that the tables are analyzed.
analyze assets, end_users, generations, ledger, notices, projects, scenes, usage_daily, webhook_endpoints;
