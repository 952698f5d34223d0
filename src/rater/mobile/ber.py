"""BER (ITU-T X.690): tags and lengths, walked without knowing any type; definite and indefinite lengths.

An element is its identifier octets, its length octets and its contents; an indefinite one ends with two
octets of zero. Nothing here reads a value: that is what the types are for (`types.py`).
"""

from __future__ import annotations

from io import BufferedIOBase
from typing import NamedTuple

from rater.core.file_forms import PACKING_FAULTS

ELEMENT_BYTES_MAX = 1 << 20
"""The longest element that is read as a whole. Call events have some hundred octets, the longest data
sessions with hundreds of containers tens of thousands; a longer one is a length that was damaged.
"""

CLASSES = ("universal", "application", "context", "private")
_CHUNK = 1 << 18
_FILLER_STEP = 1 << 12
_DEPTH_MAX = 24  # the types of both formats have less than twenty levels
_TAG_OCTETS_MAX = 3
_LENGTH_OCTETS_MAX = 4
_MULTIPLE = 0x1F  # a number of 31 and more stands in the octets that follow
_CONSTRUCTED = 0x20
_INDEFINITE = 0x80
_CONTINUES = 0x80

Octets = bytes | bytearray


class Broken(ValueError):  # noqa: N818 - named for what is so
    """Octets that are no BER element, or none of the type that is meant. at: where, from their beginning."""

    def __init__(self, at: int, why: str) -> None:
        super().__init__(why)
        self.at = at
        self.why = why


class Header(NamedTuple):
    """Identifier and length of an element.

    tag: class + 4 * number, the class by its place in `CLASSES`; length: of the contents, None: indefinite;
    size: how many octets identifier and length have.
    """

    tag: int
    is_constructed: bool
    length: int | None
    size: int


def tag_of(number: int, class_: int) -> int:
    """Return a tag as `Header.tag` has it. class_: 0 to 3."""
    return number << 2 | class_


def tag_name(tag: int) -> str:
    """Return a tag for people: `application 3`."""
    return f"{CLASSES[tag & 3]} {tag >> 2}"


def identifier(tag: int) -> bytes:
    """Return the octets that a constructed element of this tag begins with."""
    number, first = tag >> 2, (tag & 3) << 6 | _CONSTRUCTED
    if number < _MULTIPLE:
        return bytes([first | number])
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.insert(0, number & 0x7F | _CONTINUES)
    return bytes([first | _MULTIPLE, *groups])


def header(octets: Octets, at: int, end: int) -> Header:
    """Return the header that begins at `at`. Raises Broken: it is none, or not all of it is before `end`."""
    if at + 2 > end:
        raise Broken(at, "the octets end inside of an element's header")
    first = octets[at]
    begin, number = at, first & _MULTIPLE
    at += 1
    if number == _MULTIPLE:
        number, at = _multiple(octets, at, end)
    if at >= end:
        raise Broken(begin, "the octets end before an element's length")
    length: int | None = octets[at]
    count = octets[at] & 0x7F
    at += 1
    if octets[at - 1] >= _INDEFINITE:
        if count > _LENGTH_OCTETS_MAX or at + count > end:
            raise Broken(begin, f"a length of {count} octets")
        length = int.from_bytes(octets[at : at + count], "big") if count else None
        at += count
    return Header(number << 2 | first >> 6, bool(first & _CONSTRUCTED), length, at - begin)


def _multiple(octets: Octets, at: int, end: int) -> tuple[int, int]:
    """Return the number of a tag that has several octets, and where they end."""
    number = 0
    for place in range(at, min(end, at + _TAG_OCTETS_MAX)):
        number = number << 7 | octets[place] & 0x7F
        if not octets[place] & _CONTINUES:
            return number, place + 1
    raise Broken(at, "the octets end inside of a tag, or it has more octets than any of the format")


class Element(NamedTuple):
    """Where an element lies: its contents are [begin, end), what follows it begins at `next`."""

    tag: int
    is_constructed: bool
    begin: int
    end: int
    next: int


def element(octets: Octets, at: int, end: int) -> Element:
    """Return the element that begins at `at`. Raises Broken where it is none, or ends after `end`."""
    tag, is_constructed, length, size = header(octets, at, end)
    begin = at + size
    if length is None:
        if not is_constructed:
            raise Broken(at, f"{tag_name(tag)} is primitive and has no length")
        closing = _closing(octets, begin, end, 0)
        return Element(tag, is_constructed, begin, closing, closing + 2)
    if begin + length > end:
        over = begin + length - end
        raise Broken(at, f"{tag_name(tag)} has a length of {length}, {over} more than there are octets")
    return Element(tag, is_constructed, begin, begin + length, begin + length)


def _closing(octets: Octets, at: int, end: int, depth: int) -> int:
    """Return where the two octets of zero begin that end an element of indefinite length."""
    if depth > _DEPTH_MAX:
        raise Broken(at, f"elements inside of each other, more than {_DEPTH_MAX}")
    while True:
        if octets[at : at + 2] == b"\0\0" and at + 2 <= end:
            return at
        tag, is_constructed, length, size = header(octets, at, end)
        if length is None:
            if not is_constructed:
                raise Broken(at, f"{tag_name(tag)} is primitive and has no length")
            at = _closing(octets, at + size, end, depth + 1) + 2
        elif at + size + length > end:
            raise Broken(at, f"{tag_name(tag)} has a length of {length}, more than there are octets")
        else:
            at += size + length


class Window:
    """The octets of a stream, looked at before they are taken; memory is bounded by what is looked at.

    stream: a file, packed ones unpacked; where its packing is damaged it ends there, and `damage` says so.
    """

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self._held = bytearray()
        self._is_all = False
        self.offset = 0
        """Of the next octet, from the beginning of the stream."""
        self.damage = ""

    def ahead(self, count: int) -> bytearray:
        """Return the next octets, `count` or more, fewer only where the stream ends; they stay there."""
        while len(self._held) < count and not self._is_all:
            try:
                chunk = self._stream.read1(_CHUNK)
            except PACKING_FAULTS as error:
                self.damage = f"the packed file is damaged ({error}); send it again as it was"
                chunk = b""
            self._held += chunk
            self._is_all = not chunk
        return self._held

    def take(self, count: int) -> bytes:
        """Return the next octets and go beyond them: `count`, fewer where the stream ends."""
        taken = bytes(self.ahead(count)[:count])
        del self._held[:count]
        self.offset += len(taken)
        return taken

    def skip(self, filler: bytes) -> bool:
        """Go beyond octets of these values; return whether there were any."""
        held = bytes(self.ahead(_FILLER_STEP)[:_FILLER_STEP])
        count = len(held) - len(held.lstrip(filler))
        self.take(count)
        return count > 0

    def size_of_next(self, at: int = 0) -> int:
        """Return how many octets the next element has, header and all. at: octets in front of it.

        Raises Broken, `at` counted from the next octet, where it is none or not all of it is there.
        """
        wanted = _CHUNK
        while True:
            held = self.ahead(at + wanted)
            there = min(len(held), at + ELEMENT_BYTES_MAX)
            try:
                return element(held, at, there).next - at
            except Broken as broken:
                if wanted < ELEMENT_BYTES_MAX and not self._is_all:
                    wanted = ELEMENT_BYTES_MAX
                    continue
                why = f"{broken.why}: the file ends here, or the length is wrong"
                raise Broken(broken.at, why if self._is_all else f"{broken.why}, which none has") from None
