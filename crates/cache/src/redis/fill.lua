-- FILL: puts a loaded value in, if the lease under which it was loaded still stands.
-- KEYS[1] the proof; ARGV: prefix of entries, key, lease token, version, body, ms to live. Returns 1 if it was put in.
local space = redis.call('HGET', KEYS[1], 'ns')
if not space then
    return 0
end
local entry = ARGV[1] .. space .. ':' .. ARGV[2]
local held = redis.call('HMGET', entry, 'v', 'd', 'tok', 'tx')
-- Wall: a change that came after the lease was granted took the lease away; the load may have read before that change.
if held[3] ~= ARGV[3] then
    return 0
end
local time = redis.call('TIME')
if tonumber(held[4]) < time[1] * 1000 + math.floor(time[2] / 1000) then
    return 0
end
-- Wall (second to the lease): never below what an event has said, never over a value of the same or a newer version.
local version = tonumber(ARGV[4])
if held[1] and (version < tonumber(held[1]) or (held[2] and version == tonumber(held[1]))) then
    return 0
end
redis.call('HDEL', entry, 'tok', 'tx')
redis.call('HSET', entry, 'v', ARGV[4], 'd', ARGV[5])
redis.call('PEXPIRE', entry, ARGV[6])
return 1
