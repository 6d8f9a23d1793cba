//! Calls into Python from a thread of the engine, and the end of them.
//!
//! A thread that asks for an interpreter on its way out is ended by it in the middle of its frames, which aborts the process: up to
//! Python 3.13 that is what `PyGILState_Ensure` does then. So the last thing that Python runs, an `atexit` function, sees to it that
//! nobody asks any more.

use pyo3::types::PyAnyMethods;
use pyo3::{Py, PyAny, PyResult, Python, pyfunction, wrap_pyfunction};
use std::sync::{OnceLock, RwLock};

/// False once the interpreter is on its way out. Whoever calls into Python holds it for reading.
static IS_RUNNING: RwLock<bool> = RwLock::new(true);

/// The process that registered the end.
static REGISTERED: OnceLock<u32> = OnceLock::new();

/// Has calls end with the interpreter. To be called before the first one.
pub(crate) fn end_with_interpreter(py: Python<'_>) -> PyResult<()> {
    if REGISTERED.get().is_none() {
        let end = wrap_pyfunction!(end, py)?;
        py.import("atexit")?.call_method1("register", (end,))?;
        // A second thread may have been as fast: registered twice does no harm.
        let _ = REGISTERED.set(std::process::id());
    }
    Ok(())
}

/// Calls a Python function without arguments; what it raises is reported as unraisable. Blocks until the interpreter is free.
pub(crate) fn call(function: impl FnOnce(Python<'_>) -> Option<Py<PyAny>>) {
    let running = IS_RUNNING.read().unwrap_or_else(|e| e.into_inner());
    if !*running {
        return;
    }
    Python::try_attach(|py| {
        if let Some(Err(error)) = function(py).map(|function| function.call0(py)) {
            error.write_unraisable(py, None);
        }
    });
}

/// Waits for the calls under way, which need the interpreter that this thread holds, and refuses all later ones.
#[pyfunction]
fn end(py: Python<'_>) {
    // A forked child has no threads of the engine, but perhaps a lock that one of them held.
    if REGISTERED.get() != Some(&std::process::id()) {
        return;
    }
    py.detach(|| *IS_RUNNING.write().unwrap_or_else(|e| e.into_inner()) = false);
}
