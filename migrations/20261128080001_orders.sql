-- What a generation was asked for in full, what its provider is sent, and what it costs.

-- Written by generation-status. Frozen at the start: nothing that changes in the catalogue changes an order that has begun. Apart
-- from `generations`, whose rows are written often and read everywhere, while these are read when work is handed out and charged.
create table generation_orders (
    generation_id uuid        primary key references generations (id),
    account_id    uuid        not null,
    work_order    jsonb       not null,
    terms         jsonb       not null,
    -- What the provider says that it took: on its machine, in millionths of its currency, and in what it counts. Never charged.
    run_ms               bigint,
    provider_cost_micros bigint,
    provider_units       text,
    create_time   timestamptz not null default now()
);

-- Written by generation-status: which provider each model is at, also one that the catalogue has lost since, so that what was
-- ordered of it is still handed out.
create table model_providers (
    model       text        primary key,
    provider    text        not null,
    update_time timestamptz not null default now()
);

alter table generations
    -- The input as resolved, but for prompt and seed: negative_prompt, media, settings, parameters.
    add column input jsonb not null default '{}',
    -- The lines of the price: of the hold, and of the charge once it is completed.
    add column lines jsonb not null default '[]',
    add column labels jsonb not null default '{}',
    add column end_user text not null default '' check (char_length(end_user) <= 200),
    drop constraint generations_prompt_check,
    -- A model may take no prompt; how long one may be is the model's to say.
    add constraint generations_prompt_check check (char_length(prompt) <= 50000),
    alter column output type jsonb using case when output is not null then jsonb_build_array(output) end;
alter table generations rename column output to outputs;

alter table generations disable trigger user;
update generations
set input = jsonb_build_object('media', (
    select jsonb_agg(jsonb_build_object('role', 'REFERENCE', 'asset', name) order by at)
    from unnest(reference_assets) with ordinality as named (name, at)
))
where reference_assets <> '{}';
alter table generations enable trigger user;
alter table generations drop column reference_assets;

-- What an entry was charged or held for, as the account reads it.
alter table ledger add column lines jsonb;

-- Events that are still to be sent, or may be sent again, have the generation as it was then.
update webhook_deliveries
set generation = (generation - 'output' - 'reference_assets') || jsonb_build_object(
    'outputs', case when jsonb_typeof(generation -> 'output') = 'object' then jsonb_build_array(generation -> 'output') end,
    'input', '{}'::jsonb, 'lines', '[]'::jsonb, 'labels', '{}'::jsonb, 'end_user', ''
)
where generation ? 'output';
