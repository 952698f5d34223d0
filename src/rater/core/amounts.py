"""Exact numbers: money in micros, prices in units of 10^-10, and the rounded linear form of a cost.

No binary float anywhere. Source of the rules: RULES.md 2.2.
"""

from __future__ import annotations

import re
from math import gcd
from typing import NamedTuple

MICRO = 10**6  # micros in one unit of a currency
E10 = 10**10  # units of a price, setup fee or currency rate in one unit of a currency
COUNT_MAX = 2**31 - 1
"""Of counting units in a file or a CDR, and of other whole numbers there."""
QUANTITY_MAX = 1_000_000
"""Of a client package: so many times a client has it."""
LIMIT = 2**53  # amounts and counters stay within +-LIMIT: what Lua's and JSON readers' doubles hold exactly

# 20 digits before the point are more than any price; the bound keeps a hostile catalog from growing numbers
# at will.
_WHOLE_DIGITS_MAX = 20
_E10_DECIMALS = 10
_MICRO_DECIMALS = 6
_DECIMAL = re.compile(rf"(-?)([0-9]{{1,{_WHOLE_DIGITS_MAX}}})(?:\.([0-9]{{1,20}}))?")

# Wire form: below this bound every intermediate of Lua's double arithmetic is exact (see `wire`).
_PLAIN_MAX = 2**52
LIMB = 10**7  # a product of two limbs is 10^14: about 90 of them add up below 2^53

WireNumber = int | list[int]


def parse_e10(text: str) -> int:
    """Return a price, setup fee or currency rate as an int of 10^-10.

    Raises ValueError with a sentence when it is no decimal or has more than 10 decimals.
    """
    return _parse(text, _E10_DECIMALS)


def parse_micros(text: str) -> int:
    """Return an amount of money as an int of 10^-6.

    Raises ValueError with a sentence when it is no decimal, has more than 6 decimals or exceeds 2^53 micros.
    """
    value = _parse(text, _MICRO_DECIMALS)
    if not -LIMIT <= value <= LIMIT:
        message = f"{text!r} is out of range; amounts are at most 9007199254.740992"
        raise ValueError(message)
    return value


def _parse(text: str, decimals: int) -> int:
    found = _DECIMAL.fullmatch(text)
    if found is None:
        message = f'{text[:60]!r} is not a decimal number; write it like "0.05": digits, a point, no exponent'
        raise ValueError(message)
    sign, whole, fraction = found.groups()
    fraction = (fraction or "").rstrip("0")
    if len(fraction) > decimals:
        message = f"{text[:60]!r} has more than {decimals} decimals; round it"
        raise ValueError(message)
    value = int(whole + fraction.ljust(decimals, "0"))
    return -value if sign else value


def format_e10(value: int) -> str:
    """Return an int of 10^-10 as a decimal without exponent and without trailing zeros."""
    return decimal(value, _E10_DECIMALS)


def format_micros(value: int) -> str:
    """Return micros as a decimal without exponent and without trailing zeros: "-0.006", "0", "2"."""
    return decimal(value, _MICRO_DECIMALS)


def decimal(value: int, decimals: int) -> str:
    """Return an int of 10^-decimals as a decimal without exponent and without trailing zeros."""
    if not value:
        return "0"
    digits = str(abs(value)).zfill(decimals + 1)
    whole, rest = digits[:-decimals], digits[-decimals:].rstrip("0")
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}.{rest}" if rest else sign + whole


def half_up(n: int, d: int) -> int:
    """Return n / d rounded to the nearest int, halves away from zero; d > 0.

    By magnitude, so a reversal is the exact negation: half_up(-n, d) == -half_up(n, d).
    """
    if n >= 0:
        return (2 * n + d) // (2 * d)
    return -((d - 2 * n) // (2 * d))


class Form(NamedTuple):
    """A rounded linear form: the value at x is half_up(a * x + s, d).

    Cost of a call: x = overage in counting units, value = signed micros in the client's currency; s carries
    the setup fee. Conversion of money: x = micros of one currency, value = micros of the other, s = 0.
    """

    a: int
    s: int
    d: int

    def at(self, x: int) -> int:
        """Return the value at x, rounded once, half up by magnitude."""
        return half_up(self.a * x + self.s, self.d)

    def without_s(self) -> Form:
        """Return the form with s = 0: the cost when the setup fee is waived."""
        return Form(self.a, 0, self.d)


def form(a: int, s: int, d: int) -> Form:
    """Return the form with its three numbers divided by their greatest common divisor; d > 0."""
    g = gcd(a, s, d)
    return Form(a // g, s // g, d // g) if g > 1 else Form(a, s, d)


def wire(of: Form, x_max: int) -> tuple[WireNumber, WireNumber, WireNumber]:
    """Return (a, s, d) as the Lua draw function reads them, exact for every |x| <= x_max <= 2^53.

    Either all three are plain ints, or all three are limb lists; a reader looks at the type of d alone.

    - Plain, when |a| * x_max + |s| < 2^52 and d < 2^52. Lua computes, in doubles, n = |a * x + s|, r =
      math.fmod(n, d), q = (n - r) / d, and adds 1 to q when 2 * r >= d; then puts the sign of a * x + s back.
      Every intermediate is an integer below 2^53, so every step is exact. (`n % d` and floor(n / d) are not:
      the division may round up to the next integer.)
    - Limbs, else: each number is [sign, l0, l1, ...] with sign 1 or -1 and |number| = sum of l_i * 10^(7 i),
      l_i in 0 .. 10^7 - 1, least significant first, at least one limb (zero is [1, 0]), no zero limb at the
      top otherwise. The reader splits x the same way, multiplies limb by limb, adds s by sign, divides by d
      with remainder, rounds half up by magnitude. A quotient above 2^53 is reported as out of range, not
      rounded.
    """
    a, s, d = of
    if abs(a) * x_max + abs(s) < _PLAIN_MAX and d < _PLAIN_MAX:
        return of
    return limbs(a), limbs(s), limbs(d)


def limbs(number: int) -> list[int]:
    """Return [sign, l0, l1, ...]: the limbs of 10^7 of a number, least significant first (see `wire`)."""
    out = [-1 if number < 0 else 1]
    rest = abs(number)
    while True:
        rest, low = divmod(rest, LIMB)
        out.append(low)
        if not rest:
            return out
