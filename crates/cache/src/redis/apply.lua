-- APPLY: applies changes to what is there. It may raise or delete an entry; it never creates one.
-- KEYS[1] the proof; ARGV[1] the prefix of entries; ARGV[2] ms that a tombstone lives; ARGV[3] the name space, or empty for the
-- one that is proven; then pairs of key and version, where an empty version means "changed, to what is not known".
-- Guard: an applier that created would put an old value into a slot that is empty because a newer one was deleted.
-- Guard: the relay names its space. While the proof was evicted it would apply to nothing, and then prove what was not applied.
local space = ARGV[3]
if space == '' then
    space = redis.call('HGET', KEYS[1], 'ns')
end
if not space then
    return 0
end
local changed = 0
for i = 4, #ARGV, 2 do
    local entry = ARGV[1] .. space .. ':' .. ARGV[i]
    local fields = redis.call('HMGET', entry, 'v', 'tok')
    -- Guard: a lease without a version has no tombstone to compare with; deleting it voids it.
    if ARGV[i + 1] == '' or (fields[2] and not fields[1]) then
        changed = changed + redis.call('DEL', entry)
    elseif fields[1] and tonumber(fields[1]) < tonumber(ARGV[i + 1]) then
        -- The version stays as a tombstone: a load that read before this change must not fill below it.
        redis.call('HSET', entry, 'v', ARGV[i + 1])
        redis.call('HDEL', entry, 'd', 'tok', 'tx')
        redis.call('PEXPIRE', entry, ARGV[2])
        changed = changed + 1
    end
end
return changed
