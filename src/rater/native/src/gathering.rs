//! Reading the journal for a re-rate: of its records those of the selected calls, as they are sorted
//! (`jobs/rerate_reading.py`). What is no usage of a call, nor a reversal of one, is left to Python.

use crate::effects;
use crate::msgpack::Writer;
use crate::told::Told;
use blake2b_simd::Params;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySequence, PyString, PyTuple};
use rustc_hash::FxHashSet;

/// Index of the first change of a record; below are the sides of a CDR (core/journal/records.py).
const CHANGE_INDEX_MIN: i64 = 2;
const NAME_BYTES: usize = 16;

/// (key, what is kept) of the selected calls; (place, client, offset of its command) of what jobs have published; names of
/// calls that were waited for; places of the records that are left to Python.
type Gathered<'py> = (
    Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>,
    Vec<(usize, String, i64)>,
    Vec<Bound<'py, PyBytes>>,
    Vec<usize>,
);

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

    /// Take records of the journal, (value, headers) of each.
    fn take<'py>(&self, py: Python<'py>, records: &Bound<'py, PyList>) -> PyResult<Gathered<'py>> {
        let (mut found, mut jobs, mut rated, mut left) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut key, mut packed) = (Vec::new(), Writer::default());
        for (place, record) in records.iter().enumerate() {
            let record = record.cast_into::<PyTuple>()?;
            let value = record.get_borrowed_item(0)?;
            let header = effect_of(&record.get_item(1)?)?;
            let (Ok(value), Some(header)) = (value.cast::<PyBytes>(), header) else {
                left.push(place);
                continue;
            };
            let Ok(effect) = effects::read(header.as_bytes()) else {
                left.push(place);
                continue;
            };
            let selected = self.clients.as_ref().is_none_or(|clients| clients.contains(effect.client));
            if !selected && self.waiting.is_empty() {
                continue;
            }
            let value = value.as_bytes();
            let Some(told) = std::str::from_utf8(value).ok().and_then(|text| Told::read(text).ok()) else {
                left.push(place);
                continue;
            };
            // Python selects by the client of the effect first, and by that of the transaction: they are one.
            if *told.client != *effect.client {
                left.push(place);
                continue;
            }
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
                key.clear();
                packed.0.clear();
                told.key(&mut key);
                let own = !told.is_reversal && effect.index < CHANGE_INDEX_MIN;
                let at = if own { (effect.topic, effect.partition, effect.offset) } else { ("", 0, 0) };
                told.pack(value, at, &mut packed);
                found.push((PyBytes::new(py, &key), PyBytes::new(py, &packed.0)));
            }
        }
        Ok((found, jobs, rated, left))
    }
}

/// The header `e` of a record.
fn effect_of<'py>(headers: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let headers = headers.cast::<PySequence>()?;
    for place in 0..headers.len()? {
        let header = headers.get_item(place)?.cast_into::<PyTuple>()?;
        let name = header.get_borrowed_item(0)?;
        match name.cast::<PyString>()?.to_str()? {
            "e" => return Ok(header.get_item(1)?.cast_into::<PyBytes>().ok()),
            "control" => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}

/// What a transaction is found by among those that are waited for.
fn name_of(id: &str) -> [u8; NAME_BYTES] {
    let digest = Params::new().hash_length(NAME_BYTES).hash(id.as_bytes());
    let mut name = [0; NAME_BYTES];
    name.copy_from_slice(digest.as_bytes());
    name
}
