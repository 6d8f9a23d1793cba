//! The binding `nbws._nbws`: options in as a dict, reports out as dicts. It converts, waits and decides nothing.
//!
//! Importing it has no side effect: the runtime is made by the first verb.

mod errors;
mod hold;
mod job;
mod lifecycle;
mod listener;
mod options;
mod reports;
mod snapshot;
mod upkeep;
mod workspace;

/// The engine of nbws. Private: use the package `nbws`.
#[pyo3::pymodule]
mod _nbws {
    use pyo3::types::{PyModule, PyModuleMethods};
    use pyo3::{Bound, PyResult};

    #[pymodule_export]
    use crate::errors::error_kinds;
    #[pymodule_export]
    use crate::hold::Hold;
    #[pymodule_export]
    use crate::job::Job;
    #[pymodule_export]
    use crate::lifecycle::transitions;
    #[pymodule_export]
    use crate::reports::report_fields;
    #[pymodule_export]
    use crate::snapshot::{FileReader, SnapshotReader, TarReader};
    #[pymodule_export]
    use crate::upkeep::{children, doctor, tally};
    #[pymodule_export]
    use crate::workspace::Workspace;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
