"""A real Kamailio with the lines that the head of config/sources/kamailio.toml gives, SIPp at both ends.

All of it listens on 127.0.0.1, works in the folder that it is given, and ends with who started it.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from kamailio.scenarios import Call, Scenarios
from rater.local.child import HOST, Child

MAP = Path(__file__).parents[2] / "config" / "sources" / "kamailio.toml"
PACKAGES = "kamailio kamailio-extra-modules sip-tester"
_PART = re.compile(r"# ([0-9])\. ")
_LINE = "#      "  # begins a line of kamailio.cfg in the map's head
_MESSAGE = re.compile(r"-{5,} ([0-9-]+)\s([0-9:.]+)\n.*?\n\n(.*?)\r?\n", re.DOTALL)
_START_S, _CALLS_S, _STOP_S = 20, 40, 20

_CONFIG = """\
#!KAMAILIO
# What any proxy has; the head's lines stand where the head says.
children=1  # in order: what is sent at one moment would overtake
listen=udp:127.0.0.1:{port}
mpath="{modules}"
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
{parameters}
request_route {{
  if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
  if (has_totag()) {{
    setflag(1);  # for whoever accounts transactions, too
    setflag(2);
    if (loose_route() || is_method("ACK")) t_relay();
    exit;
  }}
  record_route();
  $du = "sip:127.0.0.1:" + $hdr(X-Port);
  $avp(account) = $hdr(X-Account);
  $avp(gateway) = $hdr(X-Gateway);
{invite}
  if (is_present_hf("X-Limit")) {{
    $var(limit) = $(hdr(X-Limit){{s.int}});
    dlg_set_timeout("$var(limit)");
  }}
  t_relay();
}}
{routes}
"""


def lines_of_the_head() -> dict[int, str]:
    """Return the lines of kamailio.cfg that the map's head gives: part → its lines."""
    parts: dict[int, list[str]] = {}
    lines: list[str] = []
    for line in MAP.read_text("utf-8").splitlines():
        if found := _PART.match(line):
            lines = parts.setdefault(int(found[1]), [])
        elif line.startswith(_LINE):
            lines.append(line.removeprefix(_LINE))
    return {number: "\n".join(part) for number, part in parts.items()}


def installed(root: Path) -> Path:
    """Return the folder that the packages are in, or raise RuntimeError with the remedy."""
    wanted = ("usr/sbin/kamailio", "usr/bin/sipp")
    missing = [name for name in wanted if not (root / name).exists()]
    if missing or not list(root.glob("usr/lib/*/kamailio/modules/acc_json.so")):
        what = ", ".join(missing) or "acc_json.so"
        msg = (
            f"{root} has no {what}: `apt-get install {PACKAGES}`, or unpack these and what they need "
            "(`apt-get download`, `dpkg -x`) into a folder and name it by RATER_KAMAILIO"
        )
        raise RuntimeError(msg)
    return root


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind((HOST, 0))
        return int(held.getsockname()[1])


class Proxy:
    """A Kamailio, and calls through it."""

    def __init__(self, root: Path, folder: Path, head: dict[int, str]) -> None:
        """Know where the packages are (root), where to write, and the lines of the map's head."""
        self._root = installed(root)
        self._folder = folder
        self._port = _free_port()
        self._log = folder / "kamailio.log"
        libraries = [*root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu")]
        paths = [*libraries, *(one / "kamailio" for one in libraries)]
        self._environ = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, paths)), "TERM": "dumb"}
        (modules,) = root.glob("usr/lib/*/kamailio/modules")
        (folder / "kamailio.cfg").write_text(
            _CONFIG.format(
                port=self._port,
                modules=modules,
                parameters=head[1],
                invite=head[2],
                routes=head[3],
            )
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start it, wait until it answers, and end it."""
        child = self._child(
            "usr/sbin/kamailio",
            ["-DD", "-E", "-f", "kamailio.cfg", "-Y", ".", "-m", "32", "-M", "4"],
            self._log,
        )
        try:
            deadline = time.monotonic() + _START_S
            while not self._answers():
                if child.code is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Kamailio does not start:\n{self.log()}")
                time.sleep(0.1)
            yield
        finally:
            child.stop(_STOP_S)

    def _child(self, program: str, arguments: Sequence[str], log: Path) -> Child:
        return Child([str(self._root / program), *arguments], self._folder, log, self._environ)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ping:
            ping.settimeout(0.2)
            ping.connect((HOST, self._port))
            try:
                ping.send(b"\r\n\r\n")  # keep-alive: no answer
                ping.send(b"\r\n\r\n")  # refused where nobody listens
            except OSError:
                return False
            return True

    def log(self) -> str:
        """Return what it has logged, the records included."""
        return self._log.read_text("utf-8", "replace")

    def records(self) -> list[bytes]:
        """Return the records, cut out of its log as the map's head says."""
        (command,) = re.findall(
            r"^#   (sed -n '.+') kamailio-cdrs\.log > ", MAP.read_text("utf-8"), re.MULTILINE
        )
        return subprocess.run(  # noqa: S603 - the command of the map
            [*shlex.split(command), str(self._log)], check=True, capture_output=True
        ).stdout.splitlines()

    def make(self, calls: Sequence[Call]) -> None:
        """Make all of these calls at once, each with a SIPp at both ends; return when they are over."""
        ends = [end for call in calls for end in self._ends(call)]
        try:
            for name, child in ends:
                if not child.wait(_CALLS_S) or child.code != 0:
                    told = (self._folder / f"{name}.err").read_text("utf-8", "replace")[-4000:]
                    raise RuntimeError(f"{name} ended with {child.code}:\n{told}\n{self.log()[-4000:]}")
        finally:
            for _, child in ends:
                child.stop(1)

    def _ends(self, call: Call) -> Iterator[tuple[str, Child]]:
        port = _free_port()
        headers = (f"X-Port: {port}", f"X-Account: sip-{call.name}", "X-Gateway: gw-kiev", *call.headers)
        made = Scenarios(call._replace(headers=headers))
        for end, text, own in (("uas", made.uas, port), ("uac", made.uac, _free_port())):
            name = f"{call.name}-{end}"
            (self._folder / f"{name}.xml").write_text(text)
            arguments = [
                "-sf", f"{name}.xml", "-i", HOST, "-p", str(own),
                "-m", str(call.times), "-r", str(call.times), "-timeout", "30", "-timeout_error",
                "-cid_str", f"{call.prefix or call.name}-%u@192.0.2.1", "-nostdin",
                "-trace_msg", "-message_file", f"{name}.msg", "-trace_err", "-error_file", f"{name}.err",
                *([f"{HOST}:{self._port}"] if end == "uac" else []),
            ]  # fmt: skip
            yield name, self._child("usr/bin/sipp", arguments, self._folder / f"{name}.log")
            time.sleep(0.1)  # the called end listens before it is called

    def moments(self, call: Call) -> dict[str, float]:
        """Return when the calling end sent or got each message first, as SIPp logged it, s since 1970.

        A message is its first word, of a reply its code; an INVITE after the first is left out.
        """
        text = (self._folder / f"{call.name}-uac.msg").read_text("utf-8")
        found: dict[str, float] = {}
        for date, clock, line in _MESSAGE.findall(text):
            words = line.split()
            name = words[1] if words[0] == "SIP/2.0" else words[0]
            found.setdefault(name, datetime.fromisoformat(f"{date} {clock}").astimezone().timestamp())
        return found
