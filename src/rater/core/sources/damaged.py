"""Records with bytes that their format does not allow: what is wrong is shown, and the rest is read.

A byte of Latin-1 in somebody's name, a control character out of a SIP header that nobody cleaned: they are no
reason to lose a call (decisions/0072-a-bad-byte-costs-no-call.md).
"""

from __future__ import annotations

import re

BOM = "\ufeff"

_KEPT = "\t\n\r"  # blanks, and what parts lines
_SHOWN = {code: f"\\x{code:02x}" for code in range(32) if chr(code) not in _KEPT}


def text_of(raw: bytes) -> str:
    r"""Return the text of a record that is lines or cells; a byte that is no UTF-8 is shown as \xe9."""
    return raw.decode("utf-8", "backslashreplace").removeprefix(BOM)


def controls_shown(text: str) -> str:
    r"""Return the text with control characters, but tabs and ends of lines, shown as \x01."""
    return text if text.isprintable() else text.translate(_SHOWN)


_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_SURROGATES = r"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rf'\\((?:["\\/bfnrt]|{_SURROGATES}|u(?![dD][89a-fA-F])[0-9a-fA-F]{{4}})?)')
# As JSON writes them: a backslash is two. Bytes that are no UTF-8 are U+DC80 and on ("surrogateescape").
_WRITTEN = {
    **{code: f"\\\\x{code:02x}" for code in range(32)},
    **{0xDC00 + byte: f"\\\\x{byte:02x}" for byte in range(0x80, 0x100)},
    **str.maketrans({"\t": r"\t", "\n": r"\n", "\r": r"\r"}),
}


def mended_json(raw: bytes) -> str:
    r"""Return the text with what JSON does not allow inside of its strings shown as it allows it.

    Bytes that are no UTF-8 and control characters become the texts \xe9 and \x01 (a tab and ends of lines
    stay), a backslash that escapes nothing becomes one that stands for itself. A mark of the byte order in
    front and zero bytes behind are left out. It may be no JSON for all that.
    """
    text = raw.decode("utf-8", "surrogateescape").strip(f"{BOM}\0 {_KEPT}")
    return _STRING.sub(_mended, text)


def _mended(found: re.Match[str]) -> str:
    text = found[0]
    if text.isprintable() and "\\" not in text:
        return text
    return _ESCAPE.sub(_escape, text).translate(_WRITTEN)


def _escape(found: re.Match[str]) -> str:
    return found[0] if found[1] else r"\\"
