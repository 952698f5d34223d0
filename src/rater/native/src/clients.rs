//! Whose money it is: a client's register as Redis keeps it, and what rating reads of it. States what
//! `core/clients/state.py` and `core/clients/views.py` do; what of a client's packages is open: `periods`.

use crate::catalog::Catalog;
use crate::due;
use crate::msgpack::{Reader, Unreadable};
use crate::periods::{self, Opened};
use std::sync::{Arc, Mutex, PoisonError};

/// Every rise of a balance is to be told.
pub const ANY_RISE: i64 = -(1 << 54);
/// Spans remembered of what is open, and (account, service, type of package) remembered for one client.
const SPANS_MAX: usize = 4;
const OPENED_MAX: usize = 64;

/// So many elements of a list room is made for at once: more are not believed before they are there.
const LIST_EXACT_MAX: usize = 64;

type Read<T> = Result<T, Unreadable>;

/// Side (0 orig, 1 term), service, name of the table.
type TableName = (u8, Box<str>, Box<str>);

/// Names of rate tables by side and service.
#[derive(Default)]
pub struct Tables(Box<[TableName]>);

impl Tables {
    fn read(from: &mut Reader<'_>) -> Read<Tables> {
        let mut found = Vec::new();
        for _ in 0..from.map()? {
            let side = u8::from(from.text()? == "term");
            for _ in 0..from.map()? {
                found.push((side, from.text()?.into(), from.text()?.into()));
            }
        }
        Ok(Tables(found.into()))
    }

    pub fn get(&self, side: usize, service: &str) -> Option<&str> {
        let found = self.0.iter().find(|(of, name, _)| usize::from(*of) == side && **name == *service);
        found.map(|(_, _, table)| &**table)
    }
}

/// A period that was opened. Fields: as of `state.HeldPeriod`, as far as rating reads them.
pub struct HeldPeriod {
    pub number: i64,
    pub start_ms: i64,
    pub stop_ms: Option<i64>,
    pub by_ms: i64,
    pub count: i64,
    pub voided: bool,
    /// Whether volume has moved into it, or was to.
    rolls: bool,
    more: Option<Box<MoreOfPeriod>>,
}

/// What few periods have.
#[derive(Default)]
struct MoreOfPeriod {
    share: Option<(i64, i64)>,
    moved: Vec<(Box<str>, i64)>,
    rolled: Vec<(Box<str>, i64)>,
    taxes: Vec<(Box<str>, Box<str>)>,
    /// How many fees of it that calls brought were published before the next one.
    fees: i64,
}

impl HeldPeriod {
    /// Of none: in the place of one that is not there.
    pub const NONE: HeldPeriod = HeldPeriod {
        number: 0,
        start_ms: 0,
        stop_ms: None,
        by_ms: 0,
        count: 0,
        voided: true,
        rolls: false,
        more: None,
    };

    pub fn share(&self) -> Option<(i64, i64)> {
        self.more.as_ref()?.share
    }

    pub fn moved(&self) -> &[(Box<str>, i64)] {
        self.more.as_ref().map_or(&[], |more| &more.moved)
    }

    /// None: it is still to be moved.
    pub fn rolled(&self) -> Option<&[(Box<str>, i64)]> {
        self.rolls.then(|| self.more.as_ref().map_or(&[][..], |more| &more.rolled))
    }

    pub fn taxes(&self) -> &[(Box<str>, Box<str>)] {
        self.more.as_ref().map_or(&[], |more| &more.taxes)
    }

    /// Revision of the next fee that a call brings.
    pub fn fee_revision(&self) -> i64 {
        self.more.as_ref().map_or(0, |more| more.fees) + 1
    }
}

/// A pending charge, as far as rating reads it.
pub struct Waiting {
    /// For that its package is active again, which no money brings.
    disabled: bool,
    pub until_ms: Option<i64>,
    pub total: i64,
    pub status_ms: i64,
    pub steady: bool,
}

pub struct HeldDid {
    pub number: Box<str>,
    pub hold_until_ms: Option<i64>,
}

/// What became of a client package. Fields: as of `state.Life`, as far as rating reads them.
#[derive(Default)]
pub struct Life {
    pub periods: Vec<HeldPeriod>,
    pub waiting: Option<Box<Waiting>>,
    pub ended_ms: Option<i64>,
    pub last: bool,
    pub first_ms: Option<i64>,
    pub dids: Vec<HeldDid>,
    pub dates_ms: i64,
}

/// A package that a client has. Fields: as of `state.ClientPackage`.
pub struct Held {
    pub id: Box<str>,
    pub package: Box<str>,
    pub account: Option<Box<str>>,
    pub quantity: i64,
    pub assigned_ms: i64,
    pub start_ms: i64,
    pub end_ms: Option<i64>,
    pub activate_in_past: bool,
    /// None: an earlier version wrote it, and it is taken over when it is met.
    pub life: Option<Life>,
}

/// A client's view: its register, and what is remembered of it by its catalog.
pub struct View {
    pub id: Box<str>,
    pub crc: u32,
    pub version: i64,
    /// The version of the catalog that it has to be read with, or a newer one.
    pub catalog: i64,
    pub currency: Box<str>,
    pub zone: Box<str>,
    pub credit_limit: i64,
    pub mark: Option<i64>,
    tables: Tables,
    accounts: Box<[(Box<str>, Tables)]>,
    pub packages: Vec<Held>,
    /// Earlier and present zones by the instant since which each holds; empty while there was only one.
    zones: Vec<(i64, Box<str>)>,
    pub changed_ms: i64,
    calls_ms: Option<i64>,
    /// The least balance at which one of its pending charges clears.
    pub wake: Option<i64>,
    /// It could not be read here.
    pub unread: bool,
    memo: Mutex<Memo>,
}

struct OpenedKey {
    account: Option<Box<str>>,
    service: Box<str>,
    vendor: bool,
    /// Newest first.
    spans: Vec<Arc<Opened>>,
}

#[derive(Default)]
struct Memo {
    opened: Vec<OpenedKey>,
    due: Option<(u64, Option<i64>)>,
}

/// Reads the fields of an array that may have more of them, or fewer, than are known here.
struct Fields<'a, 'b> {
    from: &'b mut Reader<'a>,
    left: usize,
}

impl<'a, 'b> Fields<'a, 'b> {
    fn of(from: &'b mut Reader<'a>) -> Read<Self> {
        let left = from.array()?;
        Ok(Self { from, left })
    }

    fn next<T: Default>(&mut self, read: impl FnOnce(&mut Reader<'a>) -> Read<T>) -> Read<T> {
        if self.left == 0 {
            return Ok(T::default());
        }
        self.left -= 1;
        read(self.from)
    }

    fn skip(&mut self, fields: usize) -> Read<()> {
        for _ in 0..fields {
            self.next(|from| from.skip())?;
        }
        Ok(())
    }

    fn end(mut self) -> Read<()> {
        self.skip(self.left)
    }
}

fn boxed(from: &mut Reader<'_>) -> Read<Box<str>> {
    from.text().map(Into::into)
}

fn option_boxed(from: &mut Reader<'_>) -> Read<Option<Box<str>>> {
    Ok(from.option_text()?.map(Into::into))
}

fn list<'a, T>(from: &mut Reader<'a>, read: impl Fn(&mut Reader<'a>) -> Read<T>) -> Read<Vec<T>> {
    let size = from.array()?;
    let mut found = Vec::with_capacity(size.min(LIST_EXACT_MAX)); // exactly: registers stay for long
    for _ in 0..size {
        found.push(read(from)?);
    }
    Ok(found)
}

fn units(from: &mut Reader<'_>) -> Read<Vec<(Box<str>, i64)>> {
    (0..from.map()?).map(|_| Ok((boxed(from)?, from.int()?))).collect()
}

fn option<'a, T>(from: &mut Reader<'a>, read: impl FnOnce(&mut Reader<'a>) -> Read<T>) -> Read<Option<T>> {
    if from.nil() { Ok(None) } else { read(from).map(Some) }
}

fn pair<'a, A, B>(
    from: &mut Reader<'a>,
    first: impl FnOnce(&mut Reader<'a>) -> Read<A>,
    second: impl FnOnce(&mut Reader<'a>) -> Read<B>,
) -> Read<(A, B)> {
    if from.array()? != 2 {
        return Err(Unreadable);
    }
    Ok((first(from)?, second(from)?))
}

impl HeldPeriod {
    fn read(from: &mut Reader<'_>) -> Read<HeldPeriod> {
        let mut fields = Fields::of(from)?;
        let (number, start_ms) = (fields.next(Reader::int)?, fields.next(Reader::int)?);
        let (stop_ms, by_ms) = (fields.next(Reader::option_int)?, fields.next(Reader::int)?);
        let count = fields.next(Reader::int)?;
        let share = fields.next(|from| option(from, |from| pair(from, Reader::int, Reader::int)))?;
        fields.skip(1)?;
        let moved = fields.next(units)?;
        let rolled = fields.next(|from| option(from, units))?;
        let taxes = fields.next(|from| list(from, |from| pair(from, boxed, boxed)))?;
        let voided = fields.next(Reader::bool)?;
        let mut fees = 0;
        if fields.left > 2 {
            fields.skip(2)?;
            fees = fields.next(Reader::int)? - 1;
        }
        fields.end()?;
        let rolls = rolled.is_some();
        let more = MoreOfPeriod { share, moved, rolled: rolled.unwrap_or_default(), taxes, fees };
        let units = more.moved.len() + more.rolled.len();
        let any = more.share.is_some() || units + more.taxes.len() > 0 || more.fees > 0;
        let more = any.then(|| Box::new(more));
        Ok(HeldPeriod { number, start_ms, stop_ms, by_ms, count, voided, rolls, more })
    }
}

impl Waiting {
    fn read(from: &mut Reader<'_>) -> Read<Waiting> {
        let mut fields = Fields::of(from)?;
        fields.skip(1)?;
        let disabled = fields.next(|from| Ok(from.text()? == "package_disabled"))?;
        fields.skip(1)?;
        let until_ms = fields.next(Reader::option_int)?;
        fields.skip(3)?;
        let total = fields.next(Reader::int)?;
        fields.skip(1)?;
        let status_ms = fields.next(Reader::int)?;
        let steady = fields.left == 0 || fields.next(Reader::bool)?;
        fields.end()?;
        Ok(Waiting { disabled, until_ms, total, status_ms, steady })
    }
}

impl HeldDid {
    fn read(from: &mut Reader<'_>) -> Read<HeldDid> {
        let mut fields = Fields::of(from)?;
        let number = fields.next(boxed)?;
        fields.skip(1)?;
        let hold_until_ms = fields.next(Reader::option_int)?;
        fields.end()?;
        Ok(HeldDid { number, hold_until_ms })
    }
}

impl Life {
    fn read(from: &mut Reader<'_>) -> Read<Life> {
        let mut fields = Fields::of(from)?;
        fields.skip(3)?;
        let periods = fields.next(|from| list(from, HeldPeriod::read))?;
        let waiting = fields.next(|from| option(from, Waiting::read))?.map(Box::new);
        let ended_ms = fields.next(Reader::option_int)?;
        fields.skip(1)?;
        let last = fields.next(Reader::bool)?;
        fields.skip(1)?;
        let first_ms = fields.next(Reader::option_int)?;
        fields.skip(1)?;
        let dids = fields.next(|from| list(from, HeldDid::read))?;
        let dates_ms = fields.next(Reader::int)?;
        fields.end()?;
        Ok(Life { periods, waiting, ended_ms, last, first_ms, dids, dates_ms })
    }
}

impl Held {
    fn read(from: &mut Reader<'_>) -> Read<Held> {
        let mut fields = Fields::of(from)?;
        let (id, package) = (fields.next(boxed)?, fields.next(boxed)?);
        let account = fields.next(option_boxed)?;
        let quantity = fields.next(Reader::int)?;
        let (assigned_ms, start_ms) = (fields.next(Reader::int)?, fields.next(Reader::int)?);
        let end_ms = fields.next(Reader::option_int)?;
        fields.skip(2)?;
        let activate_in_past = fields.next(Reader::bool)?;
        let life = fields.next(|from| option(from, Life::read))?;
        fields.end()?;
        Ok(Held { id, package, account, quantity, assigned_ms, start_ms, end_ms, activate_in_past, life })
    }
}

impl View {
    /// Read a register.
    pub fn read(state: &[u8]) -> Read<View> {
        let mut reader = Reader::new(state);
        let mut fields = Fields::of(&mut reader)?;
        let id = fields.next(boxed)?;
        let (version, catalog) = (fields.next(Reader::int)?, fields.next(Reader::int)?);
        fields.skip(2)?;
        let (currency, zone) = (fields.next(boxed)?, fields.next(boxed)?);
        let credit_limit = fields.next(Reader::int)?;
        let mark = fields.next(Reader::option_int)?;
        fields.skip(2)?;
        let tables = fields.next(Tables::read)?;
        let mut accounts: Vec<(Box<str>, Tables)> = fields
            .next(|from| (0..from.map()?).map(|_| Ok((boxed(from)?, Tables::read(from)?))).collect())?;
        accounts.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let packages = fields.next(|from| list(from, Held::read))?;
        fields.skip(1)?;
        let zones = fields.next(|from| list(from, |from| pair(from, Reader::int, boxed)))?;
        let changed_ms = fields.next(Reader::int)?;
        fields.skip(1)?;
        let calls_ms = fields.next(Reader::option_int)?;
        fields.end()?;
        let wake = wake_of(&packages, credit_limit);
        Ok(View {
            crc: crc32fast::hash(id.as_bytes()),
            id,
            version,
            catalog,
            currency,
            zone,
            credit_limit,
            mark,
            tables,
            accounts: accounts.into(),
            packages,
            zones,
            changed_ms,
            calls_ms,
            wake,
            unread: false,
            memo: Mutex::default(),
        })
    }

    /// A client whose register cannot be read here: its sides are returned.
    pub fn unread(client: &str) -> View {
        View {
            id: client.into(),
            crc: crc32fast::hash(client.as_bytes()),
            version: 0,
            catalog: 0,
            currency: "".into(),
            zone: "".into(),
            credit_limit: 0,
            mark: None,
            tables: Tables::default(),
            accounts: Box::default(),
            packages: Vec::new(),
            zones: Vec::new(),
            changed_ms: 0,
            calls_ms: None,
            wake: None,
            unread: true,
            memo: Mutex::default(),
        }
    }

    pub fn account(&self, account: &str) -> Option<&Tables> {
        let place = self.accounts.binary_search_by(|(name, _)| (**name).cmp(account)).ok()?;
        Some(&self.accounts[place].1)
    }

    pub fn accounts(&self) -> impl Iterator<Item = &str> {
        self.accounts.iter().map(|(name, _)| &**name)
    }

    /// The name of the rate table: the account's for this side and service, else the client's.
    pub fn table(&self, account: Option<&str>, side: usize, service: &str) -> Option<&str> {
        let own = account.and_then(|account| self.account(account)).and_then(|of| of.get(side, service));
        own.or_else(|| self.tables.get(side, service))
    }

    /// The time zone that the client had at an instant.
    pub fn zone_at(&self, at_ms: i64) -> &str {
        // The first one counts from the beginning.
        let Some((first, later)) = self.zones.split_first() else { return &self.zone };
        match later.partition_point(|(since, _)| *since <= at_ms) {
            0 => &first.1,
            place => &later[place - 1].1,
        }
    }

    /// The first moment from which a call has something of the client to be done before it; None: never.
    /// Err: it cannot be said here.
    pub fn due_ms(&self, catalog: &Catalog) -> Result<Option<i64>, ()> {
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((serial, found)) = memo.due
            && serial == catalog.serial
        {
            return Ok(found);
        }
        let known = self.catalog == catalog.version && self.packages.iter().all(|of| of.life.is_some());
        let found = if known { self.calls_ms } else { due::before_calls_ms(self, catalog)? };
        memo.due = Some((catalog.serial, found));
        Ok(found)
    }

    /// What is open to a call at an instant; Err: it cannot be said here.
    pub fn opened(
        &self,
        account: Option<&str>,
        service: &str,
        vendor: bool,
        at_ms: i64,
        catalog: &Catalog,
        sets: &mut periods::Sets,
    ) -> Result<Arc<Opened>, ()> {
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        let key = memo
            .opened
            .iter_mut()
            .find(|of| of.vendor == vendor && *of.service == *service && of.account.as_deref() == account);
        if let Some(key) = &key {
            let holds = |one: &&Arc<Opened>| {
                one.catalog == catalog.serial && one.from_ms <= at_ms && at_ms < one.until_ms
            };
            if let Some(found) = key.spans.iter().find(holds) {
                return Ok(found.clone());
            }
        }
        let found = Arc::new(periods::open(self, account, service, vendor, at_ms, catalog, sets)?);
        let mut spans = vec![found.clone()];
        let full = memo.opened.len() >= OPENED_MAX;
        match memo
            .opened
            .iter_mut()
            .find(|of| of.vendor == vendor && *of.service == *service && of.account.as_deref() == account)
        {
            Some(key) if !full => {
                spans.extend(key.spans.iter().take(SPANS_MAX - 1).cloned());
                key.spans = spans;
            }
            other => {
                if let Some(key) = other {
                    spans.extend(key.spans.iter().take(SPANS_MAX - 1).cloned());
                }
                if full {
                    memo.opened.clear();
                }
                let (account, service) = (account.map(Into::into), service.into());
                memo.opened.reserve_exact(1);
                memo.opened.push(OpenedKey { account, service, vendor, spans });
            }
        }
        Ok(found)
    }
}

fn wake_of(packages: &[Held], credit_limit: i64) -> Option<i64> {
    let every = || packages.iter().filter_map(|of| of.life.as_ref()?.waiting.as_ref());
    // What waits for its package clears by no money, and what it would cost must not hide what does.
    let waiting = || every().filter(|one| !one.disabled);
    if waiting().any(|one| !one.steady) {
        return Some(ANY_RISE);
    }
    waiting().map(|one| one.total - credit_limit).min()
}
