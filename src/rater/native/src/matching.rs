//! Which limits a call may draw from, in their order; nothing is drawn here. Source of the rules: RULES.md 2 step 8,
//! 2.1 and 3.1; states what `core/rating/matching.py` does.

use crate::catalog::Catalog;
use crate::clients::View;
use crate::msgpack::Writer;
use crate::offers::{Candidate, Chosen, meet, members};
use crate::packages::Places;
use crate::periods::Opened;
use std::sync::Arc;

/// Candidates that a draw is asked with at first.
const FIRST_MAX: usize = 4;

/// Which packages can apply: by the sign of the cost, else by side. True: those of vendors.
pub fn by_vendors(cost_sign: i8, orig: bool) -> bool {
    if cost_sign == 0 { !orig } else { cost_sign > 0 }
}

/// The limits that a call may draw from, and whether there are more; None: a currency has no rate.
pub fn matched(
    opened: &Opened,
    view: &View,
    code: &str,
    billed: i64,
    at_ms: i64,
    catalog: &Catalog,
    whole: bool,
) -> Option<(Arc<Chosen>, bool)> {
    let offers = &opened.offers;
    let mut places = offers.limits.select(code);
    let foreign = meet(&places, &opened.foreign);
    let short = meet(&places, &offers.short);
    if !(whole || foreign || short)
        && let Some(first) = first_of(&places, &offers.allowing)
    {
        return Some((offers.chosen(first), true));
    }
    if short {
        for place in members(&places.clone()) {
            if billed < offers.candidates[place].min_call {
                places[place / 64] &= !(1 << (place % 64));
            }
        }
    }
    if !foreign {
        return Some((offers.chosen(places), false));
    }
    let mut any = false;
    let mut candidates = Vec::new();
    for place in members(&places) {
        let one = &offers.candidates[place];
        if one.text.money && one.currency != view.currency {
            any = true;
            candidates.push(Arc::new(converted(one, &view.currency, at_ms, catalog)?));
        } else {
            candidates.push(one.clone());
        }
    }
    // With a conversion of this instant it is a set of its own.
    Some((if any { Arc::new(Chosen { candidates }) } else { offers.chosen(places) }, false))
}

/// The first few of a set, where there are more and they do: `allow` of any makes the transaction tell of the
/// balance, then one of these has it.
fn first_of(places: &Places, allowing: &[u64]) -> Option<Places> {
    let count: u32 = places.iter().map(|word| word.count_ones()).sum();
    if count as usize <= FIRST_MAX {
        return None;
    }
    let mut first: Places = vec![0; places.len()].into();
    members(places).take(FIRST_MAX).for_each(|place| crate::packages::put(&mut first, place));
    let rest: Places = places.iter().zip(&first).map(|(all, some)| all & !some).collect();
    (meet(&first, allowing) || !meet(&rest, allowing)).then_some(first)
}

/// A money limit of another currency than the client's, with how it is converted.
fn converted(one: &Candidate, currency: &str, at_ms: i64, catalog: &Catalog) -> Option<Candidate> {
    let conversion = catalog.convert(currency, &one.currency, at_ms)?;
    let mut text = one.text.clone();
    text.fx = catalog.fx_objects([currency, &one.currency], at_ms);
    let mut packed = Writer::default();
    text.write(&mut packed);
    Some(Candidate { conversion: Some(conversion), text, packed: packed.0, ..one.clone() })
}
