//! What client packages offer together: their limits as candidates, in the order of RULES.md 2.1, by code. States
//! what `core/catalog/offers.py` does.

use crate::amounts::half_up_small;
use crate::json::write_quoted;
use crate::msgpack::Writer;
use crate::packages::{Limit, Limits, Places, Version, put};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex};

/// Sets of candidates remembered of one `Offers`.
const SETS_MAX: usize = 10_000;

/// What a transaction says of a limit that gave something; kept with the outcome. Fields: as of `LimitText`.
#[derive(Clone)]
pub struct LimitText {
    pub money: bool,
    pub waive: bool,
    pub group: usize,
    pub field: Box<str>,
    pub prefix: Box<str>,
    pub tag: Box<str>,
    pub fx: Vec<Arc<str>>,
    pub marks: Vec<(i64, i64)>,
    /// What its events say, which is not kept: the limit's id and its package's name.
    pub id: Box<str>,
    pub package_name: Box<str>,
}

impl LimitText {
    pub fn write(&self, out: &mut Writer) {
        out.array(8);
        out.bool(self.money);
        out.bool(self.waive);
        out.int(self.group as i64);
        out.text(&self.field);
        out.text(&self.prefix);
        out.text(&self.tag);
        out.array(self.fx.len());
        self.fx.iter().for_each(|one| out.text(one));
        out.array(self.marks.len());
        for (percent, rest) in &self.marks {
            out.array(2);
            out.int(*percent);
            out.int(*rest);
        }
    }
}

/// A limit that a call may draw from. to_package, to_client: n / d of a conversion, None for the client's own
/// currency. The rest: as of `core/catalog/offers.py`, Candidate.
#[derive(Clone)]
pub struct Candidate {
    pub size: i64,
    pub cap: i64,
    pub min_call: i64,
    pub allow: bool,
    pub currency: Box<str>,
    pub text: LimitText,
    /// text as msgpack.
    pub packed: Vec<u8>,
    /// n / d from the client's currency to the package's; None: they are the same.
    pub conversion: Option<(i128, i128)>,
}

/// A client package that is open; equal ones offer the same.
#[derive(Clone)]
pub struct Offer {
    pub version: Arc<Version>,
    pub latest: Arc<Version>,
    pub quantity: i64,
    pub group: usize,
    pub expiration: usize,
    pub turn: usize,
    pub share: Option<(i64, i64)>,
    pub moved: Vec<(Box<str>, i64)>,
    pub rolled: Vec<(Box<str>, i64)>,
}

/// What two offers have to have in common to be the same.
#[derive(PartialEq, Eq, Hash)]
pub struct OfferKey(usize, usize, [i64; 4], Option<(i64, i64)>, Vec<(Box<str>, i64)>, Vec<(Box<str>, i64)>);

impl Offer {
    pub fn key(&self) -> OfferKey {
        OfferKey(
            Arc::as_ptr(&self.version) as usize,
            Arc::as_ptr(&self.latest) as usize,
            [self.quantity, self.group as i64, self.expiration as i64, self.turn as i64],
            self.share,
            self.moved.clone(),
            self.rolled.clone(),
        )
    }
}

/// Candidates of a call, in their order.
pub struct Chosen {
    pub candidates: Vec<Arc<Candidate>>,
}

/// The limits of open packages for calls of one service.
pub struct Offers {
    pub candidates: Vec<Arc<Candidate>>,
    pub limits: Limits,
    /// Candidates with a shortest call.
    pub short: Places,
    /// Candidates of packages that look at the balance.
    pub allowing: Places,
    /// Of the money limits: currency and candidates.
    money: Vec<(Box<str>, Places)>,
    sets: Mutex<FxHashMap<Places, Arc<Chosen>>>,
}

impl Offers {
    /// percents: of limits' use, ascending, of which events tell.
    pub fn new(offers: &[Offer], service: &str, percents: &[i64]) -> Option<Self> {
        let mut found: Vec<(_, Arc<Limit>, Candidate)> = Vec::new();
        for one in offers {
            for limit in one.version.limits.iter().filter(|limit| *limit.service == *service) {
                for (rolled, candidate) in candidates(one, limit, percents)? {
                    let order = (
                        limit.money,
                        one.latest.priority,
                        one.expiration,
                        limit.rank(),
                        one.turn,
                        limit.position,
                        !rolled,
                    );
                    found.push((order, limit.clone(), candidate));
                }
            }
        }
        found.sort_by_key(|(order, ..)| *order);
        let none: Places = vec![0; found.len().div_ceil(64)].into();
        let (mut short, mut allowing) = (none.clone(), none.clone());
        let mut money: Vec<(Box<str>, Places)> = Vec::new();
        for (place, (_, _, one)) in found.iter().enumerate() {
            if one.min_call != 0 {
                put(&mut short, place);
            }
            if one.allow {
                put(&mut allowing, place);
            }
            if one.text.money {
                let of = money.iter().position(|(name, _)| *name == one.currency).unwrap_or_else(|| {
                    money.push((one.currency.clone(), none.clone()));
                    money.len() - 1
                });
                put(&mut money[of].1, place);
            }
        }
        let limits = Limits::new(found.iter().map(|(_, limit, _)| limit.clone()).collect());
        let candidates = found.into_iter().map(|(_, _, one)| Arc::new(one)).collect();
        Some(Self { candidates, limits, short, allowing, money, sets: Mutex::default() })
    }

    /// The money limits of other currencies than a client's.
    pub fn foreign(&self, currency: &str) -> Places {
        let mut out: Places = vec![0; self.short.len()].into();
        for (_, places) in self.money.iter().filter(|(name, _)| **name != *currency) {
            out.iter_mut().zip(places).for_each(|(word, other)| *word |= other);
        }
        out
    }

    /// The candidates of a set, in order; of one set the same each time.
    pub fn chosen(&self, places: Places) -> Arc<Chosen> {
        let mut sets = self.sets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(found) = sets.get(&places) {
            return found.clone();
        }
        if sets.len() >= SETS_MAX {
            sets.clear();
        }
        let candidates = members(&places).map(|place| self.candidates[place].clone()).collect();
        sets.entry(places).or_insert(Arc::new(Chosen { candidates })).clone()
    }
}

/// The members of a set, rising.
pub fn members(places: &[u64]) -> impl Iterator<Item = usize> + '_ {
    places.iter().enumerate().flat_map(|(word, bits)| {
        let mut rest = *bits;
        std::iter::from_fn(move || {
            let place = (rest != 0).then(|| word * 64 + rest.trailing_zeros() as usize);
            rest &= rest.wrapping_sub(1);
            place
        })
    })
}

pub fn meet(a: &[u64], b: &[u64]) -> bool {
    a.iter().zip(b).any(|(word, other)| word & other != 0)
}

fn of_limit(list: &[(Box<str>, i64)], limit: &str) -> Option<i64> {
    list.iter().find(|(id, _)| **id == *limit).map(|(_, units)| *units)
}

/// What came from the period before, where anything did, and the limit's own; each with whether it is the former.
fn candidates(one: &Offer, limit: &Limit, percents: &[i64]) -> Option<Vec<(bool, Candidate)>> {
    let mut out = Vec::with_capacity(1);
    let rolled = of_limit(&one.rolled, &limit.id);
    if let Some(units) = rolled.filter(|units| *units != 0) {
        let cap = if limit.money { 0 } else { limit.cap.unwrap_or(0) };
        out.push((true, candidate(one, limit, (units, cap), Vec::new(), true)));
    }
    let size = size_of(limit, one.quantity, one.share)? - of_limit(&one.moved, &limit.id).unwrap_or(0);
    let cap = match limit.cap {
        Some(cap) if !limit.money => {
            if rolled.is_some() {
                -cap
            } else {
                cap
            }
        }
        _ => 0,
    };
    out.push((false, candidate(one, limit, (size, cap), marks_of(size, percents), false)));
    Some(out)
}

/// What a period grants of a limit. Volume is rounded down once, money half up.
fn size_of(limit: &Limit, quantity: i64, share: Option<(i64, i64)>) -> Option<i64> {
    let whole = i128::from(limit.size) * i128::from(quantity);
    let size = match share {
        None => whole,
        Some((of, all)) if limit.money => half_up_small(whole.checked_mul(of.into())?, all.into())?,
        Some((of, all)) => whole.checked_mul(of.into())?.div_euclid(all.into()),
    };
    i64::try_from(size).ok()
}

/// (percent, what is left once so much of the size is used); of a size of 0 nothing is told.
fn marks_of(size: i64, percents: &[i64]) -> Vec<(i64, i64)> {
    if size <= 0 {
        return Vec::new();
    }
    let rest = |percent: i64| {
        let used = (-i128::from(size) * i128::from(percent)).div_euclid(100);
        (i128::from(size) + used) as i64
    };
    percents.iter().map(|percent| (*percent, rest(*percent))).collect()
}

fn candidate(
    one: &Offer,
    limit: &Limit,
    bounds: (i64, i64),
    marks: Vec<(i64, i64)>,
    rolled: bool,
) -> Candidate {
    let (version, latest) = (&one.version, &one.latest);
    let waive = latest.waive_setup && !limit.money;
    let mut prefix = String::new();
    for (name, text) in
        [(",\"package\":", &version.id), (",\"package_name\":", &latest.name), (",\"limit\":", &limit.id)]
    {
        prefix.push_str(name);
        write_quoted(text, &mut prefix);
    }
    prefix.push_str(if rolled { ",\"rolled\":true,\"kind\":\"" } else { ",\"kind\":\"" });
    prefix.push_str(if limit.money { "money" } else { "volume" });
    prefix.push_str("\",\"period\":");
    let mut tag = String::from(",\"tag\":");
    match &latest.tag {
        Some(text) => write_quoted(text, &mut tag),
        None => tag.push_str("null"),
    }
    if limit.money {
        tag.push_str(",\"currency\":");
        write_quoted(&version.currency, &mut tag);
    }
    tag.push_str(",\"taken\":\"");
    let field = format!(".{}{}", escaped(&limit.id), if rolled { ".rolled" } else { "" });
    let text = LimitText {
        money: limit.money,
        waive,
        group: one.group,
        field: field.into(),
        prefix: prefix.into(),
        tag: tag.into(),
        fx: Vec::new(),
        marks,
        id: limit.id.clone(),
        package_name: latest.name.clone(),
    };
    let (size, cap) = bounds;
    let mut packed = Writer::default();
    text.write(&mut packed);
    Candidate {
        size,
        cap,
        min_call: limit.min_call,
        allow: latest.allow,
        currency: version.currency.clone(),
        text,
        packed: packed.0,
        conversion: None,
    }
}

/// An id as it stands in a counter's field.
pub fn escaped(name: &str) -> String {
    name.replace('%', "%25").replace('.', "%2E")
}
