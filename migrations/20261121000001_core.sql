-- Accounts, projects, scenes, generations, money and assets.
--
-- Ids are UUIDv7, made by the services; their order is the order of creation, so listings page by id. Money is integer
-- micro-credits. Times are the database's clock. A table is written by one service, named in its comment.

-- Written by dashboard.
create table accounts (
    id           uuid        primary key,
    display_name text        not null check (char_length(display_name) between 1 and 200),
    email        text        not null default '' check (char_length(email) <= 320),
    version      bigint      not null default 1,
    create_time  timestamptz not null default now()
);

-- Written by dashboard. The key itself is never stored.
create table api_keys (
    id          uuid        primary key,
    account_id  uuid        not null references accounts (id),
    key_sha256  bytea       not null unique check (octet_length(key_sha256) = 32),
    prefix      text        not null,
    scopes      text[]      not null check (scopes <@ array['read', 'write', 'generate']),
    version     bigint      not null default 1,
    create_time timestamptz not null default now(),
    expire_time timestamptz,
    revoke_time timestamptz
);
create index api_keys_account on api_keys (account_id, id);

-- Written by dashboard, but for completed_count and completed_cost_micros, which generation-status keeps in the
-- transaction that completes a generation.
create table projects (
    id                    uuid        primary key,
    account_id            uuid        not null references accounts (id),
    title                 text        not null check (char_length(title) between 1 and 200),
    description           text        not null default '' check (char_length(description) <= 2000),
    scene_count           integer     not null default 0 check (scene_count >= 0),
    completed_count       bigint      not null default 0 check (completed_count >= 0),
    completed_cost_micros bigint      not null default 0 check (completed_cost_micros >= 0),
    version               bigint      not null default 1,
    request_id            uuid,
    request_sha256        bytea,
    create_time           timestamptz not null default now(),
    update_time           timestamptz not null default now(),
    delete_time           timestamptz,
    constraint projects_request unique (account_id, request_id),
    constraint projects_tenant unique (account_id, id)
) with (fillfactor = 80);
-- The dashboard's and ListProjects' order.
create index projects_listing on projects (account_id, id desc) where delete_time is null;

-- Written by dashboard, but for the latest_* columns: generation-status keeps there a copy of what the dashboard shows of
-- the scene's latest generation, so that a dashboard never reads history.
create table scenes (
    id                 uuid        primary key,
    account_id         uuid        not null,
    project_id         uuid        not null,
    title              text        not null check (char_length(title) between 1 and 200),
    script             text        not null default '' check (char_length(script) <= 2000),
    position           integer     not null check (position >= 0),
    version            bigint      not null default 1,
    request_id         uuid,
    request_sha256     bytea,
    create_time        timestamptz not null default now(),
    update_time        timestamptz not null default now(),
    delete_time        timestamptz,
    latest_generation  uuid,
    latest_version     bigint,
    latest_state       smallint,
    latest_percent     smallint,
    latest_stage       text,
    latest_thumbnail   text,
    constraint scenes_project foreign key (account_id, project_id) references projects (account_id, id),
    constraint scenes_request unique (account_id, request_id),
    constraint scenes_tenant unique (account_id, id)
) with (fillfactor = 70);
-- The dashboard's and ListScenes' order.
create index scenes_listing on scenes (project_id, position, id) where delete_time is null;

-- Written by dashboard.
create table notices (
    id          uuid        primary key,
    account_id  uuid        not null references accounts (id),
    title       text        not null,
    body        text        not null default '',
    create_time timestamptz not null default now(),
    read_time   timestamptz
);
create index notices_unread on notices (account_id, id desc) where read_time is null;

-- Written by generation-status. `state`, `wait_reason` and `basis` are the numbers of rushes.generations.v1.
create table generations (
    id                  uuid        primary key,
    account_id          uuid        not null references accounts (id),
    project_id          uuid        not null,
    scene_id            uuid        not null,
    version             bigint      not null default 1,
    state               smallint    not null default 1 check (state between 1 and 9),
    wait_reason         smallint    not null default 0,
    model               text        not null,
    prompt              text        not null check (char_length(prompt) between 1 and 2000),
    seed                bigint      not null,
    reference_assets    text[]      not null default '{}',
    percent             smallint    not null default 0 check (percent between 0 and 100),
    basis               smallint    not null default 0,
    stage               text        not null default '',
    output              jsonb,
    thumbnail           text,
    error_code          integer,
    error_reason        text,
    error_message       text,
    held_micros         bigint      not null check (held_micros >= 0),
    captured_micros     bigint      not null default 0 check (captured_micros >= 0 and captured_micros <= held_micros),
    released_micros     bigint      not null default 0 check (released_micros >= 0 and released_micros <= held_micros),
    attempt_count       integer     not null default 0,
    request_id          uuid        not null,
    request_sha256      bytea       not null,
    traceparent         text        not null default '',
    create_time         timestamptz not null default now(),
    submit_time         timestamptz,
    start_time          timestamptz,
    end_time            timestamptz,
    update_time         timestamptz not null default now(),
    constraint generations_request unique (account_id, request_id),
    constraint generations_scene foreign key (account_id, scene_id) references scenes (account_id, id),
    -- What is terminal is settled, whatever code wrote it.
    constraint generations_settled check (state < 6 or captured_micros + released_micros = held_micros),
    constraint generations_ended check ((state >= 6) = (end_time is not null))
) with (fillfactor = 70);
-- One index for each listing: by scene, by project, by account.
create index generations_by_scene on generations (account_id, scene_id, id desc);
create index generations_by_project on generations (account_id, project_id, id desc);
create index generations_by_account on generations (account_id, id desc);

-- Written by generation-status. The balance that a hold locks; the ledger says how it came about.
create table credit_accounts (
    account_id       uuid   primary key references accounts (id),
    available_micros bigint not null default 0 check (available_micros >= 0),
    held_micros      bigint not null default 0 check (held_micros >= 0),
    spent_micros     bigint not null default 0 check (spent_micros >= 0)
) with (fillfactor = 70);

-- Written by generation-status; append only. Double entry: the amounts of one entry sum to zero over its books.
create table ledger (
    id            uuid        primary key,
    account_id    uuid        not null references accounts (id),
    generation_id uuid        references generations (id),
    entry         text        not null check (entry in ('grant', 'hold', 'capture', 'release', 'adjust')),
    book          text        not null check (book in ('issued', 'available', 'held', 'spent')),
    amount_micros bigint      not null,
    request_id    uuid,
    create_time   timestamptz not null default now(),
    constraint ledger_once unique (generation_id, entry, book),
    constraint ledger_grant_once unique (account_id, request_id, book),
    check ((entry in ('grant', 'adjust')) = (generation_id is null))
);
-- A generation is captured or released, once: a second settlement is a constraint violation.
create unique index ledger_one_settlement on ledger (generation_id) where entry in ('capture', 'release') and book = 'held';
create index ledger_listing on ledger (account_id, id desc);

-- Written by generation-status: what was asked of a provider, committed before it is asked.
create table provider_calls (
    generation_id uuid        primary key references generations (id),
    account_id    uuid        not null,
    provider      text        not null,
    phase         text        not null check (phase in ('intent', 'known')),
    reference     text,
    create_time   timestamptz not null default now(),
    update_time   timestamptz not null default now()
);

-- Written by thumbnail-worker. `blob` is the stored object's name, {sha256}.{extension}.
create table assets (
    account_id  uuid        not null references accounts (id),
    sha256      bytea       not null check (octet_length(sha256) = 32),
    blob        text        not null,
    mime_type   text        not null,
    size_bytes  bigint      not null check (size_bytes > 0),
    width       integer     not null check (width >= 0),
    height      integer     not null check (height >= 0),
    duration_ms bigint      not null default 0 check (duration_ms >= 0),
    create_time timestamptz not null default now(),
    primary key (account_id, sha256)
);

-- Written by thumbnail-worker. `state` is rushes.assets.v1.Thumbnail.State.
create table thumbnails (
    account_id     uuid        not null,
    asset_sha256   bytea       not null,
    width          integer     not null,
    height         integer     not null,
    quality        integer     not null,
    state          smallint    not null check (state between 1 and 3),
    blob           text,
    failure_reason text        not null default '',
    update_time    timestamptz not null default now(),
    primary key (account_id, asset_sha256, width, height, quality),
    foreign key (account_id, asset_sha256) references assets (account_id, sha256),
    check ((state = 2) = (blob is not null))
);
