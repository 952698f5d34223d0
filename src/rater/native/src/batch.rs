//! What a poll brought in, on its way: records become sides, each side ends drawn or is returned. States what
//! `core/line/batch.py` and `core/line/steps.py` do.

use crate::catalog::Catalog;
use crate::cdr::{self, Arrival, CALLS, Cdr, Decoded, GivenRate, Instants, Party};
use crate::clients::View;
use crate::codes::{Fragment, NO_FEE, NO_RATE, Price, Rate, RateTable};
use crate::draw::Call;
use crate::fees::EventFee;
use crate::identify::{Cache, Views};
use crate::instants::{HOUR_MS, STAMP_MS_END, is_stamp};
use crate::json::quoted;
use crate::matching;
use crate::numbers::Characters;
use crate::offers::Chosen;
use crate::periods::{Opened, Sets};
use crate::prices::{Priced, Used, price};
use rustc_hash::{FxHashMap, FxHashSet};
use std::borrow::Cow;
use std::sync::Arc;

/// A text, by its place among the batch's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text {
    at: u32,
    size: u32,
}

/// Of a record's texts, about.
const TEXT_BYTES: usize = 160;

/// Texts of a batch, one behind the other.
#[derive(Default)]
pub struct Texts(String);

impl Texts {
    pub fn put(&mut self, text: &str) -> Text {
        let at = self.0.len() as u32;
        self.0.push_str(text);
        Text { at, size: text.len() as u32 }
    }

    pub fn get(&self, text: Text) -> &str {
        &self.0[text.at as usize..(text.at + text.size) as usize]
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.0.len() + bytes < u32::MAX as usize
    }
}

/// A record that is rated, at one side at least.
pub struct Call1 {
    /// Its number among all records of the batch.
    pub record: u32,
    pub topic: u32,
    pub offset: i64,
    pub timestamp: i64,
    pub source: Text,
    pub id: Text,
    pub service: Text,
    pub setup_ms: Option<i64>,
    pub answered_ms: Option<i64>,
    pub ended_ms: Option<i64>,
    pub at_ms: i64,
    pub duration_ms: Option<i64>,
    pub volume: Option<i64>,
    pub used: bool,
    pub caller: Option<Text>,
    pub called: Text,
}

impl Call1 {
    /// What transactions say of how much it was: milliseconds, or counting units of other services.
    pub fn amount(&self, calls: bool) -> i64 {
        (if calls { self.duration_ms } else { self.volume }).unwrap_or(0)
    }
}

/// What a side names.
#[derive(Default)]
pub struct Named {
    pub client: Option<Text>,
    pub account: Option<Text>,
    pub gateway: Option<Text>,
    pub ip: Option<Text>,
    pub login: Option<Text>,
    pub rate: Option<Arc<Rate>>,
    /// What of a given rate belongs to what must be equal in a duplicate, msgpack.
    pub rate_content: Option<Box<[u8]>>,
}

/// What a side is rated at.
#[derive(Clone, Default)]
pub enum RateOf {
    /// Nothing was used, so none was looked up.
    #[default]
    None,
    Table(Arc<RateTable>, u32),
    Given(Arc<Rate>),
}

impl RateOf {
    pub fn get(&self) -> Option<&Rate> {
        match self {
            RateOf::None => None,
            RateOf::Table(table, place) => Some(table.rate(*place)),
            RateOf::Given(rate) => Some(rate),
        }
    }

    /// What a transaction says of it.
    pub fn fragment(&self) -> Fragment<'_> {
        self.get().map_or(NO_RATE, Rate::fragment)
    }

    /// The setup fee as a transaction has it.
    pub fn fee_text(&self) -> &str {
        self.get().map_or(NO_FEE, |rate| &rate.price.fee_text)
    }
}

/// A rate that the CDR brought, as it is: it has no table.
pub fn given_rate(given: GivenRate) -> Arc<Rate> {
    let terms = (given.price_e10, given.setup_fee_e10, given.min_time, given.interval, given.grace_time);
    Arc::new(Rate {
        currency: (&*given.currency).into(),
        price: Arc::new(Price::new(None, &given.currency, terms)),
        name: given.code_name.as_deref().map_or("null".into(), |name| quoted(name).into()),
        code: given.code,
        from_ms: crate::instants::BEGINNING_MS,
        to_ms: crate::instants::NEVER_MS,
        alike: 0,
    })
}

/// Where a side stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It is to be decided.
    Open,
    /// It is asked of its bucket.
    Asked,
    /// It has its result.
    Drawn,
    /// The reference goes on with it: nobody was identified, no rate was found, or something of the client is due.
    Returned,
}

/// One side of a record on its way.
pub struct Side {
    pub cdr: u32,
    pub index: usize,
    pub named: Named,
    pub stand: Stand,
    /// The reference rejects it, as far as is known.
    pub rejected: bool,
    /// The catalog that the next three rest on.
    pub identified_by: u64,
    pub view: Option<Arc<View>>,
    pub account: Option<Text>,
    pub rate: RateOf,
    pub priced: Option<Priced>,
    pub opened: Option<Arc<Opened>>,
    pub chosen: Option<Arc<Chosen>>,
    pub fees: Vec<EventFee>,
    pub cut: bool,
    pub late: bool,
    pub whole: bool,
    /// Its request, and its place there.
    pub call: (u32, u32),
}

/// What a poll brought in, and what becomes of it.
#[derive(Default)]
pub struct Batch {
    pub lane: i64,
    pub lane_ms: i64,
    pub window_ms: i64,
    pub records: u32,
    pub topics: Vec<Box<str>>,
    pub texts: Texts,
    pub cdrs: Vec<Call1>,
    pub sides: Vec<Side>,
    /// Views as the store had them during this batch.
    pub fetched: Views,
    pub owners: FxHashMap<Box<str>, Box<str>>,
    pub absent_clients: FxHashSet<Box<str>>,
    pub absent_accounts: FxHashSet<Box<str>>,
    pub calls: Vec<Call>,
    /// Number of a record → its `traceparent`, which all that is published of it bears.
    pub traces: FxHashMap<u32, Box<[u8]>>,
    /// No outcome of its requests is kept: they have no context.
    pub contextless: bool,
    /// Its calls are known to come once: nothing is told of their duplicates.
    pub keyless: bool,
}

/// What has to be had before sides can be identified, or rejected for good.
#[derive(Default)]
pub struct Lacking {
    pub clients: FxHashSet<Box<str>>,
    pub accounts: FxHashSet<Box<str>>,
    pub catalog: i64,
}

impl Lacking {
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.accounts.is_empty() && self.catalog == 0
    }
}

/// Whether a client's calls are asked with all limits at once.
pub type Whole<'a> = &'a dyn Fn(&str) -> bool;

/// A record as Kafka has it.
pub struct Raw<'a> {
    pub value: Option<&'a [u8]>,
    pub offset: i64,
    pub timestamp: i64,
    /// Bit of a side that was decided before.
    pub replayed: u8,
}

impl Batch {
    /// The `traceparent` of a side's record; of nearly all batches no record has one.
    pub fn trace(&self, side: &Side) -> Option<&[u8]> {
        self.traces.get(&self.cdr(side).record).map(|trace| &**trace)
    }

    /// Have room for so many records more.
    pub fn reserve(&mut self, records: usize) {
        self.texts.0.reserve(TEXT_BYTES * records);
        self.cdrs.reserve(records);
        self.sides.reserve(records + records / 4);
    }

    /// Take a record; false: the reference has to look at it, or at one of its sides.
    pub fn take(
        &mut self,
        topic: u32,
        raw: &Raw<'_>,
        instants: Instants,
        catalog: Option<&Catalog>,
        characters: &Characters,
    ) -> bool {
        let record = self.records;
        self.records += 1;
        if raw.timestamp > self.lane_ms && is_stamp(raw.timestamp) {
            self.lane_ms = raw.timestamp;
        }
        let Some(value) = raw.value else { return false };
        let too_large = instants == Instants::Rfc3339 && value.len() > cdr::MAX_BYTES;
        // Texts grow by what is taken apart: an escape is longer than what it stands for.
        if too_large || !self.texts.has_room(value.len() + 64) {
            return false;
        }
        let Ok(text) = std::str::from_utf8(value) else { return false };
        let arrival = Arrival::new(self.lane_ms, self.window_ms);
        let known = |service: &str| catalog.is_some_and(|of| of.price_unit(service).is_some());
        let Some(Decoded { cdr, parties, returned }) =
            cdr::decode(text, instants, &arrival, &known, characters)
        else {
            return false;
        };
        let place = self.cdrs.len() as u32;
        let stored = self.stored(record, topic, raw, &cdr);
        self.cdrs.push(stored);
        for (index, party) in parties.into_iter().enumerate() {
            if let Some(party) = party
                && raw.replayed >> index & 1 == 0
            {
                let named = self.named(party);
                self.sides.push(Side::new(place, index, named));
            }
        }
        !returned
    }

    fn stored(&mut self, record: u32, topic: u32, raw: &Raw<'_>, cdr: &Cdr<'_>) -> Call1 {
        let texts = &mut self.texts;
        Call1 {
            record,
            topic,
            offset: raw.offset,
            timestamp: raw.timestamp,
            source: texts.put(&cdr.source),
            id: texts.put(&cdr.id),
            service: texts.put(&cdr.service),
            setup_ms: cdr.setup_ms,
            answered_ms: cdr.answered_ms,
            ended_ms: cdr.ended_ms,
            at_ms: cdr.at_ms,
            duration_ms: cdr.duration_ms,
            volume: cdr.volume,
            used: cdr.used,
            caller: cdr.caller.as_ref().map(|caller| texts.put(caller)),
            called: texts.put(&cdr.called),
        }
    }

    fn named(&mut self, party: Party<'_>) -> Named {
        let texts = &mut self.texts;
        let mut put = |text: Option<Cow<'_, str>>| text.map(|text| texts.put(&text));
        let rate_content = party.rate.as_ref().map(|given| crate::draw::rate_content(given));
        let rate = party.rate.map(|given| given_rate(*given));
        Named {
            client: put(party.client),
            account: put(party.account),
            gateway: put(party.gateway),
            ip: put(party.ip),
            login: put(party.login),
            rate,
            rate_content,
        }
    }

    pub fn cdr(&self, side: &Side) -> &Call1 {
        &self.cdrs[side.cdr as usize]
    }

    /// Sides that are to be decided.
    pub fn open(&self) -> Vec<usize> {
        let open = |side: &Side| side.stand == Stand::Open;
        (0..self.sides.len()).filter(|place| open(&self.sides[*place])).collect()
    }

    /// Return all sides of clients of whom something has to be done before one of them: the reference does it, and no
    /// second path may overtake. Only of those that no request of this batch has drawn.
    pub fn part(&mut self, catalog: &Catalog) {
        let mut due: FxHashSet<Box<str>> = FxHashSet::default();
        for side in &self.sides {
            let Some(view) = side.view.as_ref().filter(|_| side.stand == Stand::Open && !side.rejected)
            else {
                continue;
            };
            let cdr = &self.cdrs[side.cdr as usize];
            let came = if is_stamp(cdr.timestamp) { cdr.timestamp } else { self.lane_ms + HOUR_MS };
            match view.due_ms(catalog) {
                Ok(Some(at_ms)) if at_ms > cdr.at_ms.min(came) => {}
                Ok(None) => {}
                _ => drop(due.insert(view.id.clone())),
            }
        }
        if !due.is_empty() {
            self.give_back(&due);
        }
    }

    /// Return all open sides of these clients, also those that were rejected: they are judged behind what is done.
    pub fn give_back(&mut self, clients: &FxHashSet<Box<str>>) {
        for side in &mut self.sides {
            let of = side.view.as_ref().is_some_and(|view| clients.contains(&view.id));
            if side.stand == Stand::Open && of {
                (side.stand, side.rejected) = (Stand::Returned, false);
            }
        }
    }

    /// Return all sides that are to be decided: there is no catalog to do so by.
    pub fn give_back_all(&mut self) {
        for side in self.sides.iter_mut().filter(|side| side.stand == Stand::Open) {
            (side.stand, side.rejected) = (Stand::Returned, false);
        }
    }

    /// Work out what each identified side costs before packages.
    pub fn price(&mut self, catalog: &Catalog, lacking: &mut Lacking) {
        for place in self.open() {
            let side = &self.sides[place];
            let Some(view) = side.view.as_ref().filter(|_| !side.rejected) else { continue };
            let cdr = &self.cdrs[side.cdr as usize];
            let service = self.texts.get(cdr.service);
            let calls = service == CALLS;
            let used = Used {
                calls,
                service,
                amount: cdr.amount(calls),
                answered: cdr.answered_ms.is_some(),
                at_ms: cdr.at_ms,
                orig: side.index == 0,
            };
            match price(&used, side.rate.get(), &view.currency, catalog) {
                Some(priced) => self.sides[place].priced = Some(priced),
                None => self.reject(place, lacking),
            }
        }
    }

    /// Reject a side for what its client's view says: to be looked at anew first.
    pub fn reject(&mut self, place: usize, lacking: &mut Lacking) {
        let side = &mut self.sides[place];
        side.rejected = true;
        if let Some(view) = side.view.as_ref().filter(|view| !self.fetched.contains(&*view.id)) {
            lacking.clients.insert(view.id.clone());
        }
    }

    /// Find what each priced side may draw from. whole: clients whose calls are asked with all limits at once.
    pub fn match_limits(
        &mut self,
        catalog: &Catalog,
        sets: &mut Sets,
        whole: Whole<'_>,
        lacking: &mut Lacking,
    ) {
        for place in self.open() {
            let side = &self.sides[place];
            let (Some(view), Some(priced), false) = (&side.view, &side.priced, side.rejected) else {
                continue;
            };
            let cdr = &self.cdrs[side.cdr as usize];
            let mut found = Found::default();
            let rate = side.rate.get().filter(|_| priced.billed != 0 && !view.packages.is_empty());
            let right = match rate {
                None => Ok(()),
                Some(rate) => {
                    self.found(side, view, priced, &rate.code, cdr, (catalog, sets, whole), &mut found)
                }
            };
            match right {
                Ok(()) => {
                    let side = &mut self.sides[place];
                    (side.opened, side.chosen, side.fees) = (found.opened, found.chosen, found.fees);
                    (side.cut, side.late) = (found.cut, found.late);
                }
                Err(()) => self.reject(place, lacking),
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn found(
        &self,
        side: &Side,
        view: &Arc<View>,
        priced: &Priced,
        code: &str,
        cdr: &Call1,
        by: (&Catalog, &mut Sets, Whole<'_>),
        into: &mut Found,
    ) -> Result<(), ()> {
        let (catalog, sets, whole) = by;
        let service = self.texts.get(cdr.service);
        let account = side.account.map(|account| self.texts.get(account));
        let vendor = matching::by_vendors(priced.sign, side.index == 0);
        let opened = view.opened(account, service, vendor, cdr.at_ms, catalog, sets)?;
        let whole = side.whole || !opened.by_event.is_empty() || whole(&view.id);
        let (chosen, cut) =
            matching::matched(&opened, view, code, priced.billed, cdr.at_ms, catalog, whole).ok_or(())?;
        if !opened.by_event.is_empty() {
            let names = (self.texts.get(cdr.source), self.texts.get(cdr.id));
            into.fees = crate::fees::event_fees(&opened, view, &chosen, cdr.at_ms, names, catalog)?;
        }
        let came = cdr.timestamp;
        into.late = opened.until_ms <= came
            && came < STAMP_MS_END
            && chosen.candidates.iter().any(|one| opened.stops_ms[one.text.group] <= came);
        (into.opened, into.chosen, into.cut) = (Some(opened), Some(chosen), cut);
        Ok(())
    }

    /// Whose call each open side is, and at which rate.
    pub fn identify(&mut self, catalog: &Catalog, cache: &mut Cache) -> Lacking {
        let mut lacking = Lacking::default();
        for place in self.open() {
            crate::identify::identify(self, place, catalog, cache, &mut lacking);
        }
        lacking
    }
}

#[derive(Default)]
struct Found {
    opened: Option<Arc<Opened>>,
    chosen: Option<Arc<Chosen>>,
    fees: Vec<EventFee>,
    cut: bool,
    late: bool,
}

impl Side {
    pub fn new(cdr: u32, index: usize, named: Named) -> Self {
        Self {
            cdr,
            index,
            named,
            stand: Stand::Open,
            rejected: false,
            identified_by: 0,
            view: None,
            account: None,
            rate: RateOf::None,
            priced: None,
            opened: None,
            chosen: None,
            fees: Vec::new(),
            cut: false,
            late: false,
            whole: false,
            call: (0, 0),
        }
    }
}
