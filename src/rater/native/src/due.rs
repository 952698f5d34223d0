//! From when on something of a client has to be done before its calls: then they go through the reference, which does
//! it. Source of the rules: RULES.md section 4; states what `core/clients/moments.py` and `did_rows.py` do.

use crate::catalog::{Catalog, DidLimitSpec};
use crate::clients::{Held, HeldPeriod, Life, View, Waiting};
use crate::instants::{BEGINNING_MS, NEVER_MS, SECOND_MS};
use crate::packages::{Package, Status, Version};
use crate::periods::dates_from;
use crate::zones::{Span, Unit, Zone};

/// The end of the last year of the calendar: a hold beyond it ends then.
const LAST_MS: i64 = 253_370_678_400_000;

/// What is due of a client package, as far as it decides what goes first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// The home lane alone does it, and no call.
    Closing,
    /// The same, by what the load of that very instant says, or its archiving.
    Loaded,
    Hold,
    Calls,
}

impl What {
    fn closing(loaded: bool) -> Self {
        if loaded { What::Loaded } else { What::Closing }
    }

    fn closes(self) -> bool {
        matches!(self, What::Closing | What::Loaded)
    }

    /// At one instant what closes goes first, but before what a load ends all that was due until then is done; what
    /// opens a period at the stop of the one before goes before DIDs are put on hold.
    fn order(self) -> u8 {
        match self {
            What::Closing => 0,
            What::Calls => 1,
            What::Hold => 2,
            What::Loaded => 3,
        }
    }
}

type Due = (i64, What);

/// The first moment of what calls have done before them, None: never. Err: it cannot be said here.
pub fn before_calls_ms(view: &View, catalog: &Catalog) -> Result<Option<i64>, ()> {
    let mut first: Option<i64> = None;
    for held in &view.packages {
        if let Some((at_ms, what)) = due_of(view, held, catalog)?
            && !what.closes()
        {
            first = Some(first.map_or(at_ms, |first| first.min(at_ms)));
        }
    }
    Ok(first)
}

fn due_of(view: &View, held: &Held, catalog: &Catalog) -> Result<Option<Due>, ()> {
    let Some(package) = catalog.packages.get(&held.package) else { return Ok(None) };
    let Some(life) = &held.life else { return Ok(Some((BEGINNING_MS, What::Calls))) };
    let zone = match life.periods.last() {
        Some(last) => catalog.zones.at(view.zone_at(last.by_ms), last.by_ms),
        None => catalog.zones.at(&view.zone, view.changed_ms),
    };
    let zone = zone.ok_or(())?;
    let mut moments = Vec::new();
    if life.ended_ms.is_none() {
        of_package(held, life, package, &zone, &mut moments)?;
    }
    if !life.dids.is_empty() {
        of_dids(held, life, package, &zone, catalog, &mut moments);
    }
    let known = moments.into_iter().filter(|(at_ms, _)| *at_ms < NEVER_MS);
    Ok(known
        .reduce(|first, due| if (due.0, due.1.order()) < (first.0, first.1.order()) { due } else { first }))
}

fn of_package(held: &Held, life: &Life, package: &Package, zone: &Zone, to: &mut Vec<Due>) -> Result<(), ()> {
    let ending = ending(held, package, zone)?;
    if let Some(gone) = package.cancelled_ms(held.assigned_ms) {
        to.push((gone, What::Loaded));
    }
    match (&life.waiting, life.periods.last()) {
        (Some(waiting), _) => while_waiting(waiting, package, ending, to),
        (None, None) => first_period(held, package, ending, zone, to)?,
        (None, Some(last)) => after(last, ending, held, life, package, zone, to)?,
    }
    // The first period that unused volume is to be moved into.
    let mut place = life.periods.len();
    while place > 1 && life.periods[place - 1].rolled().is_none() {
        place -= 1;
    }
    if let Some(into) = life.periods.get(place) {
        to.push((into.start_ms, What::Calls));
    }
    Ok(())
}

/// When an end date ends it, its own or one of its package.
fn ending(held: &Held, package: &Package, zone: &Zone) -> Result<Option<Due>, ()> {
    let own = held.end_ms.map(|end| (end, false));
    let first = [own, package.ended(dates_from(held), zone)?].into_iter().flatten().min();
    Ok(first.map(|(at_ms, loaded)| (at_ms, What::closing(loaded))))
}

/// The earlier end date of a client package and a version of its package.
fn end_by(held: &Held, version: &Version, zone: &Zone) -> Result<Option<i64>, ()> {
    Ok([held.end_ms, version.end_ms(zone)?].into_iter().flatten().min())
}

fn while_waiting(waiting: &Waiting, package: &Package, ending: Option<Due>, to: &mut Vec<Due>) {
    to.extend(waiting.until_ms.map(|at_ms| (at_ms, What::Closing)));
    to.extend(ending);
    let enabled = package.statuses[1..].iter().filter(|(_, status)| *status == Status::Active);
    let since = enabled.map(|(since, _)| *since).filter(|since| *since > waiting.status_ms);
    to.extend(since.map(|since| (since, What::Calls)));
}

/// The first period: when its start has come, as the package says it by then.
fn first_period(
    held: &Held,
    package: &Package,
    ending: Option<Due>,
    zone: &Zone,
    to: &mut Vec<Due>,
) -> Result<(), ()> {
    let (at_ms, loaded) = activation(held, package, zone)?;
    to.push((at_ms, What::Calls));
    let start = earliest_start(held, package.at(at_ms - i64::from(!loaded)), zone)?;
    // What begins in the past and ended there is opened all the same, and closed then.
    if let Some((end, what)) = ending
        && !(held.activate_in_past && start < end)
    {
        to.push((end.max(held.assigned_ms), what));
    }
    Ok(())
}

/// When the first period is due, and whether by what the load of that very instant says.
fn activation(held: &Held, package: &Package, zone: &Zone) -> Result<(i64, bool), ()> {
    for (since, until, version) in package.since(held.assigned_ms) {
        let start = held.assigned_ms.max(earliest_start(held, version, zone)?);
        if start <= until {
            return Ok((start.max(since), start <= since));
        }
    }
    Ok((NEVER_MS, false))
}

/// When the first period starts at the earliest, by the package's start date too.
fn earliest_start(held: &Held, version: &Version, zone: &Zone) -> Result<i64, ()> {
    Ok(version.start_ms(zone)?.map_or(held.start_ms, |begin| begin.max(held.start_ms)))
}

/// What may follow the last period that was opened.
fn after(
    last: &HeldPeriod,
    ending: Option<Due>,
    held: &Held,
    life: &Life,
    package: &Package,
    zone: &Zone,
    to: &mut Vec<Due>,
) -> Result<(), ()> {
    if life.periods.len() > 1 {
        for (since, _, version) in package.since(dates_from(held)).skip(1) {
            if since < last.start_ms && version.end_ms(zone)?.is_some_and(|cut| cut <= last.start_ms) {
                to.push((since, What::Loaded));
                break;
            }
        }
    }
    to.extend(ending);
    match (renewal(last, held, life, package, zone)?, last.stop_ms) {
        (Some(at_ms), _) => to.push((at_ms, What::Calls)),
        (None, Some(stop)) => to.push((stop, What::Closing)),
        (None, None) => {}
    }
    Ok(())
}

/// When the next period is due: when no end date forbids it by then; None: never.
fn renewal(
    last: &HeldPeriod,
    held: &Held,
    life: &Life,
    package: &Package,
    zone: &Zone,
) -> Result<Option<i64>, ()> {
    let Some(stop) = last.stop_ms.filter(|_| !life.last) else { return Ok(None) };
    let due_ms = renewal_ms(last, stop, package, zone)?.max(life.dates_ms);
    for (since, _, version) in package.since((due_ms - 1).max(dates_from(held))) {
        if end_by(held, version, zone)?.is_none_or(|end| end > stop) {
            return Ok(Some(due_ms.max(since)));
        }
    }
    Ok(None)
}

/// When the period after this one is due: its stop, a second before, or in advance.
fn renewal_ms(last: &HeldPeriod, stop: i64, package: &Package, zone: &Zone) -> Result<i64, ()> {
    let version = package.at(last.by_ms);
    let moment = match version.advance {
        Some(span) => zone.later(stop, span, -1).ok_or(())?,
        None if version.before_period && !version.charge_on_event => stop - SECOND_MS,
        None => stop,
    };
    // Not before the second in which it was opened itself.
    let opened_ms = -(-last.by_ms).div_euclid(SECOND_MS) * SECOND_MS;
    Ok(moment.max(last.start_ms).max(opened_ms))
}

/// When DIDs go on hold, for a renewal waits, and when the hold of the first one runs out.
fn of_dids(held: &Held, life: &Life, package: &Package, zone: &Zone, catalog: &Catalog, to: &mut Vec<Due>) {
    let last = life.periods.last();
    let stop_ms = match (life.ended_ms, last) {
        (Some(ended), _) => ended,
        (None, Some(HeldPeriod { stop_ms: Some(stop), .. })) if life.waiting.is_some() => *stop,
        _ => return,
    };
    let held_on = life.dids.iter().any(|did| did.hold_until_ms.is_none());
    if held_on {
        to.push((stop_ms, What::Hold));
    }
    let mut ends: Vec<Option<i64>> = life.dids.iter().map(|did| did.hold_until_ms).collect();
    if let (true, Some(last)) = (held_on, last) {
        let rows = rows_of(held, life, &package.at(last.by_ms).spec.did_limits, catalog);
        for (end, row) in ends.iter_mut().zip(rows) {
            *end = end.or_else(|| hold_end(row, stop_ms, zone));
        }
    }
    if let Some(first) = ends.into_iter().flatten().min() {
        to.push((first, What::Closing));
    }
}

/// The row that each DID counts in: the first that it fits and that has room.
fn rows_of<'a>(
    held: &Held,
    life: &Life,
    rows: &'a [DidLimitSpec],
    catalog: &Catalog,
) -> Vec<Option<&'a DidLimitSpec>> {
    let mut room: Vec<i64> = rows.iter().map(|row| row.quantity * held.quantity).collect();
    let mut row_of = |number: &str| {
        let tags = catalog.dids.get(number).map_or(&[][..], |did| &did.tags);
        let fits = |row: &DidLimitSpec| {
            row.allowed_tags.is_empty() || row.allowed_tags.iter().any(|tag| tags.contains(tag))
        };
        let place = rows.iter().zip(&room).position(|(row, room)| *room != 0 && fits(row))?;
        room[place] -= 1;
        Some(&rows[place])
    };
    life.dids.iter().map(|did| row_of(&did.number)).collect()
}

fn hold_end(row: Option<&DidLimitSpec>, stop_ms: i64, zone: &Zone) -> Option<i64> {
    let row = row.filter(|row| row.on_hold_days != 0)?;
    let span = Span { count: row.on_hold_days, unit: Unit::Day };
    Some(zone.later(stop_ms, span, 1).unwrap_or(LAST_MS))
}
