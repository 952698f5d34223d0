//! A record's text becomes a checked CDR, or is returned to the reference, which says what is wrong with it.
//! Source of the rules: CONTRACTS.md "CDR", RULES.md 2, steps 1, 3 and 5; states what `core/cdr_decoding.py` and
//! `core/cdr_diagnosis.py` accept.

use crate::amounts::{COUNT_MAX, LIMIT, parse_e10};
use crate::instants::{HOUR_MS, read_rfc3339};
use crate::json::{Read, Reader, Unreadable, Value};
use crate::numbers::Characters;
use std::borrow::Cow;

pub const MAX_BYTES: usize = 65_536;
const CALENDAR_MS_MAX: i64 = 253_370_764_799_999;
const WRAPPED_MIN: i64 = (1 << 32) - (1 << 16);
const WRAPPED_END: i64 = 1 << 32;
pub const CALLS: &str = "calls";
const ID_CHARS_MAX: usize = 200;
const SOURCE_CHARS_MAX: usize = 64;
const RESERVED_SOURCES: [&str; 2] = ["cp", "adjust"];
const DIGITS_MAX: usize = 64;
const CALLER_CHARS_MAX: usize = 64;
const CURRENCY_CHARS_MAX: usize = 16;
const CODE_NAME_CHARS_MAX: usize = 1000;

/// What arrival adds to a record: from when to when a call may be, and up to when it may end.
pub struct Arrival {
    first_ms: i64,
    last_ms: i64,
}

impl Arrival {
    /// lane_ms 0: none is known, and the calendar alone bounds calls.
    pub fn new(lane_ms: i64, window_ms: i64) -> Self {
        let last_ms = if lane_ms > 0 { lane_ms + HOUR_MS } else { CALENDAR_MS_MAX };
        Self { first_ms: lane_ms - window_ms, last_ms }
    }
}

/// A rate that the switch has identified already.
#[derive(Debug, PartialEq, Clone)]
pub struct GivenRate {
    pub code: Box<str>,
    pub price_e10: i128,
    pub currency: Box<str>,
    pub code_name: Option<Box<str>>,
    pub setup_fee_e10: i128,
    pub min_time: i64,
    pub interval: i64,
    pub grace_time: i64,
}

/// One side as the CDR names it.
#[derive(Debug, Default)]
pub struct Party<'a> {
    pub client: Option<Cow<'a, str>>,
    pub account: Option<Cow<'a, str>>,
    pub gateway: Option<Cow<'a, str>>,
    pub ip: Option<Cow<'a, str>>,
    pub login: Option<Cow<'a, str>>,
    pub rate: Option<Box<GivenRate>>,
}

/// What both sides share.
#[derive(Debug)]
pub struct Cdr<'a> {
    pub source: Cow<'a, str>,
    pub id: Cow<'a, str>,
    pub service: Cow<'a, str>,
    pub setup_ms: Option<i64>,
    pub answered_ms: Option<i64>,
    pub ended_ms: Option<i64>,
    pub at_ms: i64,
    pub duration_ms: Option<i64>,
    pub volume: Option<i64>,
    pub used: bool,
    pub caller: Option<Cow<'a, str>>,
    pub called: Cow<'a, str>,
}

/// A record that is rated, at one side at least. returned: whether the other is left to the reference.
pub struct Decoded<'a> {
    pub cdr: Cdr<'a>,
    pub parties: [Option<Party<'a>>; 2],
    pub returned: bool,
}

/// How instants are written: by switches and in CONTRACTS.md, or by source maps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Instants {
    Rfc3339,
    Milliseconds,
}

/// Decode a record; None: the reference has to look at all of it.
pub fn decode<'a>(
    text: &'a str,
    instants: Instants,
    arrival: &Arrival,
    services: &dyn Fn(&str) -> bool,
    characters: &Characters,
) -> Option<Decoded<'a>> {
    let fields = Fields::read(text, instants).ok()?;
    let cdr = checked(&fields, arrival, services, characters)?;
    // By the typed reading, which does not look into what it passes over; else by the untyped one, which does.
    let strict = fields.strict();
    let mut decoded = Decoded { cdr, parties: [None, None], returned: false };
    for (place, party) in [fields.orig, fields.term].into_iter().enumerate() {
        match party {
            Side::None => {}
            Side::Of(party) if strict || !party.strange => decoded.parties[place] = Some(party.party),
            _ => decoded.returned = true,
        }
    }
    decoded.parties.iter().any(Option::is_some).then_some(decoded)
}

/// A text field: not there, null, or a text.
enum Field<'a> {
    Missing,
    Null,
    Text(Cow<'a, str>),
}

impl<'a> Field<'a> {
    fn take(value: Value<'a>) -> Option<Self> {
        match value {
            Value::Null => Some(Field::Null),
            Value::Text(text) => Some(Field::Text(text)),
            _ => None,
        }
    }

    fn text(&self) -> Option<&Cow<'a, str>> {
        match self {
            Field::Text(text) => Some(text),
            _ => None,
        }
    }
}

struct Named<'a> {
    party: Party<'a>,
    /// The untyped reading refuses it, for a number somewhere inside.
    strange: bool,
}

enum Side<'a> {
    None,
    Of(Named<'a>),
    Wrong,
}

/// The fields that are needed, each as it stands last in the record; None: it is of a wrong type.
struct Fields<'a> {
    id: Option<Field<'a>>,
    called: Option<Field<'a>>,
    source: Field<'a>,
    service: Field<'a>,
    caller: Field<'a>,
    duration_ms: Option<Option<i64>>,
    volume: Option<Option<i64>>,
    times: [Option<Option<i64>>; 3],
    orig: Side<'a>,
    term: Side<'a>,
    /// Whether the typed reading takes every field, also those that another of the same name replaces.
    typed: bool,
}

impl<'a> Fields<'a> {
    /// Whether the reference takes the record by its typed reading.
    fn strict(&self) -> bool {
        let plain = |called: &Cow<'_, str>| all_digits(called.strip_prefix('+').unwrap_or(called));
        self.typed
            && !matches!(self.source, Field::Null)
            && !matches!(self.service, Field::Null)
            && self.called.as_ref().and_then(Field::text).is_some_and(plain)
    }

    fn read(text: &'a str, instants: Instants) -> Read<Fields<'a>> {
        let mut reader = Reader::new(text);
        let mut fields = Fields {
            id: Some(Field::Missing),
            called: Some(Field::Missing),
            source: Field::Missing,
            service: Field::Missing,
            caller: Field::Missing,
            duration_ms: Some(None),
            volume: Some(None),
            times: [Some(None); 3],
            orig: Side::None,
            term: Side::None,
            typed: true,
        };
        let (mut source, mut service, mut caller) =
            (Some(Field::Missing), Some(Field::Missing), Some(Field::Missing));
        if !reader.begin()? {
            return Err(Unreadable);
        }
        let mut first = true;
        while let Some(name) = reader.name(&mut first)? {
            let known = match name.as_bytes() {
                b"id" => take(&mut reader, &mut fields.id, &mut fields.typed)?,
                b"called" => take(&mut reader, &mut fields.called, &mut fields.typed)?,
                b"source" => take(&mut reader, &mut source, &mut fields.typed)?,
                b"service" => take(&mut reader, &mut service, &mut fields.typed)?,
                b"caller" => take(&mut reader, &mut caller, &mut fields.typed)?,
                b"duration_ms" => {
                    fields.duration_ms = amount(&mut reader, &mut fields.typed)?;
                    true
                }
                b"volume" => {
                    fields.volume = amount(&mut reader, &mut fields.typed)?;
                    true
                }
                b"setup_at" => time(&mut reader, instants, &mut fields.times[0], &mut fields.typed)?,
                b"answered_at" => time(&mut reader, instants, &mut fields.times[1], &mut fields.typed)?,
                b"ended_at" => time(&mut reader, instants, &mut fields.times[2], &mut fields.typed)?,
                b"orig" => {
                    fields.orig = side(&mut reader, &mut fields.typed)?;
                    true
                }
                b"term" => {
                    fields.term = side(&mut reader, &mut fields.typed)?;
                    true
                }
                _ => false,
            };
            if !known {
                reader.pass()?;
            }
        }
        reader.end()?;
        (fields.source, fields.service, fields.caller) =
            (source.ok_or(Unreadable)?, service.ok_or(Unreadable)?, caller.ok_or(Unreadable)?);
        Ok(fields)
    }
}

fn take<'a>(reader: &mut Reader<'a>, into: &mut Option<Field<'a>>, typed: &mut bool) -> Read<bool> {
    *into = Field::take(reader.value()?);
    *typed &= into.is_some();
    Ok(true)
}

/// How much, within what is a count at all; null is none.
fn amount(reader: &mut Reader<'_>, typed: &mut bool) -> Read<Option<Option<i64>>> {
    let found = match reader.value()? {
        Value::Null => Some(None),
        Value::Int(number) => {
            *typed &= (0..i128::from(WRAPPED_MIN)).contains(&number);
            i64::try_from(number)
                .ok()
                .filter(|number| (0..LIMIT).contains(number) && !(WRAPPED_MIN..WRAPPED_END).contains(number))
                .map(Some)
        }
        _ => None,
    };
    *typed &= found.is_some();
    Ok(found)
}

fn time(
    reader: &mut Reader<'_>,
    instants: Instants,
    into: &mut Option<Option<i64>>,
    typed: &mut bool,
) -> Read<bool> {
    *into = match reader.value()? {
        Value::Null => Some(None),
        Value::Text(text) if instants == Instants::Rfc3339 => read_rfc3339(text.as_bytes()).map(Some),
        Value::Int(ms) if instants == Instants::Milliseconds => i64::try_from(ms).ok().map(Some),
        _ => None,
    };
    *typed &= into.is_some();
    Ok(true)
}

fn side<'a>(reader: &mut Reader<'a>, typed: &mut bool) -> Read<Side<'a>> {
    if reader.begin()? {
        return named(reader, typed);
    }
    let found = match reader.value()? {
        Value::Null => Side::None,
        _ => Side::Wrong,
    };
    *typed &= !matches!(found, Side::Wrong);
    Ok(found)
}

/// A side whose object has begun.
fn named<'a>(reader: &mut Reader<'a>, typed: &mut bool) -> Read<Side<'a>> {
    let mut party = Party::default();
    let mut wrong = [false; 6]; // of the fields, each as it stands last
    let before = std::mem::take(&mut reader.strange_number);
    let mut first = true;
    while let Some(name) = reader.name(&mut first)? {
        let (place, into) = match name.as_bytes() {
            b"client" => (0, &mut party.client),
            b"account" => (1, &mut party.account),
            b"gateway" => (2, &mut party.gateway),
            b"ip" => (3, &mut party.ip),
            b"login" => (4, &mut party.login),
            b"rate" => {
                let found = given_rate(reader, typed)?;
                wrong[5] = found.is_none();
                party.rate = found.flatten();
                continue;
            }
            _ => {
                reader.pass()?;
                continue;
            }
        };
        let found = Field::take(reader.value()?);
        wrong[place] = found.is_none();
        *typed &= found.is_some();
        *into = match found {
            Some(Field::Text(text)) => Some(text),
            _ => None,
        };
    }
    let strange = std::mem::replace(&mut reader.strange_number, before);
    Ok(if wrong.contains(&true) { Side::Wrong } else { Side::Of(Named { party, strange }) })
}

/// A rate that the CDR gives, or null; None: something of it is wrong.
fn given_rate(reader: &mut Reader<'_>, typed: &mut bool) -> Read<Option<Option<Box<GivenRate>>>> {
    if !reader.begin()? {
        let null = matches!(reader.value()?, Value::Null);
        *typed &= null;
        return Ok(null.then_some(None));
    }
    // Each None: what stands last is wrong, or is missing.
    let (mut code, mut currency, mut price) = (None, None, None);
    let (mut code_name, mut setup_fee) = (Some(None), Some(0));
    let (mut min_time, mut interval, mut grace_time) = (Some(0), Some(1), Some(0));
    let mut first = true;
    while let Some(name) = reader.name(&mut first)? {
        let right = match name.as_bytes() {
            b"code" => put(&mut code, text_of(reader, DIGITS_MAX)?.filter(|text| all_digits(text))),
            b"currency" => {
                put(&mut currency, text_of(reader, CURRENCY_CHARS_MAX)?.filter(|text| !text.is_empty()))
            }
            b"code_name" => put(&mut code_name, name_of(reader)?),
            b"price" => decimal(reader, &mut price)?,
            b"setup_fee" => decimal(reader, &mut setup_fee)?,
            b"min_time" => put(&mut min_time, count(reader, 0)?),
            b"interval" => put(&mut interval, count(reader, 1)?),
            b"grace_time" => put(&mut grace_time, count(reader, 0)?),
            _ => {
                reader.pass()?;
                continue;
            }
        };
        *typed &= right;
    }
    let found = (|| {
        Some(Some(Box::new(GivenRate {
            code: code?,
            price_e10: price?,
            currency: currency?,
            code_name: code_name?,
            setup_fee_e10: setup_fee?,
            min_time: min_time?,
            interval: interval?,
            grace_time: grace_time?,
        })))
    })();
    *typed &= found.is_some();
    Ok(found)
}

fn put<T>(into: &mut Option<T>, found: Option<T>) -> bool {
    *into = found;
    into.is_some()
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn at_most(text: &str, chars: usize) -> bool {
    text.len() <= chars || text.chars().count() <= chars
}

fn text_of(reader: &mut Reader<'_>, chars: usize) -> Read<Option<Box<str>>> {
    Ok(match reader.value()? {
        Value::Text(text) if at_most(&text, chars) => Some(text.into()),
        _ => None,
    })
}

fn name_of(reader: &mut Reader<'_>) -> Read<Option<Option<Box<str>>>> {
    Ok(match reader.value()? {
        Value::Null => Some(None),
        Value::Text(text) if at_most(&text, CODE_NAME_CHARS_MAX) => Some(Some(text.into())),
        _ => None,
    })
}

/// Put a decimal; returns whether it is a text at all: msgspec looks at no more until the rate is read.
fn decimal(reader: &mut Reader<'_>, into: &mut Option<i128>) -> Read<bool> {
    let found = reader.value()?;
    *into = match &found {
        Value::Text(text) => parse_e10(text),
        _ => None,
    };
    Ok(matches!(found, Value::Text(_)))
}

fn count(reader: &mut Reader<'_>, least: i128) -> Read<Option<i64>> {
    Ok(match reader.value()? {
        Value::Int(number) if (least..=i128::from(COUNT_MAX)).contains(&number) => i64::try_from(number).ok(),
        _ => None,
    })
}

/// What both sides share, where nothing is wrong with it.
fn checked<'a>(
    fields: &Fields<'a>,
    arrival: &Arrival,
    services: &dyn Fn(&str) -> bool,
    characters: &Characters,
) -> Option<Cdr<'a>> {
    let id = fields.id.as_ref()?.text()?;
    let called = fields.called.as_ref()?.text()?;
    let source = fields.source.text().cloned().unwrap_or(Cow::Borrowed("default"));
    let service = fields.service.text().cloned().unwrap_or(Cow::Borrowed(CALLS));
    let (duration_ms, volume) = (fields.duration_ms?, fields.volume?);
    let [setup_ms, answered_ms, ended_ms] = [fields.times[0]?, fields.times[1]?, fields.times[2]?];
    let amount = if service == CALLS { duration_ms } else { volume }?;
    let at_ms = match answered_ms {
        Some(at_ms) => at_ms,
        None if amount == 0 => setup_ms.or(ended_ms)?,
        None => return None,
    };
    let within = arrival.first_ms <= at_ms && at_ms <= arrival.last_ms - duration_ms.unwrap_or(0);
    let called = plain_digits(called, characters)?;
    let named = !id.is_empty()
        && at_most(id, ID_CHARS_MAX)
        && !source.is_empty()
        && at_most(&source, SOURCE_CHARS_MAX)
        && !source.contains('/')
        && !RESERVED_SOURCES.contains(&&*source);
    if !within || !named || !services(&service) {
        return None;
    }
    Some(Cdr {
        source,
        id: id.clone(),
        service,
        setup_ms,
        answered_ms,
        ended_ms,
        at_ms,
        duration_ms,
        volume,
        used: amount > 0,
        caller: fields.caller.text().map(|caller| caller_text(caller, characters)),
        called,
    })
}

fn plain_digits<'a>(called: &Cow<'a, str>, characters: &Characters) -> Option<Cow<'a, str>> {
    let digits = match called {
        Cow::Borrowed(text) => characters.digits_of(text),
        Cow::Owned(text) => Cow::Owned(characters.digits_of(text).into_owned()),
    };
    (all_digits(&digits) && digits.len() <= DIGITS_MAX).then_some(digits)
}

/// A caller as it is kept: as it came, but digits where it is a number with something between.
fn caller_text<'a>(caller: &Cow<'a, str>, characters: &Characters) -> Cow<'a, str> {
    let digits = caller.strip_prefix('+').unwrap_or(caller);
    let plainly = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let kept: Cow<'a, str> = match caller {
        _ if plainly => caller.clone(),
        Cow::Borrowed(text) => characters.digits_of(text),
        Cow::Owned(text) => Cow::Owned(characters.digits_of(text).into_owned()),
    };
    if kept.len() <= CALLER_CHARS_MAX {
        return kept;
    }
    match kept.char_indices().nth(CALLER_CHARS_MAX) {
        Some((end, _)) => Cow::Owned(kept[..end].to_string()),
        None => kept,
    }
}
