//! Effects of transactions, as the journal's headers say them, added up for buckets that are built anew: what
//! core/journal/reconciling.py does with them where nothing is kept of the lane. Records are read from batches as Kafka
//! has them (stream/fetching.py).

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustc_hash::FxHashMap;

use crate::kafka::{self, Headers};
use crate::msgpack::{Reader, Unreadable, Writer};

/// A sum that is not within so much was not written by rater.
const LIMIT: i64 = 1 << 53;
/// Index of the first change of a record; below are the sides of a CDR (core/journal/records.py).
const CHANGE_INDEX_MIN: i64 = 2;
/// Of a transaction's header, and of a record of ours (core/journal/records.py).
pub const EFFECT: &[u8] = b"e";
const CONTROL: &[u8] = b"control";

/// A header: its name, and its value if it has one.
type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// Topic, offset, index: one decision.
type Identity<'a> = (&'a str, i64, i64);

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

/// Of which decision a record of ours is a change, and of which client; None: it is something else.
fn changed(raw: &[u8]) -> Option<(Identity<'_>, &str)> {
    let mut from = Reader::new(raw);
    from.array().ok()?;
    (from.text().ok()? == "change").then_some(())?;
    let identity = (from.text().ok()?, from.int().ok()?, from.int().ok()?);
    for _times in 0..2 {
        from.int().ok()?;
    }
    Some((identity, from.text().ok()?))
}

/// The header of ours, the first of them, as `stream.journal.understood` takes it.
pub fn ours(headers: Headers<'_>) -> Result<Option<Header<'_>>, kafka::Unreadable> {
    for header in headers {
        let (name, raw) = header?;
        if name == EFFECT || name == CONTROL {
            return Ok(Some((name, raw)));
        }
    }
    Ok(None)
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

/// Offset, and the header of a record that Python reads.
type Left<'py> = (i64, String, Option<Bound<'py, PyBytes>>);
/// How many values, and these as msgpack.
type Packed<'py> = (usize, Bound<'py, PyBytes>);
/// Lane time, clients, sums, generations, duplicates, their bytes.
type Taken<'py> = (i64, Vec<String>, Packed<'py>, Vec<i64>, Packed<'py>, Vec<Bound<'py, PyBytes>>);

pub fn damaged(_: kafka::Unreadable) -> PyErr {
    PyValueError::new_err("no records of Kafka's")
}

#[pyclass]
pub struct Effects {
    generation_ms: i64,
    first_generation: i64,
    /// Of each bucket: from where its effects are read, below what nothing is added, and what a client's snapshot has.
    starts: Vec<i64>,
    floors: Vec<i64>,
    included: Vec<Option<Py<PyAny>>>,
    /// Of each bucket: the last change that was read; what follows under it are shares of its effect.
    changes: Vec<Option<(Box<str>, i64, i64)>>,
    sums: Vec<Sums>,
}

impl Effects {
    fn bucket_of(&self, client: &str) -> usize {
        (crc32fast::hash(client.as_bytes()) % self.sums.len() as u32) as usize
    }

    fn add_one(&mut self, py: Python<'_>, offset: i64, effect: &Effect<'_>) -> PyResult<()> {
        let bucket = self.bucket_of(effect.client);
        let share =
            |of: &(Box<str>, i64, i64)| (&*of.0, of.1, of.2) == (effect.topic, effect.offset, effect.index);
        if offset < self.starts[bucket] || self.changes[bucket].as_ref().is_some_and(share) {
            return Ok(());
        }
        let (sums, own) = (&mut self.sums[bucket], &self.included[bucket]);
        let mut lacks = offset >= self.floors[bucket];
        if let (true, Some(included)) = (lacks, own) {
            lacks = offset >= included.call1(py, (effect.client,))?.extract::<i64>(py)?;
        }
        if lacks {
            sums.add(effect).ok_or_else(|| PyOverflowError::new_err("a sum leaves 64 bits"))?;
        }
        let generation = effect.lane_ms / self.generation_ms;
        let usable = effect.index < CHANGE_INDEX_MIN && !effect.key.is_empty();
        if (lacks || own.is_some()) && usable && generation >= self.first_generation {
            sums.duplicates.push((generation, effect.key.to_vec(), effect.content.to_vec()));
        }
        Ok(())
    }
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
        let changes = vec![None; starts.len()];
        Self { generation_ms, first_generation, starts, floors, included, changes, sums }
    }

    fn add<'py>(
        &mut self,
        py: Python<'py>,
        first: i64,
        records: &[u8],
        start: i64,
        until: i64,
    ) -> PyResult<(Vec<Left<'py>>, Vec<usize>)> {
        let mut left = Vec::new();
        for record in kafka::read(records) {
            let record = record.map_err(damaged)?;
            let offset = first + record.number;
            if offset < start || offset >= until {
                continue;
            }
            let Some((name, raw)) = ours(record.headers).map_err(damaged)? else { continue };
            if let (true, Some(Ok(effect))) = (name == EFFECT, raw.map(read)) {
                self.add_one(py, offset, &effect)?;
                continue;
            }
            if name == CONTROL
                && let Some(((topic, at, index), client)) = raw.and_then(changed)
            {
                let bucket = self.bucket_of(client);
                if offset >= self.starts[bucket] {
                    self.changes[bucket] = Some((topic.into(), at, index));
                }
            }
            // Python reads it, or says why it cannot be read.
            left.push((offset, String::from_utf8_lossy(name).into(), raw.map(|raw| PyBytes::new(py, raw))));
        }
        Ok((left, self.sums.iter().map(|each| each.entries + each.duplicates.len()).collect()))
    }

    fn take<'py>(&mut self, py: Python<'py>, bucket: usize, keys: usize, arguments: usize) -> Taken<'py> {
        let found = std::mem::take(&mut self.sums[bucket]);
        let (mut clients, mut sums, mut count) = (Vec::<String>::new(), Writer::default(), 0);
        for (client, (balance, own)) in &found.clients {
            let key = (keys + clients.len() + 1) as i64;
            let changed = own.iter().map(|(field, delta)| (&**field, *delta));
            let some = std::iter::once(("b", *balance)).chain(changed).filter(|(_, delta)| *delta != 0);
            let before = count;
            for (field, delta) in some {
                sums.int(key);
                sums.text(field);
                sums.text(&delta.to_string());
                count += 3;
            }
            if count > before {
                clients.push(client.to_string());
            }
        }
        let (mut generations, mut told) = (Vec::new(), Writer::default());
        let (mut blobs, bytes) = (Vec::new(), |raw: &[u8]| PyBytes::new(py, raw));
        for (generation, key, content) in &found.duplicates {
            if generations.last() != Some(generation) {
                generations.push(*generation);
            }
            let of = keys + clients.len() + 2 * generations.len();
            let at = arguments + blobs.len();
            [of - 1, of, at + 1, at + 2].into_iter().for_each(|number| told.int(number as i64));
            blobs.extend([bytes(key), bytes(content)]);
        }
        let sums = (count, bytes(&sums.0));
        let duplicates = (2 * blobs.len(), bytes(&told.0));
        (found.lane_ms, clients, sums, generations, duplicates, blobs)
    }
}
