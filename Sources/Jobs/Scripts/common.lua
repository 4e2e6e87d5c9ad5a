-- What all scripts of the queue begin with. KEYS[1] is the prefix that all keys of the queue share, with its hash tag;
-- ARGV[1] is the time in milliseconds, or 0 for the clock of the server, which all nodes share.
local P = KEYS[1]
local READY, LEASED, SCHEDULED = P .. 'ready', P .. 'leased', P .. 'scheduled'

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- A full Redis refuses what could take memory, but only as the first write of a script. What goes on with jobs that are there
-- already must go on, so it begins with a write that takes none.
local function begin_writing() redis.call('ZREM', LEASED, '') end

-- Hands a job to whoever claims next, in the order of `at`. Workers are told when there is work where there was none:
-- a worker with a free hand has always emptied the list before it waits.
local function make_ready(id, at)
  redis.call('ZADD', READY, at, id)
  if redis.call('ZCARD', READY) == 1 then redis.call('PUBLISH', P .. 'wake', '1') end
end

-- Ends a job for good; its record is kept for `retention` milliseconds.
local function finish(id, state, field, value, retention)
  local job = P .. 'job:' .. id
  redis.call('HSET', job, 'state', state, field, value, 'finished_at', now, 'updated_at', now)
  redis.call('PEXPIRE', job, retention)
end
