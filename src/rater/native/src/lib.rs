//! The native engine: it rates the calls of a batch as rater's core states it in Python, which is the law
//! (decisions/0100-two-engines.md). Modules by rule: how a record is read (`cdr`, `json`, `instants`, `numbers`), whose it
//! is (`identify`, `rules`, `addresses`, `clients`), what it costs (`codes`, `prices`, `amounts`), what is open to it
//! (`periods`, `due`, `zones`) and offered (`packages`, `offers`, `matching`, `fees`), its draw (`draw`) and what is published
//! (`transaction`); `batch` is a batch on its way, `border` what Python sees of it (core/line/engine.py). How Kafka has
//! records: `kafka`, and for Python `outgoing` (stream/batches.py). `effects` adds up what the journal says, when a store
//! is rebuilt (worker/takeover.py). Jobs draw without Redis, from a bucket in memory: `bucket`, its calls `bucket_call`, one
//! item of them `bucket_draw`, and for Python `bucket_border`. A re-rate reads the journal by `gathering` and `told`, sorts
//! its calls by `sorting`, and rates a client's again by `rerate`, for Python `rerate_border`.

mod addresses;
mod amounts;
mod batch;
mod border;
mod bucket;
mod bucket_border;
mod bucket_call;
mod bucket_draw;
mod catalog;
mod cdr;
mod clients;
mod codes;
mod draw;
mod due;
mod effects;
mod fees;
mod gathering;
mod identify;
mod instants;
mod json;
mod kafka;
mod matching;
mod msgpack;
mod numbers;
mod offers;
mod outgoing;
mod packages;
mod periods;
mod prices;
mod rerate;
mod rerate_border;
mod rules;
mod sorting;
mod told;
mod transaction;
mod zones;

#[pyo3::pymodule]
mod engine {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::border::{Batch, Cache, Catalog, Zone};
    #[pymodule_export]
    use crate::bucket_border::Bucket;
    #[pymodule_export]
    use crate::effects::Effects;
    #[pymodule_export]
    use crate::gathering::Gathering;
    #[pymodule_export]
    use crate::outgoing::{kafka_batch, kafka_records};
    #[pymodule_export]
    use crate::rerate_border::Again;
    #[pymodule_export]
    use crate::sorting::{Merged, Sorting};

    /// A panic of the engine, as Python sees it.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("Panic", module.py().get_type::<pyo3::panic::PanicException>())
    }
}
