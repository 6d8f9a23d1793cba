//! `Workspace`: one function per engine verb.

use crate::blocking::{Interrupt, Job};
use crate::errors::to_python;
use crate::options;
use crate::reports::Plain;
use crate::snapshot::SnapshotReader;
use nbws_engine::Error;
use pyo3::types::PyDict;
use pyo3::{Bound, PyAny, PyResult, Python, pyclass, pymethods};
use std::path::PathBuf;

/// An open workspace repository.
#[pyclass(frozen, module = "nbws._nbws")]
pub(crate) struct Workspace(nbws_engine::Workspace);

/// Waits for a job that may have failed to start.
pub(crate) fn wait<T: Send + 'static>(
    py: Python<'_>,
    job: Result<Job<T>, Error>,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<T> {
    job.map_err(|error| to_python(py, &error))?
        .wait(py, progress)
}

pub(crate) fn wait_plain<'py, T: Plain + Send + 'static>(
    py: Python<'py>,
    job: Result<Job<T>, Error>,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    wait(py, job, progress)?.plain(py)
}

#[pymethods]
impl Workspace {
    #[staticmethod]
    fn open(py: Python<'_>, url: String, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let options = options::open(options)?;
        let job = Job::start(Interrupt::Drop, async move {
            nbws_engine::Workspace::open(&url, options).await
        });
        wait(py, job, None).map(Workspace)
    }

    #[getter]
    fn repository_id(&self) -> String {
        self.0.repository_id()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    #[pyo3(signature = (directory, options, progress=None))]
    fn save<'py>(
        &self,
        py: Python<'py>,
        directory: PathBuf,
        options: &Bound<'py, PyDict>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (workspace, options) = (self.0.clone(), options::save(options)?);
        let job = Job::start_cancellable(|sink, cancel| async move {
            workspace.save(&directory, options, sink, cancel).await
        });
        wait_plain(py, job, progress)
    }

    #[pyo3(signature = (directory, options, progress=None))]
    fn restore<'py>(
        &self,
        py: Python<'py>,
        directory: PathBuf,
        options: &Bound<'py, PyDict>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (workspace, options) = (self.0.clone(), options::restore(options)?);
        let job = Job::start_cancellable(|sink, cancel| async move {
            workspace.restore(&directory, options, sink, cancel).await
        });
        wait_plain(py, job, progress)
    }

    fn snapshots<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let workspace = self.0.clone();
        let job = Job::start(Interrupt::Drop, async move { workspace.snapshots().await });
        wait_plain(py, job, None)
    }

    fn rescues<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let workspace = self.0.clone();
        let job = Job::start(Interrupt::Drop, async move { workspace.rescues().await });
        wait_plain(py, job, None)
    }

    fn browse(&self, py: Python<'_>, snapshot: String) -> PyResult<SnapshotReader> {
        let workspace = self.0.clone();
        let job = Job::start(
            Interrupt::Drop,
            async move { workspace.browse(&snapshot).await },
        );
        wait(py, job, None).map(SnapshotReader)
    }

    fn dismiss(&self, py: Python<'_>, rescue: String) -> PyResult<()> {
        let workspace = self.0.clone();
        let job = Job::start(Interrupt::Finish, async move {
            workspace.dismiss(&rescue).await
        });
        wait(py, job, None)
    }

    fn usage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let workspace = self.0.clone();
        let job = Job::start(Interrupt::Drop, async move { workspace.usage().await });
        wait_plain(py, job, None)
    }

    #[pyo3(signature = (options, progress=None))]
    fn check<'py>(
        &self,
        py: Python<'py>,
        options: &Bound<'py, PyDict>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (workspace, options) = (self.0.clone(), options::check(options)?);
        let job = Job::start_cancellable(|sink, cancel| async move {
            workspace.check(options, sink, cancel).await
        });
        wait_plain(py, job, progress)
    }
}
