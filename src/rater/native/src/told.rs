//! Calls as re-rating reads them: the journal's transactions, and what is kept of one while it waits for its turn. States
//! what `core/rerating/calls.py` does (`Told`, `PastSide`, keys), for what rater itself writes; all else is returned to
//! the reference, which says what it is.

use crate::amounts::{LIMIT, parse_e10};
use crate::cdr::{CALLS, GivenRate};
use crate::instants::read_rfc3339;
use crate::json::{self, Reader, Unreadable, Value};
use crate::msgpack::{self, Writer};
use crate::offers::escaped;
use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;

type Read<T> = Result<T, Unreadable>;
type Text<'a> = Cow<'a, str>;

/// Fields of what is kept of a side, its tag included. Behind them stands, where the engine has read the transaction, what
/// it told of money and draws (`Brief`): Python passes over it.
const PAST_FIELDS: usize = 18;
/// Place of whether it stands, among these; behind it is the place of its record.
const STANDS: usize = 15;
/// The place of a record that is none (`calls.NOWHERE`), as it is kept.
pub const KEPT_NOWHERE: [u8; 4] = [0x93, 0xA0, 0, 0];
/// Of a key: which entries stand behind the fees of a client.
pub const CALL: u8 = 1;
/// Digits of an amount before its point, and behind it.
const WHOLE_DIGITS: usize = 10;
const DECIMALS: usize = 6;
/// Length of an instant as records have it.
const INSTANT_CHARS: usize = 24;

/// A draw as its transaction tells it.
pub struct Draw<'a> {
    pub client_package: Text<'a>,
    pub period: i64,
    pub taken: i64,
    limit: Text<'a>,
    rolled: bool,
}

impl Draw<'_> {
    /// The field of its counter.
    pub fn field(&self) -> String {
        let mut out = String::with_capacity(self.client_package.len() + self.limit.len() + 16);
        put_escaped(&self.client_package, &mut out);
        let _ = write!(out, ".{}.", self.period);
        put_escaped(&self.limit, &mut out);
        if self.rolled {
            out.push_str(".rolled");
        }
        out
    }
}

/// Write an id as it stands in a counter's field.
fn put_escaped(name: &str, out: &mut String) {
    if name.contains(['%', '.']) {
        out.push_str(&escaped(name));
    } else {
        out.push_str(name); // nearly always
    }
}

/// A usage transaction or a reversal of one. Fields: as of `calls.Told`.
pub struct Told<'a> {
    pub id: Text<'a>,
    pub revision: i64,
    pub is_reversal: bool,
    pub client: Text<'a>,
    pub micros: i64,
    pub at_ms: i64,
    pub source: Text<'a>,
    pub cdr: Text<'a>,
    pub side: u8,
    pub has_job: bool,
    pub draws: Vec<Draw<'a>>,
    pub sufficient: Option<bool>,
    pub fee_covered: Option<bool>,
    account: Option<Text<'a>>,
    service: Text<'a>,
    unanswered: bool,
    caller: Option<Text<'a>>,
    called: Text<'a>,
    amount: Option<i64>,
    volume: Option<i64>,
    given: Option<GivenRate>,
}

/// What a text comes to be: of another type than it should, and the reference looks at it.
fn text<'a>(from: &mut Reader<'a>) -> Read<Text<'a>> {
    option_text(from)?.ok_or(Unreadable)
}

fn option_text<'a>(from: &mut Reader<'a>) -> Read<Option<Text<'a>>> {
    match from.value()? {
        Value::Text(text) => Ok(Some(text)),
        Value::Null => Ok(None),
        _ => Err(Unreadable),
    }
}

fn int(from: &mut Reader<'_>) -> Read<i64> {
    option_int(from)?.ok_or(Unreadable)
}

fn option_int(from: &mut Reader<'_>) -> Read<Option<i64>> {
    match from.value()? {
        Value::Int(number) => i64::try_from(number).map(Some).map_err(|_| Unreadable),
        Value::Null => Ok(None),
        _ => Err(Unreadable),
    }
}

/// Money in micros, within ±LIMIT, as rater writes it: at most 6 decimals.
fn micros(text: &str) -> Read<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if whole.is_empty() || whole.len() > WHOLE_DIGITS || fraction.is_empty() || fraction.len() > DECIMALS {
        return Err(Unreadable);
    }
    let mut size = 0;
    for byte in
        whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', DECIMALS - fraction.len()))
    {
        if !byte.is_ascii_digit() {
            return Err(Unreadable);
        }
        size = 10 * size + i64::from(byte - b'0');
    }
    (size <= LIMIT).then_some(if digits.len() < text.len() { -size } else { size }).ok_or(Unreadable)
}

/// Counting units, written as an int is.
fn units(text: &str) -> Read<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain).ok_or(Unreadable)
}

fn instant(text: &str) -> Read<i64> {
    let right = text.len() == INSTANT_CHARS && text.as_bytes()[10] == b'T' && text.ends_with('Z');
    read_rfc3339(text.as_bytes()).filter(|_| right).ok_or(Unreadable)
}

fn draw<'a>(from: &mut Reader<'a>) -> Read<Draw<'a>> {
    if !from.begin()? {
        return Err(Unreadable);
    }
    let (mut package, mut limit, mut kind, mut taken) = (None, None, None, None);
    let (mut period, mut rolled, mut first) = (None, false, true);
    while let Some(name) = from.name(&mut first)? {
        match name.as_bytes() {
            b"client_package" => package = Some(text(from)?),
            b"limit" => limit = Some(text(from)?),
            b"kind" => kind = Some(text(from)?),
            b"taken" => taken = Some(text(from)?),
            b"period" => period = Some(int(from)?),
            b"rolled" => rolled = from.truth()?,
            b"tag" | b"covered" => drop(option_text(from)?),
            _ => from.pass()?,
        }
    }
    let taken = taken.ok_or(Unreadable)?;
    let money = kind.ok_or(Unreadable)? == "money";
    Ok(Draw {
        client_package: package.ok_or(Unreadable)?,
        period: period.ok_or(Unreadable)?,
        taken: if money { micros(&taken)? } else { units(&taken)? },
        limit: limit.ok_or(Unreadable)?,
        rolled,
    })
}

fn draws<'a>(from: &mut Reader<'a>) -> Read<Vec<Draw<'a>>> {
    let (mut found, mut first) = (Vec::new(), true);
    if !from.begin_list()? {
        return Err(Unreadable);
    }
    while from.item(&mut first)? {
        found.push(draw(from)?);
    }
    Ok(found)
}

/// A rate as its transaction tells it, where the CDR brought it; None: a table had it, or there is none.
fn rate(from: &mut Reader<'_>) -> Read<Option<GivenRate>> {
    if !from.begin()? {
        return if matches!(from.value()?, Value::Null) { Ok(None) } else { Err(Unreadable) };
    }
    let (mut table, mut currency, mut price, mut fee) = (None, None, None, None);
    let (mut min_time, mut interval, mut grace_time, mut first) = (None, None, None, true);
    while let Some(name) = from.name(&mut first)? {
        match name.as_bytes() {
            b"table" => table = Some(option_text(from)?.is_some()),
            b"currency" => currency = Some(text(from)?),
            b"price" => price = Some(text(from)?),
            b"setup_fee" => fee = Some(text(from)?),
            b"min_time" => min_time = Some(int(from)?),
            b"interval" => interval = Some(int(from)?),
            b"grace_time" => grace_time = Some(int(from)?),
            _ => from.pass()?,
        }
    }
    let (Some(table), Some(currency), Some(price), Some(fee)) = (table, currency, price, fee) else {
        return Err(Unreadable);
    };
    let (Some(min_time), Some(interval), Some(grace_time)) = (min_time, interval, grace_time) else {
        return Err(Unreadable);
    };
    if table {
        return Ok(None);
    }
    let e10 = |text: &str| parse_e10(text).ok_or(Unreadable);
    Ok(Some(GivenRate {
        code: "".into(),
        price_e10: e10(&price)?,
        currency: currency.into(),
        code_name: None,
        setup_fee_e10: e10(&fee)?,
        min_time,
        interval,
        grace_time,
    }))
}

/// (source, id).
fn cdr<'a>(from: &mut Reader<'a>) -> Read<Option<(Text<'a>, Text<'a>)>> {
    if !from.begin()? {
        return if matches!(from.value()?, Value::Null) { Ok(None) } else { Err(Unreadable) };
    }
    let (mut source, mut id, mut first) = (None, None, true);
    while let Some(name) = from.name(&mut first)? {
        match name.as_bytes() {
            b"source" => source = Some(text(from)?),
            b"id" => id = Some(text(from)?),
            _ => from.pass()?,
        }
    }
    Ok(Some((source.ok_or(Unreadable)?, id.ok_or(Unreadable)?)))
}

/// The fields of a transaction, each as it stands last.
#[derive(Default)]
struct Fields<'a> {
    id: Option<Text<'a>>,
    revision: Option<i64>,
    kind: Option<Text<'a>>,
    client: Option<Text<'a>>,
    amount: Option<Text<'a>>,
    at: Option<Text<'a>>,
    cdr: Option<(Text<'a>, Text<'a>)>,
    side: Option<Text<'a>>,
    account: Option<Text<'a>>,
    service: Option<Text<'a>>,
    why: Option<Text<'a>>,
    caller: Option<Text<'a>>,
    called: Option<Text<'a>>,
    duration_ms: Option<i64>,
    volume: Option<i64>,
    code: Option<Text<'a>>,
    code_name: Option<Text<'a>>,
    rate: Option<GivenRate>,
    draws: Vec<Draw<'a>>,
    sufficient: Option<bool>,
    fee_covered: Option<bool>,
    job: bool,
}

impl<'a> Fields<'a> {
    fn read(text_of: &'a str) -> Read<Self> {
        let mut reader = Reader::new(text_of);
        let from = &mut reader;
        let mut fields = Fields::default();
        if !from.begin()? {
            return Err(Unreadable);
        }
        let mut first = true;
        while let Some(name) = from.name(&mut first)? {
            match name.as_bytes() {
                b"id" => fields.id = Some(text(from)?),
                b"revision" => fields.revision = Some(int(from)?),
                b"type" => fields.kind = Some(text(from)?),
                b"client" => fields.client = Some(text(from)?),
                b"amount" => fields.amount = Some(text(from)?),
                b"at" => fields.at = Some(text(from)?),
                b"cdr" => fields.cdr = cdr(from)?,
                b"side" => fields.side = option_text(from)?,
                b"account" => fields.account = option_text(from)?,
                b"service" => fields.service = Some(text(from)?),
                b"why" => fields.why = option_text(from)?,
                b"caller" => fields.caller = option_text(from)?,
                b"called" => fields.called = Some(text(from)?),
                b"duration_ms" => fields.duration_ms = option_int(from)?,
                b"volume" => fields.volume = option_int(from)?,
                b"code" => fields.code = option_text(from)?,
                b"code_name" => fields.code_name = option_text(from)?,
                b"rate" => fields.rate = rate(from)?,
                b"billed" => {
                    int(from)?;
                }
                b"draws" => fields.draws = draws(from)?,
                b"balance_sufficient" => fields.sufficient = Some(from.truth()?),
                b"fee_covered" => fields.fee_covered = Some(from.truth()?),
                b"job" => fields.job = option_text(from)?.is_some(),
                // A fee, or what is nothing of a call: the reference reads it.
                b"client_package" | b"period" | b"net" => return Err(Unreadable),
                _ => from.pass()?,
            }
        }
        from.end()?;
        Ok(fields)
    }
}

impl<'a> Told<'a> {
    /// Read a transaction. Err: it is none of a call, or the reference has to say what it is.
    pub fn read(text_of: &'a str) -> Read<Self> {
        let mut fields = Fields::read(text_of)?;
        let kind = fields.kind.ok_or(Unreadable)?;
        let is_reversal = kind == "reversal";
        if !is_reversal && kind != "usage" {
            return Err(Unreadable);
        }
        let (source, cdr) = fields.cdr.ok_or(Unreadable)?;
        let given = match (fields.rate.take(), fields.code) {
            (Some(mut rate), Some(code)) => {
                rate.code = code.into();
                rate.code_name = fields.code_name.map(Into::into);
                Some(rate)
            }
            _ => None,
        };
        Ok(Self {
            id: fields.id.ok_or(Unreadable)?,
            revision: fields.revision.filter(|number| *number >= 0).ok_or(Unreadable)?,
            is_reversal,
            client: fields.client.ok_or(Unreadable)?,
            micros: micros(&fields.amount.ok_or(Unreadable)?)?,
            at_ms: instant(&fields.at.ok_or(Unreadable)?)?,
            source,
            cdr,
            side: match fields.side.as_deref() {
                Some("orig") => 0,
                Some("term") => 1,
                _ => return Err(Unreadable),
            },
            has_job: fields.job,
            draws: fields.draws,
            sufficient: fields.sufficient,
            fee_covered: fields.fee_covered,
            account: fields.account,
            service: fields.service.unwrap_or(Cow::Borrowed(CALLS)),
            unanswered: fields.why.as_deref() == Some("unanswered"),
            caller: fields.caller,
            called: fields.called.unwrap_or_default(),
            amount: fields.duration_ms,
            volume: fields.volume,
            given,
        })
    }

    /// By which it is sorted: `calls.key_of`.
    pub fn key(&self, out: &mut Vec<u8>) {
        put_text(&self.client, out);
        out.push(CALL);
        put_int(self.at_ms, out);
        put_text(&self.cdr, out);
        put_text(&self.source, out);
        out.push(self.side);
        put_int(self.revision, out);
        out.push(u8::from(self.is_reversal));
    }

    /// What is kept of it, `calls.pack` of `calls.call_of`; nothing of a reversal. value: all of it; place: of its record.
    pub fn pack(&self, value: &[u8], place: (&str, i64, i64), out: &mut Writer) {
        if self.is_reversal {
            return;
        }
        let amount = if self.service == CALLS { self.amount } else { self.volume };
        out.array(PAST_FIELDS + 1);
        out.text("side");
        out.text(&self.client);
        out.option_text(self.account.as_deref());
        out.int(self.side.into());
        [&self.source, &self.cdr, &self.service].iter().for_each(|text| out.text(text));
        out.int(self.at_ms);
        out.int(amount.unwrap_or(0));
        out.bool(self.unanswered);
        out.option_text(self.caller.as_deref());
        out.text(&self.called);
        match &self.given {
            Some(given) => put_given(given, out),
            None => out.nil(),
        }
        out.bytes(value);
        out.int(self.revision);
        out.bool(true);
        out.array(3);
        out.text(place.0);
        out.int(place.1);
        out.int(place.2);
        out.nil();
        out.array(3 + 2 * self.draws.len());
        out.int(self.micros);
        out.int(number_of(self.sufficient));
        out.int(number_of(self.fee_covered));
        for draw in &self.draws {
            out.text(&draw.field());
            out.int(draw.taken);
        }
    }
}

/// Of what is kept of a side: whether it stands, and where the place of its record is kept.
pub struct Seams {
    pub stands: bool,
    pub place: Range<usize>,
}

pub fn seams(raw: &[u8]) -> Result<Seams, msgpack::Unreadable> {
    let mut from = msgpack::Reader::new(raw);
    from.array()?;
    for _ in 0..STANDS {
        from.skip()?;
    }
    let stands = from.bool()?;
    let begin = raw.len() - from.rest().len();
    from.skip()?;
    Ok(Seams { stands, place: begin..raw.len() - from.rest().len() })
}

/// The same with another word on both.
pub fn kept_again(raw: &[u8], stands: bool, place: &[u8]) -> Result<Vec<u8>, msgpack::Unreadable> {
    let found = seams(raw)?.place;
    let mut out = Writer(Vec::with_capacity(raw.len() + place.len()));
    out.raw(&raw[..found.start - 1]);
    out.bool(stands);
    out.raw(place);
    out.raw(&raw[found.end..]);
    Ok(out.0)
}

/// The code of what is kept of a side, as its last transaction has it. Err: the reference says it.
pub fn kept_code(raw: &[u8]) -> Read<Option<Text<'_>>> {
    let value = Past::read(raw).map_err(|_| Unreadable)?.value;
    let mut from = Reader::new(text_of(value)?);
    let (mut code, mut first) = (None, true);
    if !from.begin()? {
        return Err(Unreadable);
    }
    while let Some(name) = from.name(&mut first)? {
        match name.as_bytes() {
            b"code" => code = option_text(&mut from)?,
            _ => from.pass()?,
        }
    }
    Ok(code)
}

/// What a transaction told of money and draws.
pub struct Brief<'a> {
    pub micros: i64,
    pub sufficient: Option<bool>,
    pub fee_covered: Option<bool>,
    /// Field of the counter, and what was added to it.
    pub takes: Vec<(&'a str, i64)>,
}

impl<'a> Brief<'a> {
    fn read(raw: &'a [u8]) -> Result<Self, msgpack::Unreadable> {
        let mut from = msgpack::Reader::new(raw);
        let takes = from.array()?.checked_sub(3).ok_or(msgpack::Unreadable)? / 2;
        let (micros, sufficient, fee_covered) = (from.int()?, from.int()?, from.int()?);
        let takes = (0..takes).map(|_| Ok((from.text()?, from.int()?))).collect::<Result<_, _>>()?;
        Ok(Self { micros, sufficient: judged(sufficient), fee_covered: judged(fee_covered), takes })
    }
}

fn number_of(judged: Option<bool>) -> i64 {
    judged.map_or(0, |of| 1 + i64::from(of))
}

fn judged(number: i64) -> Option<bool> {
    (number > 0).then_some(number > 1)
}

/// A text so that what is longer sorts behind: no text has two zeros behind each other.
fn put_text(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend([0, 0]);
}

/// An int so that its bytes sort as it does.
fn put_int(number: i64, out: &mut Vec<u8>) {
    out.extend(((number as u64) ^ (1 << 63)).to_be_bytes());
}

fn put_given(given: &GivenRate, out: &mut Writer) {
    let decimal = crate::amounts::format_e10;
    out.map(8);
    for (name, value) in [
        ("code", &*given.code),
        ("price", &*decimal(given.price_e10)),
        ("currency", &*given.currency),
        ("setup_fee", &*decimal(given.setup_fee_e10)),
    ] {
        out.text(name);
        out.text(value);
    }
    out.text("code_name");
    out.option_text(given.code_name.as_deref());
    for (name, value) in
        [("min_time", given.min_time), ("interval", given.interval), ("grace_time", given.grace_time)]
    {
        out.text(name);
        out.int(value);
    }
}

/// What is kept of a side. Fields: as of `calls.PastSide`.
pub struct Past<'a> {
    pub account: Option<&'a str>,
    pub side: usize,
    pub source: &'a str,
    pub id: &'a str,
    pub service: &'a str,
    pub at_ms: i64,
    pub amount: i64,
    pub unanswered: bool,
    pub caller: Option<&'a str>,
    pub called: &'a str,
    pub given: Option<GivenRate>,
    /// JSON of the last usage transaction, empty for none.
    pub value: &'a [u8],
    pub stands: bool,
    /// A `Brief`, where there is one.
    brief: Option<&'a [u8]>,
}

impl<'a> Past<'a> {
    /// Read calls that stand one behind the other, each with its length ahead (`calls.together`).
    /// Returns their bytes beside them.
    pub fn read_all(mut calls: &'a [u8]) -> Result<(Vec<&'a [u8]>, Vec<Self>), msgpack::Unreadable> {
        let (mut raws, mut found) = (Vec::new(), Vec::new());
        while !calls.is_empty() {
            let (length, rest) = calls.split_first_chunk().ok_or(msgpack::Unreadable)?;
            let size = u32::from_le_bytes(*length) as usize;
            let (raw, rest) = rest.split_at_checked(size).ok_or(msgpack::Unreadable)?;
            raws.push(raw);
            found.push(Self::read(raw)?);
            calls = rest;
        }
        Ok((raws, found))
    }

    pub fn read(raw: &'a [u8]) -> Result<Self, msgpack::Unreadable> {
        let mut from = msgpack::Reader::new(raw);
        let fields = from.array()?;
        if !(PAST_FIELDS..=PAST_FIELDS + 1).contains(&fields) || from.text()? != "side" {
            return Err(msgpack::Unreadable);
        }
        from.text()?; // its client
        let account = from.option_text()?;
        let side = usize::try_from(from.int()?).ok().filter(|side| *side < 2).ok_or(msgpack::Unreadable)?;
        let (source, id, service) = (from.text()?, from.text()?, from.text()?);
        let (at_ms, amount, unanswered) = (from.int()?, from.int()?, from.bool()?);
        let (caller, called) = (from.option_text()?, from.text()?);
        let given = if from.nil() { None } else { Some(read_given(&mut from)?) };
        let value = from.bytes()?;
        from.int()?; // its revision
        let stands = from.bool()?;
        let mut brief = None;
        if fields > PAST_FIELDS {
            from.skip()?; // its place
            from.skip()?; // its record
            brief = Some(from.rest());
        }
        Ok(Self {
            account,
            side,
            source,
            id,
            service,
            at_ms,
            amount,
            unanswered,
            caller,
            called,
            given,
            value,
            stands,
            brief,
        })
    }

    /// What its last transaction told of money and draws, where that was read before.
    pub fn brief(&self) -> Result<Option<Brief<'a>>, msgpack::Unreadable> {
        self.brief.map(Brief::read).transpose()
    }

    /// The last usage transaction, whether it stands or not.
    pub fn told(&self) -> Result<Option<Told<'a>>, json::Unreadable> {
        if self.value.is_empty() { Ok(None) } else { Told::read(text_of(self.value)?).map(Some) }
    }
}

fn text_of(value: &[u8]) -> Read<&str> {
    std::str::from_utf8(value).map_err(|_| Unreadable)
}

fn read_given(from: &mut msgpack::Reader<'_>) -> Result<GivenRate, msgpack::Unreadable> {
    let e10 = |text: &str| parse_e10(text).ok_or(msgpack::Unreadable);
    let mut given = GivenRate {
        code: "".into(),
        price_e10: 0,
        currency: "".into(),
        code_name: None,
        setup_fee_e10: 0,
        min_time: 0,
        interval: 1,
        grace_time: 0,
    };
    for _ in 0..from.map()? {
        match from.text()? {
            "code" => given.code = from.text()?.into(),
            "price" => given.price_e10 = e10(from.text()?)?,
            "currency" => given.currency = from.text()?.into(),
            "setup_fee" => given.setup_fee_e10 = e10(from.text()?)?,
            "code_name" => given.code_name = from.option_text()?.map(Into::into),
            "min_time" => given.min_time = from.int()?,
            "interval" => given.interval = from.int()?,
            "grace_time" => given.grace_time = from.int()?,
            _ => return Err(msgpack::Unreadable),
        }
    }
    Ok(given)
}
