-- FILL: puts a loaded value in, if the lease under which it was loaded is still valid.
-- KEYS[1] the proof; ARGV: prefix of entries, key, lease token, version, body, ms to live. Returns 1 if it was put in.
local space = redis.call('HGET', KEYS[1], 'ns')
if not space then
    return 0
end
local entry = ARGV[1] .. space .. ':' .. ARGV[2]
local fields = redis.call('HMGET', entry, 'v', 'd', 'tok', 'tx')
-- Guard: a change that came after the lease was granted voided it; the load may have read before that change.
if fields[3] ~= ARGV[3] then
    return 0
end
-- Guard: a lease that has ended may have been granted to nobody else yet, and its holder may have been paused with an old value.
local time = redis.call('TIME')
if tonumber(fields[4]) < time[1] * 1000 + math.floor(time[2] / 1000) then
    return 0
end
-- Guard (behind the lease): never below what a change has said, never over a value of the same or a newer version.
local version = tonumber(ARGV[4])
if fields[1] and (version < tonumber(fields[1]) or (fields[2] and version == tonumber(fields[1]))) then
    return 0
end
-- A lease is used one time: the same holder must not fill again after a change that came since.
redis.call('HDEL', entry, 'tok', 'tx')
redis.call('HSET', entry, 'v', ARGV[4], 'd', ARGV[5])
redis.call('PEXPIRE', entry, ARGV[6])
return 1
