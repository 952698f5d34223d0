//! What a side costs before packages: billed volume, and the cost as a form of the overage. Source of the rules:
//! RULES.md 2, steps 3, 6 and 7, and 2.2; states what `core/rating/pricing.py` does.

use crate::amounts::{E10, Form, LIMIT, MICRO, NOTHING, half_up};
use crate::catalog::Catalog;
use crate::codes::Rate;
use crate::instants::SECOND_MS;
use num_bigint::{BigInt, Sign};
use std::sync::Arc;

/// Why a side is a zero transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    Unanswered,
    Grace,
}

impl Why {
    pub fn text(self) -> &'static str {
        match self {
            Why::Unanswered => "unanswered",
            Why::Grace => "grace",
        }
    }
}

/// A side with its price, before any limit is asked. Fields: as of `pricing.Priced`.
#[derive(Clone, Debug)]
pub struct Priced {
    pub why: Option<Why>,
    pub billed: i64,
    pub cost: Form,
    pub sign: i8,
    pub fx: Vec<Arc<str>>,
}

impl Priced {
    fn zero(why: Why) -> Self {
        Self { why: Some(why), billed: 0, cost: NOTHING, sign: 0, fx: Vec::new() }
    }
}

/// How much a side used. calls: milliseconds, else counting units.
pub struct Used<'a> {
    pub calls: bool,
    pub service: &'a str,
    pub amount: i64,
    pub answered: bool,
    pub at_ms: i64,
    pub orig: bool,
}

/// The minimal time, then whole intervals, rounded up. unit: 1000 where the amount is in milliseconds.
pub fn billed_of(amount: i64, unit: i64, min_time: i64, interval: i64) -> i64 {
    let over = amount - min_time * unit;
    if over <= 0 {
        return min_time;
    }
    min_time - (-over).div_euclid(interval * unit) * interval
}

/// The cost before packages; None: there is none, as the reference says. rate None: nothing was used.
pub fn price(used: &Used<'_>, rate: Option<&Rate>, currency: &str, catalog: &Catalog) -> Option<Priced> {
    let Some(rate) = rate else {
        return Some(Priced::zero(if used.answered { Why::Grace } else { Why::Unanswered }));
    };
    let terms = &rate.price;
    let unit = if used.calls { SECOND_MS } else { 1 };
    if used.amount <= terms.grace_time * unit {
        return Some(Priced::zero(Why::Grace));
    }
    let billed = billed_of(used.amount, unit, terms.min_time, terms.interval);
    let mut factors = (1, 1);
    let mut fx = Vec::new();
    if *rate.currency != *currency {
        factors = catalog.convert(&rate.currency, currency, used.at_ms)?;
        fx = catalog.fx_objects([&rate.currency, currency], used.at_ms);
    }
    let price_unit = i128::from(catalog.price_unit(used.service)?);
    let sign = if used.orig { -1 } else { 1 };
    let numbers = Numbers {
        a: terms.price_e10 * sign,
        fee: terms.setup_fee_e10 * sign,
        unit: price_unit,
        factors,
        billed,
    };
    let (cost, sign) = numbers.small().or_else(|| numbers.large())?;
    (billed <= LIMIT).then_some(Priced { why: None, billed, cost, sign, fx })
}

struct Numbers {
    a: i128,
    fee: i128,
    unit: i128,
    factors: (i128, i128),
    billed: i64,
}

impl Numbers {
    /// The cost and the sign of the exact one, by ints of 128 bits; None: they do not do, or it is out of range.
    fn small(&self) -> Option<(Form, i8)> {
        let (n, m) = self.factors;
        let a = self.a.checked_mul(n)?;
        let s = self.fee.checked_mul(self.unit)?.checked_mul(n)?;
        let d = self.unit.checked_mul(E10 / MICRO)?.checked_mul(m)?;
        let exact = a.checked_mul(self.billed.into())?.checked_add(s)?;
        let rounded = exact.checked_abs()?.checked_mul(2)?.checked_add(d)? / d.checked_mul(2)?;
        (rounded <= i128::from(LIMIT)).then(|| (Form::of(a, s, d), exact.signum() as i8))
    }

    /// The same without a bound; None: it is out of range.
    fn large(&self) -> Option<(Form, i8)> {
        let big = BigInt::from;
        let (n, m) = self.factors;
        let a = big(self.a) * n;
        let s = big(self.fee) * self.unit * n;
        let d = big(self.unit) * (E10 / MICRO) * m;
        let exact = &a * self.billed + &s;
        let sign = match exact.sign() {
            Sign::Minus => -1,
            Sign::NoSign => 0,
            Sign::Plus => 1,
        };
        let rounded = half_up(&exact, &d);
        (rounded.magnitude() <= BigInt::from(LIMIT).magnitude()).then(|| (Form::of_large(a, s, d), sign))
    }
}
