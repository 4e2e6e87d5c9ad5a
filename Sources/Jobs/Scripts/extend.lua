-- ARGV: now, lease_ms, then id and token of each job
-- Reply: for each job 1, or 0 when the lease is no longer the caller's
begin_writing()
local kept = {}
for position = 3, #ARGV, 2 do
  local id = ARGV[position]
  local held = redis.call('HGET', P .. 'job:' .. id, 'lease') == ARGV[position + 1]
  if held and redis.call('ZSCORE', LEASED, id) then
    redis.call('ZADD', LEASED, now + tonumber(ARGV[2]), id)
    kept[#kept + 1] = 1
  else
    kept[#kept + 1] = 0
  end
end
return kept
