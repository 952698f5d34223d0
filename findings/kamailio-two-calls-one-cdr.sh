#!/usr/bin/env bash
# Kamailio 5.6.3 (Debian 12), modules dialog and acc: two calls, one CDR.
#
# A caller makes two calls that ring at the same time, with one Call-ID and one From tag (both are the caller's to choose).
# They are answered with two To tags, so they are two dialogs, and each is hung up by itself. One would expect a CDR for
# each. What happens: dialog takes the second INVITE for the first one that came round again (detect_spirals is 1 unless
# set), so both are one dialog. There is one CDR, with the times of one call and the account of the other: `$dlg_var(account)`
# is that of the INVITE that came last. With detect_spirals 0 there are two, each with its own.
#
# Fetches Debian's packages into a temporary folder (apt-get download; nothing is installed), listens on 127.0.0.1, takes
# 20 s. Exit code 0: seen again; 1: it behaves otherwise now.
set -euo pipefail

folder=$(mktemp -d)
proxy=
cleanup() {
  if [ -n "$proxy" ]; then kill "$proxy" 2>/dev/null || true; wait "$proxy" 2>/dev/null || true; fi
  rm -rf "$folder"
}
trap cleanup EXIT

mkdir "$folder/packages" "$folder/root"
(cd "$folder/packages" && apt-get download kamailio libpcre3 libev4 > /dev/null 2>&1)
for package in "$folder"/packages/*.deb; do dpkg -x "$package" "$folder/root"; done
modules=$(dirname "$(find "$folder/root" -name dialog.so)")
LD_LIBRARY_PATH=$(find "$folder/root" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd :):$(dirname "$modules")
export LD_LIBRARY_PATH
kamailio="$folder/root/usr/sbin/kamailio"

cat > "$folder/calls.py" <<'PYTHON'
import re
import socket
import sys
import time

PROXY = ("127.0.0.1", int(sys.argv[1]))


def opened():
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.settimeout(5)
    return made


caller, called = opened(), opened()
CALLER, CALLED = (f"127.0.0.1:{one.getsockname()[1]}" for one in (caller, called))


def got(sock, start):
    """Return the next message that begins so."""
    while True:
        text = sock.recv(65535).decode()
        if text.startswith(start):
            return text


def headers(text, *names):
    return [line for line in text.split("\r\n") if line.partition(":")[0] in names]


def reply(invite, status, tag):
    lines = [f"SIP/2.0 {status}", *headers(invite, "Via", "Record-Route", "From", "Call-ID", "CSeq")]
    lines += [f"To: <sip:b@{CALLED}>;tag={tag}", f"Contact: <sip:b@{CALLED}>", "Content-Length: 0"]
    called.sendto("\r\n".join([*lines, "", ""]).encode(), PROXY)


def request(method, name, cseq, tag=None, route=()):
    lines = [f"{method} sip:b@{CALLED} SIP/2.0", f"Via: SIP/2.0/UDP {CALLER};branch=z9hG4bK{name}{method}"]
    lines += [*route, f"From: <sip:a@{CALLER}>;tag=one", f"To: <sip:b@{CALLED}>" + (f";tag={tag}" if tag else "")]
    lines += ["Call-ID: one", f"CSeq: {cseq} {method}", f"Contact: <sip:a@{CALLER}>", "Max-Forwards: 70"]
    lines += [f"X-Account: {name}", "Content-Length: 0"]
    caller.sendto("\r\n".join([*lines, "", ""]).encode(), PROXY)


invites = {}
for name in ("first", "second"):
    request("INVITE", name, 1)
    invites[name] = got(called, "INVITE")
    reply(invites[name], "180 Ringing", name)
    time.sleep(0.3)
routes = {}
for name in ("first", "second"):
    reply(invites[name], "200 OK", name)
    answer = got(caller, "SIP/2.0 200")
    routes[name] = [re.sub("^Record-Route", "Route", line) for line in headers(answer, "Record-Route")]
    request("ACK", name, 1, name, routes[name])
    time.sleep(0.5)
for name in ("first", "second"):
    time.sleep(1)
    request("BYE", name, 2, name, routes[name])
    reply(got(called, "BYE"), "200 OK", name)
time.sleep(1)
PYTHON

# Prints the accounts of the CDRs of two calls; its argument: a line of configuration more.
accounts() {
  local port
  port=$(python3 -c 'import socket; s = socket.socket(2, 2); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  cat > "$folder/kamailio.cfg" <<CONFIG
children=1
listen=udp:127.0.0.1:$port
mpath="$modules"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "dialog.so"
loadmodule "acc.so"
modparam("acc", "cdr_enable", 1)
modparam("acc", "log_level", -1)
modparam("acc", "cdr_start_on_confirmed", 1)
modparam("acc", "cdr_extra", "account=\$dlg_var(account)")
$1
request_route {
  if (has_totag()) { if (loose_route()) t_relay(); exit; }
  record_route();
  dlg_manage();
  \$dlg_var(account) = \$hdr(X-Account);
  t_relay();
}
CONFIG
  "$kamailio" -DD -E -f "$folder/kamailio.cfg" -Y "$folder" -m 32 -M 4 > "$folder/log" 2>&1 &
  proxy=$!
  sleep 2
  python3 "$folder/calls.py" "$port"
  kill "$proxy"
  wait "$proxy" 2>/dev/null || true
  proxy=
  grep -o 'start_time=.*account=[a-z]*' "$folder/log" | sed 's/.*account=//' | sort | paste -sd ' '
}

"$kamailio" -v | head -1
default=$(accounts "")
apart=$(accounts 'modparam("dialog", "detect_spirals", 0)')
echo "CDRs of the calls of accounts first and second: $default"
echo "with detect_spirals 0: $apart"
if [ "$default" = second ] && [ "$apart" = "first second" ]; then
  echo "two calls, one CDR"
else
  echo "it behaves otherwise now"
  exit 1
fi
