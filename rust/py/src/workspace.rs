//! `Workspace`: one function per engine verb; each starts it and returns its `Job`.

use crate::errors::to_python;
use crate::hold::Hold;
use crate::job::{Interrupt, Job};
use crate::options;
use crate::reports::Plain;
use nbws_engine::State;
use nbws_engine::options::PreviewOptions;
use pyo3::types::PyDict;
use pyo3::{Bound, IntoPyObjectExt, PyAny, PyResult, Python, pyclass, pymethods};
use std::path::PathBuf;
use std::sync::Arc;

/// An open workspace repository.
#[pyclass(frozen, module = "nbws._nbws")]
pub(crate) struct Workspace(nbws_engine::Workspace);

impl Plain for nbws_engine::Workspace {
    fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Workspace(self.clone()).into_bound_py_any(py)
    }
}

#[pymethods]
impl Workspace {
    #[staticmethod]
    fn open(py: Python<'_>, url: String, options: &Bound<'_, PyDict>) -> PyResult<Job> {
        let options = options::open(options)?;
        Job::start(py, Interrupt::Drop, async move {
            nbws_engine::Workspace::open(&url, options).await
        })
    }

    #[getter]
    fn repository_id(&self) -> String {
        self.0.repository_id()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn save(
        &self,
        py: Python<'_>,
        directory: PathBuf,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Job> {
        let (workspace, options) = (self.0.clone(), options::save(options)?);
        Job::start_cancellable(py, |sink, cancel| async move {
            workspace.save(&directory, options, sink, cancel).await
        })
    }

    fn preview(
        &self,
        py: Python<'_>,
        directory: PathBuf,
        options: &Bound<'_, PyDict>,
        estimate: bool,
    ) -> PyResult<Job> {
        let (workspace, options) = (self.0.clone(), options::save(options)?);
        Job::start_cancellable(py, move |sink, cancel| async move {
            let options = PreviewOptions {
                save: options,
                estimate,
            };
            workspace.preview(&directory, options, sink, cancel).await
        })
    }

    fn restore(
        &self,
        py: Python<'_>,
        directory: PathBuf,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Job> {
        let (workspace, options) = (self.0.clone(), options::restore(options)?);
        Job::start_cancellable(py, |sink, cancel| async move {
            workspace.restore(&directory, options, sink, cancel).await
        })
    }

    #[pyo3(signature = (default_retention=None))]
    fn snapshots(
        &self,
        py: Python<'_>,
        default_retention: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Job> {
        let (workspace, rules) = (self.0.clone(), options::retention(default_retention)?);
        Job::start(py, Interrupt::Drop, async move {
            workspace.snapshots_by(rules).await
        })
    }

    fn rescues(&self, py: Python<'_>) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(
            py,
            Interrupt::Drop,
            async move { workspace.rescues().await },
        )
    }

    fn browse(&self, py: Python<'_>, snapshot: String) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Drop, async move {
            workspace.browse(&snapshot).await
        })
    }

    fn dismiss(&self, py: Python<'_>, rescue: String) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Finish, async move {
            workspace.dismiss(&rescue).await
        })
    }

    fn hold(&self, py: Python<'_>, directory: PathBuf) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Drop, async move {
            workspace.hold(&directory).await.map(Arc::new)
        })
    }

    fn look(&self, py: Python<'_>, directory: PathBuf) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Drop, async move {
            workspace.look(&directory).await
        })
    }

    fn fork(&self, py: Python<'_>, snapshot: String, url: String) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Finish, async move {
            workspace.fork(&snapshot, &url).await
        })
    }

    fn setting(&self, py: Python<'_>, key: String) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(
            py,
            Interrupt::Drop,
            async move { workspace.setting(&key).await },
        )
    }

    #[pyo3(signature = (key, value=None, first=false))]
    fn set_setting(
        &self,
        py: Python<'_>,
        key: String,
        value: Option<String>,
        first: bool,
    ) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Finish, async move {
            match first {
                true => workspace.set_first_setting(key, value).await,
                false => workspace.set_setting(key, value).await,
            }
        })
    }

    #[getter]
    fn created_ms(&self) -> u64 {
        self.0.created_ms()
    }

    fn keep_ballast(&self, py: Python<'_>) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Drop, async move {
            workspace.keep_ballast().await
        })
    }

    fn session(&self, py: Python<'_>) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(
            py,
            Interrupt::Drop,
            async move { workspace.session().await },
        )
    }

    fn claim(
        &self,
        py: Python<'_>,
        hold: &Bound<'_, Hold>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Job> {
        let options = options::claim(options)?;
        let (workspace, hold) = (self.0.clone(), hold.get().taken(py)?);
        Job::start(py, Interrupt::Finish, async move {
            workspace.claim(&hold, options).await
        })
    }

    #[pyo3(signature = (directory, state, comment=None, info=None))]
    fn change_state(
        &self,
        py: Python<'_>,
        directory: Option<PathBuf>,
        state: &str,
        comment: Option<String>,
        info: Option<String>,
    ) -> PyResult<Job> {
        let state = State::parse(state).map_err(|e| to_python(py, &e))?;
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Finish, async move {
            workspace
                .change_state(directory.as_deref(), state, comment, info)
                .await
        })
    }

    fn beat(&self, py: Python<'_>, writer: String) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(
            py,
            Interrupt::Drop,
            async move { workspace.beat(&writer).await },
        )
    }

    fn heartbeat(&self, py: Python<'_>, writer: String) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Drop, async move {
            workspace.heartbeat(&writer).await
        })
    }

    fn history(&self, py: Python<'_>, since_claim: bool) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Drop, async move {
            workspace.history(since_claim).await
        })
    }

    fn delete(&self, py: Python<'_>) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(
            py,
            Interrupt::Finish,
            async move { workspace.delete().await },
        )
    }

    fn purge(&self, py: Python<'_>) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(
            py,
            Interrupt::Finish,
            async move { workspace.purge().await },
        )
    }

    fn purge_plan(&self, py: Python<'_>) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(
            py,
            Interrupt::Drop,
            async move { workspace.purge_plan().await },
        )
    }

    fn set_latch(&self, py: Python<'_>, directory: PathBuf, why: String) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Finish, async move {
            workspace.set_latch(&directory, why).await
        })
    }

    fn clear_latch(&self, py: Python<'_>, directory: PathBuf) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Finish, async move {
            workspace.clear_latch(&directory).await
        })
    }

    fn usage(&self, py: Python<'_>, options: &Bound<'_, PyDict>) -> PyResult<Job> {
        let (workspace, options) = (self.0.clone(), options::usage(options)?);
        Job::start(py, Interrupt::Drop, async move {
            workspace.usage(options).await
        })
    }

    fn growth(
        &self,
        py: Python<'_>,
        snapshots: Vec<String>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Job> {
        let (workspace, options) = (self.0.clone(), options::usage(options)?);
        Job::start(py, Interrupt::Drop, async move {
            workspace.growth(&snapshots, options).await
        })
    }

    fn check(&self, py: Python<'_>, options: &Bound<'_, PyDict>) -> PyResult<Job> {
        let (workspace, options) = (self.0.clone(), options::check(options)?);
        Job::start_cancellable(py, |sink, cancel| async move {
            workspace.check(options, sink, cancel).await
        })
    }

    fn prune(&self, py: Python<'_>, options: &Bound<'_, PyDict>) -> PyResult<Job> {
        let (workspace, options) = (self.0.clone(), options::prune(options)?);
        Job::start_cancellable(py, |sink, cancel| async move {
            workspace.prune(options, sink, cancel).await
        })
    }

    fn cancel_prune(&self, py: Python<'_>) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Finish, async move {
            workspace.cancel_prune().await
        })
    }

    fn retention(&self, py: Python<'_>) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(
            py,
            Interrupt::Drop,
            async move { workspace.retention().await },
        )
    }

    fn set_retention(
        &self,
        py: Python<'_>,
        retention: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Job> {
        let (workspace, retention) = (self.0.clone(), options::retention(retention)?);
        Job::start(py, Interrupt::Finish, async move {
            workspace.set_retention(retention).await
        })
    }

    fn pins(&self, py: Python<'_>) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Drop, async move { workspace.pins().await })
    }

    #[pyo3(signature = (snapshot, until_ms = None, comment = None))]
    fn pin(
        &self,
        py: Python<'_>,
        snapshot: String,
        until_ms: Option<u64>,
        comment: Option<String>,
    ) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Finish, async move {
            workspace.pin(&snapshot, until_ms, comment).await
        })
    }

    fn unpin(&self, py: Python<'_>, snapshot: String) -> PyResult<Job> {
        let workspace = self.0.clone();
        Job::start(py, Interrupt::Finish, async move {
            workspace.unpin(&snapshot).await
        })
    }
}
