-- APPLY: tells Redis of changes. It may raise or delete what is there; it never creates.
-- KEYS[1] the proof; ARGV[1] the prefix of entries; ARGV[2] ms that a tombstone lives; ARGV[3] the name space, or empty for the
-- one that is proven; then pairs of key and version, where an empty version means "changed, to what is not known".
-- Wall: an applier that created would put an old value into a slot that is empty because a newer one was deleted.
-- Wall: the relay names its space. While the proof was evicted it would apply to nothing, and then prove what was not applied.
local space = ARGV[3]
if space == '' then
    space = redis.call('HGET', KEYS[1], 'ns')
end
if not space then
    return 0
end
local touched = 0
for i = 4, #ARGV, 2 do
    local entry = ARGV[1] .. space .. ':' .. ARGV[i]
    local held = redis.call('HMGET', entry, 'v', 'tok')
    if ARGV[i + 1] == '' or (held[2] and not held[1]) then
        touched = touched + redis.call('DEL', entry)
    elseif held[1] and tonumber(held[1]) < tonumber(ARGV[i + 1]) then
        redis.call('HSET', entry, 'v', ARGV[i + 1])
        redis.call('HDEL', entry, 'd', 'tok', 'tx')
        redis.call('PEXPIRE', entry, ARGV[2])
        touched = touched + 1
    end
end
return touched
