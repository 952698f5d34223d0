//! A bucket in memory, for one owner: the third statement of what `store/functions.lua` and `core/bucket/model.py` say of
//! a draw. It takes the same arguments and gives the same replies, byte for byte (decisions/0110-a-native-bucket.md).
//! It holds sums and duplicates alone: no lanes, gate or outcomes, no registers, hints, members, history or accounts.

use crate::amounts::LIMIT;
use crate::bucket_call::{Call, Change, DIGESTS, Use};
use crate::bucket_draw::{Drawn, Funds, draw_item, in_range};
use crate::clients::ANY_RISE;
use crate::msgpack::Writer;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

const RATED: i64 = 0;
const DUPLICATE: i64 = 1;
const DIFFERS: i64 = 2;
const OUT_OF_RANGE: i64 = 3;
/// In the place of a candidate's index: what is told of fees, or of the client's mark.
const FEE: i64 = -1;
const MARK: i64 = -2;

type Key = [u8; 8];
type Content = [u8; 4];

/// A client's sums. version None: only sums are known.
#[derive(Default)]
pub struct Held {
    pub version: Option<i64>,
    pub balance: i64,
    pub used: FxHashMap<Box<str>, i64>,
}

/// What becomes of a call: all but Ok have changed nothing.
pub enum Reply {
    /// Results, as the store packs them.
    Ok(Vec<u8>),
    Lost,
    /// Places of clients.
    Stale(Vec<usize>),
    /// Of each client: its place, the item before which something is due (None: a change's conditions do not hold), its
    /// balance, the counters of the change in its order.
    Due(Vec<(usize, Option<usize>, i64, Vec<i64>)>),
    /// Cut items whose candidates left volume or money over.
    More(Vec<usize>),
}

/// One bucket. unique: calls come once, as is known, and no duplicates are kept or looked for.
#[derive(Default)]
pub struct Bucket {
    pub clients: FxHashMap<Box<str>, Held>,
    unique: bool,
    /// By generation.
    duplicates: BTreeMap<i64, FxHashMap<Key, Content>>,
}

/// A call half worked out: the clients as it leaves them.
struct Draft<'a> {
    call: &'a Call<'a>,
    versions: Vec<Option<i64>>,
    balances: Vec<i64>,
    /// Of each use, counter by counter.
    used: Vec<Vec<i64>>,
    /// Uses with a counter as only a fault of the store can leave it: nothing is drawn from any of them.
    odd: Vec<bool>,
    /// Balance before the record in hand.
    before: Vec<Option<i64>>,
    /// Counters of changes that no use names.
    beside: Vec<(usize, &'a str, i64)>,
    rose: Vec<bool>,
    woken: Vec<i64>,
    due: Vec<(usize, Option<usize>, i64, Vec<i64>)>,
    more: Vec<usize>,
    /// Of items: code, amount, takes.
    out: Vec<i64>,
    fresh: FxHashMap<Key, Content>,
}

impl Bucket {
    pub fn new(unique: bool) -> Self {
        Self { unique, ..Self::default() }
    }

    /// Draw and charge items behind changes; all of it or nothing.
    pub fn draw(&mut self, call: &Call<'_>) -> Reply {
        let mut draft = self.draft(call);
        let Some(stale) = draft.stale() else { return Reply::Lost };
        if !stale.is_empty() {
            return Reply::Stale(stale);
        }
        for change in &call.changes {
            self.change(&mut draft, change);
        }
        if draft.due.is_empty() {
            draft.judge();
            for number in 0..call.items.len() {
                self.item(&mut draft, number);
            }
        }
        if !draft.due.is_empty() {
            return Reply::Due(draft.due);
        }
        if !draft.more.is_empty() {
            return Reply::More(draft.more);
        }
        let packed = draft.packed();
        self.write(draft);
        Reply::Ok(packed)
    }

    /// What the call finds: clients, and the counters that its uses name.
    fn draft<'a>(&self, call: &'a Call<'a>) -> Draft<'a> {
        let held: Vec<Option<&Held>> = call.clients.iter().map(|client| self.clients.get(*client)).collect();
        let row = |(of, held): (&Use<'_>, &Option<&Held>)| -> Vec<i64> {
            of.fields.iter().map(|field| used_of(*held, field)).collect()
        };
        let (clients, uses) = (call.clients.len(), call.uses.len());
        Draft {
            call,
            versions: held.iter().map(|held| held.and_then(|held| held.version)).collect(),
            balances: held.iter().map(|held| held.map_or(0, |held| held.balance)).collect(),
            used: call.uses.iter().zip(&held).map(row).collect(),
            odd: vec![false; uses],
            before: vec![None; uses],
            beside: Vec::new(),
            rose: vec![false; clients],
            woken: Vec::new(),
            due: Vec::new(),
            more: Vec::new(),
            out: Vec::with_capacity(8 * call.items.len()),
            fresh: FxHashMap::default(),
        }
    }

    /// Do a change if its conditions hold; else note that it is due.
    fn change<'a>(&self, draft: &mut Draft<'a>, change: &'a Change<'a>) {
        let place = change.client;
        let call = draft.call;
        let own = call.uses.get(place);
        let held = self.clients.get(call.clients[place]);
        let balance = draft.balances[place];
        let mut holds = (change.least..=change.most).contains(&balance) && fits(balance, change.delta);
        let mut values = Vec::with_capacity(change.counters.len());
        for of in &change.counters {
            let value = used_of(held, of.field);
            holds &= (of.least..=of.most).contains(&value) && fits(value, of.delta);
            values.push(value);
        }
        if !holds {
            draft.due.push((place, None, balance, values));
            return;
        }
        draft.balances[place] = balance + change.delta;
        for (of, value) in change.counters.iter().zip(values).filter(|(of, _)| of.delta != 0) {
            match own.and_then(|own| own.fields.iter().position(|field| *field == of.field)) {
                Some(at) => draft.used[place][at] = value + of.delta,
                None => draft.beside.push((place, of.field, value + of.delta)),
            }
        }
    }

    /// Draw one item, or note why that cannot be.
    fn item(&self, draft: &mut Draft<'_>, number: usize) {
        let call = draft.call;
        let item = &call.items[number];
        let place = item.usage;
        let of = &call.uses[place];
        let balance = draft.balances[place];
        if std::mem::take(&mut draft.rose[place]) {
            draft.due.push((place, Some(number), balance, Vec::new()));
        }
        if !item.same_record || draft.before[place].is_none() {
            draft.before[place] = Some(balance);
        }
        let (key, content, older) = digests_of(call.digests, number);
        if let Some(known) = self.known(draft, key, older) {
            draft.out.push(if known == content { DUPLICATE } else { DIFFERS });
            return;
        }
        let funds = Funds { balance, before: draft.before[place].unwrap_or(balance), credit: of.credit };
        let odd = draft.odd[place] && !item.candidates.is_empty();
        let drawn = if odd { None } else { draw_item(item, &draft.used[place], &funds) };
        if item.cut && !drawn.as_ref().is_some_and(|drawn| does(item, drawn)) {
            draft.more.push(number);
        }
        match drawn {
            Some(drawn) => {
                if !self.unique {
                    draft.fresh.insert(key, content);
                }
                draft.take(number, &drawn);
            }
            None => draft.out.push(OUT_OF_RANGE),
        }
    }

    /// The content under which a key, or else its older one, is known.
    fn known(&self, draft: &Draft<'_>, key: Key, older: Key) -> Option<Content> {
        if self.unique {
            return None;
        }
        let generation = draft.call.generation;
        for near in [generation, generation - 1, generation + 1] {
            let entries = self.duplicates.get(&near);
            let added = (near == generation).then_some(&draft.fresh);
            for key in [key, older] {
                let found = entries.and_then(|of| of.get(&key)).or_else(|| added.and_then(|of| of.get(&key)));
                if found.is_some() {
                    return found.copied();
                }
            }
        }
        None
    }

    /// Put it all in place.
    fn write(&mut self, draft: Draft<'_>) {
        let call = draft.call;
        for (place, client) in call.clients.iter().enumerate() {
            if !self.clients.contains_key(*client) {
                self.clients.insert((*client).into(), Held::default());
            }
            let Some(held) = self.clients.get_mut(*client) else { continue };
            (held.version, held.balance) = (draft.versions[place], draft.balances[place]);
            let Some(of) = call.uses.get(place) else { continue };
            for (field, value) in of.fields.iter().zip(&draft.used[place]) {
                held.set(field, *value);
            }
        }
        for (place, field, value) in draft.beside {
            if let Some(held) = self.clients.get_mut(call.clients[place]) {
                held.set(field, value);
            }
        }
        if !draft.fresh.is_empty() {
            self.duplicates.entry(call.generation).or_default().extend(draft.fresh);
        }
    }

    /// Remember a key, as if it had been drawn in this generation.
    pub fn remember(&mut self, generation: i64, key: Key, content: Content) {
        self.duplicates.entry(generation).or_default().insert(key, content);
    }

    /// Drop the duplicates of generations below this one.
    pub fn expire(&mut self, generation: i64) {
        self.duplicates = self.duplicates.split_off(&generation);
    }

    /// How many keys are kept.
    pub fn keys(&self) -> usize {
        self.duplicates.values().map(FxHashMap::len).sum()
    }
}

impl Held {
    /// Put a counter; one that was never there and is 0 is none.
    pub fn set(&mut self, field: &str, value: i64) {
        match self.used.get_mut(field) {
            Some(held) => *held = value,
            None if value == 0 => {}
            None => drop(self.used.insert(field.into(), value)),
        }
    }
}

impl Draft<'_> {
    /// The clients whose version is not the one that was named; None: one of them is gone.
    fn stale(&mut self) -> Option<Vec<usize>> {
        let mut stale = vec![false; self.versions.len()];
        for change in &self.call.changes {
            let version = &mut self.versions[change.client];
            if version.unwrap_or(0) == change.expected {
                *version = Some(change.version);
            } else {
                version.as_ref()?;
                stale[change.client] = true;
            }
        }
        for (place, of) in self.call.uses.iter().enumerate() {
            stale[place] |= self.versions[place]? != of.version;
        }
        Some((0..stale.len()).filter(|place| stale[*place]).collect())
    }

    /// Note which uses have counters as they cannot be.
    fn judge(&mut self) {
        for (place, of) in self.call.uses.iter().enumerate() {
            let least = |at: usize| if of.signed.get(at) == Some(&true) { -LIMIT } else { 0 };
            let right = |(at, used): (usize, &i64)| (least(at)..=LIMIT).contains(used);
            self.odd[place] = !self.used[place].iter().enumerate().all(right);
        }
    }

    /// Take in what an item got.
    fn take(&mut self, number: usize, drawn: &Drawn) {
        let item = &self.call.items[number];
        let place = item.usage;
        let of = &self.call.uses[place];
        let row = &mut self.used[place];
        for take in &drawn.takes {
            row[item.candidates[take.index].field] += take.taken;
        }
        let before = self.balances[place];
        let mut after = before + drawn.amount;
        if let Some(ask) = drawn.fee.as_ref().and_then(|fee| Some(&item.fees[fee.charged?])) {
            after += ask.amount;
            row[ask.field] += 1;
            row[ask.field + 1] += ask.net;
            row[ask.field + 2] += ask.amount;
        }
        self.balances[place] = after;
        let crossed = of.mark.filter(|mark| (before < *mark) != (after < *mark)).map(|mark| after < mark);
        self.tell(drawn, crossed);
        if let Some(wake) = of.wake
            && before < after
            && after >= wake
            && (before < wake || wake == ANY_RISE)
        {
            self.rose[place] = true;
            self.woken.push(number as i64);
        }
    }

    /// Write what an item got: code, amount, what is told besides, takes.
    fn tell(&mut self, drawn: &Drawn, crossed: Option<bool>) {
        let besides = i64::from(crossed.is_some()) + i64::from(drawn.fee.is_some());
        let takes = drawn.takes.len() as i64 + besides;
        let out = &mut self.out;
        out.extend([RATED + 4 * judged(drawn.sufficient) + 16 * takes, drawn.amount]);
        if crossed.is_some() {
            out.extend([MARK, judged(crossed), 0, 0]);
        }
        if let Some(fee) = &drawn.fee {
            let charged = fee.charged.map_or(0, |index| index as i64 + 1);
            out.extend([FEE, charged, fee.amount, judged(fee.covered)]);
        }
        for take in &drawn.takes {
            out.extend([take.index as i64, take.taken, take.left, take.covered]);
        }
    }

    /// Woken and results, as the store packs them.
    fn packed(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(4 * self.out.len() + 8));
        out.array(1 + self.woken.len() + self.out.len());
        out.int(self.woken.len() as i64);
        self.woken.iter().chain(&self.out).for_each(|number| out.int(*number));
        out.0
    }
}

fn judged(of: Option<bool>) -> i64 {
    of.map_or(0, |of| 1 + i64::from(of))
}

fn used_of(held: Option<&Held>, field: &str) -> i64 {
    held.and_then(|held| held.used.get(field)).copied().unwrap_or(0)
}

/// Whether held and held + delta are both within ±LIMIT; |delta| <= LIMIT.
fn fits(held: i64, delta: i64) -> bool {
    in_range(held) && in_range(held + delta)
}

/// Whether the candidates of a cut item left nothing over, so that no further one could give.
fn does(item: &crate::bucket_draw::Item, drawn: &Drawn) -> bool {
    let volumes = drawn.takes.iter().filter(|take| !item.candidates[take.index].money);
    drawn.amount == 0 && volumes.map(|take| take.taken).sum::<i64>() == item.billed
}

/// Key, content and older key of an item.
fn digests_of(digests: &[u8], number: usize) -> (Key, Content, Key) {
    let (mut key, mut content, mut older) = (Key::default(), Content::default(), Key::default());
    let of = &digests[DIGESTS * number..DIGESTS * (number + 1)];
    key.copy_from_slice(&of[..8]);
    content.copy_from_slice(&of[8..12]);
    older.copy_from_slice(&of[12..]);
    (key, content, older)
}
