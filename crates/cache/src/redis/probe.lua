-- PROBE: what Redis would answer for a key, with the proof that it would answer under. Changes nothing and grants no lease.
-- KEYS[1] the proof; ARGV: prefix of entries, key. Returns false if there is no proof or no value, else {t, v, d}.
local proof = redis.call('HMGET', KEYS[1], 't', 'ns')
if not proof[2] then
    return false
end
local fields = redis.call('HMGET', ARGV[1] .. proof[2] .. ':' .. ARGV[2], 'v', 'd')
if not fields[2] then
    return false
end
return { proof[1], fields[1], fields[2] }
