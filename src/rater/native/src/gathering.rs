//! Reading the journal for a re-rate: of its records those of the selected calls, as they are sorted
//! (`jobs/rerate_reading.py`), from batches as Kafka has them (stream/fetching.py). What is no usage of a call, nor a
//! reversal of one, is left to Python.

use crate::effects::{self, EFFECT};
use crate::kafka;
use crate::sorting::Sorting;
use crate::told::Told;
use blake2b_simd::Params;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustc_hash::FxHashSet;

/// Index of the first change of a record; below are the sides of a CDR (core/journal/records.py).
const CHANGE_INDEX_MIN: i64 = 2;
const NAME_BYTES: usize = 16;

/// Place, value, name and value of the header: a record that is left to Python.
type Left<'py> = (usize, Option<Bound<'py, PyBytes>>, String, Option<Bound<'py, PyBytes>>);
/// (place, client, offset of its command) of what jobs have published; names of calls that were waited for; what is left.
type Gathered<'py> = (Vec<(usize, String, i64)>, Vec<Bound<'py, PyBytes>>, Vec<Left<'py>>);

/// Which calls are selected. waiting: names of rejected calls, whosever they are, as `rerate_reading` has them.
#[pyclass(frozen, module = "rater.native.engine")]
pub struct Gathering {
    clients: Option<FxHashSet<String>>,
    from_ms: i64,
    to_ms: i64,
    waiting: FxHashSet<[u8; NAME_BYTES]>,
}

#[pymethods]
impl Gathering {
    #[new]
    fn new(
        clients: Option<FxHashSet<String>>,
        from_ms: i64,
        to_ms: i64,
        waiting: FxHashSet<[u8; NAME_BYTES]>,
    ) -> Self {
        Self { clients, from_ms, to_ms, waiting }
    }

    /// Take the records of a batch with start <= offset < until: what is selected is added, all of it or nothing.
    fn take<'py>(
        &self,
        py: Python<'py>,
        sorting: &mut Sorting,
        first: i64,
        records: &[u8],
        start: i64,
        until: i64,
    ) -> PyResult<Gathered<'py>> {
        sorting.begin();
        let (mut jobs, mut rated, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for (place, record) in kafka::read(records).enumerate() {
            let record = record.map_err(effects::damaged)?;
            if !(start..until).contains(&(first + record.number)) {
                continue;
            }
            let Some((name, raw)) = effects::ours(record.headers).map_err(effects::damaged)? else {
                continue;
            };
            let mut leave = || {
                let bytes = |raw: &[u8]| PyBytes::new(py, raw);
                let name = String::from_utf8_lossy(name).into();
                left.push((place, record.value.map(bytes), name, raw.map(bytes)));
            };
            let effect = raw.filter(|_| name == EFFECT).and_then(|raw| effects::read(raw).ok());
            let (Some(value), Some(effect)) = (record.value, effect) else {
                leave();
                continue;
            };
            let selected = self.clients.as_ref().is_none_or(|clients| clients.contains(effect.client));
            if !selected && self.waiting.is_empty() {
                continue;
            }
            let told = std::str::from_utf8(value).ok().and_then(|text| Told::read(text).ok());
            // Python selects by the client of the effect first, and by that of the transaction: they are one.
            let Some(told) = told.filter(|told| *told.client == *effect.client) else {
                leave();
                continue;
            };
            if !self.waiting.is_empty() {
                let name = name_of(&told.id);
                if self.waiting.contains(&name) {
                    rated.push(PyBytes::new(py, &name));
                }
            }
            if !selected {
                continue;
            }
            if told.has_job && effect.index >= CHANGE_INDEX_MIN {
                jobs.push((place, told.client.to_string(), effect.offset));
            }
            if (self.from_ms..self.to_ms).contains(&told.at_ms) {
                let own = !told.is_reversal && effect.index < CHANGE_INDEX_MIN;
                let at = if own { (effect.topic, effect.partition, effect.offset) } else { ("", 0, 0) };
                sorting.put(|key| told.key(key), |kept| told.pack(value, at, kept));
            }
        }
        sorting.keep();
        Ok((jobs, rated, left))
    }
}

/// What a transaction is found by among those that are waited for.
fn name_of(id: &str) -> [u8; NAME_BYTES] {
    let digest = Params::new().hash_length(NAME_BYTES).hash(id.as_bytes());
    let mut name = [0; NAME_BYTES];
    name.copy_from_slice(digest.as_bytes());
    name
}
