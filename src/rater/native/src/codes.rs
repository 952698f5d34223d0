//! Codes of destinations: rate tables, the search for a number's longest code, patterns of limits.
//! Source of the rules: RULES.md 2 step 4, and 3.1; states what `core/catalog/codes.py` does.

use crate::amounts::format_e10;
use crate::catalog::{RateTableSpec, Row};
use crate::instants::{BEGINNING_MS, NEVER_MS};
use crate::json::{quoted, write_quoted};
use rustc_hash::FxHashMap;
use std::fmt::Write;
use std::sync::Arc;

pub const CODE_DIGITS_MAX: i64 = 64;
pub const WILDCARD: char = '*';
const HEAD: usize = 3;

/// What a price unit costs and how it is billed, with what a transaction says of it.
pub struct Price {
    pub price_e10: i128,
    pub setup_fee_e10: i128,
    pub min_time: i64,
    pub interval: i64,
    pub grace_time: i64,
    /// The JSON of `rate`.
    pub json: Box<str>,
    /// The setup fee as it is written.
    pub fee_text: Box<str>,
}

impl Price {
    /// table None: the CDR brought it.
    pub fn new(table: Option<&str>, currency: &str, terms: (i128, i128, i64, i64, i64)) -> Self {
        let (price_e10, setup_fee_e10, min_time, interval, grace_time) = terms;
        let fee_text = format_e10(setup_fee_e10);
        let mut json = String::from("{\"table\":");
        match table {
            Some(name) => write_quoted(name, &mut json),
            None => json.push_str("null"),
        }
        json.push_str(",\"currency\":");
        write_quoted(currency, &mut json);
        let _ = write!(
            json,
            ",\"price\":\"{}\",\"setup_fee\":\"{fee_text}\",\"min_time\":{min_time},\"interval\":{interval},\
             \"grace_time\":{grace_time}}}",
            format_e10(price_e10),
        );
        let (json, fee_text) = (json.into(), fee_text.into());
        Self { price_e10, setup_fee_e10, min_time, interval, grace_time, json, fee_text }
    }
}

/// What a side is rated at: a row of a rate table, or what the CDR itself gave.
pub struct Rate {
    pub currency: Arc<str>,
    pub code: Box<str>,
    /// The code's name as JSON has it, or null.
    pub name: Arc<str>,
    pub price: Arc<Price>,
    pub from_ms: i64,
    pub to_ms: i64,
    /// The place of the first rate of its table that transactions show alike.
    pub alike: u32,
}

impl Rate {
    /// The JSON of `code`, `code_name` and `rate`, in parts.
    pub fn fragment(&self) -> Fragment<'_> {
        ["\"code\":\"", &self.code, "\",\"code_name\":", &self.name, ",\"rate\":", &self.price.json]
    }
}

/// What a transaction says of a rate.
pub type Fragment<'a> = [&'a str; 6];
pub const NO_RATE: Fragment<'_> = ["\"code\":null,\"code_name\":null,\"rate\":null", "", "", "", "", ""];
pub const NO_FEE: &str = "0";

/// A rate table, searched by number.
pub struct RateTable {
    rates: Vec<Rate>,
    /// Code → its rates, which stand beside each other, the one that begins last first.
    by_code: FxHashMap<Box<str>, (u32, u32)>,
    /// First digits → lengths of the codes that begin so or with fewer digits, longest first.
    lengths: FxHashMap<Box<str>, Box<[u8]>>,
    shorter: Box<[u8]>,
}

impl RateTable {
    /// codes: of its deck, code → code name.
    pub fn new(spec: &RateTableSpec, codes: Option<&FxHashMap<String, String>>) -> Self {
        let currency: Arc<str> = spec.currency.as_str().into();
        let mut names: FxHashMap<Option<&str>, Arc<str>> = FxHashMap::default();
        let mut prices: FxHashMap<(i128, i128, i64, i64, i64), Arc<Price>> = FxHashMap::default();
        let mut rows: Vec<&Row> = spec.rates.iter().collect();
        // Stable: of several of one code the order is kept where they begin together.
        rows.sort_by(|a, b| a.code.cmp(&b.code).then(b.begin_ms().cmp(&a.begin_ms())));
        let mut rates = Vec::with_capacity(rows.len());
        let mut by_code: FxHashMap<Box<str>, (u32, u32)> = FxHashMap::default();
        for row in rows {
            let name = codes.and_then(|codes| codes.get(&row.code)).map(String::as_str);
            let name =
                names.entry(name).or_insert_with(|| name.map_or("null".into(), |name| quoted(name).into()));
            let terms = (row.price_e10.0, row.setup_fee_e10.0, row.min_time, row.interval, row.grace_time);
            let price = prices
                .entry(terms)
                .or_insert_with(|| Arc::new(Price::new(Some(&spec.name), &spec.currency, terms)));
            let place = rates.len() as u32;
            let (first, several) = by_code.entry(row.code.as_str().into()).or_insert((place, 0));
            *several += 1;
            let same = |other: &Rate| Arc::ptr_eq(&other.price, price);
            let alike = rates[*first as usize..].iter().position(same).map_or(place, |at| *first + at as u32);
            rates.push(Rate {
                currency: currency.clone(),
                code: row.code.as_str().into(),
                name: name.clone(),
                price: price.clone(),
                from_ms: row.begin_ms(),
                to_ms: row.to_ms.unwrap_or(NEVER_MS),
                alike,
            });
        }
        let (lengths, shorter) = lengths_of(by_code.keys());
        Self { rates, by_code, lengths, shorter }
    }

    pub fn rate(&self, place: u32) -> &Rate {
        &self.rates[place as usize]
    }

    /// The place of the rate of the longest code that begins the number and has a row in force.
    pub fn lookup(&self, number: &str, at_ms: i64) -> Option<u32> {
        let head = &number[..HEAD.min(number.len())];
        for &length in self.lengths.get(head).unwrap_or(&self.shorter) {
            let code = &number[..usize::from(length).min(number.len())];
            let Some(&(first, several)) = self.by_code.get(code) else { continue };
            for place in first..first + several {
                let rate = self.rate(place);
                if at_ms < rate.from_ms {
                    continue;
                }
                if rate.to_ms <= at_ms {
                    break;
                }
                return Some(place);
            }
        }
        None
    }
}

type Lengths = (FxHashMap<Box<str>, Box<[u8]>>, Box<[u8]>);

fn lengths_of<'a>(codes: impl Iterator<Item = &'a Box<str>>) -> Lengths {
    let mut heads: FxHashMap<Box<str>, u128> = FxHashMap::default(); // bit n: there is a code of n digits
    let mut shorter = 0u128;
    for code in codes {
        if code.len() < HEAD {
            shorter |= 1 << code.len();
        } else {
            *heads.entry(code[..HEAD].into()).or_default() |= 1 << code.len();
        }
    }
    let falling =
        |bits: u128| (0..128u8).rev().filter(|length| bits >> length & 1 == 1).collect::<Box<[u8]>>();
    (heads.into_iter().map(|(head, found)| (head, falling(found | shorter))).collect(), falling(shorter))
}

/// Whether a pattern is for an identified code: `121` for itself, `121*` for every code that begins so.
pub fn pattern_matches(pattern: &str, code: &str) -> bool {
    match pattern.strip_suffix(WILDCARD) {
        Some(beginning) => code.starts_with(beginning),
        None => pattern == code,
    }
}

/// How specific a pattern is for what it matches, smaller = more (RULES.md 2.1, rule 4).
pub fn rank_of(pattern: &str) -> i64 {
    if pattern.ends_with(WILDCARD) { 2 + CODE_DIGITS_MAX - pattern.len() as i64 } else { 0 }
}

impl Row {
    pub fn begin_ms(&self) -> i64 {
        self.from_ms.unwrap_or(BEGINNING_MS)
    }
}
