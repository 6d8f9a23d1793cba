//! One snapshot opened for reading: one function per engine verb; each starts it and returns its `Job`.

use crate::errors::to_python;
use crate::job::{Interrupt, Job};
use crate::options::PathBytes;
use crate::reports::Plain;
use pyo3::types::PyBytes;
use pyo3::{Bound, IntoPyObjectExt, PyAny, PyResult, Python, pyclass, pymethods};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Bytes of a file or stream; none at the end of a stream.
struct Content(Option<Vec<u8>>);

impl Plain for Content {
    fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = self.0.as_ref().map(|bytes| PyBytes::new(py, bytes));
        bytes.into_bound_py_any(py)
    }
}

impl Plain for nbws_engine::SnapshotReader {
    fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        SnapshotReader(self.clone()).into_bound_py_any(py)
    }
}

impl Plain for nbws_engine::FileReader {
    fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        FileReader(self.clone()).into_bound_py_any(py)
    }
}

impl Plain for Stream {
    fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        TarReader(self.clone()).into_bound_py_any(py)
    }
}

/// A snapshot or rescue, opened for reading.
#[pyclass(frozen, module = "nbws._nbws")]
pub(crate) struct SnapshotReader(pub(crate) nbws_engine::SnapshotReader);

#[pymethods]
impl SnapshotReader {
    #[getter]
    fn id(&self) -> String {
        self.0.id()
    }

    fn list(&self, py: Python<'_>, path: PathBytes, recursive: bool) -> PyResult<Job> {
        let snapshot = self.0.clone();
        Job::start(py, Interrupt::Drop, async move {
            snapshot.list(&path.0, recursive).await
        })
    }

    fn stat(&self, py: Python<'_>, path: PathBytes) -> PyResult<Job> {
        let snapshot = self.0.clone();
        Job::start(
            py,
            Interrupt::Drop,
            async move { snapshot.stat(&path.0).await },
        )
    }

    fn usage(&self, py: Python<'_>, path: PathBytes) -> PyResult<Job> {
        let snapshot = self.0.clone();
        Job::start(
            py,
            Interrupt::Drop,
            async move { snapshot.usage(&path.0).await },
        )
    }

    fn open_file(&self, py: Python<'_>, path: PathBytes) -> PyResult<Job> {
        let snapshot = self.0.clone();
        Job::start(py, Interrupt::Drop, async move {
            snapshot.open_file(&path.0).await
        })
    }

    fn diff(&self, py: Python<'_>, other: &Bound<'_, SnapshotReader>) -> PyResult<Job> {
        let (snapshot, other) = (self.0.clone(), other.get().0.clone());
        Job::start(
            py,
            Interrupt::Drop,
            async move { snapshot.diff(&other).await },
        )
    }

    fn diff_directory(
        &self,
        py: Python<'_>,
        directory: PathBuf,
        exclude: Vec<String>,
    ) -> PyResult<Job> {
        let snapshot = self.0.clone();
        Job::start_cancellable(py, |_, cancel| async move {
            snapshot.diff_directory(&directory, exclude, cancel).await
        })
    }

    #[pyo3(signature = (paths=None))]
    fn export(&self, py: Python<'_>, paths: Option<Vec<PathBytes>>) -> PyResult<Job> {
        let snapshot = self.0.clone();
        let paths = paths.map(|paths| paths.into_iter().map(|path| path.0).collect());
        Job::start(py, Interrupt::Drop, async move {
            let reader = snapshot.export(paths).await?;
            Ok(Stream(Arc::new(Mutex::new(Some(reader)))))
        })
    }
}

/// A file of a snapshot.
#[pyclass(frozen, module = "nbws._nbws")]
pub(crate) struct FileReader(nbws_engine::FileReader);

#[pymethods]
impl FileReader {
    #[getter]
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, py: Python<'_>, offset: u64, length: u64) -> PyResult<Job> {
        let file = self.0.clone();
        Job::start(py, Interrupt::Drop, async move {
            file.read_at(offset, length)
                .await
                .map(|bytes| Content(Some(bytes)))
        })
    }
}

/// A tar stream; none while a piece of it is being made.
#[pyclass(frozen, module = "nbws._nbws")]
pub(crate) struct TarReader(Stream);

/// The stream itself, while nobody reads it.
#[derive(Clone)]
struct Stream(Arc<Mutex<Option<nbws_engine::TarReader>>>);

impl TarReader {
    fn busy(py: Python<'_>) -> pyo3::PyErr {
        let kind = nbws_engine::ErrorKind::InvalidState;
        let why = "the stream is read elsewhere, or an error has ended it";
        to_python(py, &nbws_engine::Error::new(kind, "export", why))
    }

    fn taken(&self) -> Option<nbws_engine::TarReader> {
        self.0.0.lock().unwrap_or_else(|e| e.into_inner()).take()
    }
}

#[pymethods]
impl TarReader {
    fn next(&self, py: Python<'_>) -> PyResult<Job> {
        let mut reader = self.taken().ok_or_else(|| Self::busy(py))?;
        let place = Arc::clone(&self.0.0);
        Job::start(py, Interrupt::Drop, async move {
            let piece = reader.next().await?;
            *place.lock().unwrap_or_else(|e| e.into_inner()) = Some(reader);
            Ok(Content(piece))
        })
    }

    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let reader = self.taken().ok_or_else(|| Self::busy(py))?;
        let report = reader.report();
        *self.0.0.lock().unwrap_or_else(|e| e.into_inner()) = Some(reader);
        report.plain(py)
    }
}
