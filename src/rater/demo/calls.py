"""Call records as a carrier's switches would send them: endless, and the same ones for the same seed.

A few clients make most of the calls, most go to a few countries, a quarter is not answered, durations are
log-normal. A fifth has both sides. Some records come twice, a few are wrong: each reason has its turn.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import accumulate
from typing import Any, Final

from rater.core.instants import DAY_MS, rfc3339
from rater.demo import catalog, prices

Json = dict[str, Any]

UNANSWERED: Final = 0.25
BOTH_SIDES: Final = 0.20
TERM_ONLY: Final = 0.03
DUPLICATES: Final = 0.02
DIFFERS: Final = 0.001
"""Duplicates whose content is another: a switch that wrote a call down twice."""
WRONG: Final = 0.008
MESSAGES: Final = 0.025
DATA: Final = 0.015
MOBILE: Final = 0.6

_ZIPF = 0.95  # the exponent: the first client makes about every tenth call
_MEDIAN_S = 95.0
_SIGMA = 1.15
_LONGEST_S = 7_200  # a switch's usual limit
_LATENESS_MS_MAX = 3_000  # from hanging up to the record
_RECENT = 400  # a duplicate comes soon after
_CARRIER_EVERY = 6  # in the order of traffic
_SOURCES = ("fs1", "fs2", "sbc1")
_CALLERS = ("44", "49", "380", "1", "48", "33")


def sides(cdr: Json) -> int:
    """Return how many sides a record has: each of them ends as rated, zero, rejected or duplicate."""
    return ("orig" in cdr) + ("term" in cdr)


def calls(seed: int, start_ms: int, clock: Callable[[], int] | None = None) -> Iterator[Json]:
    """Yield records (CONTRACTS.md, CDR) without end.

    start_ms: now, in ms since 1970 UTC. clock: tells the now of each record in ms; without one it goes
    on by a millisecond with each record, so that equal arguments give equal records.
    """
    return _Switch(seed, start_ms, clock).records()


class _Switch:
    """Makes the records. One source of chance, asked in a fixed order."""

    def __init__(self, seed: int, start_ms: int, clock: Callable[[], int] | None) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - example traffic
        self._run = f"{seed:x}-{start_ms:x}"  # ids of two runs differ
        self._number = 0
        self._start_ms = start_ms
        self._clock = clock or self._steady
        everyone = catalog.places()
        self._callers = _by_traffic(everyone)
        self._caller_weights = _zipf(len(self._callers))
        self._vendors = everyone[-catalog.VENDORS :]
        self._vendor_weights = _zipf(len(self._vendors))
        self._country_weights = list(accumulate(country.weight for country in prices.COUNTRIES))
        self._codes = {country: _codes(country) for country in prices.COUNTRIES}
        self._recent: deque[Json] = deque(maxlen=_RECENT)
        self._wrongs = (
            _no_client, _no_account, _foreign_account, _no_rate, _no_number, _no_service, _no_offset,
            _negative, _never_answered, _tomorrow, _last_month,
        )  # fmt: skip

    def _steady(self) -> int:
        return self._start_ms + self._number

    def records(self) -> Iterator[Json]:
        while True:
            luck = self._chance.random()
            if luck < DUPLICATES and self._recent:
                again = self._chance.choice(self._recent)
                yield _changed(again) if luck < DIFFERS else again
                continue
            record = self._record()
            if luck > 1 - WRONG:
                self._chance.choice(self._wrongs)(record)
            else:
                self._recent.append(record)
            yield record

    def _record(self) -> Json:
        chance = self._chance
        self._number += 1
        record: Json = {
            "id": f"{self._run}-{self._number:x}",
            "source": chance.choice(_SOURCES),
        }
        luck = chance.random()
        if luck < MESSAGES + DATA:
            self._other_service(record, "messages" if luck < MESSAGES else "data")
            return record
        self._times(record)
        record["caller"] = f"{chance.choice(_CALLERS)}{chance.randrange(10**8, 10**9)}"
        record["called"] = self._called()
        self._parties(record, chance.random())
        return record

    def _other_service(self, record: Json, service: str) -> None:
        chance = self._chance
        retail = self._caller()
        while retail.ip is not None:  # carriers send calls alone
            retail = self._caller()
        ended_ms = self._clock() - chance.randrange(_LATENESS_MS_MAX)
        zone = self._country()
        record |= {
            "service": service,
            "answered_at": rfc3339(ended_ms),
            "volume": 1 if service == "messages" else 1 + int(chance.expovariate(1 / 4_000)),  # KiB
            "called": self._number_in(zone) if service == "messages" else zone.code,
            "orig": {"client": retail.client, "account": retail.accounts[0]},
        }

    def _times(self, record: Json) -> None:
        chance = self._chance
        ended_ms = self._clock() - chance.randrange(_LATENESS_MS_MAX)
        ringing_ms = chance.randrange(1_500, 32_000)
        if chance.random() < UNANSWERED:
            record |= {
                "setup_at": rfc3339(ended_ms - ringing_ms), "ended_at": rfc3339(ended_ms), "duration_ms": 0,
            }  # fmt: skip
            return
        seconds = min(chance.lognormvariate(math.log(_MEDIAN_S), _SIGMA), _LONGEST_S)
        duration_ms = max(1, int(seconds * 1000))
        answered_ms = ended_ms - duration_ms
        record |= {
            "setup_at": rfc3339(answered_ms - ringing_ms), "answered_at": rfc3339(answered_ms),
            "ended_at": rfc3339(ended_ms), "duration_ms": duration_ms,
        }  # fmt: skip

    def _parties(self, record: Json, luck: float) -> None:
        if luck >= TERM_ONLY:
            record["orig"] = self._orig()
        if luck < TERM_ONLY + BOTH_SIDES:
            record["term"] = self._term()

    def _caller(self) -> catalog.Place:
        return self._chance.choices(self._callers, cum_weights=self._caller_weights)[0]

    def _orig(self) -> Json:
        chance = self._chance
        place = self._caller()
        if place.ip is not None:
            return {"ip": _neighbour(place.ip, chance)}
        line = chance.randrange(len(place.accounts))
        if place.logins:
            return {"login": place.logins[line], "ip": f"192.0.2.{chance.randrange(1, 255)}"}
        if chance.random() < 0.3:  # noqa: PLR2004 - an account alone names its client
            return {"account": place.accounts[line]}
        return {"client": place.client, "account": place.accounts[line]}

    def _term(self) -> Json:
        chance = self._chance
        place = chance.choices(self._vendors, cum_weights=self._vendor_weights)[0]
        address = _neighbour(place.ip or "", chance)
        return {"gateway": place.gateway, "ip": address} if chance.random() < 0.8 else {"ip": address}  # noqa: PLR2004 - some switches tell the address alone

    def _country(self) -> prices.Country:
        return self._chance.choices(prices.COUNTRIES, cum_weights=self._country_weights)[0]

    def _called(self) -> str:
        number = self._number_in(self._country())
        return f"+{number}" if self._chance.random() < 0.1 else number  # noqa: PLR2004 - some switches write it so

    def _number_in(self, country: prices.Country) -> str:
        fixed, mobile = self._codes[country]
        luck = self._chance.random()
        if mobile and luck < MOBILE:
            code = self._chance.choice(mobile)
        else:  # every other call to a fixed line goes to the capital
            code = (
                country.capital if country.capital and luck > (1 + MOBILE) / 2 else self._chance.choice(fixed)
            )
        rest = max(country.digits - len(code), 4)
        # No zero to begin with: after an area code it would be another form of the number.
        return f"{code}{self._chance.randrange(10 ** (rest - 1), 10**rest)}"


def _by_traffic(everyone: tuple[catalog.Place, ...]) -> list[catalog.Place]:
    """Return the calling clients, the busiest first, the carriers strewn in."""
    retail = list(everyone[: catalog.RETAIL])
    for place, carrier in enumerate(everyone[catalog.RETAIL : catalog.RETAIL + catalog.CARRIERS], start=1):
        retail.insert(place * _CARRIER_EVERY, carrier)
    return retail


def _zipf(number: int) -> list[float]:
    return list(accumulate(1 / rank**_ZIPF for rank in range(1, number + 1)))


def _codes(country: prices.Country) -> tuple[list[str], list[str]]:
    found = prices.destinations(country)
    # The country's own code says nothing of where: real numbers have an area.
    places = [one.code for one in found if not one.is_mobile and one.code != country.code]
    return places or [country.code], [one.code for one in found if one.is_mobile]


def _neighbour(address: str, chance: random.Random) -> str:
    """Return an address of the same network of eight."""
    head, _, last = address.rpartition(".")
    return f"{head}.{int(last) // 8 * 8 + chance.randrange(1, 7)}"


def _changed(record: Json) -> Json:
    amount = "volume" if "volume" in record else "duration_ms"
    more = {**record, amount: record[amount] + 61_000}
    return more if "answered_at" in record else {**more, "answered_at": record["ended_at"]}


# ------------------------------------------------------------------------- what is wrong now and then
def _side(record: Json) -> Json:
    side: Json = record["orig"] if "orig" in record else record["term"]
    return side


def _answered(record: Json) -> None:
    """Make it a call that was answered, with the orig side alone: what is wrong is then looked at."""
    if "answered_at" not in record:
        record["answered_at"] = record["ended_at"]
    if "volume" not in record:
        record["duration_ms"] = record["duration_ms"] or 1_000


def _no_client(record: Json) -> None:
    side = _side(record)
    side.clear()
    side["client"] = "9999"


def _no_account(record: Json) -> None:
    side = _side(record)
    side.clear()
    side["account"] = "sip-9999-1"


def _foreign_account(record: Json) -> None:
    side = _side(record)
    side.clear()
    side.update(client="2", account=catalog.places()[0].accounts[0])


def _no_rate(record: Json) -> None:
    _answered(record)
    record["called"] = f"2105{record['called'][-6:]}"  # no country has 210


def _no_number(record: Json) -> None:
    record["called"] = f"{record['called'][:5]}x{record['called'][-3:]}"


def _no_service(record: Json) -> None:
    record["service"] = "fax"


def _no_offset(record: Json) -> None:
    _answered(record)
    record["answered_at"] = record["answered_at"].removesuffix("Z")


def _negative(record: Json) -> None:
    record["volume" if "volume" in record else "duration_ms"] = -1


def _never_answered(record: Json) -> None:
    _answered(record)
    del record["answered_at"]


def _moved(record: Json, by_ms: int) -> None:
    for name in ("setup_at", "answered_at", "ended_at"):
        if name in record:
            moment = datetime.fromisoformat(record[name])
            record[name] = rfc3339(int(moment.timestamp()) * 1000 + by_ms)


def _tomorrow(record: Json) -> None:
    _moved(record, DAY_MS)


def _last_month(record: Json) -> None:
    _moved(record, -30 * DAY_MS)
