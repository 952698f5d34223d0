"""Kinds of calls through a proxy, as SIPp scenarios of both ends; SIPp's own message log tells what happened.

A call is a line of words: requests in capitals are the caller's, in small letters the called end's; numbers
are replies of the other end, `900ms` is a pause of whoever speaks next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

_ROUTES = ' rrs="true"'  # keep Record-Route and Contact of this message: [routes] and [next_url]
REASONS = {
    "180": "Ringing", "200": "OK", "404": "Not Found", "407": "Proxy Authentication Required",
    "486": "Busy Here", "487": "Request Terminated", "488": "Not Acceptable Here",
}  # fmt: skip


class Call(NamedTuple):
    """One kind of call: who calls whom, what happens, headers of the INVITE, how often it is made.

    prefix: of its Call-ID; tag: of the caller. Both are made of the name where they are not given.
    """

    name: str
    caller: str
    called: str
    words: str
    headers: tuple[str, ...] = ()
    times: int = 1
    prefix: str = ""
    tag: str = ""


@dataclass
class Scenarios:
    """What SIPp does at both ends of a call, as its XML."""

    call: Call
    uac: str = ""
    uas: str = ""
    _cseq: int = 0
    _own: int = 0  # CSeq of the called end's requests
    _answered: bool = False  # from then on requests go along the dialog's route
    _last: str = ""  # the request that a reply is to
    _waits: str = ""

    def __post_init__(self) -> None:
        """Write both ends, word by word."""
        for word in self.call.words.split():
            if word.endswith("ms"):
                self._waits = f'<pause milliseconds="{word.removesuffix("ms")}"/>\n'
            elif word.isdecimal():
                self._reply(word)
            elif word.islower():
                self._of_called(word.upper())
            else:
                self._of_caller(word)
        head = f'<?xml version="1.0" encoding="ISO-8859-1"?>\n<scenario name="{self.call.name}">\n'
        self.uac = f"{head}{self.uac}</scenario>\n"
        self.uas = f"{head}{self.uas}</scenario>\n"

    def _of_caller(self, method: str) -> None:
        if method not in ("ACK", "CANCEL"):
            self._cseq += 1
        # An ACK to a refusal, and a CANCEL, are of the INVITE's own transaction.
        same = method in ("INVITE", "CANCEL") or (method == "ACK" and not self._answered)
        refused_again = method == "ACK" and self._last == "refused"
        branch = f"{self._cseq}" if same or refused_again else f"{self._cseq}-{method}"
        more = list(self.call.headers) if method == "INVITE" else []
        if method == "INVITE" and self._cseq > 1 and not self._answered:
            more.append('Proxy-Authorization: Digest username="line", realm="r", nonce="n", response="0"')
        to = "[next_url]" if self._answered else "sip:{called}@[remote_ip]:[remote_port]"
        lines = [
            f"{method} {to} SIP/2.0",
            f"Via: SIP/2.0/UDP [local_ip]:[local_port];branch=z9hG4bK-{{name}}-[call_number]-{branch}",
            *(["[routes]"] if self._answered else []),
            "From: <sip:{caller}@192.0.2.1>;tag={tag}",
            "To: <sip:{called}@192.0.2.2>" + (";tag={name}-t" if self._answered or method == "ACK" else ""),
            f"CSeq: {self._cseq} {method}",
            "Contact: <sip:linea@[local_ip]:[local_port]>",
            *more,
        ]
        self.uac += self._wait() + _sent(lines, self.call)
        self.uas += f'<recv request="{method}"{"" if self._answered else _ROUTES}/>\n'
        if method in ("INVITE", "CANCEL"):
            self.uac += '<recv response="100" optional="true"/>\n'
        self._last = method

    def _of_called(self, method: str) -> None:
        self._own += 1
        lines = [
            f"{method} [next_url] SIP/2.0",
            f"Via: SIP/2.0/UDP [local_ip]:[local_port];branch=z9hG4bK-{{name}}-[call_number]-own{self._own}",
            "[routes]",
            "From: <sip:{called}@192.0.2.2>;tag={name}-t",
            "To: <sip:{caller}@192.0.2.1>;tag={tag}",
            f"CSeq: {self._own} {method}",
            "Contact: <sip:gwline@[local_ip]:[local_port]>",
        ]
        self.uas += self._wait() + _sent(lines, self.call)
        self.uac += f'<recv request="{method}"/>\n'
        self._last = "own"

    def _reply(self, code: str) -> None:
        lines = [
            f"SIP/2.0 {code} {REASONS[code]}", "[last_Via:]", "[last_Record-Route:]", "[last_From:]",
            "[last_To:]" + ("" if self._answered else ";tag={name}-t"),
            f"CSeq: {self._cseq} INVITE" if code == "487" else "[last_CSeq:]",
            "Contact: <sip:gwline@[local_ip]:[local_port]>",
        ]  # fmt: skip
        if self._last == "own":
            self.uac += self._wait() + _sent(lines, self.call)
            self.uas += f'<recv response="{code}"/>\n'
            return
        answers = code == "200" and self._last == "INVITE" and not self._answered
        self.uas += self._wait() + _sent(lines, self.call)
        self.uac += f'<recv response="{code}"{_ROUTES if answers else ""}/>\n'
        self._answered = self._answered or answers
        if self._last == "INVITE" and code[0] in "3456":
            self._last = "refused"

    def _wait(self) -> str:
        waits, self._waits = self._waits, ""
        return waits


def _sent(lines: list[str], call: Call) -> str:
    named = [
        line.format(name=call.name, caller=call.caller, called=call.called, tag=call.tag or f"{call.name}-f")
        for line in lines
    ]
    text = "\n".join([*named, "Call-ID: [call_id]", "Max-Forwards: 70", "Content-Length: 0"])
    return f"<send><![CDATA[\n{text}\n\n]]></send>\n"
