//! Instants: milliseconds since 1970 UTC, read from RFC 3339 and written. States what `core/instants.py` does,
//! and how msgspec reads times (CONTRACTS.md "CDR").

use std::fmt::Write;

pub const SECOND_MS: i64 = 1000;
pub const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 86_400_000;
/// Before and after every instant.
pub const BEGINNING_MS: i64 = -(1 << 62);
pub const NEVER_MS: i64 = 1 << 62;
/// Kafka timestamps are 13 digits: -1 is none, seconds have 10 digits, microseconds 16.
const STAMP_MS_MIN: i64 = 1_000_000_000_000;
pub const STAMP_MS_END: i64 = 10_000_000_000_000;
const UNSTAMPED_MS: i64 = -1;

/// Whether a Kafka timestamp tells when.
pub fn is_stamp(timestamp: i64) -> bool {
    (STAMP_MS_MIN..STAMP_MS_END).contains(&timestamp)
}

/// A Kafka timestamp, `UNSTAMPED_MS` in place of one that tells nothing.
pub fn stamp_of(timestamp: i64) -> i64 {
    if is_stamp(timestamp) { timestamp } else { UNSTAMPED_MS }
}

/// A date and time of day of the proleptic Gregorian calendar, without an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    /// Since midnight.
    pub ms: i64,
}

/// Days since 1970 of a date (Howard Hinnant's `days_from_civil`).
pub fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date and time of milliseconds since 1970 (`civil_from_days`).
pub fn civil_of(at_ms: i64) -> Civil {
    let days = at_ms.div_euclid(DAY_MS) + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * years + years / 4 - years / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    Civil {
        year: years + era * 400 + i64::from(month <= 2),
        month,
        day: of_year - (153 * shifted + 2) / 5 + 1,
        ms: at_ms.rem_euclid(DAY_MS),
    }
}

/// Milliseconds since 1970 of a date and time.
pub fn civil_ms(of: Civil) -> i64 {
    days_of(of.year, of.month, of.day) * DAY_MS + of.ms
}

pub fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn fixed(text: &[u8], from: usize, digits: usize) -> Option<i64> {
    text.get(from..from + digits)?
        .iter()
        .try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// The milliseconds of a time with an offset, rounded down; None: it is none that msgspec reads.
///
/// Fractions are read to the microsecond, rounded half up as msgspec does.
pub fn read_rfc3339(text: &[u8]) -> Option<i64> {
    let (year, month, day) = (fixed(text, 0, 4)?, fixed(text, 5, 2)?, fixed(text, 8, 2)?);
    let (hour, minute, second) = (fixed(text, 11, 2)?, fixed(text, 14, 2)?, fixed(text, 17, 2)?);
    let parted = text[4] == b'-'
        && text[7] == b'-'
        && matches!(text[10], b'T' | b't' | b' ')
        && text[13] == b':'
        && text[16] == b':';
    if !parted
        || year == 0
        || !(1..=12).contains(&month)
        || day == 0
        || day > days_in_month(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let (micros, at) = fraction(text, 19)?;
    let offset = offset_minutes(text.get(at..)?)?;
    let days = days_of(year, month, day);
    let rounded_up_beyond = micros == 1_000_000 && year == 9999 && month == 12 && day == 31;
    if rounded_up_beyond && hour == 23 && minute == 59 && second == 59 {
        return None;
    }
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset * 60;
    Some((seconds * 1_000_000 + micros).div_euclid(1000))
}

/// Microseconds, and where the offset begins.
fn fraction(text: &[u8], from: usize) -> Option<(i64, usize)> {
    if text.get(from) != Some(&b'.') {
        return Some((0, from));
    }
    let digits = text[from + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let mut micros = fixed(text, from + 1, digits.min(6))?;
    for _ in digits..6 {
        micros *= 10;
    }
    if digits > 6 && text[from + 7] >= b'5' {
        micros += 1;
    }
    Some((micros, from + 1 + digits))
}

fn offset_minutes(text: &[u8]) -> Option<i64> {
    let sign = match text {
        b"Z" | b"z" => return Some(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    let hours = fixed(text, 1, 2)?;
    let from = if text.get(3) == Some(&b':') { 4 } else { 3 };
    let minutes = fixed(text, from, 2)?;
    (text.len() == from + 2 && hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

/// Write an instant as records have it: UTC with milliseconds and a Z.
pub fn write_rfc3339(at_ms: i64, out: &mut String) {
    let Civil { year, month, day, ms } = civil_of(at_ms);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let seconds = ms / 1000;
    for (from, digits, mut number) in [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, seconds / 3600),
        (14, 2, seconds / 60 % 60),
        (17, 2, seconds % 60),
        (20, 3, ms % 1000),
    ] {
        for place in (from..from + digits).rev() {
            text[place] = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    match std::str::from_utf8(&text) {
        Ok(text) if (1..=9999).contains(&year) => out.push_str(text),
        _ => drop(write!(out, "{year}")), // beyond the calendar: no call is rated there
    }
}
