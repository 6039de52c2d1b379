-- FRESH: every change numbered up to seq has been applied to this name space as of t.
-- KEYS[1] the proof; ARGV: epoch, seq, t, name space, ms after which an unrenewed proof is forgotten. Returns 1 if it was taken.
-- Wall: a leader that slept with a proof in its hand would set the proof back, and the name space with it.
local t = redis.call('HGET', KEYS[1], 't')
if t and tonumber(t) > tonumber(ARGV[3]) then
    return 0
end
redis.call('HSET', KEYS[1], 'ep', ARGV[1], 'seq', ARGV[2], 't', ARGV[3], 'ns', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
