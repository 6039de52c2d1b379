-- Columns named as the field names them: asking a provider how an order is doing is a poll, and what is known of the
-- provider's own charge is the provider charge. Contents stay as they are.

alter table jobs rename column looking to polling;
alter table jobs rename column looks to polls;
alter table jobs rename constraint jobs_looking to jobs_polling;
alter index jobs_looks rename to jobs_polls;

alter table generations rename column verdict to provider_charge;
alter table generations rename constraint generations_verdict_check to generations_provider_charge_check;

-- Pending deliveries hold the row as it was, by column name; a key that is not found would be read from the row of today.
update webhook_deliveries
   set generation = (generation - 'verdict') || jsonb_build_object('provider_charge', generation -> 'verdict')
 where state = 1 and generation ? 'verdict';
