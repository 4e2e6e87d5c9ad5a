-- ARGV: now, id, token, result, retention_ms
-- Reply: 'succeeded', or 'lost' when the lease is no longer the caller's
-- Idempotent by token: 'settled' remembers who had the last word, and what it was.
local id, token = ARGV[2], ARGV[3]
local job = P .. 'job:' .. id
local known = redis.call('HMGET', job, 'lease', 'settled', 'settled_as')
if known[2] == token then return known[3] end
if known[1] ~= token then return 'lost' end
redis.call('ZREM', LEASED, id)
redis.call('HDEL', job, 'lease', 'error')
redis.call('HSET', job, 'settled', token, 'settled_as', 'succeeded')
finish(id, 'succeeded', 'result', ARGV[4], ARGV[5])
return 'succeeded'
