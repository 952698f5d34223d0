//! One version of the catalog, ready for rating. States what `core/catalog/compiled.py` and
//! `core/catalog/currencies.py` do (RULES.md 2.2, section 3); what it is read from: `core/catalog/specs.py`.

use crate::amounts::{E10, format_e10, gcd};
use crate::codes::RateTable;
use crate::instants::BEGINNING_MS;
use crate::json::write_quoted;
use crate::packages::Package;
use crate::rules::Rules;
use crate::zones::Zones;
use rustc_hash::FxHashMap;
use serde::Deserialize;
use std::sync::Arc;

/// A whole number as msgpack has it, of up to 64 bits with a sign or without.
#[derive(Clone, Copy)]
pub struct Whole(pub i128);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Whole;

            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("a whole number")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number.into()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(number.into()))
            }
        }
        from.deserialize_any(Visitor)
    }
}

#[derive(Deserialize)]
pub struct CurrencyRow {
    pub rate_e10: Whole,
    pub from_ms: Option<i64>,
}

#[derive(Deserialize)]
pub struct ServiceSpec {
    pub name: String,
    pub price_unit: i64,
}

#[derive(Deserialize)]
pub struct DeckSpec {
    pub name: String,
    pub codes: FxHashMap<String, String>,
}

#[derive(Deserialize)]
pub struct Row {
    pub code: String,
    pub price_e10: Whole,
    pub setup_fee_e10: Whole,
    pub min_time: i64,
    pub interval: i64,
    pub grace_time: i64,
    pub from_ms: Option<i64>,
    pub to_ms: Option<i64>,
}

#[derive(Deserialize)]
pub struct RateTableSpec {
    pub name: String,
    pub currency: String,
    pub code_deck: Option<String>,
    pub rates: Vec<Row>,
}

#[derive(Deserialize)]
pub struct FeeSpec {
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    pub rate: String,
    #[serde(default)]
    pub note: String,
}

#[derive(Deserialize)]
pub struct DiscountSpec {
    pub activation_count: i64,
    pub discount: String,
}

#[derive(Deserialize)]
pub struct DidLimitSpec {
    pub quantity: i64,
    #[serde(default)]
    pub allowed_tags: Vec<String>,
    #[serde(default)]
    pub on_hold_days: i64,
}

#[derive(Deserialize)]
pub struct LimitSpec {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub service: String,
    pub limit: i64,
    #[serde(default)]
    pub code_deck: Option<String>,
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default)]
    pub code_name: Option<String>,
    #[serde(default)]
    pub exclude: Vec<String>,
    #[serde(default)]
    pub min_call: i64,
    #[serde(default)]
    pub per_call_max: Option<i64>,
}

#[derive(Deserialize)]
pub struct PackageSpec {
    pub id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub currency: String,
    #[serde(default)]
    pub advance_renew: Option<String>,
    #[serde(default)]
    pub fees_include_taxes: bool,
    #[serde(default)]
    pub charge_on_event: bool,
    #[serde(default)]
    pub setup_fee: Option<String>,
    #[serde(default)]
    pub client_balance: Option<String>,
    #[serde(default)]
    pub renewal_charge: Option<String>,
    #[serde(default)]
    pub priority: i64,
    #[serde(default)]
    pub dynamic_tag: Option<String>,
    #[serde(default)]
    pub start_date: Option<String>,
    #[serde(default)]
    pub end_date: Option<String>,
    #[serde(default)]
    pub fees: Vec<FeeSpec>,
    #[serde(default)]
    pub discounts: Vec<DiscountSpec>,
    #[serde(default)]
    pub did_limits: Vec<DidLimitSpec>,
    #[serde(default)]
    pub limits: Vec<LimitSpec>,
}

#[derive(Deserialize)]
pub struct PackageHistory {
    pub versions: Vec<(i64, PackageSpec)>,
    pub statuses: Vec<(i64, String)>,
}

#[derive(Deserialize)]
pub struct IdentificationRule {
    pub side: String,
    pub client: String,
    #[serde(default)]
    pub account: Option<String>,
    #[serde(default)]
    pub gateway: Option<String>,
    #[serde(default)]
    pub ip: Option<String>,
    #[serde(default)]
    pub login: Option<String>,
    #[serde(default)]
    pub caller_prefix: Option<String>,
}

#[derive(Deserialize)]
pub struct DidSpec {
    #[serde(default)]
    pub tags: Vec<String>,
}

#[derive(Deserialize)]
pub struct Content {
    #[serde(default)]
    pub base: Option<String>,
    #[serde(default)]
    pub currencies: FxHashMap<String, Vec<CurrencyRow>>,
    #[serde(default)]
    pub services: FxHashMap<String, ServiceSpec>,
    #[serde(default)]
    pub packages: FxHashMap<String, PackageHistory>,
    #[serde(default)]
    pub identification: Vec<IdentificationRule>,
    #[serde(default)]
    pub dids: FxHashMap<String, DidSpec>,
}

/// Services that are always there, with their price units (RULES.md section 1).
const BUILT_IN: [(&str, i64); 3] = [("calls", 60), ("messages", 1), ("data", 1024)];

/// One version of the catalog.
pub struct Catalog {
    pub version: i64,
    /// Tells catalogs of one version apart, for what is remembered by them.
    pub serial: u64,
    /// Percents of a limit's use that events tell of, ascending.
    pub percents: Vec<i64>,
    pub services: Vec<(Box<str>, i64)>,
    pub tables: FxHashMap<Box<str>, Arc<RateTable>>,
    pub packages: FxHashMap<Box<str>, Package>,
    pub rules: Rules,
    pub dids: FxHashMap<String, DidSpec>,
    pub zones: Zones,
    base: Option<Box<str>>,
    currencies: FxHashMap<Box<str>, Vec<(i64, i128)>>,
}

impl Catalog {
    pub fn new(
        content: Content,
        decks: &FxHashMap<String, DeckSpec>,
        tables: FxHashMap<Box<str>, Arc<RateTable>>,
        names: &FxHashMap<String, String>,
        zones: Zones,
        head: (i64, u64, Vec<i64>),
    ) -> Result<Self, String> {
        let (version, serial, percents) = head;
        let mut services: Vec<(Box<str>, i64)> =
            content.services.values().map(|of| (of.name.as_str().into(), of.price_unit)).collect();
        for (name, unit) in BUILT_IN {
            if !services.iter().any(|(other, _)| **other == *name) {
                services.push((name.into(), unit));
            }
        }
        let named = crate::packages::codes_by_name(decks, names);
        let packages = content
            .packages
            .into_iter()
            .map(|(id, history)| Ok((id.as_str().into(), Package::new(history, &named, names)?)))
            .collect::<Result<_, String>>()?;
        let currencies = content.currencies.into_iter().map(|(name, rows)| {
            let mut rates: Vec<_> =
                rows.iter().map(|row| (row.from_ms.unwrap_or(BEGINNING_MS), row.rate_e10.0)).collect();
            rates.sort_unstable();
            (name.into(), rates)
        });
        Ok(Self {
            version,
            serial,
            percents,
            services,
            tables,
            packages,
            rules: Rules::new(&content.identification)?,
            dids: content.dids,
            zones,
            base: content.base.map(Into::into),
            currencies: currencies.collect(),
        })
    }

    /// Counting units of one price unit of a service; None: it is not in the catalog.
    pub fn price_unit(&self, service: &str) -> Option<i64> {
        self.services.iter().find(|(name, _)| **name == *service).map(|(_, unit)| *unit)
    }

    /// What 1 of the currency is worth in the base, in 10^-10; None: no rate yet.
    pub fn fx(&self, currency: &str, at_ms: i64) -> Option<i128> {
        if self.base.as_deref() == Some(currency) {
            return Some(E10);
        }
        let rates = self.currencies.get(currency)?;
        let place = rates.partition_point(|(since, _)| *since <= at_ms);
        Some(rates[place.checked_sub(1)?].1)
    }

    /// (n, d), reduced: x of the source currency is exactly x * n / d of the target; None: no rate.
    pub fn convert(&self, source: &str, target: &str, at_ms: i64) -> Option<(i128, i128)> {
        if source == target {
            return Some((1, 1));
        }
        let (n, d) = (self.fx(source, at_ms)?, self.fx(target, at_ms)?);
        let common = gcd(n, d).max(1);
        Some((n / common, d / common))
    }

    /// The transaction's `fx` objects for a conversion: of each currency its rate to the base.
    pub fn fx_objects(&self, currencies: [&str; 2], at_ms: i64) -> Vec<Arc<str>> {
        let base = self.base.as_deref().unwrap_or("");
        let mut out: Vec<Arc<str>> = Vec::new();
        for name in currencies {
            if self.base.as_deref() == Some(name) {
                continue;
            }
            if let Some(rate) = self.fx(name, at_ms) {
                let mut text = String::from("{\"from\":");
                write_quoted(name, &mut text);
                text.push_str(",\"to\":");
                write_quoted(base, &mut text);
                text.push_str(",\"rate\":\"");
                text.push_str(&format_e10(rate));
                text.push_str("\"}");
                out.push(text.into());
            }
        }
        out
    }
}
