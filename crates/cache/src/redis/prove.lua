-- PROVE: every change numbered up to seq has been applied to this name space as of t.
-- KEYS[1] the proof; ARGV: epoch, seq, t, name space, ms after which an unrenewed proof is deleted.
-- An older proof may replace a newer one: what it says stays true, and the next pass renews it. Refusing it would keep a
-- proof from before a step back of PostgreSQL's clock, which looks young again when the clock has come that far.
redis.call('HSET', KEYS[1], 'ep', ARGV[1], 'seq', ARGV[2], 't', ARGV[3], 'ns', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
