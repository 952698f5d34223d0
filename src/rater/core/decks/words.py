"""The words of the trade: what the headers of a deck's columns and the words of its status column mean."""

# ruff: noqa: RUF001 - words of other alphabets

from __future__ import annotations

import re

from rater.core.naming import name_key

FIELDS = (
    "code", "country_code", "area_code", "name", "price", "setup_fee", "increment", "min_time", "interval",
    "effective_from", "effective_to", "status", "currency",
)  # fmt: skip
"""What a column may hold. `increment` is MINIMAL/INTERVAL in one cell; `code` is the whole code, else
`country_code` and `area_code` are put together."""

STATUSES = ("new", "increase", "decrease", "unchanged", "changed", "blocked", "closed")
"""What a status column may say."""

_HEADERS = {
    "code": """code|codes|prefix|prefixes|dial code|dial codes|dialcode|dialcodes|dialing code|dialing codes|
        dialling code|dialling codes|dial prefix|dialing prefix|destination code|destination codes|dest code|
        destination prefix|breakout|breakouts|break out|break outs|e164|e 164|number prefix|dialed digits|
        dialled digits|digits|full code|dialed code|vorwahl|kennzahl|indicatif|prefixe|préfixe|prefijo|
        prefisso|код|коды|префикс|код направления""",
    "country_code": """country code|country codes|countrycode|cc|country prefix|country dial code|intl code|
        international code|landesvorwahl|код страны""",
    "area_code": """area code|area codes|areacode|areacodes|city code|city codes|citycode|citycodes|ndc|
        national code|regional code|operator code|operator codes|area prefix|ortsvorwahl|код города""",
    "name": """destination|destinations|destination name|dest|dest name|zone|zone name|description|code name|
        location|area name|route|route name|country destination|country network|name|ziel|zielname|
        bezeichnung|destinazione|destino|направление|название""",
    "setup_fee": """connection fee|connect fee|setup fee|set up fee|connection charge|connect charge|
        setup charge|call setup|call setup fee|setup|connection price|connection cost|connection|
        flagfall|flag fall|fee per call|per call fee|verbindungsentgelt|плата за соединение""",
    "increment": """increment|increments|billing increment|billing increments|billing|billing interval|
        billing intervals|charging interval|rounding|billing terms|billing rule|increment rule|interval|
        intervals|min inc|takt|taktung|тарификация""",
    "min_time": """min time|minimum time|minimal time|minimum duration|min duration|first interval|
        initial increment|initial interval|first increment|interval 1|1st interval|initial period|
        first period|min length""",
    "interval": """next interval|next increment|subsequent increment|subsequent interval|additional increment|
        additional interval|second interval|second increment|interval n|nth interval|
        interval 2|next period|
        recurring interval""",
    "effective_from": """effective date|effective|effective from|effectivedate|date effective|effective as of|
        effective since|valid from|start date|from date|date from|begin date|from|date|activation date|
        valid as of|gültig ab|действует с|дата начала|дата""",
    "effective_to": """effective to|effective until|effective till|valid to|valid until|valid till|end date|
        expiry date|expiration date|expiry|expires|to date|date to|until|gültig bis|действует до""",
    "status": """status|rate status|change|changes|rate change|price change|change type|type of change|
        change code|change status|change indicator|action|trend|movement|изменение""",
    "currency": "currency|curr|cur|ccy|currency code|währung|валюта",
}
_EXACT = {
    phrase.strip(): name
    for name, phrases in _HEADERS.items()
    for phrase in " ".join(phrases.split()).split("|")
}
_COUNTRY = frozenset({"country", "country name", "land", "страна"})
"""Stands for the name where no other column does."""

_PRICE = frozenset({
    "rate", "rates", "price", "prices", "tariff", "tarif", "cost", "charge", "charges", "preis", "precio",
    "prix", "prezzo", "тариф", "цена",
})  # fmt: skip
_PRICE_BESIDE = frozenset({
    "per", "min", "mins", "minute", "minutes", "new", "final", "net", "unit", "your", "voice", "termination",
    "call", "calls", "in", "sell", "selling", "buy", "buying", "destination", "a", "the", "amount",
    "минуту", "за", "мин", "pro", "par", "por", "us",
})  # fmt: skip
"""Words beside, that leave it the price of a minute; a currency's three letters and its sign do too."""
_SECONDS = frozenset({"sec", "secs", "second", "seconds", "sekunde", "секунду", "сек"})
_CENTS = frozenset({"cent", "cents", "ct", "cts", "¢", "pence"})
_OLD = frozenset({"old", "previous", "prev", "prior", "last", "former"})
SIGNS_SHOWN = "$€£¥₴₽¢"
"""Signs of money."""

_STATUS_WORDS = {
    "new": "new|added|add|addition|new code|new codes|new destination",
    "increase": "increase|increased|up|higher|rate increase|price increase|increase rate|↑|▲",
    "decrease": "decrease|decreased|down|lower|reduced|reduction|rate decrease|price decrease|↓|▼",
    "unchanged": "unchanged|no change|not changed|same|no changes|existing|=|current|stable",
    "changed": "changed|change|update|updated|modified|modification|rate change",
    "blocked": "blocked|block|barred|suspended|not available|unavailable",
    "closed": """closed|close|deleted|delete|deletion|removed|remove|discontinued|withdrawn|expired|
        terminated|obsolete|cancelled|canceled|code closed|code deleted|code removed|code deletion""",
}
_STATUS_OF = {
    phrase.strip(): name
    for name, phrases in _STATUS_WORDS.items()
    for phrase in " ".join(phrases.split()).split("|")
}


def plain(text: str) -> str:
    """Return a header's or status' words: one case, one blank between, no punctuation but currency signs."""
    return " ".join(re.sub(rf"[^\w{SIGNS_SHOWN}↑↓▲▼=]|_", " ", name_key(text)).split())


class Unit(ValueError):  # noqa: N818 - named for what is wrong
    """A price column whose unit is none that prices may have: a sentence."""


def field_of(title: str) -> str | None:
    """Return the field that a header names; `country` and `old price` are two more, which stand for others.

    None: none. Raises Unit where it is the price of a second, or in cents.
    """
    words = plain(title)
    found = _EXACT.get(words) or _EXACT.get(re.sub(r"( in)? (s|sec|secs|seconds)$", "", words))
    if found is not None:
        return found
    if words in _COUNTRY:
        return "country"
    tokens = set(_tokens(words))
    money = {token for token in tokens if token in SIGNS_SHOWN or token.upper() in _MONEY}
    if not tokens & _PRICE and not (money and tokens & {"min", "minute"}):
        return None
    if _OF_A_CALL.search(words) and not tokens & _MINUTES:
        return "setup_fee"
    rest = tokens - _PRICE - _PRICE_BESIDE - money
    if (rest and rest <= _SECONDS | _CENTS) or "¢" in money:
        check_unit(title)
    if rest and rest <= _OLD | {"current"}:
        return "old price"
    return None if rest else "price"


_OF_A_CALL = re.compile(r"\b(per|rate|price|charge|cost|tariff) call\b")
_MINUTES = frozenset({"min", "mins", "minute", "minutes"})


def check_unit(title: str) -> None:
    """Refuse the title of a price column that tells another unit than whole money for a minute.

    Raises Unit with a sentence.
    """
    tokens = set(_tokens(plain(title)))
    if tokens & (_CENTS | {"¢"}):
        raise Unit(f"{title!r} is a price in cents; have the prices written in whole currency units")
    if tokens & _SECONDS and not tokens & _MINUTES and not any(token.isdigit() for token in tokens):
        raise Unit(f"{title!r} is the price of a second; rates are of a minute: have them multiplied by 60")


def _tokens(words: str) -> list[str]:
    return re.sub(rf"([{SIGNS_SHOWN}])", r" \1 ", words).split()


_MONEY = frozenset({
    "AED", "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EGP", "EUR", "GBP", "GEL", "HKD", "HUF", "IDR",
    "ILS", "INR", "JPY", "KRW", "KZT", "MXN", "MYR", "NGN", "NOK", "NZD", "PHP", "PKR", "PLN", "RON", "RUB",
    "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "UAH", "USD", "VND", "ZAR",
})  # fmt: skip


SIGNS = {
    "$": "USD CAD AUD NZD HKD SGD MXN TWD", "US$": "USD", "€": "EUR", "£": "GBP EGP", "¥": "JPY CNY",
    "₴": "UAH", "₽": "RUB", "₹": "INR", "₺": "TRY", "zł": "PLN",
}  # fmt: skip
"""What stands beside prices → the currencies that it may mean."""


def other_currency(title: str, currency: str) -> str | None:
    """Return the currency that a header names and that is not this one; None: it names no other."""
    for token in _tokens(plain(title).upper()):
        meant = SIGNS.get(token, token if token in _MONEY else "").split()
        if meant and currency.upper() not in meant:
            return token
    return None


def tells_other_money(line: str, currency: str) -> str | None:
    """Return what a line above the rows says of the prices' money that is not this currency; None: nothing.

    Currencies in capitals or by their sign: `try` is a word.
    """
    words = set(_tokens(plain(line)))
    if not words & (_PRICE | {"currency", "currencies", "валюта", "währung"}):
        return None
    if words & (_CENTS | {"¢"}):
        return "cents"
    written = " ".join(re.findall(rf"\b[A-Z]{{3}}\b|[{SIGNS_SHOWN}]", line))
    if other_currency(written, currency) is None:
        return None
    named = {code for token in written.split() for code in SIGNS.get(token, token).split()}
    return None if currency.upper() in named else other_currency(written, currency)


def shown_otherwise(number_format: str, currency: str) -> str | None:
    """Return how a format of numbers shows prices as other than they are; None: it does not.

    number_format: of a workbook, such as `[$€-407]#,##0.00`, `0.00%`, `0.0,` (thousands).
    """
    text = re.sub(r"\[\$([^\]-]*)[^\]]*\]", r' "\1" ', number_format)
    text = re.sub(r"\[[^\]]*\]", "", text)
    digits = re.sub(r'"[^"]*"|\\.|_.|\*.', "", text)
    if "%" in digits:
        return "as percents"
    if re.search(r"[0#?],+(?![0#?,])", digits):
        return "in thousands"
    if set(_tokens(plain(text))) & (_CENTS | {"¢"}):
        return "in cents"
    other = other_currency(text, currency)
    return None if other is None else f"in {other}"


def status_of(text: str) -> str | None:
    """Return the status that a word of the trade means; None: it is none of them."""
    return _STATUS_OF.get(plain(text)) or _STATUS_OF.get(text.strip())


def tells_effect(text: str) -> bool:
    """Return whether a line above the rows tells from when the deck holds."""
    said = f" {plain(text)} "
    return any(f" {phrase} " in said for phrase in _EFFECT)


_EFFECT = (
    "effective", "effective date", "valid from", "valid as of", "gültig ab", "действует с", "in force from",
)  # fmt: skip
