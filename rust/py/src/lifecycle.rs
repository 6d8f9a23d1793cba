//! The table of states, for documentation and tests.

use pyo3::pyfunction;

/// Every legal change of state: step, state before it, state after it, cause.
#[pyfunction]
pub(crate) fn transitions() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    nbws_engine::transitions()
        .map(|row| (row.step.name(), row.from.name(), row.to.name(), row.cause))
        .collect()
}
