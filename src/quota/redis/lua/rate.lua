-- Calls and tokens: one bucket for all replicas (KEYS[1]) that fills up evenly by the server's time; see beat.lua for KEYS[2].
-- It expires when it would be full: a bucket that is not there is full.

local me = ARGV[1]
local amount, every, size = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local give, need, want, least = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local was = redis.call('HMGET', KEYS[1], 'level', 'at', 'size')
local level, at = tonumber(was[1] or size), tonumber(was[2] or now)
-- another limit: what is used stays used
if was[3] then level = level + size - tonumber(was[3]) end
level = math.min(size, level + math.max(0, now - at) * amount / every)
-- a debt beyond the bucket would be an estimate gone mad
level = math.max(-size, math.min(size, level + give))

local others = 0
local replicas = redis.call('HGETALL', KEYS[2])
for i = 1, #replicas, 2 do
  if string.sub(replicas[i], 1, 2) == 'r:' and string.sub(replicas[i], 3) ~= me and tonumber(replicas[i + 1]) > now / 1000 - 10000 then
    others = others + 1
  end
end

local granted, wait = 0, 0
local share = math.floor(math.max(level, 0) / (2 * (others + 1)))
if need > 0 then
  if level >= need then
    granted = math.min(math.floor(level), math.max(need, math.min(want, share)))
  else
    wait = math.ceil((need - level) * every / amount)
  end
else
  granted = math.min(want, share)
  if granted < least then granted = 0 end
end
level = level - granted

redis.call('HSET', KEYS[1], 'level', string.format('%.6f', level), 'at', string.format('%.0f', now), 'size', string.format('%.0f', size))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil((size - level) * every / amount / 1000) + 1000))
return { granted, math.floor(level), wait }
