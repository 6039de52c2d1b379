-- What orders cost at their providers beside what their models' entries say that they cost, so that a price that a provider changed is
-- noticed within hours. Written by generation-status, in the transaction that settles an order; of no account, and kept for two days.
create table provider_costs (
    id              bigint      generated always as identity primary key,
    model           text        not null,
    -- In millionths of the provider's currency.
    expected_micros bigint      not null check (expected_micros >= 0),
    cost_micros     bigint      not null check (cost_micros >= 0),
    outputs         integer     not null check (outputs > 0),
    create_time     timestamptz not null default now()
);
create index provider_costs_time on provider_costs (create_time);

-- The models whose providers charge something else than their entries say: a row is written once for all processes.
create table provider_cost_alarms (
    model      text        primary key,
    since_time timestamptz not null default now()
);
