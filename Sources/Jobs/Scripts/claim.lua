-- ARGV: now, worker, request, limit, lease_ms
-- Reply: for each job {id, task, payload, owner, attempts, max_attempts, fence, timeout_ms, created_at}
-- Idempotent by request: who did not get the reply sends it again and gets the same jobs, their leases renewed.
local claim = P .. 'claim:' .. ARGV[2]
local token = ARGV[2] .. '/' .. ARGV[3]
local last = redis.call('HMGET', claim, 'request', 'ids')
local ids = {}
if last[1] == ARGV[3] then
  for id in string.gmatch(last[2], '[^,]+') do
    if redis.call('HGET', P .. 'job:' .. id, 'lease') == token then
      redis.call('ZADD', LEASED, now + tonumber(ARGV[5]), id)
      ids[#ids + 1] = id
    end
  end
  redis.call('PEXPIRE', claim, ARGV[5])
else
  local popped = redis.call('ZPOPMIN', READY, ARGV[4])
  for position = 1, #popped, 2 do
    local id = popped[position]
    local job = P .. 'job:' .. id
    if redis.call('EXISTS', job) == 1 then
      redis.call('HINCRBY', job, 'attempts', 1)
      redis.call('HINCRBY', job, 'fence', 1)
      redis.call('HSET', job, 'state', 'running', 'lease', token, 'started_at', now, 'updated_at', now)
      redis.call('ZADD', LEASED, now + tonumber(ARGV[5]), id)
      ids[#ids + 1] = id
    end
  end
  if #ids > 0 then
    redis.call('HSET', claim, 'request', ARGV[3], 'ids', table.concat(ids, ','))
    redis.call('PEXPIRE', claim, ARGV[5])
  end
end
local jobs = {}
for position, id in ipairs(ids) do
  jobs[position] = redis.call('HMGET', P .. 'job:' .. id, 'id', 'task', 'payload', 'owner', 'attempts', 'max_attempts',
    'fence', 'timeout_ms', 'created_at')
end
return jobs
