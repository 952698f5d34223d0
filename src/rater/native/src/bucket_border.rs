//! A bucket in memory, as Python sees it: a call as `FCALL` has it, and requests of a batch without that way.
//! What each method takes and gives: `engine.pyi`.

use crate::amounts::LIMIT;
use crate::border::{Batch, fault};
use crate::bucket::{self, Held, Reply};
use crate::bucket_call::{Call, clients_of, count_clients};
use crate::draw::Position;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use rustc_hash::FxHashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Sums that are put in are within ±SUM_MAX: whatever a call adds fits into 64 bits.
const SUM_MAX: i64 = 1 << 62;
/// Where a call has its number, its payload, its digests, and what rater_v4_change has besides.
const NUMBER: usize = 2;
const PAYLOAD: usize = 3;
const DIGESTS: usize = 4;
const BEHIND: usize = 6;

const OK: i64 = 0;
const LOST: i64 = 4;
const STALE: i64 = 5;
const MORE: i64 = 6;
const DUE: i64 = 7;

/// One bucket in memory, of one owner.
#[pyclass(frozen, module = "rater.native.engine")]
pub struct Bucket {
    of: Mutex<bucket::Bucket>,
}

impl Bucket {
    fn lock(&self) -> MutexGuard<'_, bucket::Bucket> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Bucket {
    #[new]
    #[pyo3(signature = (*, unique=false))]
    fn new(unique: bool) -> Self {
        Self { of: Mutex::new(bucket::Bucket::new(unique)) }
    }

    /// Put a client's version and sums in place of what is there.
    fn put(
        &self,
        client: &str,
        version: Option<i64>,
        balance: i64,
        counters: FxHashMap<String, i64>,
    ) -> PyResult<()> {
        let mut held = Held { version, balance, ..Held::default() };
        for (field, used) in &counters {
            held.set(field, *used);
        }
        if [&balance].into_iter().chain(counters.values()).any(|sum| !(-SUM_MAX..=SUM_MAX).contains(sum)) {
            return Err(fault(format!("a sum of client {client:?} is beyond 2^62")));
        }
        self.lock().clients.insert(client.into(), held);
        Ok(())
    }

    /// A client's version, balance and counters; None: it is not there.
    fn client(&self, client: &str) -> Option<(Option<i64>, i64, FxHashMap<String, i64>)> {
        self.lock().clients.get(client).map(|held| {
            let used = held.used.iter().map(|(field, used)| (field.to_string(), *used)).collect();
            (held.version, held.balance, used)
        })
    }

    /// The clients that are there, sorted.
    fn clients(&self) -> Vec<String> {
        let mut names: Vec<String> = self.lock().clients.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    }

    /// Remember a key of 8 bytes and its content of 4 in a generation.
    fn remember(&self, generation: i64, key: &[u8], content: &[u8]) -> PyResult<()> {
        let (Ok(key), Ok(content)) = (key.try_into(), content.try_into()) else {
            return Err(fault("a key has 8 bytes, its content 4"));
        };
        self.lock().remember(generation, key, content);
        Ok(())
    }

    /// Drop the duplicates of generations below this one.
    fn expire(&self, generation: i64) {
        self.lock().expire(generation);
    }

    /// How many duplicates are kept.
    fn __len__(&self) -> usize {
        self.lock().keys()
    }

    /// Carry out rater_v4_draw, or rater_v4_change where there are its arguments; returns the reply.
    fn draw<'py>(
        &self,
        py: Python<'py>,
        keys: Vec<String>,
        argv: &Bound<'py, PyList>,
    ) -> PyResult<Bound<'py, PyList>> {
        let number: i64 = argv.get_item(NUMBER)?.extract()?;
        let bytes = |at: usize| Ok::<_, PyErr>(argv.get_item(at)?.cast_into::<PyBytes>()?);
        let (payload, digests) = (bytes(PAYLOAD)?, bytes(DIGESTS)?);
        let behind = (argv.len() > BEHIND).then(|| bytes(BEHIND)).transpose()?;
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let clients = count_clients(payload.as_bytes()).and_then(|count| clients_of(&keys, count));
        let behind = behind.as_ref().map(|behind| behind.as_bytes());
        let call = clients.and_then(|of| Call::read(of, payload.as_bytes(), digests.as_bytes(), behind));
        let call = call.map_err(|_| fault("no call of rater_v4_draw or rater_v4_change"))?;
        told(py, number, self.lock().draw(&call))
    }

    /// The same by a request of a batch, which it does not settle; its number is 0.
    fn draw_of<'py>(
        &self,
        py: Python<'py>,
        batch: PyRef<'py, Batch>,
        request: u32,
        generation: i64,
    ) -> PyResult<Bound<'py, PyList>> {
        let of = batch.call(request)?;
        let payload = of.payload(batch.of(), &Position { generation, trim: 0, floor: 0 }, false);
        let behind = of.changes();
        let clients = of.clients().map(|view| &*view.id).collect();
        let call = Call::read(clients, &payload, of.digests(), behind.as_deref());
        let call = call.map_err(|_| fault("a request that cannot be read"))?;
        told(py, 0, self.lock().draw(&call))
    }
}

/// A reply as Redis gives it.
fn told(py: Python<'_>, number: i64, reply: Reply) -> PyResult<Bound<'_, PyList>> {
    match reply {
        Reply::Ok(packed) => {
            let out = PyList::new(py, [OK, number + 1])?;
            out.append(PyBytes::new(py, &packed))?;
            Ok(out)
        }
        Reply::Lost => PyList::new(py, [LOST, number]),
        Reply::Stale(clients) => listed(py, [STALE, number], PyList::new(py, clients)?),
        Reply::More(items) => listed(py, [MORE, number], PyList::new(py, items)?),
        Reply::Due(due) => {
            let rows = PyList::empty(py);
            for (client, item, balance, counters) in due {
                let row = PyList::new(py, [client])?;
                row.append(item.map_or(-1, |item| item as i64))?;
                for sum in [balance].into_iter().chain(counters) {
                    append_sum(&row, sum)?;
                }
                rows.append(row)?;
            }
            listed(py, [DUE, number], rows)
        }
    }
}

fn listed<'py>(py: Python<'py>, head: [i64; 2], rest: Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
    let out = PyList::new(py, head)?;
    out.append(rest)?;
    Ok(out)
}

/// Sums beyond ±2^53 are text, as the store gives them.
fn append_sum(row: &Bound<'_, PyList>, sum: i64) -> PyResult<()> {
    if (-LIMIT..=LIMIT).contains(&sum) {
        return row.append(sum);
    }
    row.append(PyBytes::new(row.py(), sum.to_string().as_bytes()))
}
