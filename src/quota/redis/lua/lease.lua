-- Money and calls at once: what is settled, and who has a lease of how much.
--
-- One hash for a counter (KEYS[1]):
--   s:SLICE:WHO  settled by a replica in a slice, since its beginning     c:SLICE  the same by all
--   l:WHO  its lease beyond that     q:WHO  its last question     x:WHO  when it last asked (ms)
--   quiet  nothing is given out before (ms): memory was lost, the replicas tell what they know     floor  the most that one of them knew to be used
--   told   how many of the soft amounts were passed
-- and one for all replicas (KEYS[2]), see beat.lua.
--
-- All sums are absolute: asked twice, nothing changes. Numbers are exact up to 2^53 (nine million dollars in nano dollars).

local me, sequence = ARGV[1], tonumber(ARGV[2])
local ceiling, floor, need, want, least = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local met, known = ARGV[8] == '1', tonumber(ARGV[9])
local generation, quarantine = ARGV[10], tonumber(ARGV[11])
-- leases end after `ttl`, the whole counter after `expire` (ms; 0: never)
local ttl, expire = tonumber(ARGV[12]), tonumber(ARGV[13])
local oldest, slice, money = tonumber(ARGV[14]), ARGV[15], ARGV[16] == '1'
local soft = ARGV[17]

local function whole(number) return string.format('%.0f', number) end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

if redis.call('HSETNX', KEYS[2], 'generation', generation) == 1 then
  redis.call('HSET', KEYS[2], 'quiet', whole(now + quarantine))
end
local others, lost_until = 0, 0
local replicas = redis.call('HGETALL', KEYS[2])
for i = 1, #replicas, 2 do
  if replicas[i] == 'quiet' then
    lost_until = tonumber(replicas[i + 1])
  elseif string.sub(replicas[i], 1, 2) == 'r:' and string.sub(replicas[i], 3) ~= me and tonumber(replicas[i + 1]) > now - 10000 then
    others = others + 1
  end
end

local was = {}
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do was[flat[i]] = flat[i + 1] end
local last = was['q:' .. me]
-- a question from before, on its way for long
if last and tonumber(last) >= sequence then return {} end

local set, gone = {}, {}
local function put(field, value)
  was[field] = value
  set[field] = value
end

-- what has been forgotten, and who says so
local quiet, fresh, forgot = tonumber(was.quiet or 0), #flat == 0, met and not last
if money then
  if fresh and lost_until > now then quiet = lost_until end
  if forgot or (fresh and known > 0) then quiet = math.max(quiet, now + quarantine) end
  if (forgot or fresh) and known > tonumber(was.floor or 0) then put('floor', whole(known)) end
  if quiet > now then put('quiet', whole(quiet)) end
end

for i = 18, #ARGV, 2 do
  local at, sum = ARGV[i], tonumber(ARGV[i + 1])
  if tonumber(at) >= oldest then
    local field = 's:' .. at .. ':' .. me
    local before = tonumber(was[field] or 0)
    if sum ~= before then
      put(field, whole(sum))
      put('c:' .. at, whole(tonumber(was['c:' .. at] or 0) + sum - before))
    end
  end
end

local spent, leased = 0, 0
for field, value in pairs(was) do
  local kind, rest = string.sub(field, 1, 2), string.sub(field, 3)
  if kind == 'c:' then
    if tonumber(rest) < oldest then gone[#gone + 1] = field else spent = spent + tonumber(value) end
  elseif kind == 's:' then
    if tonumber(string.match(rest, '^(%-?%d+):')) < oldest then gone[#gone + 1] = field end
  elseif kind == 'l:' and rest ~= me then
    local silent = now - tonumber(was['x:' .. rest] or 0)
    -- of calls at once, and of a rolling time: long over
    if (ttl > 0 and silent > ttl) or (tonumber(value) == 0 and silent > 7776000000) then
      gone[#gone + 1] = field
      gone[#gone + 1] = 'x:' .. rest
      gone[#gone + 1] = 'q:' .. rest
    else
      leased = leased + tonumber(value)
    end
  end
end

-- all have told: what one of them knew of and nobody told was used by replicas that are no more
if was.floor and quiet <= now then
  local short = tonumber(was.floor) - spent - leased - floor
  if short > 0 then
    put('c:' .. slice, whole(tonumber(was['c:' .. slice] or 0) + short))
    spent = spent + short
  end
  set.floor = nil
  gone[#gone + 1] = 'floor'
end

local room = ceiling - spent - leased - floor
local share = math.floor(math.max(room, 0) / (2 * (others + 1)))
local granted = 0
if quiet <= now then
  if need > 0 then
    if room >= need then granted = math.min(room, math.max(need, math.min(want, share))) end
  else
    granted = math.min(want, share)
    if granted < least then granted = 0 end
  end
end
room = room - granted

-- when enough of a rolling time's spending will have left it
local frees = -1
if need > 0 and granted == 0 and ttl > 0 and money then
  local slices = {}
  for field, value in pairs(was) do
    if string.sub(field, 1, 2) == 'c:' and tonumber(string.sub(field, 3)) >= oldest then
      slices[#slices + 1] = { tonumber(string.sub(field, 3)), tonumber(value) }
    end
  end
  table.sort(slices, function(a, b) return a[1] < b[1] end)
  local back = room
  for _, one in ipairs(slices) do
    back = back + one[2]
    if back >= need then
      frees = one[1]
      break
    end
  end
end

local answer = { floor + granted, spent, spent + leased + floor + granted, room, quiet > now and 1 or 0, frees }

local told, reached, n = tonumber(was.told or 0), 0, 0
for amount in string.gmatch(soft, '%d+') do
  n = n + 1
  if spent > 0 and spent >= tonumber(amount) then
    reached = n
    if n > told then answer[#answer + 1] = n end
  end
end
if reached ~= told then put('told', whole(reached)) end

put('l:' .. me, whole(floor + granted))
put('q:' .. me, whole(sequence))
put('x:' .. me, whole(now))
-- one by one: a call takes only so many arguments
for _, field in ipairs(gone) do redis.call('HDEL', KEYS[1], field) end
for field, value in pairs(set) do redis.call('HSET', KEYS[1], field, value) end
if expire > 0 then redis.call('PEXPIRE', KEYS[1], whole(expire)) end
return answer
