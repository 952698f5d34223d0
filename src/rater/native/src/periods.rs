//! The periods of client packages that a call may fall into, and what they offer together. Source of the rules:
//! RULES.md 2 step 8, section 3 (Editing) and section 4 (Periods); states what `core/clients/periods.py` and
//! `core/clients/views.py` do.

use crate::catalog::Catalog;
use crate::clients::{Held, HeldPeriod, View};
use crate::instants::{BEGINNING_MS, NEVER_MS};
use crate::json::quoted;
use crate::msgpack::Writer;
use crate::offers::{Offer, OfferKey, Offers, escaped};
use crate::packages::{Package, Places, Status, Version};
use crate::zones::Zone;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Sets of packages whose offers are remembered: what a carrier sells together.
const SETS_MAX: usize = 4096;

/// A period that may be drawn from in [start, stop).
pub struct Period {
    pub place: usize,
    pub version: Arc<Version>,
    pub latest: Arc<Version>,
    pub start_ms: i64,
    /// None: without end.
    pub stop_ms: Option<i64>,
}

/// An open client package as its transactions and counters name it; all empty: it is not open.
#[derive(Default)]
pub struct PeriodText {
    pub id: Box<str>,
    pub field: Box<str>,
    pub period: Box<str>,
}

/// An open client package whose fee the first call of its period brings.
pub struct ByEvent {
    pub group: usize,
    pub period: Period,
}

/// What of a client's packages is open to calls of an account and service in [from_ms, until_ms).
pub struct Opened {
    pub catalog: u64,
    pub from_ms: i64,
    pub until_ms: i64,
    pub packages: Vec<PeriodText>,
    /// packages as msgpack.
    pub packed: Vec<u8>,
    pub stops_ms: Vec<i64>,
    pub offers: Arc<Offers>,
    /// The money limits of other currencies than the client's.
    pub foreign: Places,
    pub by_event: Vec<ByEvent>,
}

/// Offers remembered by what is open together, of one catalog.
#[derive(Default)]
pub struct Sets {
    catalog: u64,
    found: FxHashMap<(Box<str>, Vec<OfferKey>), Arc<Offers>>,
}

impl Sets {
    fn offers(&mut self, catalog: &Catalog, service: &str, offers: &[Offer]) -> Result<Arc<Offers>, ()> {
        if self.catalog != catalog.serial {
            self.catalog = catalog.serial;
            self.found.clear();
        }
        let key = (service.into(), offers.iter().map(Offer::key).collect());
        if let Some(found) = self.found.get(&key) {
            return Ok(found.clone());
        }
        if self.found.len() >= SETS_MAX {
            self.found.clear();
        }
        let made = Arc::new(Offers::new(offers, service, &catalog.percents).ok_or(())?);
        Ok(self.found.entry(key).or_insert(made).clone())
    }
}

/// What sorts ids: those that are numbers as numbers and first, the others as text.
pub type IdOrder = (bool, usize, String);

pub fn id_order(name: &str) -> IdOrder {
    if !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_digit()) {
        let digits = name.trim_start_matches('0');
        // Of numbers of equal length the text's order is theirs; equal ones go by how they are written.
        return (false, digits.len(), format!("{digits}\0{name}"));
    }
    (true, 0, name.to_string())
}

/// The zone by the client's clock at an instant, and its rules then.
pub fn zone_of(view: &View, by_ms: i64, catalog: &Catalog) -> Result<Arc<Zone>, ()> {
    catalog.zones.at(view.zone_at(by_ms), by_ms).ok_or(())
}

/// The instant from which on the dates of its package's versions say what is due of a client package.
pub fn dates_from(held: &Held) -> i64 {
    let life = held.life.as_ref();
    let opened_ms = life.and_then(|life| life.periods.last()).map_or(held.assigned_ms, |last| last.by_ms);
    opened_ms.max(life.map_or(0, |life| life.dates_ms))
}

/// A period with the bounds that it has now; None: nothing of it may be drawn from.
pub fn bounded(
    view: &View,
    held: &Held,
    package: &Package,
    place: usize,
    one: &HeldPeriod,
    catalog: &Catalog,
) -> Result<Option<Period>, ()> {
    if one.voided {
        return Ok(None);
    }
    let latest = package.latest();
    let zone = zone_of(view, one.by_ms, catalog)?;
    let start_ms = latest.start_ms(&zone)?.map_or(one.start_ms, |begin| begin.max(one.start_ms));
    let end = latest.end_ms(&zone)?;
    let archived = held.life.as_ref().and_then(|life| life.ended_ms);
    // The tick that closes it may still be to come.
    let (ended, cancelled) =
        (package.ended(dates_from(held), &zone)?, package.cancelled_ms(held.assigned_ms));
    let stops = [one.stop_ms, held.end_ms, end, archived, cancelled, ended.map(|(at_ms, _)| at_ms)];
    let stop_ms = stops.into_iter().flatten().min();
    if stop_ms.is_some_and(|stop| stop <= start_ms) {
        return Ok(None);
    }
    let (version, latest) = (package.at(one.by_ms).clone(), latest.clone());
    Ok(Some(Period { place, version, latest, start_ms, stop_ms }))
}

/// The period that holds an instant, and the [from, until) around it in which that is so.
fn around(
    view: &View,
    held: &Held,
    package: &Package,
    at_ms: i64,
    catalog: &Catalog,
) -> Result<(Option<Period>, i64, i64), ()> {
    let (since, mut until) = (BEGINNING_MS, NEVER_MS);
    let periods = held.life.as_ref().map_or(&[][..], |life| &life.periods);
    for (place, one) in periods.iter().enumerate().rev() {
        let Some(period) = bounded(view, held, package, place, one, catalog)? else { continue };
        let stop = period.stop_ms.unwrap_or(NEVER_MS);
        if at_ms >= stop {
            return Ok((None, since.max(stop), until));
        }
        if at_ms >= period.start_ms {
            let start_ms = period.start_ms;
            return Ok((Some(period), start_ms, stop.min(until)));
        }
        until = until.min(period.start_ms);
    }
    Ok((None, since, until))
}

/// Work out what is open. Err: it cannot be said here.
pub fn open(
    view: &View,
    account: Option<&str>,
    service: &str,
    vendor: bool,
    at_ms: i64,
    catalog: &Catalog,
    sets: &mut Sets,
) -> Result<Opened, ()> {
    let (mut from_ms, mut until_ms) = (BEGINNING_MS, NEVER_MS);
    let mut found: Vec<(usize, Period)> = Vec::new();
    let mut packages: Vec<PeriodText> = Vec::with_capacity(view.packages.len()); // exactly: it stays for long
    let mut stops_ms = vec![NEVER_MS; view.packages.len()];
    packages.resize_with(view.packages.len(), PeriodText::default);
    for (group, held) in view.packages.iter().enumerate() {
        let Some(package) = catalog.packages.get(&held.package) else { continue };
        if held.account.is_some() && held.account.as_deref() != account {
            continue;
        }
        let (period, since, until) = around(view, held, package, at_ms, catalog)?;
        let (status, status_since, status_until) = package.status_around(at_ms);
        from_ms = from_ms.max(since).max(status_since);
        until_ms = until_ms.min(until).min(status_until);
        let Some(period) = period else { continue };
        if period.version.vendor != vendor || status != Status::Active {
            continue;
        }
        let number = period_of(held, &period).number;
        packages[group] = PeriodText {
            id: quoted(&held.id).into(),
            field: format!("{}.{number}", escaped(&held.id)).into(),
            period: number.to_string().into(),
        };
        stops_ms[group] = period.stop_ms.unwrap_or(NEVER_MS);
        found.push((group, period));
    }
    let offers = offers_of(view, &found, &stops_ms);
    let offers = sets.offers(catalog, service, &offers)?;
    let foreign = offers.foreign(&view.currency);
    let mut packed = Writer::default();
    packed.array(packages.len());
    for text in &packages {
        packed.array(3);
        [&text.id, &text.field, &text.period].iter().for_each(|part| packed.text(part));
    }
    let by_event = found
        .into_iter()
        .filter(|(_, period)| period.version.charge_on_event)
        .map(|(group, period)| ByEvent { group, period })
        .collect();
    let (mut packed, catalog) = (packed.0, catalog.serial);
    packed.shrink_to_fit();
    Ok(Opened { catalog, from_ms, until_ms, packages, packed, stops_ms, offers, foreign, by_event })
}

/// The period of a client package as its register has it.
pub fn period_of<'a>(held: &'a Held, period: &Period) -> &'a HeldPeriod {
    static NONE: HeldPeriod = HeldPeriod::NONE;
    held.life.as_ref().and_then(|life| life.periods.get(period.place)).unwrap_or(&NONE)
}

fn offers_of(view: &View, found: &[(usize, Period)], stops_ms: &[i64]) -> Vec<Offer> {
    let mut stops: Vec<i64> = found.iter().map(|(group, _)| stops_ms[*group]).collect();
    stops.sort_unstable();
    stops.dedup();
    let turn = |place: &usize| {
        let held = &view.packages[found[*place].0];
        let first = held.life.as_ref().and_then(|life| life.first_ms);
        (held.account.is_none(), first.unwrap_or(held.start_ms), id_order(&held.id))
    };
    let mut by_turn: Vec<usize> = (0..found.len()).collect();
    if found.len() > 1 {
        by_turn.sort_by_cached_key(turn);
    }
    let mut turns = vec![0; found.len()];
    by_turn.iter().enumerate().for_each(|(turn, place)| turns[*place] = turn);
    let of = |(place, (group, period)): (usize, &(usize, Period))| {
        let held = &view.packages[*group];
        let one = period_of(held, period);
        Offer {
            version: period.version.clone(),
            latest: period.latest.clone(),
            quantity: held.quantity,
            group: *group,
            expiration: stops.partition_point(|stop| *stop < stops_ms[*group]),
            turn: turns[place],
            share: one.share(),
            moved: one.moved().to_vec(),
            rolled: one.rolled().unwrap_or_default().to_vec(),
        }
    };
    found.iter().enumerate().map(of).collect()
}
