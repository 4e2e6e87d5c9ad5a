-- ARGV: now, id, token, error, delay_ms before the next attempt or -1 for none, retention_ms
-- Reply: 'queued' (another attempt follows), 'failed', or 'lost' when the lease is no longer the caller's
-- Idempotent by token, as complete.lua.
local id, token = ARGV[2], ARGV[3]
local job = P .. 'job:' .. id
local known = redis.call('HMGET', job, 'lease', 'settled', 'settled_as', 'attempts', 'max_attempts')
if known[2] == token then return known[3] end
if known[1] ~= token then return 'lost' end
redis.call('ZREM', LEASED, id)
redis.call('HDEL', job, 'lease')
local delay = tonumber(ARGV[5])
if delay < 0 or tonumber(known[4]) >= tonumber(known[5]) then
  redis.call('HSET', job, 'settled', token, 'settled_as', 'failed')
  finish(id, 'failed', 'error', ARGV[4], ARGV[6])
  return 'failed'
end
redis.call('HSET', job, 'settled', token, 'settled_as', 'queued', 'state', 'queued', 'error', ARGV[4],
  'run_at', now + delay, 'updated_at', now)
redis.call('ZADD', SCHEDULED, now + delay, id)
return 'queued'
