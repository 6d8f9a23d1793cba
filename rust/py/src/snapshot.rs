//! One snapshot opened for reading: one function per engine verb.

use crate::blocking::{Interrupt, Job};
use crate::errors::to_python;
use crate::options::PathBytes;
use crate::reports::Plain;
use crate::workspace::{wait, wait_plain};
use pyo3::types::PyBytes;
use pyo3::{Bound, PyAny, PyResult, Python, pyclass, pymethods};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// A snapshot or rescue, opened for reading.
#[pyclass(frozen, module = "nbws._nbws")]
pub(crate) struct SnapshotReader(pub(crate) nbws_engine::SnapshotReader);

#[pymethods]
impl SnapshotReader {
    #[getter]
    fn id(&self) -> String {
        self.0.id()
    }

    fn list<'py>(
        &self,
        py: Python<'py>,
        path: PathBytes,
        recursive: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let snapshot = self.0.clone();
        let job = Job::start(Interrupt::Drop, async move {
            snapshot.list(&path.0, recursive).await
        });
        wait_plain(py, job, None)
    }

    fn stat<'py>(&self, py: Python<'py>, path: PathBytes) -> PyResult<Bound<'py, PyAny>> {
        let snapshot = self.0.clone();
        let job = Job::start(Interrupt::Drop, async move { snapshot.stat(&path.0).await });
        wait_plain(py, job, None)
    }

    fn usage<'py>(&self, py: Python<'py>, path: PathBytes) -> PyResult<Bound<'py, PyAny>> {
        let snapshot = self.0.clone();
        let job = Job::start(
            Interrupt::Drop,
            async move { snapshot.usage(&path.0).await },
        );
        wait_plain(py, job, None)
    }

    fn open_file(&self, py: Python<'_>, path: PathBytes) -> PyResult<FileReader> {
        let snapshot = self.0.clone();
        let job = Job::start(
            Interrupt::Drop,
            async move { snapshot.open_file(&path.0).await },
        );
        wait(py, job, None).map(FileReader)
    }

    fn diff<'py>(
        &self,
        py: Python<'py>,
        other: &Bound<'py, SnapshotReader>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (snapshot, other) = (self.0.clone(), other.get().0.clone());
        let job = Job::start(Interrupt::Drop, async move { snapshot.diff(&other).await });
        wait_plain(py, job, None)
    }

    fn diff_directory<'py>(
        &self,
        py: Python<'py>,
        directory: PathBuf,
        exclude: Vec<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let snapshot = self.0.clone();
        let job = Job::start_cancellable(|_, cancel| async move {
            snapshot.diff_directory(&directory, exclude, cancel).await
        });
        wait_plain(py, job, None)
    }

    #[pyo3(signature = (paths=None))]
    fn export(&self, py: Python<'_>, paths: Option<Vec<PathBytes>>) -> PyResult<TarReader> {
        let snapshot = self.0.clone();
        let paths = paths.map(|paths| paths.into_iter().map(|path| path.0).collect());
        let job = Job::start(Interrupt::Drop, async move { snapshot.export(paths).await });
        wait(py, job, None).map(|reader| TarReader(Arc::new(Mutex::new(Some(reader)))))
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

    fn read_at<'py>(
        &self,
        py: Python<'py>,
        offset: u64,
        length: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let file = self.0.clone();
        let job = Job::start(Interrupt::Drop, async move {
            file.read_at(offset, length).await
        });
        wait(py, job, None).map(|bytes| PyBytes::new(py, &bytes))
    }
}

/// A tar stream; none while a piece of it is being made.
#[pyclass(frozen, module = "nbws._nbws")]
pub(crate) struct TarReader(Arc<Mutex<Option<nbws_engine::TarReader>>>);

impl TarReader {
    fn busy(py: Python<'_>) -> pyo3::PyErr {
        let kind = nbws_engine::ErrorKind::InvalidState;
        let why = "the stream is read elsewhere, or an error has ended it";
        to_python(py, &nbws_engine::Error::new(kind, "export", why))
    }

    fn taken(&self) -> Option<nbws_engine::TarReader> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).take()
    }
}

#[pymethods]
impl TarReader {
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut reader = self.taken().ok_or_else(|| Self::busy(py))?;
        let job = Job::start(Interrupt::Drop, async move {
            let piece = reader.next().await?;
            Ok((reader, piece))
        });
        let (reader, piece) = wait(py, job, None)?;
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) = Some(reader);
        Ok(piece.map(|bytes| PyBytes::new(py, &bytes)))
    }

    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let reader = self.taken().ok_or_else(|| Self::busy(py))?;
        let report = reader.report();
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) = Some(reader);
        report.plain(py)
    }
}
