-- Assets that can be listed and deleted, what uses them, and how much of them an account has.

-- An asset is listed by an id of its own: its name is a hash and says nothing of when it came.
alter table assets
    add column id uuid,
    -- rushes.assets.v1.ListAssetsRequest.Kind.
    add column kind smallint not null generated always as (
        case split_part(mime_type, '/', 1) when 'image' then 1 when 'video' then 2 else 3 end
    ) stored;
update assets
set id = encode(
    set_bit(set_bit(
        overlay(uuid_send(gen_random_uuid())
                placing substring(int8send((extract(epoch from create_time) * 1000)::bigint) from 3) from 1 for 6),
        52, 1), 53, 1),
    'hex')::uuid;
alter table assets
    alter column id set default rushes_uuid_v7(),
    alter column id set not null;
create unique index assets_listing on assets (account_id, id);
create index assets_by_kind on assets (account_id, kind, id);

-- Which rows name an object in storage: asked before its bytes are removed. By hash, since names are long and only ever equal.
create index assets_blob on assets using hash (blob);
create index assets_poster_large on assets using hash (poster_large) where poster_large is not null;
create index assets_poster_small on assets using hash (poster_small) where poster_small is not null;
create index thumbnails_blob on thumbnails using hash (blob) where blob is not null;

-- A row that names an object is committed under a shared lock of the object's name, and its bytes are removed under an exclusive one,
-- held from before it is asked whether there is such a row until they are gone. Whoever writes a row looks for the bytes once more
-- after its commit. So either the row is seen, or it is seen that the bytes are missing.
create function lock_blob(name text) returns void language sql as $$
    select pg_advisory_xact_lock_shared(hashtextextended(name, 41))
$$;

create function lock_asset_blobs() returns trigger language plpgsql as $$
begin
    perform lock_blob(name) from unnest(array[new.blob, new.poster_large, new.poster_small]) as name where name is not null;
    return new;
end
$$;
create trigger assets_lock_blobs before insert on assets
    for each row execute function lock_asset_blobs();
create trigger assets_lock_posters before update of blob, poster_large, poster_small on assets
    for each row execute function lock_asset_blobs();

create function lock_thumbnail_blob() returns trigger language plpgsql as $$
begin
    perform lock_blob(new.blob);
    return new;
end
$$;
create trigger thumbnails_lock_blob before insert or update of blob on thumbnails
    for each row when (new.blob is not null) execute function lock_thumbnail_blob();

-- Written by triggers of generations: which assets generations use, as inputs (`role` 1) until they end and as outputs (2) from then on.
-- An asset is deleted under its row's lock, and used under a share of it, so that neither overlooks the other.
create table asset_uses (
    account_id    uuid     not null,
    sha256        bytea    not null,
    generation_id uuid     not null references generations (id) on delete cascade,
    role          smallint not null check (role in (1, 2)),
    primary key (account_id, sha256, generation_id, role)
);
create index asset_uses_by_generation on asset_uses (generation_id);

create function use_assets(account uuid, generation uuid, used_as smallint, names text[]) returns void language plpgsql as $$
declare
    wanted  bytea[] := array(select distinct decode(substr(name, 8), 'hex') from unnest(names) as name
                             where name ~ '^assets/[0-9a-f]{64}$');
    present bytea[] := array(select a.sha256 from assets a where a.account_id = account and a.sha256 = any (wanted)
                             order by a.sha256 for key share);
begin
    if cardinality(present) < cardinality(wanted) then
        raise exception 'an asset is gone' using errcode = 'foreign_key_violation', constraint = 'asset_uses_asset';
    end if;
    insert into asset_uses (account_id, sha256, generation_id, role)
    select account, sha256, generation, used_as from unnest(present) as sha256
    on conflict do nothing;
end
$$;

create function use_inputs() returns trigger language plpgsql as $$
begin
    perform use_assets(new.account_id, new.id, 1::smallint,
                       array(select medium ->> 'asset' from jsonb_array_elements(new.input -> 'media') as medium));
    return null;
end
$$;
create trigger generations_use_inputs after insert on generations
    for each row when (new.end_time is null and jsonb_array_length(new.input -> 'media') > 0) execute function use_inputs();

create function use_outputs() returns trigger language plpgsql as $$
begin
    delete from asset_uses where generation_id = new.id and role = 1;
    if new.outputs is not null then
        perform use_assets(new.account_id, new.id, 2::smallint,
                           array(select output ->> 'asset' from jsonb_array_elements(new.outputs) as output));
    end if;
    return null;
end
$$;
create trigger generations_use_outputs after update of end_time on generations
    for each row when (old.end_time is null and new.end_time is not null) execute function use_outputs();

insert into asset_uses (account_id, sha256, generation_id, role)
select a.account_id, a.sha256, g.id, used.role
from generations g
cross join lateral (
    select 1::smallint as role, medium ->> 'asset' as name
    from jsonb_array_elements(case when g.end_time is null then g.input -> 'media' end) as medium
    union all
    select 2::smallint, output ->> 'asset' from jsonb_array_elements(g.outputs) as output
) used
join assets a on a.account_id = g.account_id and 'assets/' || encode(a.sha256, 'hex') = used.name
on conflict do nothing;

-- Written by a trigger of assets: what an account has in storage, its thumbnails left out. An account that had nothing has no row.
create table account_storage (
    account_id uuid   primary key,
    bytes      bigint not null default 0 check (bytes >= 0),
    objects    bigint not null default 0 check (objects >= 0)
) with (fillfactor = 70);

-- Written by operators: an account's quota where it is another than the service's; null is the service's.
create table storage_quotas (
    account_id  uuid        primary key references accounts (id),
    max_bytes   bigint      check (max_bytes >= 0),
    max_objects bigint      check (max_objects >= 0),
    -- Who set it, and why.
    note        text        not null default '',
    update_time timestamptz not null default now()
);

-- At the commit, so that two uploads of one account wait for each other no longer than a commit takes. Where the transaction has set
-- `rushes.quota_bytes` and `rushes.quota_objects`, what is more than these, or than the account's own quota, is refused: here, under
-- the lock of the account's row, so that of two uploads at once neither takes what the other does.
create function count_storage() returns trigger language plpgsql as $$
declare
    counted account_storage;
    bytes_quota   bigint := nullif(current_setting('rushes.quota_bytes', true), '');
    objects_quota bigint := nullif(current_setting('rushes.quota_objects', true), '');
begin
    if tg_op = 'DELETE' then
        update account_storage s set bytes = s.bytes - old.size_bytes, objects = s.objects - 1 where s.account_id = old.account_id;
        return null;
    end if;
    insert into account_storage as s (account_id, bytes, objects) values (new.account_id, new.size_bytes, 1)
    on conflict (account_id) do update set bytes = s.bytes + excluded.bytes, objects = s.objects + excluded.objects
    returning * into counted;
    if bytes_quota is not null and exists (
        select from (select 1) always left join storage_quotas q on q.account_id = new.account_id
        where counted.bytes > coalesce(q.max_bytes, bytes_quota) or counted.objects > coalesce(q.max_objects, objects_quota)
    ) then
        raise exception 'the quota of the account is reached' using errcode = 'check_violation', constraint = 'account_storage_quota';
    end if;
    return null;
end
$$;
create constraint trigger assets_counted after insert or delete on assets deferrable initially deferred
    for each row execute function count_storage();

insert into account_storage (account_id, bytes, objects)
select account_id, sum(size_bytes), count(*) from assets group by account_id;

-- Written by thumbnail-worker: which part of the storage is looked through next for objects that no row names. There are 256 parts, by
-- the first two digits of names.
create table storage_scan (
    only_row   boolean     primary key default true check (only_row),
    part       smallint    not null default 0 check (part between 0 and 255),
    claim_time timestamptz not null default now()
);
insert into storage_scan default values;
