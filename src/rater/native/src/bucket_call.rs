//! A call of a bucket as it comes: the arguments of rater_v4_draw and rater_v4_change, which `store/functions.lua` states
//! and `store/packing.py` and `draw` write, as values. What a bucket in memory does not keep is passed over.

use crate::bucket_draw::{Candidate, Cost, Fee, Item};
use crate::msgpack::{Reader, Unreadable};
use num_bigint::{BigInt, Sign};

type Read<T> = Result<T, Unreadable>;

/// Lua counts from 1, and a client's version and balance come before its counters.
const FIRST_FIELD: i64 = 3;
const MONEY: i64 = 1;
const WAIVE: i64 = 2;
const ALLOW: i64 = 4;
const CAP: i64 = 8;
const CONVERSION: i64 = 16;
const GROUP: i64 = 32;
/// Bit of an item's head, and what the length of its candidates is multiplied by there.
const SAME_RECORD: i64 = 1;
const LENGTH: i64 = 4;
const LIMB: u32 = 10_000_000;
/// Where clients begin in the keys of a call.
const FIRST_CLIENT: usize = 9;
/// Key, content, older key of an item.
pub const DIGESTS: usize = 20;

/// A client as the items of a call use it.
pub struct Use<'a> {
    pub version: i64,
    pub credit: i64,
    pub fields: Vec<&'a str>,
    /// The balance that it waits for, and that below which it is low.
    pub wake: Option<i64>,
    pub mark: Option<i64>,
    /// Which of its counters are sums of fees, so that they may be below 0; none where no item asks for fees.
    pub signed: Vec<bool>,
}

/// What a change asks of a counter, and what it adds.
pub struct CounterChange<'a> {
    pub field: &'a str,
    pub least: i64,
    pub most: i64,
    pub delta: i64,
}

/// A client's new version, and the conditions under which it was decided.
pub struct Change<'a> {
    /// Its place among the clients of the call.
    pub client: usize,
    pub expected: i64,
    pub version: i64,
    pub least: i64,
    pub most: i64,
    pub delta: i64,
    pub counters: Vec<CounterChange<'a>>,
}

/// One call: changes, then items, in order.
pub struct Call<'a> {
    pub generation: i64,
    /// Those of its uses, then those of its changes alone.
    pub clients: Vec<&'a str>,
    pub uses: Vec<Use<'a>>,
    pub changes: Vec<Change<'a>>,
    pub items: Vec<Item>,
    pub digests: &'a [u8],
}

/// The names of clients in the keys of a call: they begin as the first key does.
pub fn clients_of<'a>(keys: &[&'a str], count: usize) -> Read<Vec<&'a str>> {
    let begin = keys.first().ok_or(Unreadable)?.len() + 1;
    let named = keys.get(FIRST_CLIENT..FIRST_CLIENT + count).ok_or(Unreadable)?;
    named.iter().map(|key| key.get(begin..).ok_or(Unreadable)).collect()
}

/// How many clients the payload of a call names.
pub fn count_clients(payload: &[u8]) -> Read<usize> {
    let mut from = Reader::new(payload);
    from.array()?;
    for _ in 0..5 {
        from.int()?;
    }
    size(from.int()?)
}

impl<'a> Call<'a> {
    /// Read a call. behind: what rater_v4_change has besides, None: it is one of rater_v4_draw.
    pub fn read(
        clients: Vec<&'a str>,
        payload: &'a [u8],
        digests: &'a [u8],
        behind: Option<&'a [u8]>,
    ) -> Read<Self> {
        let mut from = Reader::new(payload);
        from.array()?;
        from.int()?;
        let generation = from.int()?;
        for _ in 0..3 {
            from.int()?;
        }
        let [named, uses, changes, accounts, items] = ints(&mut from)?;
        if size(named)? != clients.len() || uses > named {
            return Err(Unreadable);
        }
        let uses = (0..uses).map(|_| read_use(&mut from)).collect::<Read<Vec<_>>>()?;
        for _ in 0..2 * accounts {
            from.text()?;
        }
        let mut call = Self { generation, clients, uses, changes: Vec::new(), items: Vec::new(), digests };
        call.items.reserve(digests.len() / DIGESTS);
        for _ in 0..items {
            let item = read_item(&mut from)?;
            call.uses.get(item.usage).ok_or(Unreadable)?;
            call.items.push(item);
        }
        if call.items.len() * DIGESTS != digests.len() {
            return Err(Unreadable);
        }
        match behind {
            Some(behind) => call.read_behind(&mut Reader::new(behind), changes)?,
            None if changes > 0 => return Err(Unreadable),
            None => {}
        }
        call.check()?;
        Ok(call)
    }

    fn read_behind(&mut self, from: &mut Reader<'a>, changes: i64) -> Read<()> {
        from.array()?;
        from.int()?;
        for _ in 0..changes {
            let [client, expected, version, least, most, delta, count] = ints(from)?;
            let counters = (0..count).map(|_| read_counter(from)).collect::<Read<Vec<_>>>()?;
            let client = place(client)?;
            self.clients.get(client).ok_or(Unreadable)?;
            self.changes.push(Change { client, expected, version, least, most, delta, counters });
        }
        for of in &mut self.uses {
            let wake = from.int()?;
            of.wake = (wake < NEVER).then_some(wake);
        }
        skip_list(from)?; // hints, and their lowest hour
        from.skip()?;
        skip_list(from)?; // members
        skip_list(from)?; // history
        let mut left = from.int()?;
        while left > 0 {
            left -= self.read_fees(from)?;
        }
        for _ in 0..from.int()? / 2 {
            let [of, mark] = ints(from)?;
            self.uses.get_mut(place(of)?).ok_or(Unreadable)?.mark = Some(mark);
        }
        Ok(())
    }

    /// Read what one item asks of fees; returns of how many numbers it is.
    fn read_fees(&mut self, from: &mut Reader<'a>) -> Read<i64> {
        let [item, of, count] = ints(from)?;
        let item = self.items.get_mut(place(item)?).ok_or(Unreadable)?;
        let of = self.uses.get_mut(place(of)?).ok_or(Unreadable)?;
        of.signed.resize(of.fields.len(), false);
        for _ in 0..count {
            let [group, charged, net, amount, deny] = ints(from)?;
            let field = size(charged - FIRST_FIELD)?;
            for sum in [field + 1, field + 2] {
                *of.signed.get_mut(sum).ok_or(Unreadable)? = true;
            }
            item.fees.push(Fee { group: group / GROUP, field, net, amount, deny: deny == 1 });
        }
        Ok(3 + 5 * count)
    }

    /// Whether items name counters that their clients have here.
    fn check(&self) -> Read<()> {
        for item in &self.items {
            let fields = self.uses[item.usage].fields.len();
            if item.candidates.iter().any(|one| one.field >= fields) {
                return Err(Unreadable);
            }
        }
        Ok(())
    }
}

/// What no balance reaches: of a client that waits for none.
const NEVER: i64 = 1 << 54;

fn size(number: i64) -> Read<usize> {
    usize::try_from(number).map_err(|_| Unreadable)
}

/// A place that counts from 1.
fn place(number: i64) -> Read<usize> {
    size(number - 1)
}

fn ints<const N: usize>(from: &mut Reader<'_>) -> Read<[i64; N]> {
    let mut out = [0; N];
    for number in &mut out {
        *number = from.int()?;
    }
    Ok(out)
}

fn skip_list(from: &mut Reader<'_>) -> Read<()> {
    for _ in 0..from.int()? {
        from.skip()?;
    }
    Ok(())
}

fn read_use<'a>(from: &mut Reader<'a>) -> Read<Use<'a>> {
    let [version, credit, count] = ints(from)?;
    let fields = (0..count).map(|_| from.text()).collect::<Read<Vec<_>>>()?;
    Ok(Use { version, credit, fields, wake: None, mark: None, signed: Vec::new() })
}

fn read_counter<'a>(from: &mut Reader<'a>) -> Read<CounterChange<'a>> {
    let field = from.text()?;
    let [least, most, delta] = ints(from)?;
    Ok(CounterChange { field, least, most, delta })
}

fn read_item(from: &mut Reader<'_>) -> Read<Item> {
    let [usage, head, billed] = ints(from)?;
    let cut = usage < 0;
    let usage = size(if cut { !usage } else { usage })?;
    let cost = Cost::of([read_number(from)?, read_number(from)?, read_number(from)?]);
    let mut left = head / LENGTH;
    let mut candidates = Vec::new();
    while left > 0 {
        let [field, size_of, code] = ints(from)?;
        left -= 3;
        let cap = if code & CAP == 0 { 0 } else { from.int()? };
        let conversions = if code & CONVERSION == 0 {
            None
        } else {
            let mut next = || Ok(Cost::of([read_number(from)?, Number::Small(0), read_number(from)?]));
            Some(Box::new((next()?, next()?)))
        };
        left -= i64::from(code & CAP != 0) + if conversions.is_some() { 4 } else { 0 };
        candidates.push(Candidate {
            field: size(field - FIRST_FIELD)?,
            size: size_of,
            group: code / GROUP,
            money: code & MONEY != 0,
            waive: code & WAIVE != 0,
            allow: code & ALLOW != 0,
            cap,
            conversions,
        });
    }
    let same_record = head & SAME_RECORD != 0;
    Ok(Item { usage, billed, cost, same_record, cut, candidates, fees: Vec::new() })
}

/// A number, or its limbs.
pub enum Number {
    Small(i64),
    Large(BigInt),
}

fn read_number(from: &mut Reader<'_>) -> Read<Number> {
    if !from.is_array() {
        return from.int().map(Number::Small);
    }
    let count = from.array()?;
    let sign = if from.int()? < 0 { Sign::Minus } else { Sign::Plus };
    let limbs = (1..count).map(|_| from.int()).collect::<Read<Vec<_>>>()?;
    let value = limbs.iter().rev().fold(BigInt::ZERO, |sum, limb| sum * LIMB + *limb);
    Ok(Number::Large(BigInt::from_biguint(sign, value.magnitude().clone())))
}
