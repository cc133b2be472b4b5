-- The replicas that are there (KEYS[1]): r:WHO when it last said so (ms); `generation`, drawn by whoever finds none: when it changes, the server has lost its
-- memory; `quiet`: until then money is not given out, so that all can tell what they know. A write, so that a server that takes none is found out.

local me, generation, quarantine, closing = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

if redis.call('HSETNX', KEYS[1], 'generation', generation) == 1 then
  redis.call('HSET', KEYS[1], 'quiet', string.format('%.0f', now + quarantine))
end
if closing then
  redis.call('HDEL', KEYS[1], 'r:' .. me)
else
  redis.call('HSET', KEYS[1], 'r:' .. me, string.format('%.0f', now))
end
local replicas = 0
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  if string.sub(flat[i], 1, 2) == 'r:' then
    local silent = now - tonumber(flat[i + 1])
    if silent < 10000 then
      replicas = replicas + 1
    elseif silent > 3600000 then
      redis.call('HDEL', KEYS[1], flat[i])
    end
  end
end
return { redis.call('HGET', KEYS[1], 'generation'), replicas }
