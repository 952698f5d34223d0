#!lua name=rater_v4
-- Everything that rater does to a bucket, each function one atomic step.
-- What it means is stated in Python in core/bucket/model.py; tests/store/test_machine.py compares the two.
--
-- Holds for every function:
--   * Keys come from KEYS alone; nothing asks a clock or a random source.
--   * A READ phase, then a WRITE phase that cannot fail: a script that stops half-way keeps what it wrote.
--   * Numbers are integers within +-2^53, which doubles hold exactly. redis.call writes such a number as a plain
--     integer (tested on each server); a number is never turned into text by Lua itself, which keeps 14 digits.
--   * unpack gets at most CHUNK values: near 8000 the Lua stack ends.
--
-- Keys of bucket B, all with the hash tag {B} (store/keys.py):
--   g        hash   "joined" -> run (`run_id`), "gen_min" -> generation, "at:LANE" -> run in which the lane
--                   registered, "t:LANE" -> lane time, ms, "due_min" -> lowest hour that may have hints. The gates of
--                   rater_v1 to rater_v3 are "open" and "r:LANE", "opened" and "run:LANE", "agreed" and "in:LANE":
--                   whoever registers takes them away, for their workers know nothing of fees in a draw (FEES below),
--                   or of duplicates that cells tell of. "restoring" while snapshots are put in place in a bucket that
--                   lost all, then "whole" -> their offset up to which they were
--   l:LANE   hash   "token", "call" (expected), "floor" (journal offset), "base" (journal offset from which kept
--                   outcomes may be found in the journal)
--   o:LANE   hash   CALL .. "c" -> context, CALL .. "r" -> packed results, CALL .. "w" -> clients that it changed, msgpack
--   c:CLIENT hash   "v" version, "b" balance in micros, counter field -> used
--   r:CLIENT string register (msgpack)
--   a:SHARD  hash   account -> client
--   u:GEN    hash   duplicates, key .. content of each, 12 bytes. Chunks of those that have a cell: "chunk:" .. number of
--                   the chunk -> entries of a call, or of some that were small; "s" the present one, "e" its entries so
--                   far, "k" how many have a cell, "z" how many cells there are. Groups of the others: the first 12 to 24
--                   bits of a key -> those of them; "n" how many were added, "o" how many of these because their cell
--                   was taken, "w" the first width (`width_of`)
--   f:GEN    string cells of duplicates, CELL bits each (`cells_of`)
--   d:HOUR   list   the due index: hints of an hour since 1970, each 2 bytes of its second and a client's id
--   p:PACK   list   clients that were ever given the package; one may be there twice
--   h:CLIENT hash   CLIENT_PACKAGE.PERIOD -> version that put it .. ":" .. row: periods that have left the register
--   w        hash   client -> lane .. ":" .. call of the last change of it, while the outcome of that is kept
--   m        none   never written. A function that empties a key and writes it again fails half-way where its slot is moved
--                   key by key; one that names this key is refused there before it begins
--   k:LANE   hash   identity and version -> a change of the lane that other lanes went on from, as they have it
--
-- Every reply is an array that begins with status and the call number expected next.

local OK, FENCED, CLOSED, REGRESSED, LOST, STALE, MORE, DUE, UNSETTLED = 0, 1, 2, 3, 4, 5, 6, 7, 8
local RATED, DUPLICATE, DIFFERS, OUT_OF_RANGE = 0, 1, 2, 3
local LIMIT = 9007199254740992  -- 2^53
local LIMB = 10000000           -- 10^7: the product of two limbs is 10^14, about 90 of them add up below 2^53
local CHUNK = 3600
local HUGE = 1 / 0
local SUM_MAX = 2 ^ 62          -- sums are kept in 64 bits; a double tells well enough how near they are to the end

-- Duplicates. Each key has a cell, by its first four bytes: 0, or one byte more of the key that has taken it and the number
-- of the chunk with its entry. So one BITFIELD takes the cells of a call and tells that its keys are new; their entries
-- are written as one string. Where a cell is taken by another key what it held is put back, and the entry joins a group of
-- such whose keys begin alike, as all did in rater_v3. Groups with keys whose cell may be free (of rater_v3, or from
-- `reconcile`) are asked for every key, others for those alone whose cell is taken: one in ten at most, as a rule.
--
-- Groups are to have 16 entries at most, about: a few would cost memory, many time, for Lua looks at each byte of a string
-- that it makes. So the beginnings get longer as a generation fills, and the next one begins where the last one ended. A
-- key is looked for under each length that its generation has.
local CELL, MARK = 24, 256                    -- bits; what a cell holds is MARK * number of the chunk + byte
local CELLS_MIN, CELLS_MAX = 2 ^ 20, 2 ^ 25   -- of a generation
local CELLS_EACH = 8                          -- of a key
local CHUNKS = 65535
local FEW = 8                                 -- keys that are looked for among those of a call one by one
local FILLED = 256                            -- entries of a chunk, after which the next one begins
local ENTRY, KEY = 12, 8        -- bytes
local DIGESTS = 20              -- of an item: an entry and its older key

-- What a function uses of Lua and Redis. While a library loads none of it is there yet, so the first call binds it.
local call, floor, min, max, type, tonumber, unpack, ipairs, pairs, string, table, cmsgpack, sub, find, byte
local HALF = {}                 -- byte -> the character of its higher four bits

local function bound(step)
  return function(keys, argv)
    if not call then
      floor, min, max = math.floor, math.min, math.max
      type, tonumber, unpack, ipairs, pairs = _G.type, _G.tonumber, _G.unpack, _G.ipairs, _G.pairs
      string, table, cmsgpack = _G.string, _G.table, _G.cmsgpack
      sub, find, byte = string.sub, string.find, string.byte
      for b = 0, 255 do HALF[b] = string.char(b - b % 16) end
      call = redis.call
    end
    return step(keys, argv)
  end
end

---------------------------------------------------------------------------------------------------------- guards

-- The lane's own token and the call number that is expected, or nothing is done. Returns status, expected call, floor.
local function guard(lane_key, token, number)
  local own = call('HMGET', lane_key, 'token', 'call', 'floor')
  local stored, expected = tonumber(own[1]) or -1, tonumber(own[2]) or 0
  if token < stored then return FENCED, expected end
  if token > stored or number ~= expected then return REGRESSED, expected end
  return OK, expected, tonumber(own[3]) or 0
end

-- What changes whenever a server may have become another one: its process, and the history that it replicates. A server
-- that leads again after another has led has its process still, and what says that it is open may be of its first time.
local function run_id()
  local told = call('INFO', 'server', 'replication')
  return string.match(told, 'run_id:(%x+)') .. string.match(told, 'master_replid:(%x+)')
end

-- The guard, and every lane registered under the server's present run. A lane that is not registered itself is
-- REGRESSED: waiting for the others would never end.
local function gate(bucket_key, lane_key, lane, token, number)
  local status, expected, journaled = guard(lane_key, token, number)
  if status ~= OK then return status, expected end
  local run, has = run_id(), call('HMGET', bucket_key, 'joined', 'at:' .. lane)
  if has[1] == run then return OK, expected, journaled end
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
  add_product(rest, divisor, 1, {-off})
  settle(rest)
  if rest[size] < 0 then
    off = off - 1
  else
    add_product(rest, divisor, 1, {-1})
    settle(rest)
    if rest[size] >= 0 then off = off + 1 end
  end
  if off > LIMIT - q then return sign * HUGE end  -- asked before adding: 2^53 + 1 would be 2^53
  q = q + off
  return sign < 0 and 0 - q or q
end

-- A number that the store keeps: 0 when absent, +-HUGE beyond +-2^53, where a double may be another integer.
local function kept(text)
  local n = text and tonumber(text) or 0
  if n >= LIMIT and text ~= '9007199254740992' then return HUGE end
  if n <= -LIMIT and text ~= '-9007199254740992' then return -HUGE end
  return n
end

-- Whether held and held + delta are both within +-2^53; |delta| <= 2^53.
local function fits(held, delta)
  if delta > 0 then return held >= -LIMIT and held <= LIMIT - delta end
  return held <= LIMIT and held >= -LIMIT - delta
end

local function value_at(a, s, d, x)
  if d == 1 then return a * x + s end  -- plain, and nothing to be rounded
  if type(d) == 'table' then return round_limbs(a, s, d, x) end
  return round_plain(a * x + s, d)
end

-------------------------------------------------------------------------------------------------------------- draw
-- rater_v4_draw: draw and charge items, in order; all of it or nothing.
-- rater_v4_change: the same behind changes of clients, for clients that wait for a balance or have a mark, and for items
-- with fees.
--
-- KEYS  1 g | 2 l:LANE | 3 o:LANE | 4-6 u:GEN, u:GEN-1, u:GEN+1 | 7-9 f: of these | then c:CLIENT of each use, then of
--       changes that are not among them | then r:CLIENT of each change | then a:SHARD of each account entry | then d:HOUR,
--       p:PACK, h:CLIENT that the changes point at, by index | m, which is never there, and w, the last
-- ARGV  1 lane | 2 token | 3 call | 4 payload, msgpack flat list (below) | 5 key .. content .. older key of each item,
--       20 bytes each; the older key is without the client, as rater_v1 remembered it, and lies in the same group |
--       6 context |
--       of rater_v4_change besides: 7 changes, msgpack flat list (below) | 8.. the registers of the changes | then bytes
--       that the changes point at, by index
--       payload: lane_ms, generation, trim, floor, keep (1: the outcome), clients, uses, changes, accounts, items;
--         per use: version, credit limit, n, n field names
--         per account entry: account, client ("": remove)
--         per item: use (of a cut item -1 - use), head, billed, a, s, d, candidates;   head = 4 * length of candidates + 2 * (one has `allow`)
--           + 1 * (second side of the same record)
--         per candidate: field index + 3, size, code, cap if code says so, to package (a, d) and to client (a, d) if
--           code says so;   code = money + 2 waive + 4 allow + 8 cap + 16 conversion + 32 group; a cap below 0 is
--           that of the candidate and the one before it together. Volumes come first
--           and have no conversion.
--       changes: index in this list of the waits, then each: client index, expected, version, least, most, delta, n, then
--         n times field, least, most, delta;
--         waits: per use the balance that it waits for, 2^54 for none; then lists, each with its number of numbers first:
--         hints {key of d, element}, lowest hour of these | false, members {key of p, client}, history {key of h, field,
--         row}, FEES: per item that asks for some: item from 1, use from 1, n, then n times group * 32, field index + 3 of
--         "charged" ("net" and "amount" are the next two), net, amount, 1 (deny) | 0, MARKS {use from 1, the balance
--         below which its client's is low}, CARRIED {client index of a change that has with it what it goes on from}; a
--         caller without this last list knows nothing of UNSETTLED
-- Reply status, call, and: OK: results packed (core/bucket `pack_results`) | STALE: indices from 0 of stale clients
--       | DUE: per client {its index from 0, the item from 0 before which something is due, -1: a change's conditions do
--       not hold, balance, the counters of the change in its order}; sums beyond +-2^53 as text
--       | MORE: indices from 0 of cut items whose candidates left volume or money over
--       | UNSETTLED: {index from 0 of a client, the other lane whose change, perhaps unpublished, it goes on from}
-- Holds keys are asked in three generations; the gate is open; LOST, STALE, UNSETTLED, DUE and MORE change nothing; the
--       items see the clients as the changes leave them. A client has one change at most, and a field comes once in it.

local CHANGE, COUNTER = 7, 4  -- numbers of a change before its counters, and of each of these
local FEE = 5                 -- of a fee that an item asks for

-- Where the list begins that stands behind the one at `at`.
local function behind(c, at) return at + 1 + c[at] end

-- What items ask of fees: item -> where in c its fees begin, with their number; and per use the counters that are sums of
-- fees, so that they may be below 0: signed[i][field index + 3]; and where in c the marks are.
local function read_fees(c, uses)
  local at = c[1] + uses
  at = behind(c, behind(c, behind(c, at) + 1))
  local fees, signed, stop = {}, {}, behind(c, at)
  at = at + 1
  while at < stop do
    local own = signed[c[at + 1]] or {}
    signed[c[at + 1]], fees[c[at]] = own, at + 2
    for k = at + 3, at + 2 + FEE * c[at + 2], FEE do own[c[k + 1] + 1], own[c[k + 1] + 2] = true, true end
    at = at + 3 + FEE * c[at + 2]
  end
  return fees, signed, stop
end

-- Per use the balance below which its client's is low; nil: none has one.
local function read_marks(c, at)
  if c[at] == 0 then return nil end
  local marks = {}
  for k = at + 1, at + c[at], 2 do marks[c[k]] = c[k + 1] end
  return marks
end

-- Whether a counter is as only a fault of the store can leave it.
local function is_odd(value, signed) return value > LIMIT or value < (signed and -LIMIT or 0) end

-- A draw's picture of its clients: `has[i]` = v, b, then the counters as numbers; odd[i]: one of these is odd, and nothing
-- is drawn from any; was[i]: the balance as it is kept.
local function read_clients(keys, v, at, uses, clients, signed)
  local has, balance, version, odd, was = {}, {}, {}, {}, {}
  for i = 1, uses do
    local n = v[at + 2]
    local row
    if n < CHUNK then
      row = call('HMGET', keys[9 + i], 'v', 'b', unpack(v, at + 3, at + 2 + n))
    else
      row = call('HMGET', keys[9 + i], 'v', 'b')
      for from = 1, n, CHUNK do
        local part = call('HMGET', keys[9 + i], unpack(v, at + 2 + from, at + 2 + min(from + CHUNK - 1, n)))
        for j = 1, #part do row[1 + from + j] = part[j] end
      end
    end
    for j = 3, 2 + n do
      local text, used = row[j], 0
      if text then
        used = tonumber(text)
        if used < 0 or used >= LIMIT and kept(text) ~= LIMIT then
          used = kept(text)
          if is_odd(used, signed and signed[i] and signed[i][j]) then odd[i] = true end
        end
      end
      row[j] = used
    end
    local held = row[2] and tonumber(row[2]) or 0
    if held >= LIMIT or held <= -LIMIT then held = kept(row[2]) end
    has[i], version[i], balance[i], was[i] = row, tonumber(row[1]), held, held
    at = at + 3 + n
  end
  for i = uses + 1, clients do
    local row = call('HMGET', keys[9 + i], 'v', 'b')
    has[i], version[i], balance[i] = row, tonumber(row[1]), kept(row[2])
    was[i] = balance[i]
  end
  return has, version, balance, odd, was
end

-- The clients whose version is another than was named, by index; nil when one is gone. A use names the version that
-- holds after the changes, which are noted in `version`.
local function stale_clients(v, starts, uses, clients, c, changes, version)
  local old, at = {}, 2
  for _ = 1, changes do
    local i = c[at]
    if (version[i] or 0) == c[at + 1] then
      version[i] = c[at + 2]
    elseif version[i] then
      old[i] = true
    else
      return nil
    end
    at = at + CHANGE + COUNTER * c[at + 6]
  end
  for i = 1, uses do
    if not version[i] then return nil end
    if version[i] ~= v[starts[i]] then old[i] = true end
  end
  local stale = {}
  for i = 1, clients do
    if old[i] then stale[#stale + 1] = i - 1 end
  end
  return stale
end

-- The key w of a call, nil of a caller who does not know it.
local function unsettled_key(keys)
  local last = keys[#keys]
  return last == sub(keys[1], 1, -2) .. 'w' and last
end

-- The client of a key c:CLIENT.
local function client_of(keys, key) return sub(key, #keys[1] + 2) end

-- The changes that go on from one of another lane whose outcome is kept, so it may be unpublished: {index from 0 of the
-- client, the lane} each; but for those that carry it. Second, the clients that are changed.
local function unsettled_of(keys, c, at, changes, lane)
  local found, carried, names, key = {}, {}, {}, unsettled_key(keys)
  if not key then return found, names end
  for k = at + 1, at + c[at] do carried[c[k]] = true end
  local index = {}
  at = 2
  for k = 1, changes do
    index[k] = c[at]
    names[k] = client_of(keys, keys[9 + c[at]])
    at = at + CHANGE + COUNTER * c[at + 6]
  end
  for from = 1, changes, CHUNK do
    local held = call('HMGET', key, unpack(names, from, min(from + CHUNK - 1, changes)))
    for k = 1, #held do
      local i, other = index[from + k - 1], held[k] and string.match(held[k], '^%d+')
      if other and other ~= lane and not carried[i] then found[#found + 1] = {i - 1, tonumber(other)} end
    end
  end
  return found, names
end

-- The counters that a change names, as they are kept.
local function counters_of(key, c, at, n)
  local texts = {}
  for from = 1, n, CHUNK do
    local names, upto = {}, min(from + CHUNK - 1, n)
    for k = from, upto do names[k - from + 1] = c[at + COUNTER * (k - 1)] end
    local part = call('HMGET', key, unpack(names))
    for k = 1, #part do texts[from + k - 1] = part[k] end
  end
  return texts
end

-- Where a use names each of its counters: its items draw on what a change of the client has made of them.
local function places_of(v, from)
  local places = {}
  if from then
    for j = 1, v[from + 2] do places[v[from + 2 + j]] = j + 2 end
  end
  return places
end

local function any_odd(row, n, signed)
  for j = 3, 2 + n do
    if is_odd(row[j], signed and signed[j]) then return true end
  end
end

-- All changes, in order. Returns what is due (see the reply), and per client the counters to be written that no use
-- names, flat; notes the rest in `balance`, `has`, `drawn` and `odd`, as the items do.
local function change_all(keys, v, starts, c, changes, has, balance, odd, drawn, signed)
  local due, more, at = {}, {}, 2
  for _ = 1, changes do
    local i, delta, n = c[at], c[at + 5], c[at + 6]
    local first, held = at + CHANGE, balance[i]
    local texts = counters_of(keys[9 + i], c, first, n)
    local holds = held >= c[at + 3] and held <= c[at + 4] and fits(held, delta)
    for k = 1, n do
      local from, value = first + COUNTER * (k - 1), kept(texts[k])
      if value < c[from + 1] or value > c[from + 2] or not fits(value, c[from + 3]) then holds = false end
    end
    if holds then
      local flat, changed, from = {}, {}, starts[i]
      local places = places_of(v, from)
      balance[i] = held + delta
      for k = 1, n do
        local place = first + COUNTER * (k - 1)
        local field, value = c[place], kept(texts[k]) + c[place + 3]
        local at_use = places[field]
        if c[place + 3] ~= 0 and at_use then
          has[i][at_use], changed[at_use] = value, true
        elseif c[place + 3] ~= 0 then
          flat[#flat + 1], flat[#flat + 2] = field, value
        end
      end
      more[i], drawn[i] = flat, from and changed
      odd[i] = from and any_odd(has[i], v[from + 2], signed[i])
    else
      local one = {i - 1, -1, fits(held, 0) and held or has[i][2]}
      for k = 1, n do
        local value = kept(texts[k])
        one[3 + k] = fits(value, 0) and value or texts[k]
      end
      due[#due + 1] = one
    end
    at = first + COUNTER * n
  end
  return due, more
end

-- How many half bytes of a key name its group while the generation has so many entries.
local function width_of(entries)
  if entries < 65536 then return 3 end     -- 2^12 groups of up to 16
  if entries < 1048576 then return 4 end   -- 2^16
  if entries < 16777216 then return 5 end  -- 2^20
  return 6
end

local function group_of(key, width)
  if width == 4 then return sub(key, 1, 2) end
  if width == 5 then return sub(key, 1, 2) .. HALF[byte(key, 3)] end
  if width == 3 then return sub(key, 1, 1) .. HALF[byte(key, 2)] end
  return sub(key, 1, 3)
end

-- Where in a group's bytes the entry of a key begins, or nil.
local function entry_at(group, key)
  local at = find(group, key, 1, true)
  while at and at % ENTRY ~= 1 do at = find(group, key, at + 1, true) end
  return at
end

-- A generation as it is; nil if there is none. Of groups: n, overflow (of n), first and present width; of cells: size, 0
-- where there are none yet, the number of the present chunk, its entries so far, kept.
local function generation_of(u_key)
  local has = call('HMGET', u_key, 'n', 'w', 'z', 's', 'e', 'k', 'o')
  local n, first = tonumber(has[1] or 0), tonumber(has[2])
  if not (has[1] or has[3]) then return nil end
  return {
    n = n, overflow = tonumber(has[7] or 0), first = first, width = first and max(first, width_of(n)),
    size = tonumber(has[3] or 0), number = tonumber(has[4] or 1), filled = tonumber(has[5] or 0),
    kept = tonumber(has[6] or 0),
  }
end

-- Of so many keys, which stand in `bytes`, each `step` behind the one before: the numbers that their cells follow from, and
-- the bytes that these tell of them.
local function places_of_cells(bytes, step, count)
  local places, marks, at = {}, {}, 1
  for k = 1, count do
    local a, b, c, d, e = byte(bytes, at, at + 4)
    places[k], marks[k] = a + 256 * b + 65536 * c + 16777216 * d, e
    at = at + step
  end
  return places, marks
end

-- What cells hold. value: what is put there, to which the byte of each key is added; nil: nothing.
local function cells_of(f_key, size, places, marks, value)
  local ask, n, held = {}, 0, {}
  for k = 1, #places do
    ask[n + 2], ask[n + 3] = 'u24', places[k] % size * CELL
    if value then
      ask[n + 1], ask[n + 4] = 'SET', value + marks[k]
      n = n + 4
    else
      ask[n + 1] = 'GET'
      n = n + 3
    end
  end
  for from = 1, n, CHUNK do  -- a multiple of 3 and of 4
    local part = call('BITFIELD', f_key, unpack(ask, from, min(from + CHUNK - 1, n)))
    if n <= CHUNK then return part, ask end
    local before = #held
    for j = 1, #part do held[before + j] = part[j] end
  end
  return held, ask
end

-- Take the cells of keys that are free, for the chunk of this number. As one step: nothing can fail between taking all and
-- putting back what others had. Returns what each held before, or the first of those of this call that ask for the same
-- one put there; which keys may be in the chunk already, or come twice in this call; and how many these are.
local function take_cells(f_key, size, places, marks, number)
  local held, ask = cells_of(f_key, size, places, marks, number * MARK)
  local back, n, first, again, count_again = {}, 0, {}, {}, 0
  for k = 1, #held do
    if held[k] ~= 0 then
      local at = ask[4 * k - 1]
      if held[k] >= number * MARK then
        again[k], count_again = true, count_again + 1
      end
      if not first[at] then
        first[at] = held[k]
        back[n + 1], back[n + 2], back[n + 3], back[n + 4] = 'SET', 'u24', at, held[k]
        n = n + 4
      end
      held[k] = first[at]
    end
  end
  for from = 1, n, CHUNK do call('BITFIELD', f_key, unpack(back, from, min(from + CHUNK - 1, n))) end
  return held, again, count_again
end

-- Of a cell that holds something: the number of the chunk, and the byte of its key.
local function told_by(held)
  local mark = held % MARK
  return (held - mark) / MARK, mark
end

-- How many cells a generation is to have: CELLS_EACH for each key of the one that has most.
local function size_of(own, last)
  local most, size = max(own.n + own.kept, last and last.n + last.kept or 0), CELLS_MIN
  while size < CELLS_EACH * most and size < CELLS_MAX do size = size * 2 end
  return size
end

-- The groups' names of so many keys, which stand in `bytes`, each `step` behind the one before.
local function names_of(bytes, step, count, width)
  local names, at = {}, 1
  if width == 4 then
    for i = 1, count do
      names[i] = sub(bytes, at, at + 1)
      at = at + step
    end
  else
    for i = 1, count do
      names[i] = group_of(sub(bytes, at, at + 2), width)
      at = at + step
    end
  end
  return names
end

-- The groups of these names, false where there is none.
local function groups_of(u_key, names)
  if #names <= CHUNK then return call('HMGET', u_key, unpack(names)) end
  local groups = {}
  for from = 1, #names, CHUNK do
    local part = call('HMGET', u_key, unpack(names, from, min(from + CHUNK - 1, #names)))
    for i = 1, #part do groups[from + i - 1] = part[i] end
  end
  return groups
end

-- Groups that are added to: name and group of each place, false where there is none yet; place: of names that come twice
-- the first one's. changed: places that were added to. read: name -> group of those that were read before.
local function open_groups(u_key, names, read)
  local place, index = {}, {}
  for i = 1, #names do
    local name = names[i]
    local first = index[name]
    if not first then
      first, index[name] = i, i
    end
    place[i] = first
  end
  local groups = {}
  for i = 1, #names do
    groups[i] = read[names[i]]
    if groups[i] == nil then
      groups = groups_of(u_key, names)
      break
    end
  end
  return {place = place, name = names, group = groups, changed = {}}
end

-- Add the entry of the i-th name.
local function add_entry(own, i, entry)
  local at = own.place[i]
  local group = own.group[at]
  own.group[at], own.changed[at] = group and group .. entry or entry, true
end

-- Add to `known` what may hold the keys of items, by item: entries of calls that their cells tell of, and groups.
local function read_entries(u_key, generation, digests, items, held, known)
  local asked, calls = {}, {}
  for k = 1, held and items or 0 do
    if held[k] ~= 0 then
      local at, number, mark = DIGESTS * (k - 1) + 1, told_by(held[k])
      if mark == byte(digests, at + 4) or mark == byte(digests, at + ENTRY + 4) then
        calls[number] = calls[number] or call('HGET', u_key, 'chunk:' .. number) or ''
        known[k] = {calls[number]}
      end
      asked[#asked + 1] = k
    end
  end
  if generation.n > generation.overflow then
    for k = 1, items do asked[k] = k end
  end
  if generation.n == 0 or #asked == 0 then return end
  for width = generation.first, generation.width do
    local names = {}
    for j = 1, #asked do
      local at = DIGESTS * (asked[j] - 1) + 1
      names[j] = group_of(sub(digests, at, at + 2), width)
    end
    local groups = groups_of(u_key, names)
    generation.read = {}
    for j = 1, #asked do
      local k = asked[j]
      generation.read[names[j]] = groups[j]
      if groups[j] then
        known[k] = known[k] or {}
        known[k][#known[k] + 1] = groups[j]
      end
    end
  end
end

-- What is needed to tell whether the keys of items are known, and to add them. Returns the lane's own generation with
-- `held`, what its cells hold, `again`, the items whose keys may be among those of this call, `mine`, the keys of this call where more than a FEW may come again; and for each of the three generations, by
-- item, what may hold its keys.
local function read_known(keys, digests, items)
  if items == 0 then return nil, {} end
  local own, last, next = generation_of(keys[4]), generation_of(keys[5]), generation_of(keys[6])
  own = own or {n = 0, overflow = 0, size = 0, number = 1, filled = 0, kept = 0}
  if not own.first then
    own.first = last and last.width or width_of(0)
    own.width = own.first
  end
  local known = {{}, {}, {}}
  if own.size == 0 then own.size = size_of(own, last) end
  local places, marks = places_of_cells(digests, DIGESTS, items)
  local count
  own.held, own.again, count = take_cells(keys[7], own.size, places, marks, own.number)
  if count > FEW then own.mine = {} end
  read_entries(keys[4], own, digests, items, own.held, known[1])
  for g, of in ipairs({last or false, next or false}) do
    if of then
      local held = of.size > 0 and cells_of(keys[7 + g], of.size, places)
      read_entries(keys[4 + g], of, digests, items, held, known[1 + g])
    end
  end
  own.taken, own.others = {}, {}
  return own, known
end

-- The content under which a key stands in one of these strings.
local function content_in(texts, key)
  for t = 1, texts and #texts or 0 do
    local at = entry_at(texts[t], key)
    if at then return sub(texts[t], at + KEY, at + ENTRY - 1) end
  end
end

-- The content of a key among those that this call is to add.
local function content_of_mine(own, key)
  if own.mine then return own.mine[key] end
  for _, list in ipairs({own.taken, own.others}) do
    for i = 1, #list do
      if find(list[i], key, 1, true) == 1 then return sub(list[i], KEY + 1) end
    end
  end
end

-- The content under which the k-th key, which begins at `at`, or else its older one is known.
local function content_at(own, known, k, digests, at)
  local key, older = sub(digests, at, at + KEY - 1), sub(digests, at + ENTRY, at + DIGESTS - 1)
  local again = own.again[k]
  return content_in(known[1][k], key) or again and content_of_mine(own, key)
    or content_in(known[1][k], older) or again and content_of_mine(own, older)
    or content_in(known[2][k], key) or content_in(known[2][k], older)
    or content_in(known[3][k], key) or content_in(known[3][k], older)
end

-- Note the entry of the k-th key as one to be added.
local function add_key(own, k, entry)
  local held = own.held[k]
  -- A cell that holds what we put there does for us: of a call that came to nothing, or of a key with the same byte. When
  -- no chunk is left cells are taken all the same, so that they say whose keys may be in a group.
  if own.number < CHUNKS and (held == 0 or told_by(held) == own.number and held % MARK == byte(entry, 5)) then
    own.taken[#own.taken + 1] = entry
  else
    own.others[#own.others + 1] = entry
  end
  if own.mine then own.mine[sub(entry, 1, KEY)] = sub(entry, KEY + 1) end
end

-- One item's volume limits. Writes its takes into `out` from `n` on and returns: the new n, the overage, whether the
-- setup fee is waived, and where the money limits begin: position in v, index; the group chosen so far.
-- p .. stop - 1: the candidates in v; row: the client's counters; funded: balance + credit limit >= 0; group: where that
-- is known before.
local function take_volumes(v, p, stop, row, funded, need, out, n, group)
  local waived, index, given = false, 0, 0  -- given: what the candidate before took
  while p < stop do
    local code = v[p + 2]
    local flags = code % 32
    if flags % 2 == 1 then break end
    local rest, before = v[p + 1] - row[v[p]], given
    given = 0
    if rest > 0 and (group == code - flags or (not group and (funded or flags % 8 < 4))) then
      group = code - flags
      local cap = flags >= 8 and v[p + 3] or rest
      if cap < 0 then cap = 0 - cap - before end
      local taken = min(need, rest, cap)
      if taken > 0 then
        given = taken
        out[n + 1], out[n + 2], out[n + 3], out[n + 4] = index, taken, rest - taken, 0
        n, need = n + 4, need - taken
        waived = waived or flags % 4 >= 2
      end
    end
    p, index = p + (flags >= 8 and 4 or 3), index + 1
  end
  return n, need, waived, p, index, group
end

-- One item's money limits, for an unsigned cost. Returns the new n and what of the cost is not covered.
local function take_money(v, p, stop, row, funded, cost, out, n, index, group)
  while p < stop do
    local code, slot, size = v[p + 2], v[p], v[p + 1]
    local flags = code % 32
    local rest = size - row[slot]
    local most, conversion = rest, nil
    p = p + 3
    if flags % 16 >= 8 then
      most, p = min(rest, v[p]), p + 1
    end
    if flags >= 16 then
      conversion, p = p, p + 4
    end
    if rest > 0 and (group == code - flags or (not group and (funded or flags % 8 < 4))) then
      group = code - flags
      local need = cost
      if conversion then
        local d = v[conversion + 1]
        need = value_at(v[conversion], type(d) == 'table' and {1, 0} or 0, d, cost)
      end
      if need <= most then
        if need > 0 then
          out[n + 1], out[n + 2], out[n + 3], out[n + 4] = index, need, rest - need, cost
          n = n + 4
        end
        return n, 0
      end
      local worth = most
      if conversion then
        local d = v[conversion + 3]
        worth = value_at(v[conversion + 2], type(d) == 'table' and {1, 0} or 0, d, most)
      end
      local covered = min(cost, worth)
      out[n + 1], out[n + 2], out[n + 3], out[n + 4] = index, most, rest - most, covered
      n, cost = n + 4, cost - covered
      if cost == 0 then return n, 0 end
    end
    index = index + 1
  end
  return n, cost
end

-- One item: which limits it draws and what is charged. Writes takes from out[n + 1] on. Returns the new n, the
-- amount, or no amount when it is out of range, and the overage. at: the item in v; stop: after its candidates; chosen: the
-- group that is drawn from, where that is known before.
local function draw_item(v, at, stop, row, funded, out, n, chosen)
  local billed, a, s, d = v[at + 2], v[at + 3], v[at + 4], v[at + 5]
  if at + 6 == stop then
    return n, value_at(a, s, d, billed), billed
  end
  local need, waived, p, index, group
  n, need, waived, p, index, group = take_volumes(v, at + 6, stop, row, funded, billed, out, n, chosen)
  local cost = value_at(a, waived and (type(d) == 'table' and {1, 0} or 0) or s, d, need)
  if cost > LIMIT or cost < -LIMIT then return n end
  if p < stop and cost ~= 0 then
    local full = cost
    if waived or need ~= billed then full = value_at(a, s, d, billed) end
    if cost > 0 and full > 0 then
      n, cost = take_money(v, p, stop, row, funded, cost, out, n, index, group)
    elseif cost < 0 and full < 0 then
      n, cost = take_money(v, p, stop, row, funded, 0 - cost, out, n, index, group)
      cost = 0 - cost
    end
  end
  return n, cost, need
end

-- Of an item with fees: the group that is drawn from, nil for none; where in c the fee stands that its first draw brings,
-- and its index from 1, nil where that was charged before; and whether fees are covered: 0 not told, 1 no, 2 yes. at: the
-- number of fees in c; held: the balance.
local function choose(v, p, stop, row, funded, credit, held, c, at)
  local passed, covered = {}, 0
  while p < stop do
    local code = v[p + 2]
    local flags = code % 32
    local group = code - flags
    if v[p + 1] > row[v[p]] and (funded or flags % 8 < 4) and not passed[group] then
      local fee, index
      for k = 1, c[at] do
        local one = at + 1 + FEE * (k - 1)
        if c[one] == group and row[c[one + 1]] == 0 then fee, index = one, k end
      end
      local deny = fee and c[fee + 4] == 1
      local amount = deny and c[fee + 3] or 0
      -- A balance below -2^53 is below any credit limit; else the first sum is exact, and the second's sign is right.
      if amount < 0 and (not fits(held, amount) or held + amount + credit < 0) then
        passed[group], covered = true, 1
      else
        if deny and covered == 0 then covered = 2 end
        return group, fee, index, covered
      end
    end
    p = p + 3 + (flags % 16 >= 8 and 1 or 0) + (flags >= 16 and 4 or 0)
  end
  return nil, nil, nil, covered
end

-- One item with fees, as draw_item; returns besides what is told of fees (index from 1, its amount, covered), nil for
-- nothing, and where in c the charged one stands, nil for none.
local function draw_with_fees(v, at, stop, row, funded, out, n, c, fees, credit, held)
  local group, fee, index, covered = choose(v, at + 6, stop, row, funded, credit, held, c, fees)
  local last, amount, over = draw_item(v, at, group and stop or at + 6, row, funded, out, n, group)
  if fee and last > n then
    local slot, net, gross = c[fee + 1], c[fee + 2], c[fee + 3]
    if not (fits(held, gross) and fits(row[slot], 1) and fits(row[slot + 1], net) and fits(row[slot + 2], gross)) then
      amount = nil
    end
    return last, amount, over, {index, gross, covered}, fee
  end
  return last, amount, over, covered > 0 and {0, 0, covered} or nil
end

-- Charge the fee at c[fee] to a client's counters.
local function note_fee(c, fee, row, changed)
  local slot = c[fee + 1]
  row[slot], row[slot + 1], row[slot + 2] = row[slot] + 1, row[slot + 1] + c[fee + 2], row[slot + 2] + c[fee + 3]
  changed[slot], changed[slot + 1], changed[slot + 2] = true, true, true
end

-- Put what is told besides (-1: of fees, -2: of the client's mark) before the takes in out[from .. last]; returns the
-- new last.
local function put_told(out, from, last, of, first, second, third)
  for k = last, from, -1 do out[k + 4] = out[k] end
  out[from], out[from + 1], out[from + 2], out[from + 3] = of, first, second, third
  return last + 4
end

-- Add the takes in out[from .. last] to the counters in `row`; at: where the item's candidates begin in v.
local function note_takes(v, at, row, out, from, last, changed)
  for t = from, last, 4 do
    local c = at
    for _ = 1, out[t] do  -- the position of candidate out[t]; nearly always the first or second
      local code = v[c + 2] % 32
      c = c + 3 + (code % 16 >= 8 and 1 or 0) + (code >= 16 and 4 or 0)
    end
    local slot = v[c]
    row[slot] = row[slot] + out[t + 1]
    changed[slot] = true
  end
end

-- Put the items that woke their clients before the n - 1 numbers of results that follow the head.
local function put_woken(out, n, woken)
  local head = #woken
  for k = n, 2, -1 do out[k + head] = out[k] end
  for k = 1, head do out[1 + k] = woken[k] end
  out[1] = head
end

-- All items, in order. Returns the packed results, how many keys have to be remembered (they are added to `own`), the
-- list of those that need more candidates, and what is due before items; notes in `drawn` which
-- counters of which client have changed. c[wakes + i]: the balance that client i waits for; fees: item -> where in c;
-- marks: of uses, nil for none.
local function draw_all(v, at, items, starts, has, balance, odd, drawn, digests, own, known_by, c, wakes, fees, marks)
  local out, n, before, more, woken, rose, due = {0}, 1, {}, {}, {}, {}, {}
  local fresh, digest = 0, 1
  local first, second, third, again = known_by[1], known_by[2], known_by[3], own and own.again
  for k = 1, items do
    local i, head = v[at] + 1, v[at + 1]
    local cut = i < 1
    if cut then i = 1 - i end
    local flags = head % 4
    local stop = at + 6 + (head - flags) / 4
    local held = balance[i]
    if rose[i] then
      due[#due + 1] = {i - 1, k - 1, held}
      rose[i] = nil
    end
    if flags % 2 == 0 or not before[i] then before[i] = held end
    local known
    if again[k] or first[k] or second[k] or third[k] then known = content_at(own, known_by, k, digests, digest) end
    if known then
      n = n + 1
      out[n] = known == sub(digests, digest + KEY, digest + ENTRY - 1) and DUPLICATE or DIFFERS
    else
      local credit, asked = v[starts[i] + 1], fees and fees[k]
      local funded = before[i] + credit >= 0
      out[n + 1], out[n + 2] = RATED, 0  -- no hole: the table stays an array
      local last, amount, over, told, fee = n + 2, nil, nil, nil, nil
      if asked and at + 6 < stop and not odd[i] then
        last, amount, over, told, fee =
          draw_with_fees(v, at, stop, has[i], funded, out, n + 2, c, asked, credit, held)
      elseif not odd[i] or at + 6 == stop then
        last, amount, over = draw_item(v, at, stop, has[i], funded, out, n + 2)
      end
      if cut and (amount ~= 0 or over ~= 0 or not fits(held, 0)) then more[#more + 1] = k - 1 end
      local owed = fee and held + c[fee + 3] or held
      if amount and amount <= LIMIT and amount >= -LIMIT and fits(owed, amount) then
        if last > n + 2 then
          if not drawn[i] then drawn[i] = {} end
          note_takes(v, at + 6, has[i], out, n + 3, last, drawn[i])
        end
        if fee then note_fee(c, fee, has[i], drawn[i]) end
        if told then last = put_told(out, n + 3, last, -1, told[1], told[2], told[3]) end
        local mark, low = marks and marks[i], nil
        if mark then low = owed + amount < mark end
        if mark and low ~= (held < mark) then last = put_told(out, n + 3, last, -2, low and 2 or 1, 0, 0) end
        out[n + 1] = RATED + (flags >= 2 and (funded and 8 or 4) or 0) + 4 * (last - n - 2)
        out[n + 2] = amount
        n = last
        balance[i] = owed + amount
        local wake = c and c[wakes + i]
        if c and balance[i] > held and balance[i] >= wake and (held < wake or wake < -LIMIT) then
          rose[i] = true
          woken[#woken + 1] = k - 1
        end
        add_key(own, k, sub(digests, digest, digest + ENTRY - 1))
        fresh = fresh + 1
      else
        for t = last, n + 2, -1 do out[t] = nil end
        n = n + 1
        out[n] = OUT_OF_RANGE
      end
    end
    at, digest = stop, digest + DIGESTS
  end
  if #woken > 0 then put_woken(out, n, woken) end
  return cmsgpack.pack(out), fresh, more, due
end

-- HSET of a flat list of any length.
local function set_all(key, flat)
  for from = 1, #flat, CHUNK do
    call('HSET', key, unpack(flat, from, min(from + CHUNK - 1, #flat)))
  end
end

-- Write the groups that were added to, how many their entries are, and what else is told, a flat list.
local function write_groups(u_key, own, groups, flat)
  local n, name, group, changed = #flat, groups.name, groups.group, groups.changed
  flat[n + 1], flat[n + 2], flat[n + 3], flat[n + 4] = 'n', own.n, 'w', own.first
  n = n + 4
  for at = 1, #name do
    if changed[at] then
      flat[n + 1], flat[n + 2] = name[at], group[at]
      n = n + 2
    end
  end
  set_all(u_key, flat)
end

-- Add the entries of a call: those that have a cell to the present chunk, the others to groups. How many cells there are is
-- noted in any case: else the next call could look for what stands in groups by cells of another number.
local function remember(u_key, own)
  local flat, count, taken = {'z', own.size}, #own.others, #own.taken
  if taken > 0 then
    local name, chunk, filled = 'chunk:' .. own.number, table.concat(own.taken), own.filled + taken
    if own.filled > 0 then chunk = (call('HGET', u_key, name) or '') .. chunk end
    local number = own.number
    if filled >= FILLED then number, filled = number + 1, 0 end
    flat = {'z', own.size, name, chunk, 's', number, 'e', filled, 'k', own.kept + taken}
  end
  if count == 0 then return set_all(u_key, flat) end
  own.n, flat[#flat + 1], flat[#flat + 2] = own.n + count, 'o', own.overflow + count
  local groups = open_groups(u_key, names_of(table.concat(own.others), ENTRY, count, own.width), own.read or {})
  for i = 1, count do add_entry(groups, i, own.others[i]) end
  write_groups(u_key, own, groups, flat)
end

local function lower(bucket_key, field, number)
  local lowest = tonumber(call('HGET', bucket_key, field))
  if not lowest or number < lowest then call('HSET', bucket_key, field, number) end
end

local function raise_time(bucket_key, lane, ms)
  if ms > (tonumber(call('HGET', bucket_key, 't:' .. lane)) or 0) then
    call('HSET', bucket_key, 't:' .. lane, ms)
  end
end

local function index_account(key, account, client)
  if client == '' then call('HDEL', key, account) else call('HSET', key, account, client) end
end

-- WRITE of a draw: versions, balances and counters that changed. more: of a changed client, counters of no use.
local function write_clients(keys, v, starts, clients, has, version, balance, was, more, drawn)
  for i = 1, clients do
    local row, flat, n, changed = has[i], more[i] or {}, 0, drawn[i]
    n = #flat
    if more[i] then flat[n + 1], flat[n + 2], n = 'v', version[i], n + 2 end
    if more[i] or balance[i] ~= was[i] then
      flat[n + 1], flat[n + 2] = 'b', balance[i]
      n = n + 2
    end
    if changed then
      local from = starts[i]
      for j = 1, v[from + 2] do
        if changed[2 + j] then
          flat[n + 1], flat[n + 2] = v[from + 2 + j], row[2 + j]
          n = n + 2
        end
      end
    end
    if n > 0 then set_all(keys[9 + i], flat) end
  end
end

-- Hints {key of d, element} and members {key of p, client}, at list[from .. last].
local function push_hints(keys, argv, list, from, last)
  for k = from, last, 2 do call('RPUSH', keys[list[k]], argv[list[k + 1]]) end
end

local function push_members(keys, list, from, last)
  for k = from, last, 2 do call('RPUSH', keys[list[k]], list[k + 1]) end
end

-- WRITE of what changes say besides sums and registers: the lists from c[at] on.
local function write_lists(keys, argv, c, at)
  local lowest = behind(c, at)
  local history = behind(c, lowest + 1)
  push_hints(keys, argv, c, at + 1, lowest - 1)
  if c[lowest] then lower(keys[1], 'due_min', c[lowest]) end
  push_members(keys, c, lowest + 2, history - 1)
  for k = history + 1, history + c[history], 3 do call('HSET', keys[c[k]], c[k + 1], argv[c[k + 2]]) end
end

-- Let go of the clients that a call changed, unless another call has changed them since.
local function settle_clients(key, w_key, lane, number)
  local packed, who = call('HGET', key, number .. 'w'), lane .. ':' .. number
  local names = packed and cmsgpack.unpack(packed) or {}
  for from = 1, #names, CHUNK do
    local held, gone = call('HMGET', w_key, unpack(names, from, min(from + CHUNK - 1, #names))), {}
    for k = 1, #held do
      if held[k] == who then gone[#gone + 1] = names[from + k - 1] end
    end
    if #gone > 0 then call('HDEL', w_key, unpack(gone)) end
  end
end

-- Keep with an outcome the clients that its call changed.
local function keep_clients(key, w_key, lane, number, names)
  local flat, who = {}, lane .. ':' .. number
  for k = 1, #names do flat[2 * k - 1], flat[2 * k] = names[k], who end
  set_all(w_key, flat)
  call('HSET', key, number .. 'w', cmsgpack.pack(names))
end

-- Those of the clients that no other lane has changed since.
local function own_clients(w_key, lane, names)
  local mine = {}
  for _, client in ipairs(names) do
    local who = call('HGET', w_key, client)
    if not who or string.match(who, '^%d+') == lane then mine[#mine + 1] = client end
  end
  return mine
end

-- Drop the outcomes of calls up to `last`.
local function trim_outcomes(key, last, w_key, lane)
  local gone, n = {}, 0
  for _, field in ipairs(call('HKEYS', key)) do
    if tonumber(string.sub(field, 1, -2)) <= last then
      n = n + 1
      gone[n] = field
      if w_key and string.sub(field, -1) == 'w' then settle_clients(key, w_key, lane, string.sub(field, 1, -2)) end
    end
  end
  for from = 1, n, CHUNK do call('HDEL', key, unpack(gone, from, min(from + CHUNK - 1, n))) end
end

local function draw(keys, argv, changing)
  local lane, number = argv[1], tonumber(argv[3])
  local status, expected, journaled = gate(keys[1], keys[2], lane, tonumber(argv[2]), number)
  if status ~= OK then return {status, expected} end
  local v = cmsgpack.unpack(argv[4])
  local clients, uses, changes, accounts, items = v[6], v[7], v[8], v[9], v[10]
  local c = changing and cmsgpack.unpack(argv[7])
  local starts, at = {}, 11
  for i = 1, uses do
    starts[i] = at
    at = at + 3 + v[at + 2]
  end
  local fees, signed, stop, marks
  if changing then
    fees, signed, stop = read_fees(c, uses)
    marks = read_marks(c, stop)
  end
  local has, version, balance, odd, was = read_clients(keys, v, 11, uses, clients, signed)
  local stale = stale_clients(v, starts, uses, clients, c, changes, version)
  if not stale then return {LOST, expected} end
  if #stale > 0 then return {STALE, expected, stale} end
  local unsettled, names
  if changing then
    unsettled, names = unsettled_of(keys, c, behind(c, stop), changes, lane)
    if #unsettled > 0 then return {UNSETTLED, expected, unsettled} end
  end
  local drawn = {}
  local due, more = change_all(keys, v, starts, c, changes, has, balance, odd, drawn, signed)
  if #due > 0 then return {DUE, expected, due} end
  local entries = at
  at = at + 2 * accounts
  local own, known = read_known(keys, argv[5], items)
  local packed, fresh, cut
  packed, fresh, cut, due =
    draw_all(v, at, items, starts, has, balance, odd, drawn, argv[5], own, known, c, c and c[1] - 1, fees, marks)
  if #due > 0 then return {DUE, expected, due} end
  if #cut > 0 then return {MORE, expected, cut} end
  -- WRITE
  for k = 1, changes do call('SET', keys[9 + clients + k], argv[7 + k]) end
  if changing then write_lists(keys, argv, c, c[1] + uses) end
  write_clients(keys, v, starts, clients, has, version, balance, was, more, drawn)
  for k = 1, accounts do
    index_account(keys[9 + clients + changes + k], v[entries + 2 * k - 2], v[entries + 2 * k - 1])
  end
  if fresh > 0 then
    remember(keys[4], own)
    lower(keys[1], 'gen_min', v[2])
  end
  if v[3] > 0 then trim_outcomes(keys[3], min(v[3], number - 1), unsettled_key(keys), lane) end
  if v[5] == 1 then
    call('HSET', keys[3], argv[3] .. 'c', argv[6], argv[3] .. 'r', packed)
    if names and #names > 0 then keep_clients(keys[3], unsettled_key(keys), lane, argv[3], names) end
  end
  raise_time(keys[1], lane, v[1])
  local journal = max(journaled, v[4])
  call('HSET', keys[2], 'call', expected + 1, 'floor', journal, 'base', journal)
  return {OK, expected + 1, packed}
end

local function change(keys, argv) return draw(keys, argv, true) end

------------------------------------------------------------------------------------------------------ taking a lane
-- The commands of all WRITE phases.
local WRITES = {{'SET', ''}, {'HSET', '', ''}, {'HDEL', ''}, {'HINCRBY', '', ''}, {'UNLINK'}, {'RPUSH', ''}, {'BITFIELD'}}

local function lacking(key)
  for _, command in ipairs(WRITES) do
    if not redis.acl_check_cmd(command[1], key, unpack(command, 2)) then return command[1] end
  end
end

-- rater_v4_fence: make a token the lane's owner. A repeat with the same token is harmless.
-- KEYS 1 g | 2 l:LANE | 3 o:LANE      ARGV 1 lane | 2 token
-- Reply status, call, and: OK: floor, base, lane time, {field, value of o:LANE ...}, the token before
-- Holds a user who lacks a right is refused here, for later a WRITE phase would stop half-way.
local function fence(keys, argv)
  local right = lacking(keys[2])
  if right then return redis.error_reply('NOPERM the user may not ' .. right .. ' on ' .. keys[2]) end
  local own = call('HMGET', keys[2], 'token', 'call', 'floor', 'base')
  local expected = tonumber(own[2]) or 0
  if tonumber(argv[2]) < (tonumber(own[1]) or -1) then return {FENCED, expected} end
  local time = tonumber(call('HGET', keys[1], 't:' .. argv[1])) or 0
  local outcomes = call('HGETALL', keys[3])
  call('HSET', keys[2], 'token', argv[2], 'call', expected + 1)
  return {OK, expected + 1, tonumber(own[3]) or 0, tonumber(own[4]) or 0, time, outcomes, tonumber(own[1]) or -1}
end

-- The first sum that is no integer or would come near the end of 64 bits, nil if there is none.
local function unsafe_sum(keys, sums)
  for k = 1, #sums, 3 do
    local text = call('HGET', keys[sums[k]], sums[k + 1])
    local held, delta = tonumber(text or 0), tonumber(sums[k + 2])
    local size = held and delta and max(held, -held) + max(delta, -delta)
    if not size or size > SUM_MAX then return sums[k + 1] .. ' of ' .. keys[sums[k]] end
  end
end

-- rater_v4_reconcile: add corrections. The gate is not asked: this is what opens it.
-- KEYS 1 g | 2 l:LANE | 3 o:LANE | then those that the payload points at, by index | m, which is never there
-- ARGV 1 lane | 2 token | 3 call | 4 payload, msgpack list of
--      floor, final (1 | 0), lane_ms, calls whose outcomes are dropped (as text),
--      sums {key of c, field, delta as text}, registers {key of c, key of r, version, register},
--      forget {key of u, of f, digest}, duplicates {key of u, of f, digest, content}, lowest generation of these | false,
--      accounts {key of a, account, client}, pending {call as text, context, results}, hints {key of d, element}, lowest
--      hour of these | false, members {key of p, client}, history {key of h, version, field, row}, copies {key of k,
--      identity, change}, {key of w, clients whose changes are among the pending ...}; each list flat, with bytes as
--      their index in ARGV | 5.. those bytes
-- Reply status, call
-- Holds sums beyond 2^53 stay exact, for HINCRBY adds text in 64 bits; one that would come near their end is an error,
--       and nothing is changed.

-- The entries that cells tell of keys, by key: {field, entries, where}, nothing where there is none.
local function told_of(u_key, f_key, generation, bytes, count)
  local found, calls = {}, {}
  if generation.size == 0 then return found end
  for k, held in ipairs((cells_of(f_key, generation.size, (places_of_cells(bytes, KEY, count))))) do
    local number, mark = told_by(held)
    local at = KEY * (k - 1) + 1
    if number > 0 and mark == byte(bytes, at + 4) then
      local field = 'chunk:' .. number
      calls[field] = calls[field] or call('HGET', u_key, field) or ''
      local where = entry_at(calls[field], sub(bytes, at, at + KEY - 1))
      found[k] = where and {field, calls[field], where}
    end
  end
  return found
end

-- Take an entry out of whichever strings have it; counts stay, for they say which widths were used, and its cell, for it
-- says that its key may be in a group.
local function forget_entry(u_key, f_key, key)
  local generation = generation_of(u_key)
  if not generation then return end
  local function take(name, text, at)
    text = sub(text, 1, at - 1) .. sub(text, at + ENTRY)
    if text == '' then call('HDEL', u_key, name) else call('HSET', u_key, name, text) end
  end
  local told = told_of(u_key, f_key, generation, key, 1)[1]
  if told then take(told[1], told[2], told[3]) end
  if generation.n == 0 then return end
  for width = generation.first, generation.width do
    local name = group_of(key, width)
    local group = call('HGET', u_key, name)
    local at = group and entry_at(group, key)
    if at then take(name, group, at) end
  end
end

-- duplicates: as in the payload. Of what comes twice, or is there with other content, the last one holds.
local function remember_all(keys, argv, duplicates)
  local from = 1
  while from <= #duplicates do
    local u_key, f_key, key, fresh = keys[duplicates[from]], keys[duplicates[from + 1]], {}, {}
    local entry, seen, stop = {}, {}, from
    while duplicates[stop] == duplicates[from] do  -- nearly always all of them
      local one = argv[duplicates[stop + 2]]
      if not seen[one] then
        seen[one] = #key + 1
        key[#key + 1] = one
      end
      entry[seen[one]] = one .. argv[duplicates[stop + 3]]
      stop = stop + 4
    end
    local known, keys_of = {}, table.concat(key)
    local generation = generation_of(u_key) or {n = 0, size = 0}
    generation.first = generation.first or width_of(0)
    generation.width = generation.width or generation.first
    for k, told in pairs(told_of(u_key, f_key, generation, keys_of, #key)) do
      known[k] = sub(told[2], told[3] + KEY, told[3] + ENTRY - 1)
    end
    for width = generation.first, generation.n > 0 and generation.width or 0 do
      local groups = groups_of(u_key, names_of(keys_of, KEY, #key, width))
      for i = 1, #key do
        local at = groups[i] and entry_at(groups[i], key[i])
        if at then known[i] = sub(groups[i], at + KEY, at + ENTRY - 1) end
      end
    end
    for i = 1, #key do
      if known[i] ~= sub(entry[i], KEY + 1) then
        if known[i] then forget_entry(u_key, f_key, key[i]) end
        fresh[#fresh + 1] = i
      end
    end
    if #fresh > 0 then
      local groups = open_groups(u_key, names_of(keys_of, KEY, #key, generation.width), {})
      for f = 1, #fresh do add_entry(groups, fresh[f], entry[fresh[f]]) end
      generation.n = generation.n + #fresh
      write_groups(u_key, generation, groups, {})
    end
    from = stop
  end
end

local function reconcile_lists(keys, argv, lists)
  local sums, registers, forget, duplicates, accounts = lists[5], lists[6], lists[7], lists[8], lists[10]
  for k = 1, #sums, 3 do call('HINCRBY', keys[sums[k]], sums[k + 1], sums[k + 2]) end
  for k = 1, #registers, 4 do
    local client_key, version = keys[registers[k]], registers[k + 2]
    local stored = tonumber(call('HGET', client_key, 'v'))
    if not stored or version >= stored then
      call('HSET', client_key, 'v', version)
      call('SET', keys[registers[k + 1]], argv[registers[k + 3]])
    end
  end
  for k = 1, #forget, 3 do forget_entry(keys[forget[k]], keys[forget[k + 1]], argv[forget[k + 2]]) end
  remember_all(keys, argv, duplicates)
  if lists[9] then lower(keys[1], 'gen_min', lists[9]) end
  for k = 1, #accounts, 3 do index_account(keys[accounts[k]], accounts[k + 1], accounts[k + 2]) end
  push_hints(keys, argv, lists[12], 1, #lists[12])
  if lists[13] then lower(keys[1], 'due_min', lists[13]) end
  push_members(keys, lists[14], 1, #lists[14])
  local history = lists[15]
  for k = 1, #history, 4 do
    local stored = call('HGET', keys[history[k]], history[k + 2])
    if not stored or history[k + 1] >= tonumber(string.match(stored, '^%d+')) then
      call('HSET', keys[history[k]], history[k + 2], argv[history[k + 3]])
    end
  end
  local copies = lists[16] or {}
  for k = 1, #copies, 3 do call('HSET', keys[copies[k]], copies[k + 1], argv[copies[k + 2]]) end
end

local function reconcile(keys, argv)
  local status, expected, journaled = guard(keys[2], tonumber(argv[2]), tonumber(argv[3]))
  if status ~= OK then return {status, expected} end
  local lists = cmsgpack.unpack(argv[4])
  local unsafe = unsafe_sum(keys, lists[5])
  if unsafe then return redis.error_reply('RATER_SUM the sum in ' .. unsafe .. ' would leave 64 bits') end
  -- WRITE
  reconcile_lists(keys, argv, lists)
  local changed = lists[17]
  local w_key = changed and keys[table.remove(changed, 1)]
  for _, number in ipairs(lists[4]) do
    if w_key then settle_clients(keys[3], w_key, argv[1], number) end
    call('HDEL', keys[3], number .. 'c', number .. 'r', number .. 'w')
  end
  local pending = lists[11]
  for k = 1, #pending, 3 do
    call('HSET', keys[3], pending[k] .. 'c', argv[pending[k + 1]], pending[k] .. 'r', argv[pending[k + 2]])
  end
  if w_key then
    local mine = own_clients(w_key, argv[1], changed)
    if #mine > 0 then keep_clients(keys[3], w_key, argv[1], argv[3], mine) end
  end
  raise_time(keys[1], argv[1], lists[3])
  local journal = max(journaled, lists[1])
  call('HSET', keys[2], 'call', expected + 1, 'floor', journal)
  if lists[2] == 1 then call('HSET', keys[2], 'base', journal) end
  return {OK, expected + 1}
end

-- rater_v4_register: note that the lane agrees with this run of the server; the last of all lanes opens the gate.
-- KEYS 1 g | 2 l:LANE      ARGV 1 lane | 2 token | 3 call | 4 lanes      Reply status, call
local function register(keys, argv)
  local status, expected = guard(keys[2], tonumber(argv[2]), tonumber(argv[3]))
  if status ~= OK then return {status, expected} end
  local run, all = run_id(), true
  call('HDEL', keys[1], 'open', 'r:' .. argv[1], 'opened', 'run:' .. argv[1], 'agreed', 'in:' .. argv[1])
  call('HSET', keys[1], 'at:' .. argv[1], run)
  for lane = 0, tonumber(argv[4]) - 1 do
    if call('HGET', keys[1], 'at:' .. lane) ~= run then
      all = false
      break
    end
  end
  if all then call('HSET', keys[1], 'joined', run) end
  call('HSET', keys[2], 'call', expected + 1)
  return {OK, expected + 1}
end

---------------------------------------------------------------------------------------------------- beside the line
-- rater_v4_views (no writes): client registers, balances and account index entries.
-- KEYS 1 g | 2 l:LANE | then r:CLIENT ... | then c:CLIENT ... | then a:SHARD of each account
-- ARGV 1 lane | 2 token | 3 call | 4 number of clients | 5.. accounts
-- Reply status, call, and: OK: a register | nil for each client, then a balance as text | nil for each, then a client |
--       nil for each account
local function views(keys, argv)
  local status, expected = gate(keys[1], keys[2], argv[1], tonumber(argv[2]), tonumber(argv[3]))
  local reply = {status, expected}
  if status ~= OK then return reply end
  local clients = tonumber(argv[4])
  for from = 1, clients, CHUNK do
    local part = call('MGET', unpack(keys, 2 + from, 2 + min(from + CHUNK - 1, clients)))
    for j = 1, #part do reply[1 + from + j] = part[j] end
  end
  for k = 1, clients do reply[2 + clients + k] = call('HGET', keys[2 + clients + k], 'b') end
  clients = clients * 2
  for k = 1, #argv - 4 do reply[2 + clients + k] = call('HGET', keys[2 + clients + k], argv[4 + k]) end
  return reply
end

-- rater_v4_probe (no writes): whether a draw would be heard.
-- KEYS 1 g | 2 l:LANE      ARGV 1 lane | 2 token | 3 call      Reply status, call
local function probe(keys, argv)
  local status, expected = gate(keys[1], keys[2], argv[1], tonumber(argv[2]), tonumber(argv[3]))
  return {status, expected}
end

-- rater_v4_due (no writes): hints that are not known yet.
-- KEYS 1 g | 2 l:LANE | then d:HOUR for HOUR = first, first + 1, ...
-- ARGV 1 lane | 2 token | 3 call | 4 most hints to bring | 5.. how many of each hour are known
-- Reply status, call, and: OK: how many there are in all | index from 0 of an hour, {its hints that are not known} | ...
local function due(keys, argv)
  local status, expected = gate(keys[1], keys[2], argv[1], tonumber(argv[2]), tonumber(argv[3]))
  if status ~= OK then return {status, expected} end
  local reply, room, total = {status, expected, 0}, tonumber(argv[4]), 0
  for k = 3, #keys do
    local length, known = call('LLEN', keys[k]), tonumber(argv[k + 2])
    total = total + length
    local count = min(length - known, room)
    if count > 0 then
      reply[#reply + 1], reply[#reply + 2] = k - 3, call('LRANGE', keys[k], known, known + count - 1)
      room = room - count
    end
  end
  reply[3] = total
  return reply
end

-- rater_v4_drop_due: drop the hints of an hour if they are so many, and move due_min on to the next hour that has any.
-- KEYS 1 g | 2 l:LANE | 3 d:HOUR | then d:HOUR for HOUR = first, first + 1, ...
-- ARGV 1 lane | 2 token | 3 call | 4 number of hints | 5 first hour, "" when none is known
-- Reply status, call, 1 (dropped) | 0
-- Holds of hours that none has, due_min becomes the one behind the last; hints that come lower it again. It runs when
--       memory is short, too, for it makes room.
local function drop_due(keys, argv)
  local status, expected = gate(keys[1], keys[2], argv[1], tonumber(argv[2]), tonumber(argv[3]))
  if status ~= OK then return {status, expected, 0} end
  local length, first, at = tonumber(argv[4]), tonumber(argv[5]), 4
  local dropped = length > 0 and call('LLEN', keys[3]) == length
  if first and first == tonumber(call('HGET', keys[1], 'due_min')) then
    while at <= #keys and (dropped and keys[at] == keys[3] or call('LLEN', keys[at]) == 0) do at = at + 1 end
  end
  -- WRITE
  if dropped then call('UNLINK', keys[3]) end
  if at > 4 then call('HSET', keys[1], 'due_min', first + at - 4) end
  call('HSET', keys[2], 'call', expected + 1)
  return {OK, expected + 1, dropped and 1 or 0}
end

-- rater_v4_members (no writes): a piece of the clients that were ever given a package.
-- KEYS 1 g | 2 l:LANE | 3 p:PACK      ARGV 1 lane | 2 token | 3 call | 4 from index 0 | 5 how many
-- Reply status, call, and: OK: {clients}
local function members(keys, argv)
  local status, expected = gate(keys[1], keys[2], argv[1], tonumber(argv[2]), tonumber(argv[3]))
  if status ~= OK then return {status, expected} end
  return {status, expected, call('LRANGE', keys[3], argv[4], tonumber(argv[4]) + tonumber(argv[5]) - 1)}
end

-- rater_v4_expire: drop generations that no lane can ask for any more.
-- KEYS 1 g | 2 l:LANE | then u:GEN, f:GEN for GEN = first, first + 1, ...
-- ARGV 1 lane | 2 token | 3 call | 4 lanes | 5 length of a generation, ms | 6 first generation, "" when none is known
--      7 lane time, ms
-- Reply status, call, how many were dropped
-- Holds a lane without a time holds everything back: what it will bring is not known. The call says the lane's own time,
--       for a bucket learns it else by draws alone, and not every lane draws from every bucket. It runs when memory is
--       short, too, for it makes room.
local function expire(keys, argv)
  local status, expected = gate(keys[1], keys[2], argv[1], tonumber(argv[2]), tonumber(argv[3]))
  if status ~= OK then return {status, expected, 0} end
  raise_time(keys[1], argv[1], tonumber(argv[7]))
  local first, dropped = tonumber(argv[6]), 0
  local slowest = HUGE
  for lane = 0, tonumber(argv[4]) - 1 do
    slowest = min(slowest, tonumber(call('HGET', keys[1], 't:' .. lane)) or -1)
  end
  if first and slowest >= 0 and first == tonumber(call('HGET', keys[1], 'gen_min')) then
    dropped = max(0, min(floor(slowest / tonumber(argv[5])) - 1 - first, (#keys - 2) / 2))
  end
  if dropped > 0 then
    call('UNLINK', unpack(keys, 3, 2 + 2 * dropped))
    call('HSET', keys[1], 'gen_min', first + dropped)
  end
  call('HSET', keys[2], 'call', expected + 1)
  return {OK, expected + 1, dropped}
end

-------------------------------------------------------------------------------------------------------- snapshots
-- rater_v4_read (no writes): clients, with all that is kept, as of one instant.
-- KEYS 1 g | 2 l:LANE | then of each lane l: o: k: | then of each client c: r: h:
-- ARGV 1 lane | 2 token | 3 call | 4 lanes | 5 number of clients
-- Reply status, call, and: OK: {floors} | {fields of o: of each lane} | {fields of k: of each lane} | per client its
--       register | nil, {fields of c}, {fields of h}
-- Holds while a lane is brought to the journal in parts (base below floor) the answer is CLOSED.
local function read(keys, argv)
  local status, expected = gate(keys[1], keys[2], argv[1], tonumber(argv[2]), tonumber(argv[3]))
  if status ~= OK then return {status, expected} end
  local lanes, floors, outcomes, copies = tonumber(argv[4]), {}, {}, {}
  for lane = 1, lanes do
    local own = call('HMGET', keys[3 * lane], 'floor', 'base')
    floors[lane] = tonumber(own[1]) or 0
    if (tonumber(own[2]) or 0) < floors[lane] then return {CLOSED, expected} end
    outcomes[lane] = call('HGETALL', keys[3 * lane + 1])
    copies[lane] = call('HGETALL', keys[3 * lane + 2])
  end
  local reply, at = {OK, expected, floors, outcomes, copies}, 3 * lanes + 3
  for k = 0, tonumber(argv[5]) - 1 do
    local of = at + 3 * k
    reply[6 + 3 * k] = call('GET', keys[of + 1])
    reply[7 + 3 * k], reply[8 + 3 * k] = call('HGETALL', keys[of]), call('HGETALL', keys[of + 2])
  end
  return reply
end

local MIXED = 'RATER_MIXED a worker of an earlier version wrote to a bucket that is put in place from snapshots; stop '
  .. 'it, delete all keys of the prefix, and start the workers again: '

-- rater_v4_restore: put a part of what snapshots say in place, in a bucket that lost all; or ask how far it is.
-- KEYS 1 g | 2 l:LANE | then l: of each lane | then those that the payload points at, by index | m, which is never there
-- ARGV 1 lane | 2 token | 3 call | 4 lanes | 5 payload, "" to ask: msgpack list of clients {key of c, of r, of h, register,
--      n, field, value as text ..., m, field, row ...}, accounts {key of a, account, client}, members {key of p, client},
--      hints {key of d, element}, lowest hour of these | false, floors {of each lane; none: there are no
--      snapshots} | false, offset up to which snapshots were read; each list flat, with bytes as their index in ARGV | 6.. those bytes
-- Reply status, call, and: OK: what "whole" says | -1, floor and base of the asking lane
-- Holds what is there of a client goes, so that it may come twice. A bucket whose gate was open or that a lane has brought to its
--       journal needs nothing.
local function restore(keys, argv)
  local status, expected, journaled = guard(keys[2], tonumber(argv[2]), tonumber(argv[3]))
  if status ~= OK then return {status, expected} end
  local noted, lanes = call('HMGET', keys[1], 'whole', 'restoring', 'joined'), tonumber(argv[4])
  local whole, written = tonumber(noted[1]), noted[3]
  for lane = 1, lanes do
    written = written or (tonumber(call('HGET', keys[2 + lane], 'floor')) or 0) > 0
  end
  if written and not whole then
    if noted[2] then return redis.error_reply(MIXED .. keys[1]) end
    whole = 0
  end
  if whole or argv[5] == '' then
    return {OK, expected, whole or -1, journaled, tonumber(call('HGET', keys[2], 'base')) or 0}
  end
  local lists = cmsgpack.unpack(argv[5])
  local clients, accounts, floors, k = lists[1], lists[2], lists[6], 1
  if floors and #floors == 0 and noted[2] then return {OK, expected, -1, journaled, 0} end
  -- WRITE
  while k <= #clients do
    local c_key, h_key, sums, rows = keys[clients[k]], keys[clients[k + 2]], {}, {}
    call('UNLINK', c_key, h_key)
    call('SET', keys[clients[k + 1]], argv[clients[k + 3]])
    k = k + 4
    for j = 1, clients[k] do sums[j] = clients[k + j] end
    k = k + clients[k] + 1
    for j = 1, clients[k], 2 do rows[j], rows[j + 1] = clients[k + j], argv[clients[k + j + 1]] end
    k = k + clients[k] + 1
    set_all(c_key, sums)
    if #rows > 0 then set_all(h_key, rows) end
  end
  for j = 1, #accounts, 3 do index_account(keys[accounts[j]], accounts[j + 1], accounts[j + 2]) end
  push_members(keys, lists[3], 1, #lists[3])
  push_hints(keys, argv, lists[4], 1, #lists[4])
  if lists[5] then lower(keys[1], 'due_min', lists[5]) end
  if floors then
    call('HSET', keys[1], 'whole', lists[7])
    call('HDEL', keys[1], 'restoring')
    for lane = 1, #floors do call('HSET', keys[2 + lane], 'floor', floors[lane], 'base', 0) end
  else
    call('HSET', keys[1], 'restoring', 1)
  end
  call('HSET', keys[2], 'call', expected + 1)
  journaled = floors and floors[tonumber(argv[1]) + 1] or journaled
  return {OK, expected + 1, floors and lists[7] or -1, journaled, 0}
end

redis.register_function('rater_v4_fence', bound(fence))
redis.register_function('rater_v4_reconcile', bound(reconcile))
redis.register_function('rater_v4_register', bound(register))
redis.register_function('rater_v4_restore', bound(restore))
redis.register_function('rater_v4_draw', bound(draw))
redis.register_function('rater_v4_change', bound(change))
redis.register_function{function_name = 'rater_v4_expire', callback = bound(expire), flags = {'allow-oom'}}
redis.register_function{function_name = 'rater_v4_drop_due', callback = bound(drop_due), flags = {'allow-oom'}}
redis.register_function{function_name = 'rater_v4_due', callback = bound(due), flags = {'no-writes'}}
redis.register_function{function_name = 'rater_v4_members', callback = bound(members), flags = {'no-writes'}}
redis.register_function{function_name = 'rater_v4_views', callback = bound(views), flags = {'no-writes'}}
redis.register_function{function_name = 'rater_v4_probe', callback = bound(probe), flags = {'no-writes'}}
redis.register_function{function_name = 'rater_v4_read', callback = bound(read), flags = {'no-writes'}}
