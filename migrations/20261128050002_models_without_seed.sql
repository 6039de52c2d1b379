-- A model that takes no seed gets none, and its generations have none.
alter table generations alter column seed drop not null;
