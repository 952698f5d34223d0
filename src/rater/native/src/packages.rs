//! What is sold: packages over time, and their limits by the codes that they are for. Source of the rules:
//! RULES.md 2.1, section 3 and 3.1; states what `core/catalog/packages.py` does.

use crate::catalog::{DeckSpec, LimitSpec, PackageHistory, PackageSpec};
use crate::codes::{WILDCARD, pattern_matches, rank_of};
use crate::instants::{BEGINNING_MS, NEVER_MS};
use crate::zones::{Span, Zone};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Deck → what all spellings of a code name have in common → its codes.
pub type NamedCodes = FxHashMap<String, FxHashMap<String, Arc<Vec<Box<str>>>>>;

/// names: of each code name what its spellings have in common (`core/naming.py`).
pub fn codes_by_name(decks: &FxHashMap<String, DeckSpec>, names: &FxHashMap<String, String>) -> NamedCodes {
    let mut out = NamedCodes::default();
    for (deck, spec) in decks {
        let mut found: FxHashMap<String, Vec<Box<str>>> = FxHashMap::default();
        for (code, name) in &spec.codes {
            if let Some(key) = names.get(name) {
                found.entry(key.clone()).or_default().push(code.as_str().into());
            }
        }
        out.insert(deck.clone(), found.into_iter().map(|(key, codes)| (key, Arc::new(codes))).collect());
    }
    out
}

/// An allowance of a package version. size, min_call and cap in counting units (size of money: micros).
pub struct Limit {
    pub id: Box<str>,
    pub position: usize,
    pub money: bool,
    pub service: Box<str>,
    pub size: i64,
    pub min_call: i64,
    pub cap: Option<i64>,
    code: Option<Box<str>>,
    exclude: Vec<Box<str>>,
    /// The codes that bear its code name.
    named: Arc<Vec<Box<str>>>,
}

impl Limit {
    fn new(position: usize, spec: LimitSpec, named: &NamedCodes, names: &FxHashMap<String, String>) -> Self {
        let codes = spec
            .code_deck
            .as_ref()
            .and_then(|deck| named.get(deck))
            .zip(spec.code_name.as_ref().and_then(|name| names.get(name)))
            .and_then(|(deck, key)| deck.get(key));
        Self {
            id: spec.id.into(),
            position,
            money: spec.kind == "money",
            service: spec.service.into(),
            size: spec.limit,
            min_call: spec.min_call,
            cap: spec.per_call_max,
            code: spec.code.map(Into::into),
            exclude: spec.exclude.into_iter().map(Into::into).collect(),
            named: codes.cloned().unwrap_or_default(),
        }
    }

    /// How specific it is for the codes that it matches, smaller = more.
    pub fn rank(&self) -> i64 {
        self.code.as_deref().map_or(0, rank_of)
    }

    fn excludes(&self, code: &str) -> bool {
        self.exclude.iter().any(|pattern| pattern_matches(pattern, code))
    }
}

/// A set of limits, by their places: bit n of word n / 64.
pub type Places = Box<[u64]>;

/// Limits of one service by the codes that they are for. One look-up for each length of wildcard.
pub struct Limits {
    limits: Vec<Arc<Limit>>,
    every: Places,
    exact: FxHashMap<Box<str>, Places>,
    wild: FxHashMap<Box<str>, Places>,
    lengths: Vec<usize>,
    excluding: Vec<usize>,
}

pub fn put(places: &mut [u64], place: usize) {
    places[place / 64] |= 1 << (place % 64);
}

impl Limits {
    pub fn new(limits: Vec<Arc<Limit>>) -> Self {
        let none: Places = vec![0; limits.len().div_ceil(64)].into();
        let mut exact: FxHashMap<Box<str>, Places> = FxHashMap::default();
        let mut wild: FxHashMap<Box<str>, Places> = FxHashMap::default();
        let mut excluding = Vec::new();
        for (place, limit) in limits.iter().enumerate() {
            if !limit.exclude.is_empty() {
                excluding.push(place);
            }
            let add = |to: &mut FxHashMap<Box<str>, Places>, code: &str| {
                put(to.entry(code.into()).or_insert_with(|| none.clone()), place);
            };
            match limit.code.as_deref() {
                Some(code) => match code.strip_suffix(WILDCARD) {
                    Some(beginning) => add(&mut wild, beginning),
                    None => add(&mut exact, code),
                },
                None => limit.named.iter().for_each(|code| add(&mut exact, code)),
            }
        }
        let every = wild.remove("").unwrap_or_else(|| none.clone());
        let mut lengths: Vec<usize> = wild.keys().map(|code| code.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Self { limits, every, exact, wild, lengths, excluding }
    }

    /// The limits for an identified code.
    pub fn select(&self, code: &str) -> Places {
        let mut found = self.every.clone();
        let mut add = |places: Option<&Places>| {
            for (word, other) in found.iter_mut().zip(places.into_iter().flat_map(|places| places.iter())) {
                *word |= other;
            }
        };
        add(self.exact.get(code));
        for &length in &self.lengths {
            add(self.wild.get(&code[..length.min(code.len())]));
        }
        for &place in &self.excluding {
            if found[place / 64] >> (place % 64) & 1 == 1 && self.limits[place].excludes(code) {
                found[place / 64] &= !(1 << (place % 64));
            }
        }
        found
    }
}

/// A package as it was from some instant on.
pub struct Version {
    pub id: Box<str>,
    pub name: Box<str>,
    pub vendor: bool,
    pub currency: Box<str>,
    pub priority: i64,
    pub tag: Option<Box<str>>,
    pub waive_setup: bool,
    pub allow: bool,
    pub charge_on_event: bool,
    pub before_period: bool,
    pub advance: Option<Span>,
    pub start_date: Option<Box<str>>,
    pub end_date: Option<Box<str>>,
    pub limits: Vec<Arc<Limit>>,
    pub spec: PackageSpec,
}

impl Version {
    fn new(
        mut spec: PackageSpec,
        named: &NamedCodes,
        names: &FxHashMap<String, String>,
    ) -> Result<Self, String> {
        let limits = std::mem::take(&mut spec.limits).into_iter().enumerate();
        let advance = match &spec.advance_renew {
            Some(text) => Some(Span::parse(text).ok_or_else(|| format!("no span: {text}"))?),
            None => None,
        };
        Ok(Self {
            id: spec.id.as_str().into(),
            name: spec.name.as_str().into(),
            vendor: spec.kind == "vendor",
            currency: spec.currency.as_str().into(),
            priority: spec.priority,
            tag: spec.dynamic_tag.as_deref().map(Into::into),
            waive_setup: spec.setup_fee.as_deref() == Some("dont_charge"),
            allow: spec.client_balance.as_deref() == Some("allow"),
            charge_on_event: spec.charge_on_event,
            before_period: spec.renewal_charge.as_deref() == Some("before_period"),
            advance,
            start_date: spec.start_date.as_deref().map(Into::into),
            end_date: spec.end_date.as_deref().map(Into::into),
            limits: limits.map(|(place, limit)| Arc::new(Limit::new(place, limit, named, names))).collect(),
            spec,
        })
    }

    /// The instant before which nothing of it is in force, for a client in this zone. Err: it cannot be said here.
    pub fn start_ms(&self, zone: &Zone) -> Result<Option<i64>, ()> {
        date_ms(self.start_date.as_deref(), zone)
    }

    /// The instant at which the last period ends at the latest, for a client in this zone. Err: as of the start.
    pub fn end_ms(&self, zone: &Zone) -> Result<Option<i64>, ()> {
        date_ms(self.end_date.as_deref(), zone)
    }
}

fn date_ms(date: Option<&str>, zone: &Zone) -> Result<Option<i64>, ()> {
    date.map(|date| zone.when_ms(date).ok_or(())).transpose()
}

/// Whether a package's limits are used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Active,
    Disabled,
    Archived,
}

/// A package over time; the first version and status count from the beginning.
pub struct Package {
    since: Vec<i64>,
    versions: Vec<Arc<Version>>,
    pub statuses: Vec<(i64, Status)>,
    archived_ms: Option<i64>,
}

impl Package {
    pub fn new(
        history: PackageHistory,
        named: &NamedCodes,
        names: &FxHashMap<String, String>,
    ) -> Result<Self, String> {
        let statuses: Vec<(i64, Status)> = history
            .statuses
            .iter()
            .map(|(since, status)| {
                let status = match status.as_str() {
                    "active" => Status::Active,
                    "archived" => Status::Archived,
                    _ => Status::Disabled,
                };
                (*since, status)
            })
            .collect();
        let archived = statuses.iter().find(|(_, status)| *status == Status::Archived);
        let archived_ms = archived.map(|(since, _)| *since);
        let since = history.versions.iter().map(|(since, _)| *since).collect();
        let versions = history
            .versions
            .into_iter()
            .map(|(_, spec)| Version::new(spec, named, names).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self { since, versions, statuses, archived_ms })
    }

    /// The version in force at an instant.
    pub fn at(&self, at_ms: i64) -> &Arc<Version> {
        &self.versions[self.place_at(at_ms)]
    }

    /// The package of this catalog.
    pub fn latest(&self) -> &Arc<Version> {
        &self.versions[self.versions.len() - 1]
    }

    /// The version in force at an instant and those after it: [from, until) in which each holds. The first one holds
    /// from the beginning, the last one for ever.
    pub fn since(&self, at_ms: i64) -> impl Iterator<Item = (i64, i64, &Version)> {
        let first = self.place_at(at_ms);
        self.versions[first..].iter().zip(first..).map(move |(version, place)| {
            let from = if place == first { BEGINNING_MS } else { self.since[place] };
            (from, self.since.get(place + 1).copied().unwrap_or(NEVER_MS), &**version)
        })
    }

    /// When an end date ends what a client has, None: none does; and whether its load did. The first since from_ms
    /// that comes while its version holds; one that was over when it was loaded comes with the load.
    pub fn ended(&self, from_ms: i64, zone: &Zone) -> Result<Option<(i64, bool)>, ()> {
        if let [only] = &*self.versions {
            return Ok(only.end_ms(zone)?.map(|end| (end, false)));
        }
        for (since, until, version) in self.since(from_ms) {
            // What is due at a load's instant is done before it.
            if let Some(end) = version.end_ms(zone)?.filter(|end| *end <= until) {
                return Ok(Some((end.max(since), end <= since)));
            }
        }
        Ok(None)
    }

    /// The first version counts from the beginning.
    fn place_at(&self, at_ms: i64) -> usize {
        self.since.partition_point(|since| *since <= at_ms).max(1) - 1
    }

    /// The status at an instant, and the [from, until) around it in which it stays so.
    pub fn status_around(&self, at_ms: i64) -> (Status, i64, i64) {
        let place = self.statuses.partition_point(|(since, _)| *since <= at_ms).saturating_sub(1);
        let (since, status) = self.statuses[place];
        let until = self.statuses.get(place + 1).map_or(NEVER_MS, |(since, _)| *since);
        (status, if place > 0 { since } else { BEGINNING_MS }, until)
    }

    /// When its archiving cancels a client package that was assigned then; None: never.
    pub fn cancelled_ms(&self, assigned_ms: i64) -> Option<i64> {
        self.archived_ms.map(|at_ms| at_ms.max(assigned_ms))
    }
}
