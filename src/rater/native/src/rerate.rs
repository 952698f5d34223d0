//! One client's calls rated again, in order, from what the others have left. States what `core/rerating/rating.py`,
//! `bounds.py` and `base` of `client.py` do. Source of the rules: RULES.md 2 and 5.

use crate::amounts::LIMIT;
use crate::batch::{Batch, Call1, Lacking, Named, RateOf, Side, Stand, given_rate};
use crate::bucket_call::{Call, Use};
use crate::bucket_draw::{Drawn, Funds, Item, draw_item, in_range};
use crate::catalog::Catalog;
use crate::cdr::CALLS;
use crate::clients::View;
use crate::draw::{self, Position};
use crate::periods::Sets;
use crate::told::{Brief, Past};
use crate::transaction::{DrawResult, brought, write_transaction};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// The reference has to rate this client: something cannot be read or worked out here.
#[derive(Debug)]
pub struct Other;

/// (least, most) of what a number may have moved by.
pub type Interval = (i64, i64);
const ANYTHING: Interval = (-2 * LIMIT, 2 * LIMIT);

/// By how much counters and balance may have moved, so that each call still ends as it did.
pub struct Bounds {
    pub fields: FxHashMap<Box<str>, Interval>,
    pub balance: Interval,
}

/// A fee that a call has brought.
pub struct Fee {
    pub id: Box<str>,
    pub client_package: Box<str>,
    pub period: i64,
}

/// Fees by the calls that brought them: (source, id) of the CDR.
pub type Fees = FxHashMap<(Box<str>, Box<str>), Vec<Fee>>;

/// What came of calls that end as they did: how many, billed units, micros.
#[derive(Default)]
pub struct Same {
    pub calls: i64,
    pub volume: i128,
    pub amount: i128,
}

/// How a call ends otherwise, or maybe so.
pub enum Row {
    /// Its draw was refused: it is out of range.
    OutOfRange,
    /// It cannot be rated, as the reference says.
    Rejected,
    Rated {
        value: String,
        amount: i64,
        takes: Vec<(String, i64)>,
        fee: Option<NewFee>,
    },
}

/// The fee of a period that a call brings: its transaction, signed micros, what it adds to counters.
pub type NewFee = (String, i64, [(String, i64); 3]);

/// A client whose calls are rated again.
pub struct Again {
    view: Arc<View>,
    catalog: Arc<Catalog>,
    counters: FxHashMap<Box<str>, i64>,
    balance: i64,
    before: i64,
    last: (Box<str>, Box<str>),
    fees: Fees,
    /// Of each call, in order, what its last transaction told: read once, asked twice.
    kept: Vec<Option<Kept>>,
    /// How many calls were rated.
    rated: usize,
    /// Ids of the fees that the calls have brought.
    pub brought: FxHashSet<Box<str>>,
    pub bounds: Bounds,
}

/// What a call's last transaction told: signed micros, and the answers about funds.
#[derive(Clone, Copy)]
struct Kept {
    micros: i64,
    sufficient: Option<bool>,
    fee_covered: Option<bool>,
}

/// Some calls on their way: what they draw from, and what of it is used.
struct Way<'a> {
    batch: &'a Batch,
    usage: &'a Use<'a>,
    items: &'a [Item],
    used: Vec<i64>,
}

impl Again {
    pub fn new(
        view: View,
        catalog: Arc<Catalog>,
        balance: i64,
        counters: FxHashMap<Box<str>, i64>,
        fees: Fees,
    ) -> Self {
        Self {
            view: Arc::new(view),
            catalog,
            counters,
            balance,
            before: balance,
            last: Default::default(),
            fees,
            kept: Vec::new(),
            rated: 0,
            brought: FxHashSet::default(),
            bounds: Bounds { fields: FxHashMap::default(), balance: ANYTHING },
        }
    }

    /// Add to a counter.
    pub fn add(&mut self, field: &str, units: i64) -> Result<(), Other> {
        match self.counters.get_mut(field) {
            Some(used) => *used = used.checked_add(units).ok_or(Other)?,
            None => drop(self.counters.insert(field.into(), units)),
        }
        Ok(())
    }

    /// Take back what calls drew, and note which fees they have brought.
    pub fn take_back(&mut self, calls: &[Past<'_>]) -> Result<(), Other> {
        for call in calls {
            if self.fees.is_empty()
                && let Some(brief) = call.brief().map_err(|_| Other)?
            {
                let Brief { micros, sufficient, fee_covered, takes } = brief;
                self.kept.push(Some(Kept { micros, sufficient, fee_covered }));
                for (field, units) in takes.into_iter().filter(|_| call.stands) {
                    self.add(field, units.checked_neg().ok_or(Other)?)?;
                }
                continue;
            }
            let told = call.told().map_err(|_| Other)?;
            self.kept.push(told.as_ref().map(|told| Kept {
                micros: told.micros,
                sufficient: told.sufficient,
                fee_covered: told.fee_covered,
            }));
            let Some(told) = told.filter(|_| call.stands) else { continue };
            for draw in &told.draws {
                self.add(&draw.field(), draw.taken.checked_neg().ok_or(Other)?)?;
            }
            if self.fees.is_empty() {
                continue;
            }
            let fees = self.fees.get(&(call.source.into(), call.id.into()));
            for fee in fees.into_iter().flatten() {
                let of = |draw: &crate::told::Draw<'_>| {
                    draw.period == fee.period && *draw.client_package == *fee.client_package
                };
                if told.draws.iter().any(of) {
                    self.brought.insert(fee.id.clone());
                }
            }
        }
        Ok(())
    }

    /// Rate calls; returns what came of those that end as they did, and of the others each with its place.
    pub fn rate(&mut self, calls: &[Past<'_>], sets: &mut Sets) -> Result<(Same, Vec<(usize, Row)>), Other> {
        let mut batch =
            Batch { contextless: true, keyless: true, topics: vec!["".into()], ..Batch::default() };
        batch.reserve(calls.len());
        for call in calls {
            self.put(&mut batch, call);
        }
        let (catalog, mut lacking) = (self.catalog.clone(), Lacking::default());
        batch.price(&catalog, &mut lacking);
        batch.match_limits(&catalog, sets, &|_: &str| true, &mut lacking);
        draw::requests(&mut batch, catalog.version, 1);
        let Some(of) = batch.calls.first() else {
            return self.draw(calls, None);
        };
        let payload = of.payload(&batch, &Position { generation: 0, trim: 0, floor: 0 }, false);
        let behind = of.changes();
        let clients = of.clients().map(|view| &*view.id).collect();
        let call = Call::read(clients, &payload, of.digests(), behind.as_deref()).map_err(|_| Other)?;
        let usage = call.uses.first().ok_or(Other)?;
        let used = usage.fields.iter().map(|field| self.counters.get(*field).copied().unwrap_or(0)).collect();
        self.draw(calls, Some(Way { batch: &batch, usage, items: &call.items, used }))
    }

    /// Put a call into a batch, with what it is rated at.
    fn put(&self, batch: &mut Batch, call: &Past<'_>) {
        let place = batch.cdrs.len() as u32;
        let texts = &mut batch.texts;
        let calls = call.service == CALLS;
        let used = call.amount > 0;
        let answered_ms = (used || !call.unanswered).then_some(call.at_ms);
        let cdr = Call1 {
            record: place,
            topic: 0,
            offset: 0,
            timestamp: -1,
            source: texts.put(call.source),
            id: texts.put(call.id),
            service: texts.put(call.service),
            setup_ms: if answered_ms.is_none() { Some(call.at_ms) } else { None },
            answered_ms,
            ended_ms: None,
            at_ms: call.at_ms,
            duration_ms: calls.then_some(call.amount),
            volume: (!calls).then_some(call.amount),
            used,
            caller: call.caller.map(|caller| texts.put(caller)),
            called: texts.put(call.called),
        };
        let account = call.account.map(|account| texts.put(account));
        let rate = self.rate_of(call);
        let mut side = Side::new(place, call.side, Named::default());
        (side.view, side.account, side.whole) = (Some(self.view.clone()), account, true);
        side.rejected = rate.is_none();
        side.rate = rate.unwrap_or_default();
        batch.cdrs.push(cdr);
        batch.sides.push(side);
    }

    /// The rate of a side: client and account stand. None: the reference rejects it.
    fn rate_of(&self, call: &Past<'_>) -> Option<RateOf> {
        self.catalog.price_unit(call.service)?;
        if call.amount <= 0 {
            return Some(RateOf::None);
        }
        if let Some(given) = &call.given {
            return Some(RateOf::Given(given_rate(given.clone())));
        }
        let table = self.catalog.tables.get(self.view.table(call.account, call.side, call.service)?)?;
        Some(RateOf::Table(table.clone(), table.lookup(call.called, call.at_ms)?))
    }

    fn draw(&mut self, calls: &[Past<'_>], way: Option<Way<'_>>) -> Result<(Same, Vec<(usize, Row)>), Other> {
        let (mut same, mut rows) = (Same::default(), Vec::new());
        let mut text = String::new();
        let mut way = way;
        for (place, call) in calls.iter().enumerate() {
            let kept = *self.kept.get(self.rated).ok_or(Other)?;
            self.rated += 1;
            let before = if call.stands { kept.map_or(0, |told| told.micros) } else { 0 };
            let drawn = match &mut way {
                Some(way) if way.batch.sides[place].stand == Stand::Asked => {
                    Some((self.item(way, place, call, kept), way))
                }
                _ => None,
            };
            self.balance = self.balance.checked_sub(before).ok_or(Other)?;
            let (drawn, way) = match drawn {
                Some((Some(drawn), way)) => (drawn, way),
                Some((None, _)) => {
                    rows.push((place, Row::OutOfRange));
                    continue;
                }
                None => {
                    rows.push((place, Row::Rejected));
                    continue;
                }
            };
            let fee = self.charge(way, place, &drawn)?;
            let (side, of) = (&way.batch.sides[place], &way.batch.calls[0]);
            let asked = &of.asked[side.call.1 as usize];
            let (head, rate) = (&of.heads[asked.head as usize], &of.rates[asked.rate as usize]);
            text.clear();
            write_transaction(way.batch, side, head, rate, &DrawResult::of(&drawn), &mut text);
            if call.stands && fee.is_none() && is_same(call.value, &text) {
                same.calls += 1;
                same.volume += i128::from(side.priced.as_ref().map_or(0, |priced| priced.billed));
                same.amount += i128::from(drawn.amount);
                continue;
            }
            let item = &way.items[side.call.1 as usize];
            let field = |index: usize| way.usage.fields[item.candidates[index].field].to_string();
            let takes = drawn.takes.iter().map(|take| (field(take.index), take.taken)).collect();
            rows.push((place, Row::Rated { value: text.clone(), amount: drawn.amount, takes, fee }));
        }
        if let Some(way) = way {
            for (field, used) in way.usage.fields.iter().zip(way.used) {
                self.counters.insert((*field).into(), used);
            }
        }
        Ok((same, rows))
    }

    /// Work out what a call draws, and note what that rests on; None: it is out of range.
    fn item(&mut self, way: &Way<'_>, place: usize, call: &Past<'_>, kept: Option<Kept>) -> Option<Drawn> {
        let item = &way.items[way.batch.sides[place].call.1 as usize];
        if *self.last.0 != *call.source || *self.last.1 != *call.id {
            self.last = (call.source.into(), call.id.into());
            self.before = self.balance;
        }
        let credit = self.view.credit_limit;
        let least = |at: usize| if way.usage.signed.get(at) == Some(&true) { -LIMIT } else { 0 };
        let right = |(at, used): (usize, &i64)| (least(at)..=LIMIT).contains(used);
        let odd = !item.candidates.is_empty() && !way.used.iter().enumerate().all(right);
        let funds = answered(self.balance, self.before, credit, item, kept);
        let drawn = if odd { None } else { draw_item(item, &way.used, &funds) };
        self.note(item, way, drawn.as_ref(), kept);
        drawn
    }

    /// Take in what a call draws; returns the fee that it brings.
    fn charge(&mut self, way: &mut Way<'_>, place: usize, drawn: &Drawn) -> Result<Option<NewFee>, Other> {
        let side = &way.batch.sides[place];
        let (item, of) = (&way.items[side.call.1 as usize], &way.batch.calls[0]);
        let mut amount = drawn.amount;
        for take in &drawn.takes {
            way.used[item.candidates[take.index].field] += take.taken;
        }
        let mut fee = None;
        if let Some(charged) = drawn.fee.as_ref().and_then(|fee| fee.charged) {
            let ask = &item.fees[charged];
            for (at, units) in [1, ask.net, ask.amount].into_iter().enumerate() {
                way.used[ask.field + at] += units;
            }
            let head = &of.heads[of.asked[side.call.1 as usize].head as usize];
            let (value, sums) = brought(side, head, charged, ask.amount).ok_or(Other)?;
            fee = Some((value.to_string(), ask.amount, sums));
            amount += ask.amount;
        }
        self.balance = self.balance.checked_add(amount).ok_or(Other)?;
        Ok(fee)
    }

    /// Note what the result of an item rests on: `bounds.Bounds.note`.
    fn note(&mut self, item: &Item, way: &Way<'_>, drawn: Option<&Drawn>, kept: Option<Kept>) {
        for (index, one) in item.candidates.iter().enumerate() {
            let rest = one.size - way.used[one.field];
            let take = drawn.and_then(|drawn| drawn.takes.iter().find(|take| take.index == index));
            let interval = match take {
                _ if rest <= 0 => (rest, ANYTHING.1),
                None => (ANYTHING.0, rest - 1),
                // What took all that was left would have taken more, or just not.
                Some(take) if take.taken == rest => (0, 0),
                Some(take) => (ANYTHING.0, rest - take.taken),
            };
            self.bounds.narrow(way.usage.fields[one.field], interval);
        }
        for ask in &item.fees {
            self.bounds.narrow(way.usage.fields[ask.field], (0, 0));
        }
        let credit = self.view.credit_limit;
        if kept.is_none_or(|told| told.sufficient.is_none())
            && drawn.is_some_and(|drawn| drawn.sufficient.is_some())
        {
            self.bounds.at(-credit - self.before);
        }
        if kept.is_none_or(|told| told.fee_covered.is_none()) {
            for ask in item.fees.iter().filter(|ask| ask.deny && ask.amount < 0 && way.used[ask.field] == 0) {
                self.bounds.at(-credit - ask.amount - self.balance);
            }
        }
    }
}

/// Funds for which a transaction's answers come out again: they were given once for all.
fn answered(balance: i64, before: i64, credit: i64, item: &Item, kept: Option<Kept>) -> Funds {
    let mut funds = Funds { balance, before, credit };
    if let Some(sufficient) = kept.and_then(|told| told.sufficient) {
        funds.before = if sufficient { before.max(-credit) } else { before.min(-credit - 1) };
    }
    if let Some(covered) = kept.and_then(|told| told.fee_covered).filter(|_| !item.fees.is_empty()) {
        let dearest = item.fees.iter().map(|ask| ask.amount).min().unwrap_or(0).min(0);
        funds.balance = if covered { balance.max(-credit - dearest) } else { balance.min(-credit) };
    }
    if !in_range(funds.balance) {
        funds.balance = funds.balance.clamp(-LIMIT, LIMIT);
    }
    funds
}

impl Bounds {
    fn narrow(&mut self, field: &str, (least, most): Interval) {
        match self.fields.get_mut(field) {
            Some(of) => *of = (of.0.max(least), of.1.min(most)),
            None => {
                let interval = (ANYTHING.0.max(least), ANYTHING.1.min(most));
                self.fields.insert(field.into(), interval);
            }
        }
    }

    /// Stay on this side of a mark. mark: what the balance would have to move by to stand at it.
    fn at(&mut self, mark: i64) {
        let (low, high) = self.balance;
        self.balance = if mark <= 0 { (low.max(mark), high) } else { (low, high.min(mark - 1)) };
    }
}

/// What of a transaction is no matter of how its call ends: numbers behind these names, and the job.
const BESIDE: [&str; 3] = ["\"left\":\"", "\"catalog\":", "\"revision\":"];
const JOB: &str = ",\"job\":\"";

/// Whether two transactions of a call say the same of how it ends, as is seen without reading them. False: maybe not.
fn is_same(before: &[u8], after: &str) -> bool {
    let (a, b) = (before, after.as_bytes());
    let (mut i, mut j) = (0, 0);
    loop {
        let alike = common(&a[i..], &b[j..]);
        (i, j) = (i + alike, j + alike);
        if i == a.len() && j == b.len() {
            return true;
        }
        if let Some((behind, back)) = behind_job(a, i) {
            if back > j {
                return false;
            }
            (i, j) = (behind, j - back);
            continue;
        }
        let digit = |byte: &&u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
        let begin = i - a[..i].iter().rev().take_while(digit).count();
        if !BESIDE.iter().any(|name| a[..begin].ends_with(name.as_bytes())) {
            return false;
        }
        let skipped = a[i..].iter().take_while(digit).count() + b[j..].iter().take_while(digit).count();
        if skipped == 0 {
            return false;
        }
        i += a[i..].iter().take_while(digit).count();
        j += b[j..].iter().take_while(digit).count();
    }
}

/// How many bytes two texts begin with alike; most of them all, so many are looked at together.
fn common(a: &[u8], b: &[u8]) -> usize {
    const MANY: usize = 16;
    let many = a.chunks_exact(MANY).zip(b.chunks_exact(MANY)).take_while(|(x, y)| x == y).count() * MANY;
    many + a[many..].iter().zip(&b[many..]).take_while(|(x, y)| x == y).count()
}

/// Where the job ends that a transaction names around a place, and how far before the place it begins.
fn behind_job(text: &[u8], place: usize) -> Option<(usize, usize)> {
    let back = (0..JOB.len()).find(|back| {
        place
            .checked_sub(*back)
            .and_then(|from| text.get(from..))
            .is_some_and(|of| of.starts_with(JOB.as_bytes()))
    })?;
    let from = place - back + JOB.len();
    let mut escaped = false;
    for (at, byte) in text[from..].iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((from + at + 1, back)),
            _ => {}
        }
    }
    None
}
