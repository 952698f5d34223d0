//! A client's calls rated again, as Python sees it (jobs/rerate_rating.py). What each method takes and gives: `engine.pyi`.

use crate::border::{Cache, Catalog, fault};
use crate::clients::View;
use crate::rerate::{self, Fee, Fees, Interval, Row};
use crate::told::Past;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustc_hash::FxHashMap;

/// Sums that are put in are within ±SUM_MAX.
const SUM_MAX: i64 = 1 << 62;

type NewFee<'py> = (Bound<'py, PyBytes>, i64, [(String, i64); 3]);
/// The call, its transaction (None: there is none), amount, takes, fee; whether the draw was refused.
type Told<'py> =
    (Bound<'py, PyBytes>, Option<Bound<'py, PyBytes>>, i64, Vec<(String, i64)>, Option<NewFee<'py>>, bool);

/// One client whose calls are rated again.
#[pyclass(module = "rater.native.engine")]
pub struct Again {
    of: rerate::Again,
    cache: Py<Cache>,
}

#[pymethods]
impl Again {
    #[new]
    fn new(
        cache: Py<Cache>,
        catalog: &Catalog,
        state: &[u8],
        balance: i64,
        counters: FxHashMap<String, i64>,
        fees: Vec<(String, String, String, String, i64)>,
    ) -> PyResult<Self> {
        let view = View::read(state).map_err(|_| fault("a register that cannot be read"))?;
        if [&balance].into_iter().chain(counters.values()).any(|sum| !(-SUM_MAX..=SUM_MAX).contains(sum)) {
            return Err(fault("a sum beyond 2^62"));
        }
        let counters = counters.into_iter().map(|(field, used)| (field.into(), used)).collect();
        let mut of_calls = Fees::default();
        for (source, id, fee, client_package, period) in fees {
            let fee = Fee { id: fee.into(), client_package: client_package.into(), period };
            of_calls.entry((source.into(), id.into())).or_default().push(fee);
        }
        let of = rerate::Again::new(view, catalog.of.clone(), balance, counters, of_calls);
        Ok(Self { of, cache })
    }

    /// Take back what calls drew.
    fn take_back(&mut self, calls: &[u8]) -> PyResult<()> {
        self.of.take_back(&read(calls)?.1).map_err(other)
    }

    /// Ids of the fees that the calls have brought.
    fn brought(&self) -> Vec<String> {
        self.of.brought.iter().map(ToString::to_string).collect()
    }

    /// Add to a counter.
    fn add(&mut self, field: &str, units: i64) -> PyResult<()> {
        self.of.add(field, units).map_err(other)
    }

    /// Rate calls: how many end as they did with their billed units and micros, and the others.
    #[allow(clippy::type_complexity)]
    fn rate<'py>(&mut self, py: Python<'py>, calls: &[u8]) -> PyResult<((i64, i128, i128), Vec<Told<'py>>)> {
        let (raws, calls) = read(calls)?;
        let (same, rows) = self.of.rate(&calls, &mut self.cache.get().lock().sets).map_err(other)?;
        let bytes = |text: &str| PyBytes::new(py, text.as_bytes());
        let told = |(place, row): (usize, Row)| {
            let call = PyBytes::new(py, raws[place]);
            match row {
                Row::Rejected => (call, None, 0, Vec::new(), None, false),
                Row::OutOfRange => (call, None, 0, Vec::new(), None, true),
                Row::Rated { value, amount, takes, fee } => {
                    let fee = fee.map(|(value, amount, sums)| (bytes(&value), amount, sums));
                    (call, Some(bytes(&value)), amount, takes, fee, false)
                }
            }
        };
        Ok(((same.calls, same.volume, same.amount), rows.into_iter().map(told).collect()))
    }

    /// By how much counters and balance may have moved.
    fn bounds(&self) -> (FxHashMap<String, Interval>, Interval) {
        let of = &self.of.bounds;
        (of.fields.iter().map(|(field, of)| (field.to_string(), *of)).collect(), of.balance)
    }
}

fn other(_: rerate::Other) -> PyErr {
    fault("Python rates this client")
}

fn read(calls: &[u8]) -> PyResult<(Vec<&[u8]>, Vec<Past<'_>>)> {
    Past::read_all(calls).map_err(|_| fault("a call that cannot be read"))
}
