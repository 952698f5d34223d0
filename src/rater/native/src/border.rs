//! The border to Python: bytes and numbers, once for each batch. No callbacks, no object of either side is kept by the
//! other. What each method takes and gives: `engine.pyi`.

use crate::batch::{self, Lacking, Raw, Stand};
use crate::catalog::{self, Content, DeckSpec, RateTableSpec};
use crate::cdr::Instants;
use crate::clients::View;
use crate::codes::RateTable;
use crate::draw::{self, Position};
use crate::identify::{self, ById};
use crate::kafka;
use crate::numbers::Characters;
use crate::transaction::{self, read_results};
use crate::zones::{Span, Unit, Zones};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::de::DeserializeOwned;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Of a record of the journal, about.
const RECORD_BYTES: usize = 900;

static SERIAL: AtomicU64 = AtomicU64::new(1);

pub fn fault(what: impl ToString) -> PyErr {
    PyValueError::new_err(what.to_string())
}

fn read<T: DeserializeOwned>(name: &str, raw: &[u8]) -> PyResult<T> {
    rmp_serde::from_slice(raw).map_err(|error| fault(format!("{name}: {error}")))
}

/// One version of the catalog, ready for rating.
#[pyclass(frozen, module = "rater.native.engine")]
pub struct Catalog {
    pub of: Arc<catalog::Catalog>,
}

#[derive(serde::Deserialize)]
struct Release(i64, serde::de::IgnoredAny, serde::de::IgnoredAny, FxHashMap<String, Bytes>);

/// Bytes, which serde else takes for a list of numbers.
struct Bytes(Vec<u8>);

impl<'de> serde::Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.into()))
            }
        }
        from.deserialize_bytes(Visitor)
    }
}

#[pymethods]
impl Catalog {
    #[new]
    fn new(
        py: Python<'_>,
        objects: FxHashMap<String, PyBackedBytes>,
        version: i64,
        percents: Vec<i64>,
        names: FxHashMap<String, String>,
        installed: FxHashMap<String, PyBackedBytes>,
    ) -> PyResult<Self> {
        py.detach(|| {
            let main = objects.get("main").ok_or_else(|| fault("no main object"))?;
            let content: Content = read("main", main)?;
            let mut decks: FxHashMap<String, DeckSpec> = FxHashMap::default();
            for (name, raw) in objects.iter().filter(|(name, _)| name.starts_with("deck/")) {
                let deck: DeckSpec = read(name, raw)?;
                decks.insert(deck.name.clone(), deck);
            }
            let mut tables = FxHashMap::default();
            for (name, raw) in objects.iter().filter(|(name, _)| name.starts_with("table/")) {
                let spec: RateTableSpec = read(name, raw)?;
                let codes = spec.code_deck.as_ref().and_then(|deck| decks.get(deck)).map(|deck| &deck.codes);
                tables.insert(spec.name.as_str().into(), Arc::new(RateTable::new(&spec, codes)));
            }
            let zones = zones_of(objects.get("zones").map(|raw| &**raw), installed)?;
            let head = (version, SERIAL.fetch_add(1, Ordering::Relaxed), percents);
            let of = catalog::Catalog::new(content, &decks, tables, &names, zones, head).map_err(fault)?;
            Ok(Self { of: Arc::new(of) })
        })
    }

    #[getter]
    fn version(&self) -> i64 {
        self.of.version
    }
}

/// Releases of the catalog; what no release has is of those installed, which hold before all.
fn zones_of(raw: Option<&[u8]>, installed: FxHashMap<String, PyBackedBytes>) -> PyResult<Zones> {
    let mut zones = Zones::default();
    let releases: Vec<Release> = raw.map_or(Ok(Vec::new()), |raw| read("zones", raw))?;
    for Release(since_ms, _, _, rules) in releases {
        zones.add(since_ms, rules.into_iter().map(|(name, raw)| (name, raw.0)).collect());
    }
    zones.fall_back(installed.into_iter().map(|(name, raw)| (name, raw.to_vec())));
    Ok(zones)
}

/// What the lanes of a process share: views of clients, whose accounts are, characters of numbers.
#[pyclass(frozen, module = "rater.native.engine")]
pub struct Cache {
    of: Mutex<identify::Cache>,
    characters: Characters,
}

impl Cache {
    pub fn lock(&self) -> MutexGuard<'_, identify::Cache> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Cache {
    #[new]
    fn new(characters: FxHashMap<char, String>) -> Self {
        let characters = characters.into_iter().map(|(char, text)| (char, text.into())).collect();
        Self { of: Mutex::default(), characters: Characters(characters) }
    }

    /// Forget views, and accounts, where there are more than so many.
    fn trim(&self, most: usize) {
        let mut of = self.lock();
        if of.clients.len() > most {
            of.clients.clear();
        }
        if of.accounts.len() > most {
            of.accounts.clear();
        }
    }

    fn clear(&self) {
        let mut of = self.lock();
        of.clients.clear();
        of.accounts.clear();
    }

    /// Take a client's newest state, where there is a view of it.
    fn put(&self, client: &str, state: &[u8]) {
        let mut of = self.lock();
        if of.clients.contains(client) {
            renew(&mut of, client, state, None);
        }
    }

    /// Have no view of a client until it is fetched again.
    fn forget(&self, client: &str) {
        self.lock().clients.remove(client);
    }

    fn digits_of(&self, text: &str) -> String {
        self.characters.digits_of(text).into_owned()
    }

    fn __len__(&self) -> usize {
        self.lock().clients.len()
    }
}

/// What a poll brought in, and what becomes of it.
#[pyclass(module = "rater.native.engine")]
pub struct Batch {
    of: batch::Batch,
    cache: Py<Cache>,
    /// By which it was prepared.
    version: i64,
    buckets: u32,
}

type Asked = (Vec<String>, Vec<String>, i64);

fn asked(lacking: Lacking) -> Asked {
    let list = |texts: FxHashSet<Box<str>>| {
        let mut list: Vec<String> = texts.into_iter().map(String::from).collect();
        list.sort_unstable();
        list
    };
    (list(lacking.clients), list(lacking.accounts), lacking.catalog)
}

#[pymethods]
impl Batch {
    #[new]
    #[pyo3(signature = (cache, lane, lane_ms, window_ms, *, contextless=false))]
    fn new(cache: Py<Cache>, lane: i64, lane_ms: i64, window_ms: i64, contextless: bool) -> Self {
        let of = batch::Batch { lane, lane_ms, window_ms, contextless, ..Default::default() };
        Self { of, cache, version: 0, buckets: 1 }
    }

    #[getter]
    fn lane_ms(&self) -> i64 {
        self.of.lane_ms
    }

    #[pyo3(signature = (catalog, topic, values, offsets, timestamps, *, mapped=false, replayed=None, traces=None))]
    #[allow(clippy::too_many_arguments)]
    fn decode(
        &mut self,
        py: Python<'_>,
        catalog: Option<&Catalog>,
        topic: &str,
        values: &Bound<'_, PyList>,
        offsets: Vec<i64>,
        timestamps: Vec<i64>,
        mapped: bool,
        replayed: Option<Vec<u8>>,
        traces: Option<Vec<Option<PyBackedBytes>>>,
    ) -> PyResult<Vec<u32>> {
        if offsets.len() != values.len() || timestamps.len() != values.len() {
            return Err(fault("values, offsets and timestamps are of the same records"));
        }
        self.of.topics.push(topic.into());
        let topic = self.of.topics.len() as u32 - 1;
        let instants = if mapped { Instants::Milliseconds } else { Instants::Rfc3339 };
        let characters = &self.cache.get().characters;
        let catalog = catalog.map(|catalog| &*catalog.of);
        let mut returned = Vec::new();
        self.of.reserve(values.len());
        for (place, value) in values.iter().enumerate() {
            let value = if value.is_none() { None } else { Some(value.cast_into::<PyBytes>()?) };
            let raw = Raw {
                value: value.as_ref().map(|value| value.as_bytes()),
                offset: offsets[place],
                timestamp: timestamps[place],
                replayed: replayed.as_ref().map_or(0, |of| of.get(place).copied().unwrap_or(0)),
            };
            let record = self.of.records;
            if let Some(Some(trace)) = traces.as_ref().and_then(|of| of.get(place)) {
                self.of.traces.insert(record, (&**trace).into());
            }
            if !self.of.take(topic, &raw, instants, catalog, characters) {
                returned.push(record);
            }
        }
        let _ = py;
        Ok(returned)
    }

    fn identify(&mut self, catalog: &Catalog) -> Asked {
        let cache = self.cache.get();
        asked(self.of.identify(&catalog.of, &mut cache.lock()))
    }

    /// Take in what the store answered to these questions: what it did not name does not exist.
    fn learn(
        &mut self,
        clients: Vec<String>,
        accounts: Vec<String>,
        states: FxHashMap<String, PyBackedBytes>,
        owners: FxHashMap<String, String>,
    ) {
        let mut cache = self.cache.get().lock();
        for (client, state) in &states {
            put(&mut self.of, &mut cache, client, state);
        }
        for client in clients.into_iter().filter(|client| !states.contains_key(client)) {
            self.of.fetched.remove(&*client);
            cache.clients.remove(&*client);
            self.of.absent_clients.insert(client.into());
        }
        for account in accounts.into_iter().filter(|account| !owners.contains_key(account)) {
            self.of.absent_accounts.insert(account.into());
        }
        for (account, owner) in owners {
            cache.accounts.insert(account.as_str().into(), owner.as_str().into());
            self.of.owners.insert(account.into(), owner.into());
        }
    }

    /// Take a client's state after a change.
    fn put(&mut self, client: &str, state: &[u8]) {
        put(&mut self.of, &mut self.cache.get().lock(), client, state);
    }

    /// Have no view of a client until it is fetched again.
    fn forget(&mut self, client: &str) {
        self.of.fetched.remove(client);
        self.cache.get().lock().clients.remove(client);
    }

    /// Price identified sides and find what they may draw from; those of clients of whom something is due are returned.
    /// whole: looked into for each side's client, since it may hold ten thousand, of which a batch has few.
    fn prepare(&mut self, catalog: &Catalog, buckets: u32, whole: &Bound<'_, PyAny>) -> PyResult<Asked> {
        (self.buckets, self.version) = (buckets, catalog.of.version);
        self.of.part(&catalog.of);
        let mut lacking = Lacking::default();
        self.of.price(&catalog.of, &mut lacking);
        if lacking.is_empty() {
            let some = !whole.is_empty()?;
            let whole = |client: &str| some && whole.contains(client).unwrap_or(false);
            let mut cache = self.cache.get().lock();
            self.of.match_limits(&catalog.of, &mut cache.sets, &whole, &mut lacking);
        }
        Ok(asked(lacking))
    }

    /// Put what was prepared into requests: (number, bucket) of each. What was rejected is returned.
    fn requests(&mut self) -> Vec<(u32, u32)> {
        let numbers = draw::requests(&mut self.of, self.version, self.buckets);
        for side in self.of.sides.iter_mut().filter(|side| side.stand == Stand::Open) {
            side.stand = Stand::Returned;
        }
        numbers.into_iter().map(|number| (number, self.of.calls[number as usize].bucket)).collect()
    }

    /// A request as the store takes it: clients, payload, digests, context, and what a change has besides or None.
    #[allow(clippy::type_complexity)]
    fn packed<'py>(
        &self,
        py: Python<'py>,
        request: u32,
        generation: i64,
        trim: i64,
        floor: i64,
    ) -> PyResult<(
        Bound<'py, PyList>,
        Bound<'py, PyBytes>,
        Bound<'py, PyBytes>,
        Bound<'py, PyBytes>,
        Option<Bound<'py, PyBytes>>,
    )> {
        let call = self.call(request)?;
        let packed = call.packed(&self.of, &Position { generation, trim, floor });
        let bytes = |raw: &[u8]| PyBytes::new(py, raw);
        Ok((
            PyList::new(py, packed.clients.iter().map(|view| PyString::new(py, &view.id)))?,
            bytes(&packed.payload),
            bytes(&packed.digests),
            bytes(&packed.context),
            packed.changes.as_deref().map(bytes),
        ))
    }

    /// Note what became of a request that was carried out; returns the sides that woke their clients.
    fn settle(&mut self, request: u32, packed: &[u8]) -> PyResult<Vec<(u32, usize, String)>> {
        let (woken, results) = read_results(packed).map_err(|_| fault("no results"))?;
        let call = self.of.calls.get_mut(request as usize).ok_or_else(|| fault("no such request"))?;
        if results.len() != call.asked.len() {
            return Err(fault("results of other sides"));
        }
        call.results = results;
        let mut out = Vec::new();
        for (at, asked) in call.asked.iter().enumerate() {
            let side = &mut self.of.sides[asked.side as usize];
            side.stand = Stand::Drawn;
            if woken.contains(&at) {
                let record = self.of.cdrs[side.cdr as usize].record;
                out.push((record, side.index, call.heads[asked.head as usize].view.id.to_string()));
            }
        }
        Ok(out)
    }

    /// A request did nothing: its sides are to be decided again. more: of which items the first limits did not do;
    /// returns their clients, all of whose sides here are asked with all limits then.
    fn again(&mut self, request: u32, more: Vec<usize>) -> PyResult<Vec<String>> {
        let call = self.of.calls.get_mut(request as usize).ok_or_else(|| fault("no such request"))?;
        let client = |item: &usize| call.woken_client(*item).map(|view| view.id.clone());
        let clients: FxHashSet<Box<str>> = more.iter().filter_map(client).collect();
        for asked in std::mem::take(&mut call.asked) {
            let side = &mut self.of.sides[asked.side as usize];
            side.stand = Stand::Open;
            side.whole |= side.view.as_ref().is_some_and(|view| clients.contains(&view.id));
        }
        *call = draw::Call::default();
        Ok(clients.into_iter().map(String::from).collect())
    }

    /// Return all open sides of these clients: something of them is due first. None: of all.
    fn give_back(&mut self, clients: Option<Vec<String>>) {
        match clients {
            Some(clients) => self.of.give_back(&clients.into_iter().map(Into::into).collect()),
            None => self.of.give_back_all(),
        }
    }

    /// (record, side) of what the reference goes on with, in order.
    fn returned(&self) -> Vec<(u32, usize)> {
        let returned = self.of.sides.iter().filter(|side| side.stand == Stand::Returned);
        returned.map(|side| (self.of.cdr(side).record, side.index)).collect()
    }

    /// (record, side) of these records that were taken, in order.
    fn taken(&self, records: FxHashSet<u32>) -> Vec<(u32, usize)> {
        let places = self.of.sides.iter().map(|side| (self.of.cdr(side).record, side.index));
        places.filter(|(record, _)| records.contains(record)).collect()
    }

    /// Number of the request that drew a side.
    fn drawn_by(&self, record: u32, index: usize) -> PyResult<u32> {
        let place = |side: &batch::Side| (self.of.cdr(side).record, side.index);
        let found = self.of.sides.binary_search_by_key(&(record, index), place);
        found.map(|at| self.of.sides[at].call.0).map_err(|_| fault("no such side"))
    }

    /// (record, side) of what was returned for it is to be rejected, in order.
    fn rejected(&self) -> Vec<(u32, usize)> {
        let rejected = self.of.sides.iter().filter(|side| side.stand == Stand::Returned && side.rejected);
        rejected.map(|side| (self.of.cdr(side).record, side.index)).collect()
    }

    /// All that is published of drawn sides. written: transactions as a run, which `kafka_records` takes.
    #[pyo3(signature = (*, written=false))]
    fn render<'py>(&self, py: Python<'py>, written: bool) -> PyResult<Bound<'py, PyDict>> {
        let run = written.then(|| Vec::with_capacity(RECORD_BYTES * self.of.sides.len()));
        let mut published = Published { py, batch: &self.of, run, bare: false, found: Ok(Lists::new(py)) };
        let counts = transaction::render(&self.of, &mut published);
        let lists = published.found?;
        let out = PyDict::new(py);
        out.set_item("run", PyBytes::new(py, &published.run.unwrap_or_default()))?;
        out.set_item("transactions", lists.transactions)?;
        out.set_item("places", lists.places)?;
        out.set_item("events", lists.events)?;
        out.set_item("refused", lists.refused)?;
        out.set_item("sides", counts.sides)?;
        out.set_item("draws", (counts.volume_draws, counts.money_draws))?;
        out.set_item("fees", counts.fees)?;
        out.set_item("late", counts.late)?;
        Ok(out)
    }

    /// The same for jobs: of transactions their values alone, and the places of duplicates.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let mut published =
            Published { py, batch: &self.of, run: None, bare: true, found: Ok(Lists::new(py)) };
        transaction::render(&self.of, &mut published);
        let lists = published.found?;
        let out = PyDict::new(py);
        out.set_item("transactions", lists.transactions)?;
        out.set_item("places", lists.places)?;
        out.set_item("events", lists.events)?;
        out.set_item("refused", lists.refused)?;
        out.set_item("duplicates", self.duplicates())?;
        Ok(out)
    }

    /// Each side as it was decoded, identified and priced: for tests.
    fn told<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.of.sides.iter().map(|side| self.tell(py, side)).collect()
    }
}

/// What is published, as Python takes it: a record is (key, value, headers).
struct Lists<'py> {
    transactions: Bound<'py, PyList>,
    places: Vec<(u32, usize)>,
    events: Bound<'py, PyList>,
    refused: Bound<'py, PyList>,
}

impl<'py> Lists<'py> {
    fn new(py: Python<'py>) -> Self {
        let list = || PyList::empty(py);
        Self { transactions: list(), places: Vec::new(), events: list(), refused: list() }
    }
}

/// Makes Python's objects of what is published; found: the first that could not be made.
struct Published<'a, 'py> {
    py: Python<'py>,
    batch: &'a batch::Batch,
    /// Of transactions, where no objects are made of them.
    run: Option<Vec<u8>>,
    /// Of transactions there are values alone.
    bare: bool,
    found: PyResult<Lists<'py>>,
}

impl<'py> Published<'_, 'py> {
    fn place(&self, side: usize) -> (u32, usize) {
        let side = &self.batch.sides[side];
        (self.batch.cdr(side).record, side.index)
    }

    fn add(&mut self, add: impl FnOnce(&mut Lists<'py>) -> PyResult<()>) {
        if let Ok(lists) = &mut self.found
            && let Err(error) = add(lists)
        {
            self.found = Err(error);
        }
    }
}

impl transaction::Sink for Published<'_, '_> {
    fn transaction(&mut self, client: &View, value: &str, effect: &[u8], side: usize) {
        let trace = self.batch.trace(&self.batch.sides[side]);
        let headers = [("e", effect), ("traceparent", trace.unwrap_or_default())];
        let headers = &headers[..1 + usize::from(trace.is_some())];
        if let Some(run) = &mut self.run {
            if let Err(error) = kafka::write(run, client.id.as_bytes(), value.as_bytes(), headers) {
                self.found = Err(error.into());
            }
            return;
        }
        let (py, place, bare) = (self.py, self.place(side), self.bare);
        self.add(|lists| {
            if bare {
                lists.places.push(place);
                return lists.transactions.append(PyBytes::new(py, value.as_bytes()));
            }
            let headers =
                headers.iter().map(|&(name, of)| (PyString::intern(py, name), PyBytes::new(py, of)));
            let headers = PyList::new(py, headers)?;
            let key = PyBytes::new(py, client.id.as_bytes());
            lists.places.push(place);
            lists.transactions.append((key, PyBytes::new(py, value.as_bytes()), headers))
        });
    }

    fn event(&mut self, kind: &'static str, client: &View, value: &str, side: usize) {
        let (py, place) = (self.py, self.place(side));
        let (key, value) = (client.id.as_bytes(), value.as_bytes());
        self.add(|lists| lists.events.append((kind, PyBytes::new(py, key), PyBytes::new(py, value), place)));
    }

    fn refused(&mut self, side: usize, outcome: i64) {
        let place = self.place(side);
        let of = &self.batch.sides[side];
        let id = self.batch.texts.get(self.batch.cdr(of).id).to_string();
        let catalog = self.batch.calls[of.call.0 as usize].catalog;
        self.add(|lists| lists.refused.append((place, outcome, id, catalog)));
    }
}

impl Batch {
    /// What a poll brought in, for a bucket in memory.
    pub fn of(&self) -> &batch::Batch {
        &self.of
    }

    /// (record, side) of what was drawn before, in order.
    fn duplicates(&self) -> Vec<(u32, usize)> {
        let drawn = self.of.sides.iter().filter(|side| side.stand == Stand::Drawn);
        let result = |side: &&batch::Side| &self.of.calls[side.call.0 as usize].results[side.call.1 as usize];
        let twice = drawn.filter(|side| result(side).outcome == transaction::DUPLICATE);
        twice.map(|side| (self.of.cdr(side).record, side.index)).collect()
    }

    pub fn call(&self, request: u32) -> PyResult<&draw::Call> {
        self.of.calls.get(request as usize).ok_or_else(|| fault("no such request"))
    }

    fn tell<'py>(&self, py: Python<'py>, side: &batch::Side) -> PyResult<Bound<'py, PyDict>> {
        let (cdr, texts) = (self.of.cdr(side), &self.of.texts);
        let get = |text: Option<batch::Text>| text.map(|text| texts.get(text));
        let out = PyDict::new(py);
        out.set_item("place", (cdr.record, side.index))?;
        out.set_item("texts", (texts.get(cdr.source), texts.get(cdr.id), texts.get(cdr.service)))?;
        out.set_item("instants", (cdr.setup_ms, cdr.answered_ms, cdr.ended_ms, cdr.at_ms))?;
        out.set_item("amounts", (cdr.duration_ms, cdr.volume, cdr.used))?;
        out.set_item("numbers", (get(cdr.caller), texts.get(cdr.called)))?;
        let named = &side.named;
        out.set_item(
            "named",
            (get(named.client), get(named.account), get(named.gateway), get(named.ip), get(named.login)),
        )?;
        out.set_item("given", named.rate_content.as_ref().map(|raw| PyBytes::new(py, raw)))?;
        out.set_item("stand", (format!("{:?}", side.stand), side.rejected))?;
        out.set_item("client", side.view.as_ref().map(|view| &*view.id))?;
        out.set_item("account", get(side.account))?;
        let mut rate = String::new();
        if let Some(of) = side.rate.get() {
            rate.extend(of.fragment());
        }
        out.set_item("rate", rate)?;
        if let Some(priced) = &side.priced {
            let mut form: Vec<String> = Vec::new();
            match &priced.cost {
                crate::amounts::Form::Small { a, s, d } => {
                    form.extend([a, s, d].map(ToString::to_string));
                }
                crate::amounts::Form::Large(numbers) => form.extend(numbers.iter().map(ToString::to_string)),
            }
            let fx: Vec<&str> = priced.fx.iter().map(|one| &**one).collect();
            out.set_item("priced", (priced.why.map(|why| why.text()), priced.billed, form, priced.sign, fx))?;
        }
        Ok(out)
    }
}

/// Take a client's newest state. Accounts that it has no more are looked up again when they come.
fn put(batch: &mut batch::Batch, cache: &mut identify::Cache, client: &str, state: &[u8]) {
    renew(cache, client, state, Some(batch));
}

fn renew(cache: &mut identify::Cache, client: &str, state: &[u8], mut batch: Option<&mut batch::Batch>) {
    let view = Arc::new(View::read(state).unwrap_or_else(|_| View::unread(client)));
    let cached = cache.clients.replace(ById(view.clone()));
    let mut old = cached;
    if let Some(batch) = &mut batch {
        old = batch.fetched.replace(ById(view.clone())).or(old);
        batch.absent_clients.remove(client);
    }
    let Some(ById(old)) = old else { return };
    for account in old.accounts().filter(|account| view.account(account).is_none()) {
        cache.accounts.remove(account);
        if let Some(batch) = &mut batch {
            batch.owners.remove(account);
        }
    }
}

/// A time zone by its TZif: for tests, which compare it with Python's.
#[pyclass(frozen, module = "rater.native.engine")]
pub struct Zone {
    of: crate::zones::Zone,
}

#[pymethods]
impl Zone {
    #[new]
    fn new(raw: &[u8]) -> PyResult<Self> {
        let of = crate::zones::Zone::read(raw).ok_or_else(|| fault("no TZif"))?;
        Ok(Self { of })
    }

    fn local_of(&self, at_ms: i64) -> i64 {
        self.of.local_of(at_ms)
    }

    fn instant_of(&self, local_ms: i64) -> i64 {
        self.of.instant_of(local_ms)
    }

    fn later(&self, at_ms: i64, days: i64, months: i64) -> Option<i64> {
        let days = Span { count: days, unit: Unit::Day };
        let months = Span { count: months, unit: Unit::Month };
        self.of.later(at_ms, days, 1).and_then(|at_ms| self.of.later(at_ms, months, 1))
    }
}
