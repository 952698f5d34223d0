//! The native engine: it rates the calls of a batch as rater's core states it in Python, which is the law. Modules by
//! rule; what crosses the border is bytes and numbers, once for each batch (README.md beside this crate).

mod addresses;
mod amounts;
mod batch;
mod border;
mod catalog;
mod cdr;
mod clients;
mod codes;
mod draw;
mod due;
mod fees;
mod identify;
mod instants;
mod json;
mod matching;
mod msgpack;
mod numbers;
mod offers;
mod packages;
mod periods;
mod prices;
mod rules;
mod transaction;
mod zones;

#[pyo3::pymodule]
mod engine {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::border::{Batch, Cache, Catalog, Zone};

    /// A panic of the engine, as Python sees it.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("Panic", module.py().get_type::<pyo3::panic::PanicException>())
    }
}
