//! Effects of transactions, as the journal's headers say them, added up for buckets that are built anew: what
//! core/journal/reconciling.py does with them where nothing is kept of the lane.

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustc_hash::FxHashMap;

use crate::msgpack::{Reader, Unreadable};

/// A sum that is not within so much was not written by rater.
const LIMIT: i64 = 1 << 53;
/// Index of the first change of a record; below are the sides of a CDR (core/journal/records.py).
const CHANGE_INDEX_MIN: i64 = 2;

/// One header, as far as it matters here.
pub struct Effect<'a> {
    pub topic: &'a str,
    pub partition: i64,
    pub offset: i64,
    pub index: i64,
    pub client: &'a str,
    lane_ms: i64,
    key: &'a [u8],
    content: &'a [u8],
    balance: i64,
    counters: Vec<(&'a str, i64)>,
}

fn within(least: i64, value: i64) -> Result<i64, Unreadable> {
    (least..=LIMIT).contains(&value).then_some(value).ok_or(Unreadable)
}

/// Read a header `e`. Err: it cannot be read.
pub fn read(raw: &[u8]) -> Result<Effect<'_>, Unreadable> {
    let mut from = Reader::new(raw);
    if from.array()? != 11 {
        return Err(Unreadable);
    }
    let topic = from.text()?;
    let (partition, offset) = (within(0, from.int()?)?, within(0, from.int()?)?);
    let index = within(0, from.int()?)?;
    within(-LIMIT, from.int()?)?;
    let lane_ms = within(0, from.int()?)?;
    let (key, content) = (from.bytes()?, from.bytes()?);
    let (client, balance) = (from.text()?, within(-LIMIT, from.int()?)?);
    let mut counters = Vec::new();
    for _ in 0..from.array()? {
        if from.array()? != 2 {
            return Err(Unreadable);
        }
        let (field, delta) = (from.text()?, within(-LIMIT, from.int()?)?);
        if !field.contains('.') {
            return Err(Unreadable);
        }
        counters.push((field, delta));
    }
    if key.len() > 8 || content.len() > 4 || !from.is_done() {
        return Err(Unreadable);
    }
    Ok(Effect { topic, partition, offset, index, client, lane_ms, key, content, balance, counters })
}

/// Field → what was added to it.
type Counters = FxHashMap<Box<str>, i64>;

/// What has come together of a bucket.
#[derive(Default)]
struct Sums {
    lane_ms: i64,
    clients: FxHashMap<Box<str>, (i64, Counters)>,
    entries: usize,
    duplicates: Vec<(i64, Vec<u8>, Vec<u8>)>,
}

impl Sums {
    fn add(&mut self, effect: &Effect<'_>) -> Option<()> {
        self.lane_ms = self.lane_ms.max(effect.lane_ms);
        if !self.clients.contains_key(effect.client) {
            self.clients.insert(effect.client.into(), Default::default());
            self.entries += 1;
        }
        let (balance, counters) = self.clients.get_mut(effect.client)?;
        *balance = balance.checked_add(effect.balance)?;
        for (field, delta) in &effect.counters {
            match counters.get_mut(*field) {
                Some(sum) => *sum = sum.checked_add(*delta)?,
                None => {
                    counters.insert((*field).into(), *delta);
                    self.entries += 1;
                }
            }
        }
        Some(())
    }
}

type Counted = (String, String, i64);
/// Lane time, (client, micros), (client, field, units), (generation, key, content).
type Taken<'py> =
    (i64, Vec<(String, i64)>, Vec<Counted>, Vec<(i64, Bound<'py, PyBytes>, Bound<'py, PyBytes>)>);

#[pyclass]
pub struct Effects {
    generation_ms: i64,
    first_generation: i64,
    /// Of each bucket: from where its effects are read, below what nothing is added, and what a client's snapshot has.
    starts: Vec<i64>,
    floors: Vec<i64>,
    included: Vec<Option<Py<PyAny>>>,
    sums: Vec<Sums>,
}

#[pymethods]
impl Effects {
    #[new]
    fn new(
        generation_ms: i64,
        first_generation: i64,
        starts: Vec<i64>,
        floors: Vec<i64>,
        included: Vec<Option<Py<PyAny>>>,
    ) -> Self {
        let sums = starts.iter().map(|_| Sums::default()).collect();
        Self { generation_ms, first_generation, starts, floors, included, sums }
    }

    fn add(&mut self, py: Python<'_>, records: Vec<(i64, Bound<'_, PyBytes>)>) -> PyResult<Vec<usize>> {
        let unreadable = |_| PyValueError::new_err("no effect can be read here");
        let effects = records
            .iter()
            .map(|(offset, raw)| Ok((*offset, read(raw.as_bytes()).map_err(unreadable)?)))
            .collect::<PyResult<Vec<_>>>()?;
        let buckets = self.sums.len() as u32;
        for (offset, effect) in effects {
            let bucket = (crc32fast::hash(effect.client.as_bytes()) % buckets) as usize;
            if offset < self.starts[bucket] {
                continue;
            }
            let (sums, own) = (&mut self.sums[bucket], &self.included[bucket]);
            let mut lacks = offset >= self.floors[bucket];
            if let (true, Some(included)) = (lacks, own) {
                lacks = offset >= included.call1(py, (effect.client,))?.extract::<i64>(py)?;
            }
            if lacks {
                sums.add(&effect).ok_or_else(|| PyOverflowError::new_err("a sum leaves 64 bits"))?;
            }
            let generation = effect.lane_ms / self.generation_ms;
            let usable = effect.index < CHANGE_INDEX_MIN && !effect.key.is_empty();
            if (lacks || own.is_some()) && usable && generation >= self.first_generation {
                sums.duplicates.push((generation, effect.key.to_vec(), effect.content.to_vec()));
            }
        }
        Ok(self.sums.iter().map(|each| each.entries + each.duplicates.len()).collect())
    }

    fn take<'py>(&mut self, py: Python<'py>, bucket: usize) -> Taken<'py> {
        let found = std::mem::take(&mut self.sums[bucket]);
        let (mut balances, mut counters) = (Vec::new(), Vec::new());
        for (client, (balance, own)) in found.clients {
            let changed = own.into_iter().filter(|(_, delta)| *delta != 0);
            counters.extend(changed.map(|(field, delta)| (client.to_string(), field.into(), delta)));
            if balance != 0 {
                balances.push((client.into(), balance));
            }
        }
        let bytes = |raw: Vec<u8>| PyBytes::new(py, &raw);
        let keys = found.duplicates.into_iter().map(|(of, key, content)| (of, bytes(key), bytes(content)));
        (found.lane_ms, balances, counters, keys.collect())
    }
}
