"""What clients share, merged: currencies, services, resellers, tax profiles, decks, tables, rules."""

from __future__ import annotations

from rater.core.catalog.specs import BUILT_IN
from rater.core.catalog_files.merge_state import Merging, changed
from rater.core.naming import name_key


def merge_shared(merging: Merging) -> None:
    """Merge currencies, services, resellers, tax profiles, code decks and rate tables."""
    _currencies(merging)
    _services(merging)
    merging.new.resellers.update({placed.value.id: placed.value for placed in merging.file.resellers})
    for profile in merging.file.tax_profiles:
        name = merging.kept_name("tax profile", profile)
        merging.new.tax_profiles[name] = changed(profile.value, name=name)
    _decks_and_tables(merging)


def merge_rules(merging: Merging) -> None:
    """Check whose the identification rules are."""
    for rule in merging.file.identification:
        merging.check_owner(rule, rule.value.client, rule.value.account)


def _currencies(merging: Merging) -> None:
    base, content = merging.file.base, merging.new
    if base is not None:
        if content.base not in {None, base.value}:
            merging.fault(
                base, "", base.value, f"the base is {content.base} and cannot change any more; keep it"
            )
        elif base.value in content.currencies:
            merging.fault(
                base, "", base.value, "is loaded as a currency with rates; keep the base that it is in"
            )
        if merging.faults:
            merging.lost.add("currencies")
        content.base = base.value
    for placed in merging.file.currencies:
        name = placed.value.name
        if content.base is None and "currencies" not in merging.lost:
            merging.fault(placed, "", name, "there is no base currency yet; give currencies.base")
        elif name == content.base:
            merging.fault(placed, "", name, "is the base, worth 1 of itself; leave it out")
        elif name not in content.currencies:
            known = [content.base or "", *content.currencies]
            other = next((other for other in known if name_key(other) == name_key(name)), None)
            if other is not None:
                merging.fault(placed, "", name, f"differs from {other} in letter case alone; write {other}")
        content.currencies[name] = placed.value.rates


def _services(merging: Merging) -> None:
    for placed in merging.file.services:
        spec = changed(placed.value, name=merging.kept_name("service", placed))
        known = merging.new.all_services().get(spec.name)
        if known is not None and known != spec:
            problem = f"is {known.unit} / {known.price_unit} and cannot change any more; give it another name"
            if placed.good:
                merging.fault(placed, "", f"{spec.unit} / {spec.price_unit}", problem)
        elif spec not in BUILT_IN:
            merging.new.services[spec.name] = spec
    merging.services = merging.new.all_services()


def _decks_and_tables(merging: Merging) -> None:
    for placed in merging.file.code_decks:
        name = merging.kept_name("code deck", placed)
        merging.new.decks[name] = changed(placed.value, name=name)
    for placed_table in merging.file.rate_tables:
        table = placed_table.value
        merging.check_currency(placed_table, table.currency)
        deck = merging.named(placed_table, "code_deck", table.code_deck, merging.new.decks, "code deck")
        name = merging.kept_name("rate table", placed_table)
        merging.new.rate_tables[name] = changed(table, name=name, code_deck=deck)
