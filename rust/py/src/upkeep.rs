//! Verbs that need a store and no repository.

use crate::job::{Interrupt, Job};
use crate::options;
use pyo3::types::PyDict;
use pyo3::{Bound, PyResult, Python, pyfunction};

/// Measures what the store at a URL guarantees.
#[pyfunction]
pub(crate) fn doctor(py: Python<'_>, url: String, options: &Bound<'_, PyDict>) -> PyResult<Job> {
    let options = options::open(options)?;
    // It removes what it wrote, so it is not dropped on the way.
    Job::start(py, Interrupt::Finish, async move {
        nbws_engine::doctor::doctor(&url, options).await
    })
}

/// Names of what lies directly below a URL: the notebooks of a container.
#[pyfunction]
pub(crate) fn children(py: Python<'_>, url: String, options: &Bound<'_, PyDict>) -> PyResult<Job> {
    let options = options::open(options)?;
    Job::start(py, Interrupt::Drop, async move {
        nbws_engine::children(&url, &options.store).await
    })
}

/// Looks at many repositories below a URL, a bounded number at once.
#[pyfunction]
pub(crate) fn tally(
    py: Python<'_>,
    url: String,
    options: &Bound<'_, PyDict>,
    ids: Vec<String>,
    whole: bool,
    parallel: usize,
) -> PyResult<Job> {
    let options = options::open(options)?;
    Job::start(py, Interrupt::Drop, async move {
        nbws_engine::tally(&url, &options.store, ids, whole, parallel).await
    })
}
