package store

import (
	"crypto/sha1" //nolint:gosec // the name that EVALSHA wants
	"encoding/hex"
)

// The scripts of the shared engine, for Redis 6.2 and later and Valkey. The time is
// the server's own, so that the nodes' clocks do not matter. Numbers are doubles:
// what is kept and computed stays below 2^53, and is written without an exponent.

const clockLua = `
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local function text(n) return string.format('%.0f', n) end
`

// takeScript is [Ask.advance] for each of KEYS, with eight ARGV for each; see there.
const takeScript = clockLua + `
local out = {}
local function micros(ns) return math.floor((ns + 999) / 1000) end
for i, key in ipairs(KEYS) do
	local at = (i - 1) * 8
	local t, burst, want = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
	local back, held, spent, ahead = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8])
	local whole = micros(burst * t)
	local was = tonumber(redis.call('GET', key) or '0') - now
	local backlog = math.min(math.max(was, math.min(ahead, whole), 0), 2 * whole)
	backlog = math.min(backlog + micros(spent * t), 2 * whole)
	local less = math.floor(back * t / 1000) - held
	if less > 0 then backlog = math.max(0, backlog - less) end
	local function left() return math.min(burst, math.floor(math.max(0, whole - backlog) * 1000 / t)) end
	local n, need = math.min(want, left()), 1
	if ARGV[at + 4] == '1' and n < want then
		n, need = 0, math.min(want, burst)
	end
	backlog = backlog + micros(n * t)
	if backlog == 0 then
		if was > 0 then redis.call('DEL', key) end
	elseif backlog ~= was then
		redis.call('SET', key, text(now + backlog), 'PX', text(math.ceil(backlog / 1000)))
	end
	local o = #out
	out[o + 1], out[o + 2] = n, left()
	out[o + 3], out[o + 4] = math.max(0, backlog + micros(need * t) - whole), backlog
end
return out
`

// leadScript: KEYS the lease; ARGV who asks, and for how long in microseconds, 0 to
// resign. A fence is the moment of the change, or one more than the last: it grows
// even when the server has lost its data. What is over is kept for a day for it.
const leadScript = clockLua + `
local l = redis.call('HMGET', KEYS[1], 'holder', 'until', 'fence')
local till, fence = tonumber(l[2] or '0'), tonumber(l[3] or '0')
local ours = l[1] == ARGV[1] and till > now
local ttl = tonumber(ARGV[2])
if ttl == 0 then
	if ours then redis.call('HSET', KEYS[1], 'until', '0') end
	return {0, 0}
end
if not ours then
	if till > now then return {0, 0} end
	fence = math.max(fence + 1, now)
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'until', text(now + ttl), 'fence', text(fence))
redis.call('PEXPIRE', KEYS[1], text(math.ceil(ttl / 1000) + 86400000))
return {1, fence}
`

// beatScript: KEYS the list of nodes; ARGV a node, for how long it is there in
// microseconds, what it tells, and after how long of silence a node is gone. Without
// the last two it leaves. The answer is the list.
const beatScript = clockLua + `
if #ARGV < 4 then
	redis.call('HDEL', KEYS[1], ARGV[1])
	return {}
end
redis.call('HSET', KEYS[1], ARGV[1], text(now - tonumber(ARGV[2])) .. ' ' .. text(now) .. ' ' .. ARGV[3])
local out = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
	local seen = tonumber(string.match(all[i + 1], '^%d+ (%d+) ') or '0')
	if seen < now - tonumber(ARGV[4]) then
		redis.call('HDEL', KEYS[1], all[i])
	else
		out[#out + 1], out[#out + 2] = all[i], all[i + 1]
	end
end
redis.call('PEXPIRE', KEYS[1], text(2 * tonumber(ARGV[4]) / 1000))
return out
`

// scriptName is how servers call a script: no secret, and no proof of anything.
func scriptName(text string) string {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // the name that EVALSHA wants
	return hex.EncodeToString(sum[:])
}
