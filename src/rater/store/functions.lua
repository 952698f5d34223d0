#!lua name=rater_v1
-- Everything that rater does to a bucket, each function one atomic step.
-- What it means is stated in Python in core/drawing.py; tests/store/test_machine.py compares the two.
--
-- Holds for every function:
--   * Keys come from KEYS alone; nothing asks a clock or a random source.
--   * A READ phase, then a WRITE phase that cannot fail: a script that stops half-way keeps what it wrote.
--   * Numbers are integers within +-2^53, which doubles hold exactly. redis.call writes such a number as a plain
--     integer (tested on each server); a number is never turned into text by Lua itself, which keeps 14 digits.
--   * unpack and struct.unpack get at most CHUNK values: near 8000 the Lua stack ends.
--
-- Keys of bucket B, all with the hash tag {B} (store/keys.py):
--   g        hash   "open" -> run_id, "gen_min" -> generation, "r:LANE" -> run_id registered, "t:LANE" -> lane time, ms
--   l:LANE   hash   "token", "call" (expected), "floor" (journal offset), "low" (no outcome of a lower call is kept)
--   o:LANE   hash   CALL .. "c" -> context, CALL .. "r" -> packed results
--   c:CLIENT hash   "v" version, "b" balance in micros, counter field -> used
--   r:CLIENT string register (msgpack)
--   a:SHARD  hash   account -> client
--   u:GEN    hash   8 byte key -> 4 byte content
--
-- Every reply is an array that begins with status and the call number expected next.

local OK, FENCED, CLOSED, REGRESSED, LOST, STALE = 0, 1, 2, 3, 4, 5
local RATED, DUPLICATE, DIFFERS, OUT_OF_RANGE = 0, 1, 2, 3
local LIMIT = 9007199254740992  -- 2^53
local LIMB = 10000000           -- 10^7: the product of two limbs is 10^14, about 90 of them add up below 2^53
local CHUNK = 3600
local HUGE = math.huge

local call = redis.call
local floor, min, max = math.floor, math.min, math.max

---------------------------------------------------------------------------------------------------------- guards

-- The lane's own token and the call number that is expected, or nothing is done. Returns status, expected call, and
-- the lane's "low".
local function guard(lane_key, token, number)
  local own = call('HMGET', lane_key, 'token', 'call', 'low')
  local stored, expected = tonumber(own[1]) or -1, tonumber(own[2]) or 0
  if token < stored then return FENCED, expected end
  if token > stored or number ~= expected then return REGRESSED, expected end
  return OK, expected, tonumber(own[3]) or expected
end

local function run_id()
  return string.match(call('INFO', 'server'), 'run_id:(%x+)')
end

-- The guard, and every lane registered under the server's present run. A lane that is not registered itself is
-- REGRESSED: waiting for the others would never end.
local function gate(bucket_key, lane_key, lane, token, number)
  local status, expected, low = guard(lane_key, token, number)
  if status ~= OK then return status, expected end
  local run, has = run_id(), call('HMGET', bucket_key, 'open', 'r:' .. lane)
  if has[1] == run then return OK, expected, low end
  return has[2] == run and CLOSED or REGRESSED, expected
end

---------------------------------------------------------------------------------------------------- exact numbers
-- A form (a, s, d) has at x the value (a * x + s) / d, rounded half up by magnitude (core/amounts.py `wire`).
-- Plain numbers: |a| * x + |s| < 2^52 and d < 2^52. Else each is a list {sign, limb, limb, ...}, lowest limb first.

-- Plain: n % d is computed as n - floor(n / d) * d, where the division may round up to the next integer; the product
-- is exact, so the remainder is then negative by less than d and is put right by adding d.
local function round_plain(n, d)
  local m = n < 0 and -n or n
  local r = m % d
  if r < 0 then r = r + d end
  local q = (m - r) / d
  if r + r >= d then q = q + 1 end
  return n < 0 and 0 - q or q  -- 0 - q, for -q would be -0
end

-- The limbs of x, 0 <= x <= 2^54, each times sign.
local function limbs_of(x, sign)
  local out, n = {}, 0
  repeat
    local low = x % LIMB
    if low < 0 then low = low + LIMB end  -- as above: beyond 2^52 the division may round up
    n = n + 1
    out[n] = low * sign
    x = (x - low) / LIMB
  until x == 0
  return out
end

-- t + factor * (the limbs of u from index `from` on); t is long enough. No limb of t leaves +-10^15 here.
local function add_product(t, u, from, factor)
  for j = 1, #factor do
    local f, shift = factor[j], j - from
    for i = from, #u do t[i + shift] = t[i + shift] + u[i] * f end
  end
end

-- Bring the limbs to 0 .. LIMB - 1, but for the topmost: its sign is then the number's. Up to 10^15 the quotient of a
-- limb is known to 10^-8, so floor is right.
local function settle(t)
  local carry = 0
  for i = 1, #t - 1 do
    local limb = t[i] + carry
    carry = floor(limb / LIMB)
    t[i] = limb - carry * LIMB
  end
  t[#t] = t[#t] + carry
end

-- The value as a double, with a relative error below 2^-45.
local function approximate(t)
  local value = 0
  for i = #t, 1, -1 do value = value * LIMB + t[i] end
  return value
end

-- floor((2 n + d) / (2 d)) for n = |a x + s|: an estimate in doubles, off by 2^9 at most; what doubles say of its exact
-- remainder then leaves an error of one, which the sign of the exact remainder shows. HUGE beyond 2^53.
local function round_limbs(a, s, d, x)
  local size = max(#a + 2, #s, #d + 2) + 1
  local rest = {}
  for i = 1, size do rest[i] = 0 end
  add_product(rest, a, 2, limbs_of(x < 0 and -x or x, x < 0 and -a[1] or a[1]))
  add_product(rest, s, 2, {s[1]})
  settle(rest)
  local sign = rest[size] < 0 and -1 or 1
  for i = 1, size do rest[i] = rest[i] * 2 * sign end
  add_product(rest, d, 2, {1})
  settle(rest)
  local divisor = {}
  for i = 2, #d do divisor[i - 1] = d[i] * 2 end
  local about = approximate(divisor)
  local q = floor(approximate(rest) / about)
  if q > LIMIT * 2 then return sign * HUGE end
  add_product(rest, divisor, 1, limbs_of(q, -1))
  settle(rest)
  local off = floor(approximate(rest) / about)
  q = q + off
  add_product(rest, divisor, 1, {-off})
  settle(rest)
  if rest[size] < 0 then
    q = q - 1
  else
    add_product(rest, divisor, 1, {-1})
    settle(rest)
    if rest[size] >= 0 then q = q + 1 end
  end
  if q > LIMIT then return sign * HUGE end
  return sign < 0 and 0 - q or q
end

local function value_at(a, s, d, x)
  if type(d) == 'table' then return round_limbs(a, s, d, x) end
  return round_plain(a * x + s, d)
end

-------------------------------------------------------------------------------------------------------------- draw
-- rater_v1_draw: apply client registers, then draw and charge items, in order; all of it or nothing.
--
-- KEYS  1 g | 2 l:LANE | 3 o:LANE | 4-6 u:GEN, u:GEN-1, u:GEN+1 | then c:CLIENT of each use, then of applies that are
--       not among them | then r:CLIENT of each apply | then a:SHARD of each account entry
-- ARGV  1 lane | 2 token | 3 call | 4 payload, msgpack flat list (below) | 5 key .. content of each item, 12 bytes
--       each | 6 context | 7.. the registers of the applies
--       payload: lane_ms, generation, trim, floor, keep (1: the outcome), clients, uses, applies, accounts, items;
--         per use: version, credit limit, n, n field names
--         per apply: client index, expected, version, delta
--         per account entry: account, client ("": remove)
--         per item: use, head, billed, a, s, d, candidates;   head = 4 * length of candidates + 2 * (one has `allow`)
--           + 1 * (second side of the same record)
--         per candidate: field index + 2, size, code, cap if code says so, to package (a, d) and to client (a, d) if
--           code says so;   code = money + 2 waive + 4 allow + 8 cap + 16 conversion + 32 group
-- Reply status, call, and: OK: results packed (core/drawing.py `pack_results`) | STALE: indices from 0 of stale uses
-- Holds keys are asked in three generations; the gate is open; LOST and STALE change nothing; the items see the
--       clients as the applies leave them.

-- A draw's picture of its clients: `has[i]` = HMGET of v, b, fields. What the call changes becomes a number there; what
-- it only reads stays as Redis returned it, so the type tells what to write.
local function read_clients(keys, v, at, uses, clients)
  local has, balance, version = {}, {}, {}
  for i = 1, uses do
    local n = v[at + 2]
    local row
    if n < CHUNK then
      row = call('HMGET', keys[6 + i], 'v', 'b', unpack(v, at + 3, at + 2 + n))
    else
      row = call('HMGET', keys[6 + i], 'v', 'b')
      for from = 1, n, CHUNK do
        local part = call('HMGET', keys[6 + i], unpack(v, at + 2 + from, at + 2 + min(from + CHUNK - 1, n)))
        for j = 1, #part do row[1 + from + j] = part[j] end
      end
    end
    has[i], version[i], balance[i] = row, tonumber(row[1]), tonumber(row[2]) or 0
    at = at + 3 + n
  end
  for i = uses + 1, clients do
    local row = call('HMGET', keys[6 + i], 'v', 'b')
    has[i], version[i], balance[i] = row, tonumber(row[1]), tonumber(row[2]) or 0
  end
  return has, version, balance, at
end

local function apply_all(v, at, applies, version, balance, results)
  local done = {}
  for k = 1, applies do
    local i, delta = v[at], v[at + 3]
    local fits = (delta > 0 and balance[i] <= LIMIT - delta) or (delta <= 0 and balance[i] >= -LIMIT - delta)
    if (version[i] or 0) == v[at + 1] and fits then
      version[i], balance[i], done[k] = v[at + 2], balance[i] + delta, i
    end
    results[k + 1] = done[k] and 1 or 0
    at = at + 4
  end
  return done, at
end

-- Which uses name another version than the one that is there; nil when a client is gone.
local function stale_uses(v, at, uses, version)
  local stale = {}
  for i = 1, uses do
    if not version[i] then return nil end
    if version[i] ~= v[at] then stale[#stale + 1] = i - 1 end
    at = at + 3 + v[at + 2]
  end
  return stale
end

-- The content under which each key is already kept, by item; and the keys.
local function read_known(keys, digests, items)
  local key, known = {}, {}
  for from = 1, items, CHUNK do
    local n = min(CHUNK, items - from + 1)
    local part = {struct.unpack(string.rep('c8xxxx', n), digests, 12 * from - 11)}
    for i = 1, n do key[from + i - 1] = part[i] end
  end
  for g = 6, 4, -1 do  -- the lane's own generation last: it wins
    if items > 0 and call('EXISTS', keys[g]) == 1 then
      for from = 1, items, CHUNK do
        local part = call('HMGET', keys[g], unpack(key, from, min(from + CHUNK - 1, items)))
        for i = 1, #part do
          if part[i] then known[from + i - 1] = part[i] end
        end
      end
    end
  end
  return key, known
end

-- One item's limits. Writes its takes into `out` from `n` on and returns: the new n, the cost that is left to charge.
-- p .. stop - 1: the candidates in v; row: the client's counters; funded: balance + credit limit >= 0.
local function take(v, p, stop, row, funded, billed, a, s, d, out, n)
  local group, need, waived, cost, sign = nil, billed, false, nil, 1
  local index = 0
  while p < stop do
    local slot, size, code = v[p], v[p + 1], v[p + 2]
    local flags = code % 32
    local of = code - flags
    local rest = size - (tonumber(row[slot]) or 0)
    local cap, conversion = rest, p + 3
    if flags >= 8 then
      if flags % 16 >= 8 then
        cap = min(v[p + 3], rest)
        conversion = p + 4
      end
      p = flags >= 16 and conversion + 4 or conversion
    else
      p = p + 3
    end
    if rest > 0 and (group == of or (not group and (funded or flags % 8 < 4))) then
      group = of
      if flags % 2 == 0 then
        local taken = need < cap and need or cap
        if taken > 0 then
          out[n + 1], out[n + 2], out[n + 3], out[n + 4] = index, taken, rest - taken, 0
          n, need = n + 4, need - taken
          if flags % 4 >= 2 then waived = true end
        end
      else
        if not cost then
          cost = value_at(a, waived and (type(d) == 'table' and {1, 0} or 0) or s, d, need)
          local full = cost
          if waived or need ~= billed then full = value_at(a, s, d, billed) end
          sign = cost < 0 and -1 or 1
          cost = cost * sign
          if full * sign <= 0 then stop = p end  -- turned to the other sign, or nothing was due: money covers none
        end
        if cost > 0 and p <= stop and stop > 0 then
          stop = stop
        end
      end
    end
    index = index + 1
  end
end
