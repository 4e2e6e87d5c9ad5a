-- ARGV: now, limit, retention_ms
-- Reply: {promoted, recovered, failed, ready, leased, scheduled, milliseconds until the next is due or -1}
local due = redis.call('ZRANGEBYSCORE', SCHEDULED, '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for position = 1, #due, 2 do
  redis.call('ZREM', SCHEDULED, due[position])
  make_ready(due[position], due[position + 1])
end
local recovered, failed = 0, 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASED, '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local job = P .. 'job:' .. id
  redis.call('ZREM', LEASED, id)
  local known = redis.call('HMGET', job, 'attempts', 'max_attempts', 'run_at')
  if known[1] then
    redis.call('HDEL', job, 'lease')
    if tonumber(known[1]) >= tonumber(known[2]) then
      finish(id, 'failed', 'error', 'the worker was lost while it ran the last attempt', ARGV[3])
      failed = failed + 1
    else
      redis.call('HSET', job, 'state', 'queued', 'updated_at', now)
      make_ready(id, known[3])
      recovered = recovered + 1
    end
  end
end
local next_due = -1
local first = redis.call('ZRANGE', SCHEDULED, 0, 0, 'WITHSCORES')
if first[2] then next_due = math.max(0, tonumber(first[2]) - now) end
return {#due / 2, recovered, failed, redis.call('ZCARD', READY), redis.call('ZCARD', LEASED),
  redis.call('ZCARD', SCHEDULED), next_due}
