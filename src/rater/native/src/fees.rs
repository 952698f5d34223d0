//! The fee that the first call of a period brings: what the draw is asked, what is published if it does. Source of the
//! rules: RULES.md section 4 (Charge on event, Fees of periods), 2.2; states what `core/rating/event_fees.py` and
//! `core/clients/fees.py` do.

use crate::amounts::{E10, LIMIT, MICRO, format_e10, half_up, parse_e10, write_micros};
use crate::catalog::Catalog;
use crate::clients::{Held, HeldPeriod, View};
use crate::instants::write_rfc3339;
use crate::json::{quoted, write_quoted};
use crate::msgpack::Writer;
use crate::offers::Chosen;
use crate::packages::Version;
use crate::periods::{ByEvent, Opened, period_of};
use num_bigint::BigInt;
use std::fmt::Write;
use std::sync::Arc;

/// A fee as the draw is asked for it. net, amount: signed micros; value: its transaction.
pub struct EventFee {
    pub group: usize,
    pub net: i64,
    pub amount: i64,
    pub deny: bool,
    pub value: Box<str>,
}

impl EventFee {
    /// As it is kept with the outcome.
    pub fn write(&self, out: &mut Writer) {
        out.array(3);
        out.int(self.group as i64);
        out.text(&self.value);
        out.int(self.net);
    }
}

/// What a fee comes to; amounts as the client's balance sees them.
struct Fee {
    net: i64,
    taxes: Vec<(Box<str>, Box<str>, i64)>,
    amount: i64,
    /// JSON of its lines.
    lines: String,
    fx: Vec<Arc<str>>,
}

/// The fees of those client packages that the call may draw from. Err: one cannot be worked out.
pub fn event_fees(
    opened: &Opened,
    view: &View,
    chosen: &Chosen,
    at_ms: i64,
    cdr: (&str, &str),
    catalog: &Catalog,
) -> Result<Vec<EventFee>, ()> {
    let mut out = Vec::new();
    for by in &opened.by_event {
        if !chosen.candidates.iter().any(|one| one.text.group == by.group) {
            continue;
        }
        let held = &view.packages[by.group];
        let one = period_of(held, &by.period);
        if let Some(fee) = fee_of(&by.period.version, held.quantity, one, &view.currency, catalog, at_ms)? {
            let value = fee_text(view, held, by, one, &fee, (at_ms, catalog.version), cdr);
            let deny = !by.period.latest.allow;
            out.push(EventFee {
                group: by.group,
                net: fee.net,
                amount: fee.amount,
                deny,
                value: value.into(),
            });
        }
    }
    Ok(out)
}

/// The subscription fee of a period; None: the package has none.
fn fee_of(
    version: &Version,
    quantity: i64,
    period: &HeldPeriod,
    currency: &str,
    catalog: &Catalog,
    at_ms: i64,
) -> Result<Option<Fee>, ()> {
    let rows: Vec<_> = version.spec.fees.iter().filter(|row| row.kind == "subscription").collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let pair = catalog.convert(&version.currency, currency, at_ms).ok_or(())?;
    let mut total: i128 = 0;
    let mut lines = String::from("[");
    for row in rows {
        total += parse_e10(&row.rate).ok_or(())?;
        for (name, text) in [("{\"name\":", &row.name), (",\"note\":", &row.note), (",\"rate\":", &row.rate)]
        {
            lines.push_str(name);
            write_quoted(text, &mut lines);
        }
        lines.push_str("},");
    }
    total = discounted(version, period.count, total, &mut lines)?;
    lines.pop();
    lines.push(']');
    let (of, whole) = period.share().unwrap_or((1, 1));
    let n = BigInt::from(total) * quantity * of * pair.0;
    let d = BigInt::from(E10 / MICRO) * whole * pair.1;
    let (net, taxes, amount) = taxed(&n, &d, period.taxes(), version.spec.fees_include_taxes).ok_or(())?;
    let fx = if *version.currency == *currency {
        Vec::new()
    } else {
        catalog.fx_objects([&version.currency, currency], at_ms)
    };
    Ok(Some(Fee { net: -net, taxes, amount: -amount, lines, fx }))
}

/// What is left of the subscription; a discount takes nothing from a fee that pays the client.
fn discounted(version: &Version, count: i64, total: i128, lines: &mut String) -> Result<i128, ()> {
    // Of rows with the same count the first one.
    let reached = version.spec.discounts.iter().filter(|row| row.activation_count <= count);
    let best =
        reached.reduce(|best, row| if row.activation_count > best.activation_count { row } else { best });
    let Some(row) = best else { return Ok(total) };
    let discount = parse_e10(&row.discount).ok_or(())?;
    lines.push_str("{\"discount\":\"");
    lines.push_str(&format_e10(-discount));
    let _ = write!(lines, "\",\"activation_count\":{}}},", row.activation_count);
    Ok(if total > 0 { (total - discount).max(0) } else { total })
}

type Parts = Vec<(Box<str>, Box<str>, i64)>;

/// Net, taxes (negated) and gross in micros of the exact amount n / d; None: out of range.
fn taxed(
    n: &BigInt,
    d: &BigInt,
    taxes: &[(Box<str>, Box<str>)],
    included: bool,
) -> Option<(i64, Parts, i64)> {
    let percent = BigInt::from(100 * E10);
    let rates: Vec<BigInt> =
        taxes.iter().map(|(_, rate)| parse_e10(rate).map(BigInt::from)).collect::<Option<_>>()?;
    let first = half_up(n, d);
    let sum: BigInt = rates.iter().sum();
    let net = if included { half_up(&(&first * &percent), &(&percent + sum)) } else { first.clone() };
    let mut parts: Vec<BigInt> = rates.iter().map(|rate| half_up(&(&net * rate), &percent)).collect();
    if included && let Some((last, others)) = parts.split_last_mut() {
        *last = &first - &net - others.iter().sum::<BigInt>();
    }
    let gross = &net + parts.iter().sum::<BigInt>();
    let small = |number: &BigInt| i64::try_from(number).ok().filter(|number| number.abs() <= LIMIT);
    let parts = taxes
        .iter()
        .zip(&parts)
        .map(|((name, rate), part)| Some((name.clone(), rate.clone(), -small(part)?)))
        .collect::<Option<_>>()?;
    Some((small(&net)?, parts, small(&gross)?))
}

fn fee_text(
    view: &View,
    held: &Held,
    by: &ByEvent,
    period: &HeldPeriod,
    fee: &Fee,
    at: (i64, i64),
    cdr: (&str, &str),
) -> String {
    const KIND: &str = "subscription_fee";
    let (at_ms, catalog) = at;
    let mut out = String::with_capacity(600);
    let id = format!("cp/{}/{}/{KIND}", held.id, period.number);
    let revision = period.fee_revision();
    let _ = write!(out, "{{\"id\":{},\"revision\":{revision},\"type\":\"{KIND}\"", quoted(&id));
    let _ = write!(out, ",\"client\":{},\"account\":", quoted(&view.id));
    out.push_str(&held.account.as_deref().map_or("null".to_string(), quoted));
    for (name, text) in [
        (",\"client_package\":", &held.id),
        (",\"package\":", &held.package),
        (",\"package_name\":", &by.period.latest.name),
    ] {
        out.push_str(name);
        write_quoted(text, &mut out);
    }
    let _ = write!(out, ",\"period\":{},\"period_start\":\"", period.number);
    write_rfc3339(period.start_ms, &mut out);
    out.push_str("\",\"period_stop\":");
    match by.period.stop_ms {
        Some(stop_ms) => {
            out.push('"');
            write_rfc3339(stop_ms, &mut out);
            out.push('"');
        }
        None => out.push_str("null"),
    }
    out.push_str(",\"at\":\"");
    write_rfc3339(at_ms, &mut out);
    let _ = write!(out, "\",\"lines\":{},\"quantity\":{},\"proration\":", fee.lines, held.quantity);
    match period.share() {
        Some((of, whole)) => drop(write!(out, "{{\"of\":{of},\"in\":{whole}}}")),
        None => out.push_str("null"),
    }
    out.push_str(",\"package_currency\":");
    write_quoted(&by.period.version.currency, &mut out);
    let _ = write!(out, ",\"fx\":[{}]", fee.fx.join(","));
    write_sums(fee, &mut out);
    let _ = write!(out, ",\"currency\":{},\"catalog\":{catalog}", quoted(&view.currency));
    let _ = write!(out, ",\"cdr\":{{\"source\":{},\"id\":{}}}}}", quoted(cdr.0), quoted(cdr.1));
    out
}

/// Net, taxes and amount; taxes of one name and percent are one.
fn write_sums(fee: &Fee, out: &mut String) {
    out.push_str(",\"net\":\"");
    write_micros(fee.net, out);
    out.push_str("\",\"taxes\":[");
    let mut sums: Vec<(&str, &str, i64)> = Vec::new();
    for (name, percent, part) in &fee.taxes {
        match sums.iter_mut().find(|(of, rate, _)| *of == &**name && *rate == &**percent) {
            Some(sum) => sum.2 += part,
            None => sums.push((name, percent, *part)),
        }
    }
    for (place, (name, percent, part)) in sums.into_iter().enumerate() {
        out.push_str(if place > 0 { ",{\"name\":" } else { "{\"name\":" });
        write_quoted(name, out);
        out.push_str(",\"percent\":");
        write_quoted(percent, out);
        out.push_str(",\"amount\":\"");
        write_micros(part, out);
        out.push_str("\"}");
    }
    out.push_str("],\"amount\":\"");
    write_micros(fee.amount, out);
    out.push('"');
}
