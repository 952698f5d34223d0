"""Faults to be planted in the native engine: a sign, a rounding, one off in a period, a stale memo."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """What is put in place of what."""

    name: str
    file: str
    before: str
    after: str


PLANTED = (
    # amounts and prices
    Fault("sign_of_a_decimal", "amounts.rs", "{ -number } else { number }", "{ number } else { number }"),
    Fault(
        "fee_rounded_down", "amounts.rs", "(n.magnitude() * 2u32 + d.magnitude())", "(n.magnitude() * 2u32)"
    ),
    Fault("share_rounded_down", "amounts.rs", ".checked_mul(2)?.checked_add(d)?", ".checked_mul(2)?"),
    Fault("plain_beyond_doubles", "amounts.rs", "(most < PLAIN_MAX)", "(most < 4 * PLAIN_MAX)"),
    Fault(
        "limbs_without_sign", "amounts.rs", "Sign::Minus { -1 } else { 1 }]", "Sign::Minus { 1 } else { 1 }]"
    ),
    Fault(
        "zeros_at_the_end", "amounts.rs", "out.push_str(text.trim_end_matches('0'));", "out.push_str(text);"
    ),
    Fault(
        "intervals_rounded_down",
        "prices.rs",
        "min_time - (-over).div_euclid(interval * unit) * interval",
        "min_time + over.div_euclid(interval * unit) * interval",
    ),
    Fault(
        "grace_is_open",
        "prices.rs",
        "used.amount <= terms.grace_time * unit",
        "used.amount < terms.grace_time * unit",
    ),
    Fault(
        "setup_fee_by_unit",
        "prices.rs",
        "self.fee.checked_mul(self.unit)?.checked_mul(n)?",
        "self.fee.checked_mul(n)?",
    ),
    Fault(
        "both_sides_are_paid", "prices.rs", "if used.orig { -1 } else { 1 }", "if used.orig { 1 } else { 1 }"
    ),
    Fault("conversion_upside_down", "prices.rs", "let (n, m) = self.factors;", "let (m, n) = self.factors;"),
    Fault(
        "one_above_the_bound",
        "prices.rs",
        "(rounded <= i128::from(LIMIT))",
        "(rounded <= i128::from(LIMIT) + 1)",
    ),
    Fault(
        "grace_is_unanswered",
        "prices.rs",
        "if used.answered { Why::Grace } else { Why::Unanswered }",
        "if used.answered { Why::Unanswered } else { Why::Grace }",
    ),
    # rates and codes
    Fault("shortest_code", "codes.rs", "(0..128u8).rev()", "(0..128u8)"),
    Fault("rate_ends_late", "codes.rs", "if rate.to_ms <= at_ms {", "if rate.to_ms < at_ms {"),
    Fault("rate_begins_late", "codes.rs", "if at_ms < rate.from_ms {", "if at_ms <= rate.from_ms {"),
    Fault(
        "rate_before_the_last",
        "codes.rs",
        "if rate.to_ms <= at_ms {\n                    break;",
        "if rate.to_ms <= at_ms {\n                    continue;",
    ),
    Fault(
        "short_wildcards_first",
        "codes.rs",
        "2 + CODE_DIGITS_MAX - pattern.len() as i64",
        "2 + pattern.len() as i64",
    ),
    Fault("rates_of_a_code_alike", "codes.rs", "Arc::ptr_eq(&other.price, price)", "!other.code.is_empty()"),
    Fault(
        "rates_of_a_code_apart",
        "codes.rs",
        "map_or(place, |at| *first + at as u32)",
        "map_or(place, |_| place)",
    ),
    Fault(
        "tables_alike",
        "draw.rs",
        "let key = (Arc::as_ptr(table) as usize, ",
        "let key = (1, ",
    ),
    Fault(
        "given_rates_alike",
        "draw.rs",
        "scratch.extend(rate.fragment());",
        "scratch.extend([rate.price.fee_text.as_ref()]);",
    ),
    Fault(
        "currency_rate_begins_late",
        "catalog.rs",
        "rates.partition_point(|(since, _)| *since <= at_ms)",
        "rates.partition_point(|(since, _)| *since < at_ms)",
    ),
    # packages and offers
    Fault(
        "exclude_is_forgotten",
        "packages.rs",
        "&& self.limits[place].excludes(code)",
        '&& self.limits[place].excludes("x")',
    ),
    Fault(
        "version_begins_late",
        "packages.rs",
        "self.since.partition_point(|since| *since <= at_ms)",
        "self.since.partition_point(|since| *since < at_ms)",
    ),
    Fault(
        "status_of_the_beginning",
        "packages.rs",
        "let (since, status) = self.statuses[place];",
        "let (since, status) = (self.statuses[place].0, self.statuses[0].1);",
    ),
    Fault(
        "money_before_volume",
        "offers.rs",
        "limit.money,\n                        one.latest.priority",
        "!limit.money,\n                        one.latest.priority",
    ),
    Fault("high_numbers_first", "offers.rs", "one.latest.priority,", "-one.latest.priority,"),
    Fault(
        "cap_of_each_part",
        "offers.rs",
        "if rolled.is_some() {\n                -cap\n            } else {",
        "if rolled.is_some() {\n                cap\n            } else {",
    ),
    Fault(
        "quantity_is_forgotten",
        "offers.rs",
        "i128::from(limit.size) * i128::from(quantity)",
        "i128::from(limit.size) * i128::from(quantity.min(1))",
    ),
    Fault("moved_volume_twice", "offers.rs", "- of_limit(&one.moved, &limit.id).unwrap_or(0)", ""),
    Fault("marks_rounded_up", "offers.rs", ".div_euclid(100)", "/ 100"),
    Fault("money_waives_the_fee", "offers.rs", "latest.waive_setup && !limit.money", "latest.waive_setup"),
    Fault("percent_in_a_field", "offers.rs", ".replace('%', \"%25\")", ""),
    Fault("dot_in_a_field", "offers.rs", ".replace('.', \"%2E\")", ""),
    # periods, registers, due work
    Fault("stop_is_inside", "periods.rs", "if at_ms >= stop {", "if at_ms > stop {"),
    Fault("memo_beyond_a_status", "periods.rs", ".min(until).min(status_until)", ".min(until)"),
    Fault(
        "end_date_is_forgotten",
        "periods.rs",
        "[one.stop_ms, held.end_ms, end, archived,",
        "[one.stop_ms, held.end_ms, archived,",
    ),
    Fault(
        "other_accounts_package",
        "periods.rs",
        "held.account.is_some() && held.account.as_deref() != account",
        "held.account.is_some() && account.is_none()",
    ),
    Fault(
        "ends_alike",
        "periods.rs",
        "expiration: stops.partition_point(|stop| *stop < stops_ms[*group])",
        "expiration: stops.len().min(1)",
    ),
    Fault("turn_is_backwards", "periods.rs", "turns[*place] = turn", "turns[*place] = found.len() - turn"),
    Fault(
        "clients_table_first",
        "clients.rs",
        "own.or_else(|| self.tables.get(side, service))",
        "self.tables.get(side, service).or(own)",
    ),
    Fault(
        "memo_of_another_catalog", "clients.rs", "one.catalog == catalog.serial && one.from_ms", "one.from_ms"
    ),
    Fault(
        "memo_of_another_period",
        "clients.rs",
        "one.from_ms <= at_ms && at_ms < one.until_ms",
        "one.from_ms <= at_ms",
    ),
    Fault("memo_of_another_account", "clients.rs", "&& of.account.as_deref() == account", ""),
    Fault("wakes_late", "clients.rs", "one.total - credit_limit", "one.total"),
    Fault(
        "due_by_another_catalog",
        "clients.rs",
        "let known = self.catalog == catalog.version && ",
        "let known = self.catalog <= catalog.version && ",
    ),
    Fault("due_a_second_late", "due.rs", "stop - SECOND_MS", "stop"),
    Fault(
        "advance_is_forgotten",
        "due.rs",
        "Some(span) => zone.later(stop, span, -1).ok_or(())?,",
        "Some(_) => stop,",
    ),
    Fault("roll_over_is_not_due", "due.rs", "to.push((into.start_ms, What::Calls));", "let _ = into;"),
    Fault(
        "due_is_not_met",
        "batch.rs",
        "if at_ms > cdr.at_ms.min(came)",
        "if at_ms >= cdr.at_ms.min(came) - 60_000",
    ),
    # dates as they were loaded by then, and what waits (decisions/0102-dates-of-a-package-as-of-then.md)
    Fault("end_that_was_taken_back", "periods.rs", "cancelled, ended.map(|(at_ms, _)| at_ms)]", "cancelled]"),
    Fault("own_dates_are_forgotten", "periods.rs", "life.map_or(0, |life| life.dates_ms)", "0"),
    Fault("dates_since_the_first_period", "periods.rs", "life.periods.last()", "life.periods.first()"),
    Fault(
        "dates_since_the_assignment",
        "periods.rs",
        "map_or(held.assigned_ms, |last| last.by_ms)",
        "map_or(held.assigned_ms, |_| held.assigned_ms)",
    ),
    Fault(
        "dates_ms_is_another_field",
        "clients.rs",
        "let dates_ms = fields.next(Reader::int)?;",
        "fields.skip(1)?; let dates_ms = fields.next(Reader::int)?;",
    ),
    Fault(
        "end_at_the_load_is_late", "packages.rs", "filter(|end| *end <= until)", "filter(|end| *end < until)"
    ),
    Fault("end_that_never_came", "packages.rs", "filter(|end| *end <= until)", "filter(|_| until > 0)"),
    Fault(
        "end_before_its_load",
        "packages.rs",
        "Some((end.max(since), end <= since))",
        "Some((end, end <= since))",
    ),
    Fault(
        "load_ends_it_first",
        "packages.rs",
        "Some((end.max(since), end <= since))",
        "Some((end.max(since), false))",
    ),
    Fault(
        "loads_end_all_last",
        "packages.rs",
        "Some((end.max(since), end <= since))",
        "Some((end.max(since), true))",
    ),
    Fault(
        "ends_since_the_beginning", "packages.rs", "in self.since(from_ms) {", "in self.since(BEGINNING_MS) {"
    ),
    Fault(
        "version_holds_since_its_load",
        "packages.rs",
        "if place == first { BEGINNING_MS } else { self.since[place] }",
        "self.since[place]",
    ),
    Fault("archived_first", "due.rs", "What::Loaded => 3,", "What::Loaded => 0,"),
    Fault(
        "own_end_is_forgotten",
        "due.rs",
        "[own, package.ended",
        "[own.filter(|_| false), package.ended",
    ),
    Fault("start_at_the_load_is_late", "due.rs", "if start <= until {", "if start < until {"),
    Fault("start_before_its_load", "due.rs", "(start.max(since), start <= since)", "(start, start <= since)"),
    Fault(
        "activation_by_the_latest",
        "due.rs",
        "package.at(at_ms - i64::from(!loaded))",
        "package.latest()",
    ),
    Fault(
        "activation_by_its_load",
        "due.rs",
        "package.at(at_ms - i64::from(!loaded))",
        "package.at(at_ms)",
    ),
    Fault(
        "past_is_not_opened",
        "due.rs",
        "&& !(held.activate_in_past && start < end)",
        "&& !held.activate_in_past",
    ),
    Fault(
        "withdrawn_by_what_it_knew",
        "due.rs",
        "package.since(dates_from(held)).skip(1)",
        "package.since(dates_from(held))",
    ),
    Fault("never_withdrawn", "due.rs", "to.push((since, What::Loaded));", "let _ = since;"),
    Fault(
        "what_waits_never_ends",
        "due.rs",
        "    to.extend(ending);\n    let enabled",
        "    let _ = ending;\n    let enabled",
    ),
    Fault(
        "enabled_before_it_was_tried", "due.rs", "*since > waiting.status_ms", "*since >= waiting.status_ms"
    ),
    Fault("renewed_before_its_end_moved", "due.rs", ".max(life.dates_ms);", ";"),
    Fault(
        "renewed_by_the_load_itself",
        "due.rs",
        "(due_ms - 1).max(dates_from(held))",
        "due_ms.max(dates_from(held))",
    ),
    Fault("renewed_by_older_dates", "due.rs", "(due_ms - 1).max(dates_from(held))", "(due_ms - 1)"),
    Fault("renewed_at_its_end", "due.rs", "is_none_or(|end| end > stop)", "is_none_or(|end| end >= stop)"),
    Fault("renewed_before_the_load", "due.rs", "Some(due_ms.max(since))", "Some(due_ms.max(since.min(0)))"),
    Fault("renewed_within_a_second", "due.rs", ".max(opened_ms))", ".max(last.by_ms))"),
    Fault("last_is_renewed", "due.rs", "last.stop_ms.filter(|_| !life.last)", "last.stop_ms"),
    Fault("disabled_hides_what_clears", "clients.rs", "filter(|one| !one.disabled)", "filter(|_| true)"),
    Fault(
        "zone_begins_late",
        "clients.rs",
        "later.partition_point(|(since, _)| *since <= at_ms)",
        "later.partition_point(|(since, _)| *since < at_ms)",
    ),
    Fault("zone_of_the_beginning", "clients.rs", "0 => &first.1,", "0 => &self.zone,"),
    Fault(
        "owner_of_the_cache",
        "identify.rs",
        "!batch.owners.contains_key(account)",
        "cache.owner(batch, account).is_none()",
    ),
    Fault(
        "goes_on_from_others", "draw.rs", "out.int(0); // changes of other", "out.int(1); // changes of other"
    ),
    # time
    Fault("gap_goes_back", "zones.rs", "earlier.max(offsets[place])", "earlier.min(offsets[place])"),
    Fault("summer_begins_early", "zones.rs", "start += longer;", "start += 0 * longer;"),
    Fault("last_week_of_a_month", "zones.rs", "of_month -= 7;", "of_month -= 0;"),
    Fault(
        "months_end_on_the_28th", "zones.rs", "local.day.min(days_in_month(year, month))", "local.day.min(28)"
    ),
    Fault("half_a_microsecond", "instants.rs", ">= b'5'", "> b'5'"),
    Fault("offset_the_other_way", "instants.rs", "[b'-', ..] => -1,", "[b'-', ..] => 1,"),
    # matching and identification
    Fault(
        "four_are_five",
        "matching.rs",
        "if count as usize <= FIRST_MAX {",
        "if count as usize <= FIRST_MAX + 1 {",
    ),
    Fault(
        "allow_is_not_told",
        "matching.rs",
        "(meet(&first, allowing) || !meet(&rest, allowing)).then_some(first)",
        "Some(first)",
    ),
    Fault("shortest_call_is_open", "matching.rs", "if billed < offers", "if billed <= offers"),
    Fault("free_calls_of_vendors", "matching.rs", "{ !orig }", "{ orig }"),
    Fault("last_rule_first", "rules.rs", "place.0 < found.0", "place.0 > found.0"),
    Fault(
        "any_account_is_its_own",
        "identify.rs",
        ".filter(|account| view.account(account).is_none())",
        ".filter(|_| false)",
    ),
    Fault(
        "rejected_for_an_old_view", "batch.rs", "lacking.clients.insert(view.id.clone());", "let _ = view;"
    ),
    Fault("absent_for_ever", "border.rs", "batch.absent_clients.remove(client);", ""),
    # the draw
    Fault("records_run_together", "draw.rs", "item_head + i64::from(same_record)", "item_head"),
    Fault(
        "first_limits_are_all",
        "draw.rs",
        "if side.cut { !i64::from(usage) } else { i64::from(usage) }",
        "i64::from(usage)",
    ),
    Fault("duplicate_at_any_client", "draw.rs", " ^ u64::from(client_crc)", ""),
    Fault(
        "account_is_no_content",
        "draw.rs",
        "out.option_text(side.account.map(|account| texts.get(account)));",
        "out.nil();",
    ),
    Fault("fields_from_two", "draw.rs", "const FIRST_FIELD: i64 = 3;", "const FIRST_FIELD: i64 = 2;"),
    Fault("one_head_for_all_accounts", "draw.rs", "&& get(head.account) == get(side.account)", ""),
    Fault("one_head_for_all_periods", "draw.rs", "&& alike(&head.opened, &side.opened)", ""),
    Fault(
        "converted_the_wrong_way",
        "draw.rs",
        "[(n, d, cost_max), (d, n, BigInt",
        "[(d, n, cost_max), (n, d, BigInt",
    ),
    Fault(
        "mark_of_the_client_before",
        "draw.rs",
        "Some((place + 1, of.view.mark?))",
        "Some((place, of.view.mark?))",
    ),
    Fault(
        "any_rise_is_forgotten",
        "draw.rs",
        "Some(_) if of.view.catalog != self.catalog => Some(ANY_RISE),",
        "",
    ),
    Fault("fee_of_the_item_before", "draw.rs", "out.int(item as i64 + 1);", "out.int(item as i64);"),
    Fault(
        "whole_is_forgotten",
        "border.rs",
        "side.whole |= side.view.as_ref()",
        "side.whole &= side.view.as_ref()",
    ),
    # what is published
    Fault("overage_is_all", "transaction.rs", "overage -= taken;", ""),
    Fault("fee_is_not_waived", "transaction.rs", "if limit.waive {", "if limit.waive && of > 0 {"),
    Fault(
        "currency_shown_twice", "transaction.rs", "if !fx[..place].contains(one) {", "if place < usize::MAX {"
    ),
    Fault(
        "told_twice",
        "transaction.rs",
        "if left <= *rest && *rest < left.saturating_add(taken) {",
        "if left <= *rest && *rest <= left.saturating_add(taken) {",
    ),
    Fault("time_that_is_none", "transaction.rs", "stamp_of(cdr.timestamp)", "cdr.timestamp"),
    Fault("fee_of_the_other_side", "transaction.rs", "FEE_INDEX_MIN + side.index as i64", "FEE_INDEX_MIN"),
    Fault(
        "late_is_not_counted",
        "batch.rs",
        "into.late = opened.until_ms <= came",
        "into.late = opened.until_ms > came",
    ),
    Fault(
        "discount_for_who_is_paid",
        "fees.rs",
        "if total > 0 { (total - discount).max(0) } else { total }",
        "(total - discount).max(0)",
    ),
    Fault("tax_of_the_last", "fees.rs", "if included && let Some", "if !included && let Some"),
    # reading
    Fault("counts_below_zero", "cdr.rs", "&& !(WRAPPED_MIN..WRAPPED_END).contains(number)", ""),
    Fault("call_that_is_not_over", "cdr.rs", "arrival.last_ms - duration_ms.unwrap_or(0)", "arrival.last_ms"),
    Fault("ended_before_set_up", "cdr.rs", "setup_ms.or(ended_ms)?", "ended_ms.or(setup_ms)?"),
    Fault(
        "characters_are_bytes",
        "cdr.rs",
        "text.len() <= chars || text.chars().count() <= chars",
        "text.len() <= chars",
    ),
    Fault("half_a_character", "json.rs", "if !(0xDC00..0xE000).contains(&second) {", "if second < 0xDC00 {"),
    Fault("one_deeper", "json.rs", "b'[' if depth < DEPTH_MAX", "b'[' if depth <= DEPTH_MAX"),
    Fault("zero_of_italy", "numbers.rs", '[b"39", b"378"', '[b"38", b"378"'),
    Fault("time_stands_still", "batch.rs", "self.lane_ms = raw.timestamp;", ""),
    # a bucket in memory
    Fault(
        "bucket_rounds_halves_down",
        "bucket_draw.rs",
        "(2 * n.abs() + d) / (2 * d)",
        "(2 * n.abs() + d - 1) / (2 * d)",
    ),
    Fault(
        "bucket_rounds_to_no_sign", "bucket_draw.rs", "Some(if n < 0 { -size } else { size })", "Some(size)"
    ),
    Fault("bucket_waives_no_setup_fee", "bucket_draw.rs", "waived |= one.waive;", "waived |= false;"),
    Fault(
        "bucket_tells_more_left", "bucket_draw.rs", "left: rest - taken, covered: 0", "left: rest, covered: 0"
    ),
    Fault("bucket_caps_apart", "bucket_draw.rs", "last.index + 1 == index", "last.index == index"),
    Fault(
        "bucket_volume_of_all_packages",
        "bucket_draw.rs",
        "if one.money || chosen.group != Some(one.group) {",
        "if one.money {",
    ),
    Fault(
        "bucket_money_of_all_packages",
        "bucket_draw.rs",
        "if !one.money || chosen.group != Some(one.group) || rest <= 0 {",
        "if !one.money || rest <= 0 {",
    ),
    Fault(
        "bucket_money_before_volume",
        "bucket_draw.rs",
        "let mut cost = item.cost.at(overage, waived);",
        "let mut cost = item.cost.at(item.billed.max(overage), waived);",
    ),
    Fault(
        "bucket_last_limit_first",
        "bucket_draw.rs",
        "for first in &item.candidates {",
        "for first in item.candidates.iter().rev() {",
    ),
    Fault("bucket_pays_in_full_once_more", "bucket_draw.rs", "if need <= most {", "if need < most {"),
    Fault(
        "bucket_covers_more_than_it_costs",
        "bucket_draw.rs",
        "let covered = cost.min(worth);",
        "let covered = worth;",
    ),
    Fault(
        "bucket_conversions_swapped",
        "bucket_draw.rs",
        "|(to_package, _)| to_package.at(cost, false)",
        "|(_, to_package)| to_package.at(cost, false)",
    ),
    Fault(
        "bucket_credit_is_open",
        "bucket_draw.rs",
        "self.before + self.credit >= 0",
        "self.before + self.credit > 0",
    ),
    Fault(
        "bucket_fee_again",
        "bucket_draw.rs",
        "ask.group == first.group && used[ask.field] == 0",
        "ask.group == first.group",
    ),
    Fault(
        "bucket_fee_at_the_last_micro",
        "bucket_draw.rs",
        "funds.balance + funds.credit + asked < 0",
        "funds.balance + funds.credit + asked <= 0",
    ),
    Fault(
        "bucket_range_without_fee", "bucket_draw.rs", "    balance += ask.amount;\n", "    balance += 0;\n"
    ),
    Fault("bucket_fee_is_not_charged", "bucket.rs", "after += ask.amount;", "after += 0;"),
    Fault(
        "bucket_fee_sums_swapped",
        "bucket.rs",
        "row[ask.field + 1] += ask.net;",
        "row[ask.field + 1] += ask.amount;",
    ),
    Fault(
        "bucket_sides_of_their_own",
        "bucket.rs",
        "if !item.same_record || draft",
        "if item.same_record || draft",
    ),
    Fault(
        "bucket_forgets_the_next_generation",
        "bucket.rs",
        "[generation, generation - 1, generation + 1]",
        "[generation, generation - 1]",
    ),
    Fault("bucket_forgets_older_keys", "bucket.rs", "for key in [key, older] {", "for key in [key, key] {"),
    Fault(
        "bucket_content_is_alike",
        "bucket.rs",
        "if known == content { DUPLICATE } else { DIFFERS }",
        "if known == content { DUPLICATE } else { DUPLICATE }",
    ),
    Fault(
        "bucket_draws_by_newer_views",
        "bucket.rs",
        "self.versions[place]? != of.version",
        "self.versions[place]? > of.version",
    ),
    Fault("bucket_draws_from_odd_sums", "bucket.rs", "let odd = draft.odd[place] &&", "let odd = false &&"),
    Fault(
        "bucket_fees_below_nothing_are_odd",
        "bucket.rs",
        "== Some(&true) { -LIMIT } else { 0 }",
        "== Some(&true) { 0 } else { 0 }",
    ),
    Fault(
        "bucket_wakes_by_a_fall",
        "bucket.rs",
        "            && before < after\n",
        "            && before <= after\n",
    ),
    Fault(
        "bucket_wakes_and_goes_on",
        "bucket.rs",
        "if std::mem::take(&mut draft.rose[place]) {",
        "if false && draft.rose[place] {",
    ),
    Fault(
        "bucket_mark_is_below",
        "bucket.rs",
        "(before < *mark) != (after < *mark)",
        "(before <= *mark) != (after <= *mark)",
    ),
    Fault(
        "bucket_change_out_of_range",
        "bucket.rs",
        "in_range(held) && in_range(held + delta)",
        "in_range(held)",
    ),
    Fault(
        "bucket_change_beside_its_use",
        "bucket.rs",
        "Some(at) => draft.used[place][at] = value + of.delta,",
        "Some(at) => draft.used[place][at] = value,",
    ),
    Fault(
        "bucket_change_of_a_counter_lost",
        "bucket.rs",
        "held.set(field, value);\n            }\n        }\n        if",
        "let _ = value;\n            }\n        }\n        if",
    ),
    Fault("bucket_more_for_volume_alone", "bucket.rs", "drawn.amount == 0 && volumes", "volumes"),
    Fault("bucket_older_limits_of_wide_costs", "bucket_call.rs", "limbs.iter().rev()", "limbs.iter()"),
)
