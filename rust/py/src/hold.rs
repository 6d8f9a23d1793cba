//! The right to run a notebook in a directory, as an object that Python keeps.

use crate::errors::to_python;
use crate::reports::Plain;
use pyo3::{Bound, IntoPyObjectExt, PyAny, PyResult, Python, pyclass, pymethods};
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};

/// Held until it is released or forgotten.
#[pyclass(frozen, module = "nbws._nbws")]
pub(crate) struct Hold(Mutex<Option<Arc<nbws_engine::Hold>>>);

impl Plain for Arc<nbws_engine::Hold> {
    fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Hold(Mutex::new(Some(Arc::clone(self)))).into_bound_py_any(py)
    }
}

impl Hold {
    fn held(&self) -> Option<Arc<nbws_engine::Hold>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What is held; `InvalidState` after the release.
    pub(crate) fn taken(&self, py: Python<'_>) -> PyResult<Arc<nbws_engine::Hold>> {
        self.held().ok_or_else(|| {
            let kind = nbws_engine::ErrorKind::InvalidState;
            let why = "the hold was released";
            to_python(py, &nbws_engine::Error::new(kind, "start", why))
        })
    }
}

#[pymethods]
impl Hold {
    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<OsString> {
        Ok(self.taken(py)?.path().as_os_str().to_owned())
    }

    #[getter]
    fn is_kept(&self) -> bool {
        self.held().is_some_and(|hold| hold.is_kept())
    }

    fn release(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
