-- ARGV: now, id, task, payload, owner, max_attempts, delay_ms, timeout_ms, idempotency key or '', fingerprint, its ttl_ms
-- Reply: {'created' | 'existing' | 'conflict', id, created_at or 0}
-- Idempotent by id: who did not get the reply sends it again.
local id = ARGV[2]
local job = P .. 'job:' .. id
local earlier = redis.call('HGET', job, 'created_at')
if earlier then return {'created', id, earlier} end
if ARGV[9] ~= '' then
  local key = P .. 'idempotency:' .. ARGV[9]
  local known = redis.call('HMGET', key, 'id', 'fingerprint')
  if known[1] then
    if known[2] ~= ARGV[10] then return {'conflict', known[1], 0} end
    return {'existing', known[1], 0}
  end
  redis.call('HSET', key, 'id', id, 'fingerprint', ARGV[10])
  redis.call('PEXPIRE', key, ARGV[11])
end
local run_at = now + tonumber(ARGV[7])
redis.call('HSET', job, 'id', id, 'task', ARGV[3], 'state', 'queued', 'attempts', 0, 'max_attempts', ARGV[6],
  'payload', ARGV[4], 'owner', ARGV[5], 'timeout_ms', ARGV[8], 'created_at', now, 'updated_at', now,
  'run_at', run_at)
if run_at > now then redis.call('ZADD', SCHEDULED, run_at, id) else make_ready(id, run_at) end
return {'created', id, now}
