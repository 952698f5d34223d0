//! One item of a draw: which limits of a client give how much, which fee that brings, what is charged. States what
//! `core/bucket/drawing.py` and `draw_item` of `store/functions.lua` do. Source of the rules: RULES.md 2.1, 2.2.

use crate::amounts::{LIMIT, half_up, half_up_small};
use crate::bucket_call::Number;
use num_bigint::BigInt;

/// A rounded linear form, as a call has it: the value at x is half_up(a * x + s, d).
pub enum Cost {
    Plain { a: i64, s: i64, d: i64 },
    Wide(Box<[BigInt; 3]>),
}

impl Cost {
    pub fn of(numbers: [Number; 3]) -> Self {
        if let [Number::Small(a), Number::Small(s), Number::Small(d)] = &numbers {
            return Cost::Plain { a: *a, s: *s, d: *d };
        }
        Cost::Wide(Box::new(numbers.map(|number| match number {
            Number::Small(number) => number.into(),
            Number::Large(number) => number,
        })))
    }

    /// The value at x, without `s` where that is waived; what is beyond ±LIMIT is just beyond it.
    fn at(&self, x: i64, waived: bool) -> i64 {
        let value = match self {
            Cost::Plain { a, s, d } => {
                let n = i128::from(*a) * i128::from(x) + i128::from(if waived { 0 } else { *s });
                match i64::try_from(n) {
                    Ok(n) if *d == 1 => Some(n),
                    // 64 bits divide several times as fast as 128, and nearly all fit.
                    Ok(n) if n.abs() < 1 << 60 && *d < 1 << 60 => {
                        let size = (2 * n.abs() + d) / (2 * d);
                        Some(if n < 0 { -size } else { size })
                    }
                    _ => half_up_small(n, i128::from(*d)).and_then(|value| i64::try_from(value).ok()),
                }
            }
            Cost::Wide(numbers) => {
                let [a, s, d] = &**numbers;
                let n = a * x;
                i64::try_from(half_up(&if waived { n } else { n + s }, d)).ok()
            }
        };
        let beyond = || if self.is_below(x, waived) { -LIMIT - 1 } else { LIMIT + 1 };
        value.unwrap_or_else(beyond).clamp(-LIMIT - 1, LIMIT + 1)
    }

    /// Whether the value at x, which is no small one, is below 0.
    fn is_below(&self, x: i64, waived: bool) -> bool {
        match self {
            Cost::Plain { a, s, .. } => {
                i128::from(*a) * i128::from(x) + i128::from(if waived { 0 } else { *s }) < 0
            }
            Cost::Wide(numbers) => {
                let n = &numbers[0] * x;
                (if waived { n } else { n + &numbers[1] }) < BigInt::ZERO
            }
        }
    }
}

/// One limit that an item may draw from. Fields: as of `messages.ItemCandidate`; conversions: to the package's currency,
/// and to the client's.
pub struct Candidate {
    pub field: usize,
    pub size: i64,
    pub group: i64,
    pub money: bool,
    pub waive: bool,
    pub allow: bool,
    pub cap: i64,
    pub conversions: Option<Box<(Cost, Cost)>>,
}

/// The fee of a period that its first draw brings. Fields: as of `messages.FeeAsk`.
pub struct Fee {
    pub group: i64,
    pub field: usize,
    pub net: i64,
    pub amount: i64,
    pub deny: bool,
}

/// One side of a CDR to be drawn and charged.
pub struct Item {
    pub usage: usize,
    pub billed: i64,
    pub cost: Cost,
    pub same_record: bool,
    pub cut: bool,
    pub candidates: Vec<Candidate>,
    pub fees: Vec<Fee>,
}

/// What a client has while a call is worked out. before: the balance before the record in hand.
pub struct Funds {
    pub balance: i64,
    pub before: i64,
    pub credit: i64,
}

impl Funds {
    fn sufficient(&self) -> bool {
        self.before + self.credit >= 0
    }
}

/// What limit number `index` gives: how much, what is left of it, and what of the cost that covers.
pub struct Take {
    pub index: usize,
    pub taken: i64,
    pub left: i64,
    pub covered: i64,
}

/// What became of the fees that an item asked for. charged: which one.
pub struct Brought {
    pub charged: Option<usize>,
    pub amount: i64,
    pub covered: Option<bool>,
}

/// What an item gets.
pub struct Drawn {
    pub amount: i64,
    pub sufficient: Option<bool>,
    pub takes: Vec<Take>,
    pub fee: Option<Brought>,
}

/// The client package that is drawn from: what the first candidate chooses that has anything left and is not passed over.
struct Chosen {
    group: Option<i64>,
    /// That its first draw brings, where it was not charged yet.
    fee: Option<usize>,
    covered: Option<bool>,
}

pub fn in_range(number: i64) -> bool {
    (-LIMIT..=LIMIT).contains(&number)
}

/// Work out one item; None: it is out of range. used: what is used of each counter of its client, none of which is odd.
pub fn draw_item(item: &Item, used: &[i64], funds: &Funds) -> Option<Drawn> {
    if !in_range(funds.balance) {
        return None;
    }
    let chosen = choose(item, used, funds);
    let mut takes = Vec::new();
    let (overage, waived) = take_volumes(item, &chosen, used, &mut takes);
    let mut cost = item.cost.at(overage, waived);
    if !in_range(cost) {
        return None;
    }
    if cost != 0 && item.candidates.iter().any(|one| one.money) {
        let full = item.cost.at(item.billed, false);
        if full != 0 && (full > 0) == (cost > 0) {
            let rest = take_money(item, &chosen, used, cost.abs(), &mut takes);
            cost = if cost > 0 { rest } else { -rest };
        }
    }
    let mut balance = funds.balance;
    let mut fee = chosen.covered.map(|covered| Brought { charged: None, amount: 0, covered: Some(covered) });
    if let (Some(index), false) = (chosen.fee, takes.is_empty()) {
        let ask = &item.fees[index];
        balance += ask.amount;
        let [count, net, amount] = [0, 1, 2].map(|at| used[ask.field + at]);
        if ![balance, count + 1, net + ask.net, amount + ask.amount].into_iter().all(in_range) {
            return None;
        }
        fee = Some(Brought { charged: Some(index), amount: ask.amount, covered: chosen.covered });
    }
    let judged = item.candidates.iter().any(|one| one.allow);
    let sufficient = judged.then(|| funds.sufficient());
    in_range(balance + cost).then_some(Drawn { amount: cost, sufficient, takes, fee })
}

fn choose(item: &Item, used: &[i64], funds: &Funds) -> Chosen {
    let mut passed: Vec<i64> = Vec::new();
    for first in &item.candidates {
        let spent = first.size <= used[first.field];
        if spent || passed.contains(&first.group) || (first.allow && !funds.sufficient()) {
            continue;
        }
        // Of fees of one group, which an item has one of, the last one counts.
        let fee = item.fees.iter().rposition(|ask| ask.group == first.group && used[ask.field] == 0);
        let deny = fee.map(|index| &item.fees[index]).filter(|ask| ask.deny);
        let asked = deny.map_or(0, |ask| ask.amount);
        if asked < 0 && funds.balance + funds.credit + asked < 0 {
            passed.push(first.group);
            continue;
        }
        let covered = if passed.is_empty() { deny.map(|_| true) } else { Some(false) };
        return Chosen { group: Some(first.group), fee, covered };
    }
    Chosen { group: None, fee: None, covered: (!passed.is_empty()).then_some(false) }
}

/// Add the takes of volume limits; returns the overage, and whether the setup fee is waived.
fn take_volumes(item: &Item, chosen: &Chosen, used: &[i64], takes: &mut Vec<Take>) -> (i64, bool) {
    let (mut need, mut waived) = (item.billed, false);
    for (index, one) in item.candidates.iter().enumerate() {
        if one.money || chosen.group != Some(one.group) {
            continue;
        }
        let rest = one.size - used[one.field];
        let cap = match one.cap {
            0 => rest,
            // Together with the candidate before it.
            cap if cap < 0 => {
                let last = takes.last().filter(|last| last.index + 1 == index);
                -cap - last.map_or(0, |last| last.taken)
            }
            cap => cap,
        };
        let taken = need.min(rest).min(cap);
        if taken > 0 {
            takes.push(Take { index, taken, left: rest - taken, covered: 0 });
            need -= taken;
            waived |= one.waive;
        }
    }
    (need, waived)
}

/// Add the takes of money limits for an unsigned cost; returns what of it is not covered.
fn take_money(item: &Item, chosen: &Chosen, used: &[i64], mut cost: i64, takes: &mut Vec<Take>) -> i64 {
    for (index, one) in item.candidates.iter().enumerate() {
        let rest = one.size - used[one.field];
        if !one.money || chosen.group != Some(one.group) || rest <= 0 {
            continue;
        }
        let most = if one.cap == 0 { rest } else { rest.min(one.cap) };
        let conversions = one.conversions.as_deref();
        let need = conversions.map_or(cost, |(to_package, _)| to_package.at(cost, false));
        if need <= most {
            if need > 0 {
                takes.push(Take { index, taken: need, left: rest - need, covered: cost });
            }
            return 0;
        }
        let worth = conversions.map_or(most, |(_, to_client)| to_client.at(most, false));
        let covered = cost.min(worth);
        takes.push(Take { index, taken: most, left: rest - most, covered });
        cost -= covered;
        if cost == 0 {
            return 0;
        }
    }
    cost
}
