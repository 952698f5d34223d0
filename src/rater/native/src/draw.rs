//! One draw request in the making: the sides of a batch that fall into one bucket, packed as the store sends them.
//! States what `core/line/draw_request.py`, `core/rating/duplicates.py`, `core/journal/outcomes.py` (rows) and
//! `store/packing.py` do. Source of the rules: RULES.md 2.1 to 2.3; PROTOCOL.md 3.

use crate::amounts::{Form, format_e10, limbs};
use crate::batch::{Batch, RateOf, Stand, Text};
use crate::cdr::{CALLS, GivenRate};
use crate::clients::{ANY_RISE, View};
use crate::instants::stamp_of;
use crate::json::{is_plain, write_escaped, write_quoted};
use crate::msgpack::Writer;
use crate::offers::{Candidate, Chosen};
use crate::periods::Opened;
use crate::transaction::DrawResult;
use blake2b_simd::Params;
use num_bigint::BigInt;
use rustc_hash::FxHashMap;
use std::sync::Arc;

const KEY_BYTES: usize = 8;
/// What no balance reaches: of a client that waits for none.
const OUT_OF_RANGE: i64 = 1 << 54;
/// Lua counts from 1, and a client's version and balance come before its counters.
const FIRST_FIELD: i64 = 3;
const MONEY: i64 = 1;
const WAIVE: i64 = 2;
const ALLOW: i64 = 4;
const CAP: i64 = 8;
const CONVERSION: i64 = 16;
const GROUP: i64 = 32;
const JUDGED: i64 = 2;
const LENGTH: i64 = 4;
/// Of what a head has besides its client, about.
const HEAD_BYTES: usize = 96;
/// Of a client in a payload, and of what is shared in a context, by client: about.
const USE_BYTES: usize = 48;
const CONTEXT_BYTES: usize = 640;
/// Fields of one client that are looked for one after the other.
const FEW: usize = 16;

/// What all transactions of one client, account, side and service share.
pub struct Head {
    pub ids: String,
    pub amount: &'static str,
    pub end: String,
    pub view: Arc<View>,
    pub account: Option<Text>,
    pub opened: Option<Arc<Opened>>,
    index: usize,
    service: Text,
}

/// A client as the sides of a request use it.
struct Use {
    view: Arc<View>,
    fields: Vec<Box<str>>,
    /// Their numbers by name, where they are many.
    by_name: FxHashMap<Box<str>, usize>,
    heads: Vec<u32>,
}

impl Use {
    /// The number of a counter's field, whose name stands in two parts.
    fn field(&mut self, begin: &str, end: &str) -> usize {
        let same = |name: &str| {
            name.len() == begin.len() + end.len() && name.ends_with(end) && name.starts_with(begin)
        };
        if self.fields.len() < FEW {
            if let Some(place) = self.fields.iter().position(|name| same(name)) {
                return place;
            }
        } else {
            if self.by_name.len() < self.fields.len() {
                self.by_name = self.fields.iter().cloned().zip(0..).collect();
            }
            if let Some(place) = self.by_name.get(&*[begin, end].concat()) {
                return *place;
            }
        }
        let name: Box<str> = [begin, end].concat().into();
        if !self.by_name.is_empty() {
            self.by_name.insert(name.clone(), self.fields.len());
        }
        self.fields.push(name);
        self.fields.len() - 1
    }
}

/// A side as it was asked for.
pub struct Asked {
    pub side: u32,
    pub key: [u8; KEY_BYTES],
    pub content: [u8; 4],
    pub head: u32,
    pub rate: u32,
}

/// One draw request.
#[derive(Default)]
pub struct Call {
    pub bucket: u32,
    /// Version of the catalog that its sides were matched by.
    pub catalog: i64,
    pub asked: Vec<Asked>,
    pub heads: Vec<Head>,
    /// What their sides are rated at: of those that a transaction shows alike there is one.
    pub rates: Vec<RateOf>,
    /// Of a request that was carried out.
    pub results: Vec<DrawResult>,
    uses: Vec<Use>,
    use_of: FxHashMap<usize, u32>,
    topics: Vec<u32>,
    rate_of: FxHashMap<(usize, u32), u32>,
    given_rates: FxHashMap<Box<str>, u32>,
    limits: Vec<Arc<Chosen>>,
    limit_numbers: FxHashMap<usize, u32>,
    items: Writer,
    item_numbers: usize,
    rows: Writer,
    digests: Vec<u8>,
    fees: Writer,
    fee_numbers: usize,
    /// What the head of each transaction ends with.
    end: String,
    last: (u32, u32),
}

/// A request as the store takes it, but for lane, token and number.
pub struct Packed {
    pub clients: Vec<Arc<View>>,
    pub payload: Vec<u8>,
    pub digests: Vec<u8>,
    pub context: Vec<u8>,
    /// What rater_v4_change has besides; None: it is a call of rater_v4_draw.
    pub changes: Option<Vec<u8>>,
}

/// Where a call stands in its lane and its bucket.
pub struct Position {
    pub generation: i64,
    pub trim: i64,
    pub floor: i64,
}

/// Put all open sides that were priced and matched into requests, by bucket.
pub fn requests(batch: &mut Batch, catalog_version: i64, buckets: u32) -> Vec<u32> {
    let mut of_bucket: Vec<(u32, u32)> = Vec::new();
    let mut scratch = Scratch::default();
    let mut calls = std::mem::take(&mut batch.calls);
    let expected = batch.sides.len() / buckets.max(1) as usize + 16;
    for place in batch.open() {
        let side = &batch.sides[place];
        let (Some(view), Some(_), false) = (&side.view, &side.priced, side.rejected) else { continue };
        let bucket = view.crc % buckets;
        let known = of_bucket.iter().find(|(of, _)| *of == bucket).map(|(_, number)| *number);
        let number = known.unwrap_or_else(|| {
            let number = calls.len() as u32;
            calls.push(Call::new(bucket, catalog_version, expected));
            of_bucket.push((bucket, number));
            number
        });
        let call = &mut calls[number as usize];
        let at = call.asked.len() as u32;
        call.add(batch, place, &mut scratch);
        let side = &mut batch.sides[place];
        (side.call, side.stand) = ((number, at), Stand::Asked);
    }
    batch.calls = calls;
    of_bucket.into_iter().map(|(_, number)| number).collect()
}

/// Buffers that are used again.
#[derive(Default)]
struct Scratch {
    text: String,
    candidates: Writer,
    content: Writer,
}

impl Call {
    /// expected: sides, about.
    fn new(bucket: u32, catalog: i64, expected: usize) -> Self {
        let last = (u32::MAX, u32::MAX);
        let end = format!(",\"catalog\":{catalog}");
        let mut call = Call { bucket, catalog, end, last, ..Call::default() };
        call.asked.reserve(expected);
        call.heads.reserve(expected);
        call.uses.reserve(expected);
        call.use_of.reserve(expected);
        call.rate_of.reserve(expected);
        call.digests.reserve(20 * expected);
        call.items.0.reserve(64 * expected);
        call.rows.0.reserve(192 * expected);
        call
    }

    fn add(&mut self, batch: &Batch, place: usize, scratch: &mut Scratch) {
        let side = &batch.sides[place];
        let cdr = batch.cdr(side);
        let (Some(view), Some(priced)) = (&side.view, &side.priced) else { return };
        let usage = self.usage(view);
        let same_record = self.last == (cdr.record, usage);
        self.last = (cdr.record, usage);
        let item_number = self.asked.len();
        let (item_head, length) = self.candidates(side, usage, scratch);
        let fees = self.ask_fees(side, usage, item_number);
        let calls = batch.texts.get(cdr.service) == CALLS;
        let (mut key, mut older, mut content) = Default::default();
        if !batch.keyless {
            (key, older) =
                keys_of(batch.texts.get(cdr.source), batch.texts.get(cdr.id), side.index, view.crc);
            content = content_of(batch, place, calls, &mut scratch.content);
        }
        // The item: use, head, billed, cost, candidates.
        let out = &mut self.items;
        out.int(if side.cut { !i64::from(usage) } else { i64::from(usage) });
        out.int(item_head + i64::from(same_record));
        out.int(priced.billed);
        match priced.cost.plain(priced.billed.max(1)) {
            Some((a, s, d)) => [a, s, d].iter().for_each(|number| out.int(*number)),
            None => priced.cost.limbs().iter().for_each(|number| write_limbs(number, out)),
        }
        out.raw(&scratch.candidates.0);
        self.item_numbers += 6 + length;
        self.digests.extend_from_slice(&key);
        self.digests.extend_from_slice(&content);
        self.digests.extend_from_slice(&older);
        let head = self.head(batch, place, usage);
        let rate = self.rate_number(&side.rate, &mut scratch.text);
        if !batch.contextless {
            self.row(batch, side, (&key, &content), (head, rate), &mut scratch.text);
        }
        self.fee_numbers += fees;
        self.asked.push(Asked { side: place as u32, key, content, head, rate });
    }

    /// Write what is kept of a side. digests: key and content; numbers: of its head and its rate.
    fn row(
        &mut self,
        batch: &Batch,
        side: &crate::batch::Side,
        digests: (&[u8], &[u8]),
        numbers: (u32, u32),
        scratch: &mut String,
    ) {
        let cdr = batch.cdr(side);
        let Some(priced) = &side.priced else { return };
        let limits = self.limits_number(side.chosen.as_ref());
        let topic = number_of(&mut self.topics, cdr.topic);
        let row = &mut self.rows;
        row.array(19);
        row.int(side.index as i64);
        for text in [cdr.source, cdr.id] {
            write_text(batch.texts.get(text), scratch, row);
        }
        row.int(cdr.at_ms);
        match cdr.caller {
            Some(caller) => write_text(batch.texts.get(caller), scratch, row),
            None => row.nil(),
        }
        row.text(batch.texts.get(cdr.called));
        row.int(cdr.amount(batch.texts.get(cdr.service) == CALLS));
        row.int(priced.billed);
        row.option_text(priced.why.map(|why| why.text()));
        row.array(priced.fx.len());
        priced.fx.iter().for_each(|one| row.text(one));
        row.int(topic.into());
        row.int(cdr.offset);
        row.int(stamp_of(cdr.timestamp));
        row.bytes(digests.0);
        row.bytes(digests.1);
        row.int(numbers.0.into());
        row.int(numbers.1.into());
        row.int(limits.into());
        row.array(side.fees.len());
        for fee in &side.fees {
            fee.write(row);
        }
    }

    fn usage(&mut self, view: &Arc<View>) -> u32 {
        let uses = &mut self.uses;
        *self.use_of.entry(Arc::as_ptr(view) as usize).or_insert_with(|| {
            let (fields, by_name, heads) = (Vec::new(), FxHashMap::default(), Vec::new());
            uses.push(Use { view: view.clone(), fields, by_name, heads });
            uses.len() as u32 - 1
        })
    }

    /// Write what a side may draw from; returns the item's head and how many numbers were written.
    fn candidates(&mut self, side: &crate::batch::Side, usage: u32, scratch: &mut Scratch) -> (i64, usize) {
        let out = &mut scratch.candidates;
        out.0.clear();
        let (Some(chosen), Some(opened), Some(priced)) = (&side.chosen, &side.opened, &side.priced) else {
            return (0, 0);
        };
        let of = &mut self.uses[usage as usize];
        let (mut head, mut length) = (0, 0);
        for one in &chosen.candidates {
            let text = &one.text;
            let field = of.field(&opened.packages[text.group].field, &text.field) as i64;
            let mut code = GROUP * text.group as i64;
            code += if text.money { MONEY } else { 0 } + if text.waive { WAIVE } else { 0 };
            if one.allow {
                code += ALLOW;
                head |= JUDGED;
            }
            let converts = text.money && one.conversion.is_some();
            code += if one.cap != 0 { CAP } else { 0 } + if converts { CONVERSION } else { 0 };
            out.int(field + FIRST_FIELD);
            out.int(one.size);
            out.int(code);
            length += 3;
            if one.cap != 0 {
                out.int(one.cap);
                length += 1;
            }
            if converts {
                conversions(one, &priced.cost, priced.billed, out);
                length += 4;
            }
        }
        (head + LENGTH * length as i64, length)
    }

    /// Ask for what the first call of a period brings; returns how many numbers that takes.
    fn ask_fees(&mut self, side: &crate::batch::Side, usage: u32, item: usize) -> usize {
        let (Some(opened), false) = (&side.opened, side.fees.is_empty()) else { return 0 };
        let of = &mut self.uses[usage as usize];
        let out = &mut self.fees;
        out.int(item as i64 + 1);
        out.int(i64::from(usage) + 1);
        out.int(side.fees.len() as i64);
        for fee in &side.fees {
            let begin = &opened.packages[fee.group].field;
            let charged = of.field(begin, ".fee.charged");
            of.field(begin, ".fee.net");
            of.field(begin, ".fee.amount");
            out.int(GROUP * fee.group as i64);
            out.int(charged as i64 + FIRST_FIELD);
            out.int(fee.net);
            out.int(fee.amount);
            out.int(fee.deny.into());
        }
        3 + 5 * side.fees.len()
    }

    fn limits_number(&mut self, chosen: Option<&Arc<Chosen>>) -> u32 {
        // Of all that have no candidates it is one.
        let some = chosen.filter(|chosen| !chosen.candidates.is_empty());
        let key = some.map_or(0, |chosen| Arc::as_ptr(chosen) as usize);
        let limits = &mut self.limits;
        *self.limit_numbers.entry(key).or_insert_with(|| {
            limits.push(some.cloned().unwrap_or_else(|| Arc::new(Chosen { candidates: Vec::new() })));
            limits.len() as u32 - 1
        })
    }

    fn rate_number(&mut self, rate: &RateOf, scratch: &mut String) -> u32 {
        let next = self.rates.len() as u32;
        let number = match rate {
            RateOf::None => *self.rate_of.entry((0, 0)).or_insert(next),
            RateOf::Table(table, place) => {
                let key = (Arc::as_ptr(table) as usize, table.rate(*place).alike);
                *self.rate_of.entry(key).or_insert(next)
            }
            // Each is an object of its own. None is shown as one of a table is, which has a name.
            RateOf::Given(rate) => {
                scratch.clear();
                scratch.extend(rate.fragment());
                *self.given_rates.entry(scratch.as_str().into()).or_insert(next)
            }
        };
        if number == next {
            self.rates.push(rate.clone());
        }
        number
    }

    fn head(&mut self, batch: &Batch, place: usize, usage: u32) -> u32 {
        let side = &batch.sides[place];
        let service = batch.cdr(side).service;
        let texts = &batch.texts;
        let get = |text: Option<Text>| text.map(|text| texts.get(text));
        let same = |number: &&u32| {
            let head = &self.heads[**number as usize];
            head.index == side.index
                && alike(&head.opened, &side.opened)
                && get(head.account) == get(side.account)
                && texts.get(head.service) == texts.get(service)
        };
        let of = &self.uses[usage as usize];
        if let Some(number) = of.heads.iter().find(same) {
            return *number;
        }
        let name = if side.index == 0 { "orig" } else { "term" };
        let view = of.view.clone();
        let mut ids = String::with_capacity(HEAD_BYTES + view.id.len());
        ids.extend([name, "\",\"client\":"]);
        write_quoted(&view.id, &mut ids);
        ids.push_str(",\"account\":");
        match get(side.account) {
            Some(account) => write_quoted(account, &mut ids),
            None => ids.push_str("null"),
        }
        ids.push_str(",\"side\":\"");
        ids.push_str(name);
        ids.push_str("\",\"service\":");
        write_quoted(texts.get(service), &mut ids);
        ids.push_str(",\"cdr\":{\"source\":\"");
        let mut end = String::with_capacity(self.end.len() + HEAD_BYTES / 4);
        end.push_str(",\"currency\":");
        write_quoted(&view.currency, &mut end);
        end.push_str(&self.end);
        let number = self.heads.len() as u32;
        self.heads.push(Head {
            ids,
            amount: if texts.get(service) == CALLS { "" } else { "null,\"volume\":" },
            end,
            view,
            account: side.account,
            opened: side.opened.clone(),
            index: side.index,
            service,
        });
        self.uses[usage as usize].heads.push(number);
        number
    }

    /// The limits of a side, by number.
    pub fn woken_client(&self, item: usize) -> Option<&Arc<View>> {
        self.asked.get(item).map(|asked| &self.heads[asked.head as usize].view)
    }

    /// The request as the store takes it.
    pub fn packed(&self, batch: &Batch, position: &Position) -> Packed {
        let context = !self.asked.is_empty() && !batch.contextless;
        Packed {
            clients: self.clients().cloned().collect(),
            payload: self.payload(batch, position, context),
            digests: self.digests.clone(),
            context: if context { self.context(batch) } else { Vec::new() },
            changes: self.changes(),
        }
    }

    /// The clients that it names.
    pub fn clients(&self) -> impl Iterator<Item = &Arc<View>> {
        self.uses.iter().map(|of| &of.view)
    }

    pub fn digests(&self) -> &[u8] {
        &self.digests
    }

    /// Its uses and its items. keep: its outcome is kept, with its context.
    pub fn payload(&self, batch: &Batch, position: &Position, keep: bool) -> Vec<u8> {
        let mut payload = Writer(Vec::with_capacity(self.items.0.len() + USE_BYTES * self.uses.len()));
        let uses: usize = self.uses.iter().map(|of| 3 + of.fields.len()).sum();
        payload.array(10 + uses + self.item_numbers);
        let clients = self.uses.len() as i64;
        let items = self.asked.len() as i64;
        let Position { generation, trim, floor } = *position;
        for number in [batch.lane_ms, generation, trim, floor, keep.into(), clients, clients, 0, 0, items] {
            payload.int(number);
        }
        for of in &self.uses {
            payload.int(of.view.version);
            payload.int(of.view.credit_limit);
            payload.int(of.fields.len() as i64);
            of.fields.iter().for_each(|field| payload.text(field));
        }
        payload.raw(&self.items.0);
        payload.0
    }

    /// Tables of what sides share, and their rows.
    fn context(&self, batch: &Batch) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(self.rows.0.len() + CONTEXT_BYTES * self.heads.len()));
        out.0.push(0);
        out.array(5);
        out.array(self.topics.len());
        self.topics.iter().for_each(|topic| out.text(&batch.topics[*topic as usize]));
        out.array(self.heads.len());
        for head in &self.heads {
            out.array(5);
            for text in [&*head.view.id, &head.ids, head.amount, &head.end] {
                out.text(text);
            }
            match &head.opened {
                Some(opened) => out.raw(&opened.packed),
                None => out.array(0),
            }
        }
        out.array(self.rates.len());
        for rate in &self.rates {
            out.array(2);
            out.text_of_parts(&rate.fragment());
            out.text(rate.fee_text());
        }
        out.array(self.limits.len());
        for chosen in &self.limits {
            out.array(chosen.candidates.len());
            chosen.candidates.iter().for_each(|one| out.raw(&one.packed));
        }
        out.array(self.asked.len());
        out.raw(&self.rows.0);
        out.0
    }

    /// What a call has besides that tells of waits, marks and fees.
    pub fn changes(&self) -> Option<Vec<u8>> {
        let wake = |of: &Use| match of.view.wake {
            Some(_) if of.view.catalog != self.catalog => Some(ANY_RISE),
            wake => wake,
        };
        let any =
            self.fee_numbers > 0 || self.uses.iter().any(|of| wake(of).is_some() || of.view.mark.is_some());
        if !any {
            return None;
        }
        let marks: Vec<(usize, i64)> =
            self.uses.iter().enumerate().filter_map(|(place, of)| Some((place + 1, of.view.mark?))).collect();
        let mut out = Writer::default();
        out.array(8 + self.uses.len() + self.fee_numbers + 2 * marks.len());
        out.int(2); // no changes stand before the balances that are waited for
        self.uses.iter().for_each(|of| out.int(wake(of).unwrap_or(OUT_OF_RANGE)));
        out.int(0); // hints, and their lowest hour
        out.bool(false);
        out.int(0); // members
        out.int(0); // history
        out.int(self.fee_numbers as i64);
        out.raw(&self.fees.0);
        out.int(2 * marks.len() as i64);
        for (place, mark) in marks {
            out.int(place as i64);
            out.int(mark);
        }
        out.int(0); // changes of other lanes that it goes on from
        Some(out.0)
    }
}

/// Whether the same is open, by whichever of several that were remembered.
fn alike(one: &Option<Arc<Opened>>, other: &Option<Arc<Opened>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one.packed == other.packed,
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn number_of(list: &mut Vec<u32>, topic: u32) -> u32 {
    let place = list.iter().position(|of| *of == topic).unwrap_or_else(|| {
        list.push(topic);
        list.len() - 1
    });
    place as u32
}

/// Write a text as JSON has it between quotation marks.
fn write_text(text: &str, scratch: &mut String, out: &mut Writer) {
    if is_plain(text) {
        return out.text(text);
    }
    scratch.clear();
    write_escaped(text, scratch);
    out.text(scratch);
}

fn write_limbs(numbers: &[i64], out: &mut Writer) {
    out.array(numbers.len());
    numbers.iter().for_each(|number| out.int(*number));
}

/// Write a, d of both conversions, for the greatest amounts that they can be asked for.
fn conversions(one: &Candidate, cost: &Form, billed: i64, out: &mut Writer) {
    let (n, d) = one.conversion.unwrap_or((1, 1));
    let cost_max = cost.size_at(billed).max(cost.size_at(0)).max(BigInt::from(1));
    for (a, d, most) in [(n, d, cost_max), (d, n, BigInt::from(one.size.max(1)))] {
        let plain = BigInt::from(crate::amounts::PLAIN_MAX);
        if BigInt::from(a) * most < plain && BigInt::from(d) < plain {
            out.int(a as i64);
            out.int(d as i64);
        } else {
            write_limbs(&limbs(&a.into()), out);
            write_limbs(&limbs(&d.into()), out);
        }
    }
}

/// What a repeat of a side is found by, at a client; and the key of earlier versions, without the client.
fn keys_of(source: &str, id: &str, index: usize, client_crc: u32) -> ([u8; KEY_BYTES], [u8; KEY_BYTES]) {
    let mut state = Params::new().hash_length(2 * KEY_BYTES).to_state();
    state.update(source.as_bytes()).update(b"/").update(id.as_bytes());
    let digest = state.finalize();
    let half = &digest.as_bytes()[KEY_BYTES * index..KEY_BYTES * (index + 1)];
    let mut older = [0; KEY_BYTES];
    older.copy_from_slice(half);
    let key = (u64::from_be_bytes(older) ^ u64::from(client_crc)).to_be_bytes();
    (key, older)
}

/// The checksum of what must be equal in a duplicate (CONTRACTS.md, Reject reasons).
fn content_of(batch: &Batch, place: usize, calls: bool, out: &mut Writer) -> [u8; 4] {
    let side = &batch.sides[place];
    let (cdr, texts) = (batch.cdr(side), &batch.texts);
    out.0.clear();
    out.array(2);
    out.text(side.view.as_ref().map_or("", |view| &view.id));
    out.option_text(side.account.map(|account| texts.get(account)));
    out.array(6);
    out.text(texts.get(cdr.service));
    out.text(texts.get(cdr.called));
    for number in
        [cdr.setup_ms, cdr.answered_ms, cdr.ended_ms, if calls { cdr.duration_ms } else { cdr.volume }]
    {
        out.option_int(number);
    }
    if let Some(given) = &side.named.rate_content {
        out.raw(given);
    }
    crc32fast::hash(&out.0).to_be_bytes()
}

/// A given rate by value: "0.10" is "0.1".
pub fn rate_content(given: &GivenRate) -> Box<[u8]> {
    let mut out = Writer::default();
    out.array(8);
    out.text(&given.code);
    out.option_text(given.code_name.as_deref());
    out.text(&given.currency);
    out.text(&format_e10(given.price_e10));
    out.text(&format_e10(given.setup_fee_e10));
    [given.min_time, given.interval, given.grace_time].iter().for_each(|number| out.int(*number));
    out.0.into()
}
