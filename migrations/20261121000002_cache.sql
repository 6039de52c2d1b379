-- What the cache needs of PostgreSQL: one clock row, the folded versions of aggregates, and the outbox.
-- Invariant: version(K) of an aggregate = cache_key.ver + count(outbox where key = K), read in one snapshot with its data.
-- Invariant: an outbox row is deleted only in the transaction that adds it to cache_key and moves cache_clock.seq on.

-- One row per outbox partition. `epoch` is random for each leadership, never a counter: two leaders can not share one.
create table cache_clock (
    part        smallint primary key,
    epoch       bigint not null,
    seq         bigint not null,
    -- The Redis name space now in use, and the run_id of the Redis that it was made for.
    l2_ns       bigint not null,
    l2_run      text,
    -- True when changes were folded that Redis has not been told of: the name space must not be proven again.
    l2_dirty    boolean not null default false,
    owner       text,
    lease_until timestamptz
) with (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- Born dirty: the first leader opens a name space of its own choosing, whatever that Redis held before.
insert into cache_clock (part, epoch, seq, l2_ns, l2_dirty)
values (0, 0, 0, (random() * 9e18)::bigint, true);

-- The folded base of each aggregate's version.
create table cache_key (
    key text primary key,
    ver bigint not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- One row per change, written by the transaction that makes it. For an aggregate the row itself is the bump of its version.
create table outbox (
    id         bigint generated always as identity primary key,
    part       smallint not null default 0,
    key        text not null,
    -- Row keys: the row's exact new version. Aggregates: null.
    ver        bigint,
    xid        xid8 not null default pg_current_xact_id(),
    -- W3C traceparent of the change, from the transaction's setting unless given.
    trace      text default nullif(current_setting('rushes.traceparent', true), ''),
    created_at timestamptz not null default clock_timestamp()
) with (
    -- Rows live for about one tick: vacuum by count, soon and without pauses, so that the count per key stays cheap.
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0
);
create index outbox_key on outbox (key);

-- The version of an aggregate in the caller's snapshot (stable: it sees what the calling statement sees).
create function cache_version(wanted text) returns bigint
language sql stable parallel safe as $$
    select coalesce((select k.ver from cache_key k where k.key = wanted), 0)
         + (select count(*) from outbox o where o.key = wanted)
$$;

-- For a change that names no rows (a truncation, a restore of single tables): every aggregate gets a new version, every window
-- begins anew under a new epoch, and Redis gets a new name space. The leader finds itself deposed and takes the lease again.
create function cache_reset() returns void
language sql as $$
    insert into cache_key (key, ver)
    select known.key, 1
    from (select k.key from cache_key k union select o.key from outbox o where o.ver is null) known
    order by known.key
    on conflict (key) do update set ver = cache_key.ver + 1;
    update cache_clock
    set epoch = (random() * 9e18)::bigint, seq = 0, l2_dirty = true, owner = null, lease_until = null;
$$;
