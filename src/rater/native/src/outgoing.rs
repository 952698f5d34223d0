//! What Python hands over to be written to Kafka: records in, bytes out (`engine.pyi`).

use crate::kafka::{Cutter, Producer, Unwritable, finished, put, put_count, written};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

impl From<Unwritable> for PyErr {
    fn from(why: Unwritable) -> Self {
        PyValueError::new_err(match why {
            Unwritable::TooLong => "Kafka has no records of 2 GiB",
            Unwritable::NoRun => "these bytes are no run of records",
        })
    }
}

/// Cut records, and runs of them that the engine wrote, into batches: (their bytes, how many) of each.
#[pyfunction]
pub fn kafka_records<'py>(
    py: Python<'py>,
    records: &Bound<'py, PyList>,
    most: usize,
) -> PyResult<Vec<(Bound<'py, PyBytes>, i32)>> {
    let (mut found, mut body) = (Vec::new(), Vec::new());
    let mut cutter = Cutter::new(most, |bytes, count| found.push((PyBytes::new(py, bytes), count)));
    for record in records.iter() {
        if let Ok(run) = record.cast::<PyBytes>() {
            written(run.as_bytes()).try_for_each(|body| cutter.append(body?))?;
            continue;
        }
        body.clear();
        put_record(&mut body, record.cast::<PyTuple>()?)?;
        cutter.append(&body)?;
    }
    cutter.cut();
    Ok(found)
}

/// Write key, value and headers of a record.
fn put_record(to: &mut Vec<u8>, record: &Bound<'_, PyTuple>) -> PyResult<()> {
    for place in 0..2 {
        let of = record.get_borrowed_item(place)?;
        put_bytes(to, &of)?;
    }
    let headers = record.get_borrowed_item(2)?;
    let headers = headers.cast::<PyList>()?;
    put_count(to, headers.len())?;
    for header in headers.iter() {
        let header = header.cast::<PyTuple>()?;
        let name = header.get_borrowed_item(0)?;
        put(to, Some(name.cast::<PyString>()?.to_cow()?.as_bytes()))?;
        let value = header.get_borrowed_item(1)?;
        put_bytes(to, &value)?;
    }
    Ok(())
}

fn put_bytes(to: &mut Vec<u8>, bytes: &Bound<'_, PyAny>) -> PyResult<()> {
    let bytes = if bytes.is_none() { None } else { Some(bytes.cast::<PyBytes>()?.as_bytes()) };
    Ok(put(to, bytes)?)
}

/// Finish a batch of a Kafka transaction. records: compressed; producer: its id and epoch, and the number of the first record.
#[pyfunction]
pub fn kafka_batch<'py>(
    py: Python<'py>,
    records: &[u8],
    count: i32,
    at_ms: i64,
    producer: (i64, i16, i32),
) -> PyResult<Bound<'py, PyBytes>> {
    let (id, epoch, sequence) = producer;
    let batch = finished(records, count, at_ms, &Producer { id, epoch, sequence })?;
    Ok(PyBytes::new(py, &batch))
}
