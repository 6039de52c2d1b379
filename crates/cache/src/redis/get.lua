-- GET: for each wanted key its value, or a lease to load it; with the proof, in one atomic step.
-- KEYS[1] the proof; ARGV[1] the prefix of entries; ARGV[2] ms that a lease lasts; then pairs of key and a fresh lease token.
-- Returns false without a proof, else {epoch, seq, t, {answer, ...}}; an answer is {'H', v, d, ms left}, {'L'} or {'B'}.
-- Guard: a proof that is read in another step than the entry may be newer than it, across a failover between the two.
local proof = redis.call('HMGET', KEYS[1], 'ep', 'seq', 't', 'ns')
-- Without a proof no lease either: what a holder put in could not be believed.
if not proof[4] then
    return false
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[2])
local answers = {}
for i = 3, #ARGV, 2 do
    local entry = ARGV[1] .. proof[4] .. ':' .. ARGV[i]
    local fields = redis.call('HMGET', entry, 'v', 'd', 'tok', 'tx')
    if fields[2] then
        answers[#answers + 1] = { 'H', fields[1], fields[2], redis.call('PTTL', entry) }
    elseif fields[3] and tonumber(fields[4]) > now then
        answers[#answers + 1] = { 'B' }
    else
        redis.call('HSET', entry, 'tok', ARGV[i + 1], 'tx', now + lease)
        -- Never shorter: a tombstone's version must last for as long as an older load may try to fill.
        if redis.call('PTTL', entry) < lease then
            redis.call('PEXPIRE', entry, lease)
        end
        answers[#answers + 1] = { 'L' }
    end
end
return { proof[1], proof[2], proof[3], answers }
