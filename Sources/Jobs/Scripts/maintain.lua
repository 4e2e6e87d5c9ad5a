-- ARGV: now, limit, retention_ms, patience_ms or 0
-- Reply: {promoted, recovered, failed, ready, leased, scheduled, milliseconds until the next is due or -1}
local due = redis.call('ZRANGEBYSCORE', SCHEDULED, '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for position = 1, #due, 2 do
  redis.call('ZREM', SCHEDULED, due[position])
  make_ready(due[position], due[position + 1])
end
-- When nobody has been here for longer than patience_ms, Redis was away, or frozen: leases have expired that nobody could
-- extend. Their holders get the time to do it late.
local patience, from = tonumber(ARGV[4]), 0
if patience > 0 then
  local seen = redis.call('HMGET', P .. 'maintenance', 'at', 'takes_back_from')
  from = tonumber(seen[2] or 0)
  if seen[1] and now - tonumber(seen[1]) > patience then from = now + patience end
  begin_writing()
  redis.call('HSET', P .. 'maintenance', 'at', now, 'takes_back_from', from)
end
local recovered, failed = 0, 0
local expired = now >= from and redis.call('ZRANGEBYSCORE', LEASED, '-inf', now, 'LIMIT', 0, ARGV[2]) or {}
for _, id in ipairs(expired) do
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
