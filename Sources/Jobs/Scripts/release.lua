-- ARGV: now, then id and token of each job
-- Reply: how many were handed back
-- The attempt that a stopping worker breaks off does not count.
local released = 0
for position = 2, #ARGV, 2 do
  local id = ARGV[position]
  local job = P .. 'job:' .. id
  if redis.call('HGET', job, 'lease') == ARGV[position + 1] then
    redis.call('ZREM', LEASED, id)
    redis.call('HDEL', job, 'lease')
    redis.call('HINCRBY', job, 'attempts', -1)
    redis.call('HSET', job, 'state', 'queued', 'updated_at', now)
    make_ready(id, redis.call('HGET', job, 'run_at'))
    released = released + 1
  end
end
return released
