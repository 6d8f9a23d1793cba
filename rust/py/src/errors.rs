//! Engine errors as the Python classes of `nbws.errors`, chosen by the name of the kind.

use nbws_engine::{Error, ErrorKind};
use pyo3::types::{PyAnyMethods, PyDict, PyDictMethods};
use pyo3::{Bound, PyAny, PyErr, PyResult, Python, pyfunction};

/// The Python exception for an engine error. Falls back to what stopped the conversion, so nothing is swallowed.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error).map_or_else(|failure| failure, PyErr::from_value)
}

fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let class = py.import("nbws.errors")?.getattr(error.kind().name())?;
    let fields = PyDict::new(py);
    fields.set_item("operation", error.operation())?;
    if !error.subject().is_empty() {
        fields.set_item("path", error.subject())?;
    }
    fields.set_item("rescue", error.rescue())?;
    fields.set_item("os_error", error.os_error())?;
    class.call((error.to_string(),), Some(&fields))
}

/// Every error kind with its name and whether trying again may help; `nbws.errors` mirrors it and a test compares both.
#[pyfunction]
pub(crate) fn error_kinds() -> Vec<(&'static str, bool)> {
    ErrorKind::ALL
        .iter()
        .map(|kind| (kind.name(), kind.retryable()))
        .collect()
}
