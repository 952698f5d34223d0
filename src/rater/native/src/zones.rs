//! Time zones by the very rules that the catalog carries (TZif, RFC 9636), release by release; no database is
//! compiled in. States what `core/zones.py` and Python's `zoneinfo` do, and the little of `core/periods.py` that
//! rating needs. Source of the rules: RULES.md section 4 (Periods).

use crate::instants::{Civil, DAY_MS, HOUR_MS, civil_ms, civil_of, days_in_month, days_of, read_rfc3339};
use rustc_hash::FxHashMap;
use std::sync::{Arc, OnceLock};

const YEAR_MAX: i64 = 9998;

/// One zone's clock. Instants and offsets are in seconds.
#[derive(Debug, Default)]
pub struct Zone {
    transitions: Vec<i64>,
    /// The same by the clock of the zone; one that comes twice counts the first time.
    wall: Vec<i64>,
    offsets: Vec<i64>,
    before: i64,
    after: After,
}

#[derive(Debug)]
enum After {
    Fixed(i64),
    Rule(Box<Posix>),
}

impl Default for After {
    fn default() -> Self {
        After::Fixed(0)
    }
}

/// A rule for all years: standard time, and summer time from `start` to `end`.
#[derive(Debug)]
struct Posix {
    standard: i64,
    summer: i64,
    start: Day,
    end: Day,
}

#[derive(Debug)]
struct Day {
    of: DayOf,
    seconds: i64,
}

#[derive(Debug)]
enum DayOf {
    Month {
        month: i64,
        week: i64,
        day: i64,
    },
    /// Counted from 1, 29 February never.
    Julian(i64),
    /// Counted from 0.
    Year(i64),
}

impl Day {
    fn epoch(&self, year: i64) -> i64 {
        let days = match self.of {
            DayOf::Month { month, week, day } => {
                let first = days_of(year, month, 1);
                let weekday = (first + 4).rem_euclid(7); // of the first of the month, Sunday is 0
                let mut of_month = (day - weekday).rem_euclid(7) + 1 + (week - 1) * 7;
                if of_month > days_in_month(year, month) {
                    of_month -= 7;
                }
                first + of_month - 1
            }
            DayOf::Julian(day) => {
                let leap = days_in_month(year, 2) == 29 && day >= 60;
                days_of(year, 1, 1) + day - 1 + i64::from(leap)
            }
            DayOf::Year(day) => days_of(year, 1, 1) + day,
        };
        days * 86_400 + self.seconds
    }
}

impl Zone {
    /// Read TZif; None: it is none.
    pub fn read(bytes: &[u8]) -> Option<Zone> {
        let first = Header::read(bytes)?;
        let (header, times, size, from) = if first.version >= b'2' {
            let from = 44 + first.length(4);
            (Header::read(bytes.get(from..)?)?, bytes.get(from + 44..)?, 8, from + 44)
        } else {
            (first, bytes.get(44..)?, 4, 44)
        };
        let [_, _, _, transitions, types, _] = header.counts;
        let at = |place: usize| -> Option<i64> {
            let raw = times.get(place * size..(place + 1) * size)?;
            Some(if size == 8 {
                i64::from_be_bytes(raw.try_into().ok()?)
            } else {
                i32::from_be_bytes(raw.try_into().ok()?).into()
            })
        };
        let list: Vec<i64> = (0..transitions).map(at).collect::<Option<_>>()?;
        let indices = times.get(transitions * size..transitions * (size + 1))?;
        let infos = times.get(transitions * (size + 1)..)?.get(..types * 6)?;
        let info: Vec<(i64, bool)> = infos
            .chunks_exact(6)
            .map(|raw| (i64::from(i32::from_be_bytes([raw[0], raw[1], raw[2], raw[3]])), raw[4] != 0))
            .collect();
        let offsets: Vec<i64> = indices
            .iter()
            .map(|place| info.get(usize::from(*place)).map(|of| of.0))
            .collect::<Option<_>>()?;
        let before = info
            .iter()
            .find(|(_, summer)| !summer)
            .map(|of| of.0)
            .or(offsets.first().copied())
            .or(info.first().map(|of| of.0))?;
        let footer = if size == 8 { bytes.get(from + header.length(8)..)? } else { b"" };
        let text = std::str::from_utf8(footer.trim_ascii()).ok()?;
        let after = if text.is_empty() {
            After::Fixed(offsets.last().copied().or(info.last().map(|of| of.0))?)
        } else {
            posix(text)?
        };
        let mut wall = Vec::with_capacity(list.len());
        for (place, at) in list.iter().enumerate() {
            let earlier = if place == 0 { info[0].0 } else { offsets[place - 1] };
            wall.push(at + earlier.max(offsets[place]));
        }
        Some(Zone { transitions: list, wall, offsets, before, after })
    }

    /// The offset at an instant.
    fn offset_at(&self, seconds: i64) -> i64 {
        let place = self.transitions.partition_point(|at| *at <= seconds);
        match (&self.after, self.transitions.last()) {
            (_, Some(_)) if seconds < self.transitions[0] => self.before,
            (After::Rule(rule), last) if last.is_none_or(|last| seconds > *last) => {
                let year = civil_of(seconds * 1000).year;
                let start = rule.start.epoch(year) - rule.standard;
                rule.offset(seconds, start, rule.end.epoch(year) - rule.summer)
            }
            (After::Fixed(offset), None) => *offset,
            _ => self.offsets[place - 1],
        }
    }

    /// The offset of a local time; of one that comes twice the first, of one that is left out that before.
    fn offset_of_local(&self, seconds: i64) -> i64 {
        let place = self.wall.partition_point(|at| *at <= seconds);
        match (&self.after, self.wall.last()) {
            (_, Some(_)) if seconds < self.wall[0] => self.before,
            (after, last) if last.is_none_or(|last| seconds > *last) => match after {
                After::Fixed(offset) => *offset,
                After::Rule(rule) => {
                    let year = civil_of(seconds * 1000).year;
                    let (mut start, mut end) = (rule.start.epoch(year), rule.end.epoch(year));
                    let longer = rule.summer - rule.standard;
                    if longer > 0 {
                        start += longer;
                    } else {
                        end -= longer;
                    }
                    rule.offset(seconds, start, end)
                }
            },
            _ => self.offsets[place - 1],
        }
    }

    /// The instant of a local time.
    pub fn instant_of(&self, local_ms: i64) -> i64 {
        local_ms - self.offset_of_local(local_ms.div_euclid(1000)) * 1000
    }

    /// The local time of an instant.
    pub fn local_of(&self, at_ms: i64) -> i64 {
        at_ms + self.offset_at(at_ms.div_euclid(1000)) * 1000
    }

    /// The instant of a canonical date (00:00 in the zone) or instant.
    pub fn when_ms(&self, when: &str) -> Option<i64> {
        if when.len() > "2026-11-01".len() {
            return read_rfc3339(when.as_bytes());
        }
        read_rfc3339(format!("{when}T00:00:00Z").as_bytes()).map(|local_ms| self.instant_of(local_ms))
    }

    /// The instant so many spans later (or earlier) by the calendar of the zone; None: beyond it.
    pub fn later(&self, at_ms: i64, span: Span, times: i64) -> Option<i64> {
        let steps = span.count * times;
        let local = civil_of(self.local_of(at_ms));
        let moved = match span.unit {
            Unit::Hour => return Some(at_ms + steps * HOUR_MS),
            Unit::Day => civil_of(civil_ms(local) + steps.checked_mul(DAY_MS)?),
            Unit::Month => {
                let months = local.month - 1 + steps;
                let (year, month) = (local.year + months.div_euclid(12), months.rem_euclid(12) + 1);
                Civil { year, month, day: local.day.min(days_in_month(year, month)), ..local }
            }
        };
        (1..=YEAR_MAX).contains(&moved.year).then(|| self.instant_of(civil_ms(moved)))
    }
}

impl Posix {
    fn offset(&self, seconds: i64, start: i64, end: i64) -> i64 {
        let summer = if start < end {
            start <= seconds && seconds < end
        } else {
            !(end <= seconds && seconds < start)
        };
        if summer { self.summer } else { self.standard }
    }
}

struct Header {
    version: u8,
    /// isutcnt, isstdcnt, leapcnt, timecnt, typecnt, charcnt.
    counts: [usize; 6],
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Header> {
        if bytes.get(..4)? != b"TZif" {
            return None;
        }
        let mut counts = [0; 6];
        for (place, count) in counts.iter_mut().enumerate() {
            let raw = bytes.get(20 + 4 * place..24 + 4 * place)?;
            *count = u32::from_be_bytes(raw.try_into().ok()?) as usize;
        }
        Some(Header { version: bytes[4], counts })
    }

    /// Bytes behind the header; size: of a time.
    fn length(&self, size: usize) -> usize {
        let [utc, standard, leaps, times, types, chars] = self.counts;
        times * (size + 1) + types * 6 + chars + leaps * (size + 4) + standard + utc
    }
}

/// The rule behind the last transition, as POSIX writes TZ.
fn posix(text: &str) -> Option<After> {
    let (names, dates) = match text.split_once(',') {
        Some((names, dates)) => (names, Some(dates)),
        None => (text, None),
    };
    let rest = name(names)?;
    let (standard, rest) = offset(rest)?;
    if rest.is_empty() {
        return Some(After::Fixed(-standard));
    }
    let rest = name(rest)?;
    let (summer, rest) = if rest.is_empty() { (standard - 3600, rest) } else { offset(rest)? };
    let (start, end) = dates?.split_once(',')?;
    let rule = Posix { standard: -standard, summer: -summer, start: day(start)?, end: day(end)? };
    rest.is_empty().then(|| After::Rule(Box::new(rule)))
}

/// What stands behind the abbreviation.
fn name(text: &str) -> Option<&str> {
    match text.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>').map(|(_, rest)| rest),
        None => {
            let letters = text.bytes().take_while(u8::is_ascii_alphabetic).count();
            (letters >= 3).then(|| &text[letters..])
        }
    }
}

/// Seconds of [+-]h[h[h]][:mm[:ss]], and what stands behind.
fn offset(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|char: char| !"+-:0123456789".contains(char)).unwrap_or(text.len());
    clock(&text[..end]).map(|seconds| (seconds, &text[end..]))
}

fn clock(text: &str) -> Option<i64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let mut seconds = 0;
    for (part, unit) in unsigned.split(':').zip([3600, 60, 1]) {
        seconds += part.parse::<i64>().ok()? * unit;
    }
    Some(if text.starts_with('-') { -seconds } else { seconds })
}

fn day(text: &str) -> Option<Day> {
    let (date, seconds) = match text.split_once('/') {
        Some((date, time)) => (date, clock(time)?),
        None => (text, 7200),
    };
    let of = if let Some(rest) = date.strip_prefix('M') {
        let parts: Vec<i64> = rest.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let [month, week, day] = parts[..] else { return None };
        DayOf::Month { month, week, day }
    } else if let Some(rest) = date.strip_prefix('J') {
        DayOf::Julian(rest.parse().ok()?)
    } else {
        DayOf::Year(date.parse().ok()?)
    };
    Some(Day { of, seconds })
}

/// A length of calendar time; years are months.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub count: i64,
    pub unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Hour,
    Day,
    Month,
}

impl Span {
    /// The span that a text such as "1 month" or "10 days" names.
    pub fn parse(text: &str) -> Option<Span> {
        let (count, unit) = text.trim().split_once(' ')?;
        let count = count.parse().ok()?;
        Some(match unit.strip_suffix('s').unwrap_or(unit) {
            "hour" => Span { count, unit: Unit::Hour },
            "day" => Span { count, unit: Unit::Day },
            "month" => Span { count, unit: Unit::Month },
            "year" => Span { count: count * 12, unit: Unit::Month },
            _ => return None,
        })
    }
}

struct Entry {
    /// Place of the release that brought it.
    release: usize,
    raw: Box<[u8]>,
    zone: OnceLock<Option<Arc<Zone>>>,
}

impl Entry {
    fn zone(&self) -> Option<Arc<Zone>> {
        self.zone.get_or_init(|| Zone::read(&self.raw).map(Arc::new)).clone()
    }
}

/// The time zones of one catalog by name and instant.
#[derive(Default)]
pub struct Zones {
    since: Vec<i64>,
    /// Of each name the releases that have it, oldest first.
    entries: FxHashMap<Box<str>, Vec<Entry>>,
}

impl Zones {
    /// Add a release, which comes after those that are there; since_ms: the `at` of the load that brought it.
    pub fn add(&mut self, since_ms: i64, rules: Vec<(String, Vec<u8>)>) {
        let release = self.since.len();
        self.since.push(since_ms);
        for (name, raw) in rules {
            let entry = Entry { release, raw: raw.into(), zone: OnceLock::new() };
            self.entries.entry(name.into()).or_default().push(entry);
        }
    }

    /// Know zones that no release has, as they are installed here.
    pub fn fall_back(&mut self, installed: impl IntoIterator<Item = (String, Vec<u8>)>) {
        for (name, raw) in installed {
            let made = || vec![Entry { release: 0, raw: raw.into(), zone: OnceLock::new() }];
            self.entries.entry(name.into()).or_insert_with(made);
        }
    }

    /// The zone by the release in force at an instant; None: there is none of the name.
    pub fn at(&self, name: &str, at_ms: i64) -> Option<Arc<Zone>> {
        let place = self.since.partition_point(|since| *since <= at_ms).max(1);
        let entries = self.entries.get(name)?;
        // A zone that is newer than the instant has the rules that it came with.
        let found = entries.iter().rev().find(|entry| entry.release < place).or(entries.first())?;
        found.zone()
    }
}
