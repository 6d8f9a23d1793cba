//! Verbs that need a store and no repository.

use crate::blocking::{Interrupt, Job};
use crate::options;
use crate::workspace::wait_plain;
use pyo3::types::PyDict;
use pyo3::{Bound, PyAny, PyResult, Python, pyfunction};

/// Measures what the store at a URL guarantees.
#[pyfunction]
pub(crate) fn doctor<'py>(
    py: Python<'py>,
    url: String,
    options: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let options = options::open(options)?;
    // It removes what it wrote, so it is not dropped on the way.
    let job = Job::start(Interrupt::Finish, async move {
        nbws_engine::doctor::doctor(&url, options).await
    });
    wait_plain(py, job, None)
}
