-- Written by dashboard: the client's own labels of its projects and scenes, as generations have them.
alter table projects
    add column labels jsonb not null default '{}' check (jsonb_typeof(labels) = 'object');
alter table scenes
    add column labels jsonb not null default '{}' check (jsonb_typeof(labels) = 'object');
