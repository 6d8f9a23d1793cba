//! Options of a verb from a Python dict. A key that no verb knows is a bug of the caller in this package.

use nbws_engine::options::{
    CheckOptions, Count, Delete, Label, Level, OpenOptions, Over, PruneOptions, Quota,
    RestoreOptions, Retention, SaveOptions, UsageOptions,
};
use nbws_engine::{ClaimOptions, DEFAULT_TTL, Error, ErrorKind};
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::PyTypeError;
use pyo3::types::{PyAnyMethods, PyBytes, PyBytesMethods, PyDict, PyDictMethods, PyListMethods};
use pyo3::{Borrowed, Bound, FromPyObject, PyAny, PyErr, PyResult, Python};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// A dict that is emptied key by key, so that what is left over is known to be unknown.
struct Fields<'py>(Bound<'py, PyDict>);

impl<'py> Fields<'py> {
    fn new(dict: &Bound<'py, PyDict>) -> PyResult<Self> {
        dict.copy().map(Fields)
    }

    /// The value of `key`; `None` when it is absent or Python's None.
    fn take<T: FromPyObjectOwned<'py>>(&self, key: &str) -> PyResult<Option<T>> {
        let Some(value) = self.0.get_item(key)? else {
            return Ok(None);
        };
        self.0.del_item(key)?;
        if value.is_none() {
            return Ok(None);
        }
        value
            .extract::<T>()
            .map(Some)
            .map_err(|failure| wrong_type(key, failure.into()))
    }

    fn flag(&self, key: &str) -> PyResult<bool> {
        self.take(key).map(Option::unwrap_or_default)
    }

    fn finish(self) -> PyResult<()> {
        match self.0.keys().get_item(0) {
            Ok(key) => Err(PyTypeError::new_err(format!("unknown option {key}"))),
            Err(_) => Ok(()),
        }
    }
}

fn wrong_type(key: &str, cause: PyErr) -> PyErr {
    PyTypeError::new_err(format!("option {key}: {cause}"))
}

/// A file system path as bytes: `str` by `os.fsencode`, `bytes` as they are.
pub(crate) struct PathBytes(pub(crate) Vec<u8>);

impl<'py> FromPyObject<'_, 'py> for PathBytes {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(PathBytes(bytes.as_bytes().to_vec()));
        }
        Ok(PathBytes(value.extract::<OsString>()?.into_vec()))
    }
}

fn seconds(key: &'static str, value: Option<f64>) -> Result<Option<Duration>, Error> {
    value
        .map(|s| {
            Duration::try_from_secs_f64(s).map_err(|cause| {
                Error::new(
                    ErrorKind::InvalidInput,
                    "read options",
                    format!("{key}: {cause}"),
                )
            })
        })
        .transpose()
}

fn level(text: Option<&str>) -> Result<Level, Error> {
    match text {
        None | Some("auto") => Ok(Level::Auto),
        Some("fast") => Ok(Level::Fast),
        Some(number) => number.parse().map(Level::Fixed).map_err(|_| {
            Error::new(
                ErrorKind::InvalidInput,
                "read options",
                "level is \"auto\", \"fast\" or a number from 1 to 19",
            )
        }),
    }
}

fn delete(text: Option<&str>) -> Result<Delete, Error> {
    match text {
        None | Some("auto") => Ok(Delete::Auto),
        Some("yes") => Ok(Delete::Yes),
        Some("no") => Ok(Delete::No),
        Some(_) => Err(Error::new(
            ErrorKind::InvalidInput,
            "read options",
            "delete is \"auto\", \"yes\" or \"no\"",
        )),
    }
}

fn valid<T>(py: Python<'_>, value: Result<T, Error>) -> PyResult<T> {
    value.map_err(|error| crate::errors::to_python(py, &error))
}

pub(crate) fn open(dict: &Bound<'_, PyDict>) -> PyResult<OpenOptions> {
    let fields = Fields::new(dict)?;
    let store: Option<BTreeMap<String, String>> = fields.take("store")?;
    let options = OpenOptions {
        create: fields.flag("create")?,
        numeric_ids: fields.flag("numeric_ids")?,
        floor: fields.take("floor")?,
        state_dir: fields.take("state_dir")?,
        store: store.unwrap_or_default().into_iter().collect(),
        probe: fields.take("probe")?.unwrap_or(true),
        exclusive: fields.flag("exclusive")?,
    };
    fields.finish()?;
    Ok(options)
}

pub(crate) fn save(dict: &Bound<'_, PyDict>) -> PyResult<SaveOptions> {
    let py = dict.py();
    let fields = Fields::new(dict)?;
    let options = SaveOptions {
        comment: fields.take("comment")?,
        exclude: fields.take("exclude")?.unwrap_or_default(),
        cachedir_tag: fields.flag("cachedir_tag")?,
        quota: quota(fields.take::<Bound<'_, PyDict>>("quota")?.as_ref())?,
        deadline: valid(py, seconds("deadline", fields.take("deadline")?))?,
        level: valid(py, level(fields.take::<String>("level")?.as_deref()))?,
        reread: fields.flag("reread")?,
        is_last: fields.flag("is_last")?,
        take_over: fields.flag("take_over")?,
        threads: fields.take("threads")?,
        memory_bytes: fields.take("memory_bytes")?,
        limit_rate: fields.take("limit_rate")?,
        label: Label {
            origin: fields.take("origin")?,
            framework: fields.take("framework")?,
            python: fields.take("python")?,
        },
        in_session: fields.flag("in_session")?,
    };
    fields.finish()?;
    Ok(options)
}

fn quota(dict: Option<&Bound<'_, PyDict>>) -> PyResult<Quota> {
    let Some(dict) = dict else {
        return Ok(Quota::default());
    };
    let fields = Fields::new(dict)?;
    let choice = |key, choices: [&str; 2]| -> PyResult<bool> {
        let chosen: Option<String> = fields.take(key)?;
        match chosen.as_deref() {
            None => Ok(false),
            Some(word) if choices.contains(&word) => Ok(word == choices[1]),
            Some(word) => Err(PyTypeError::new_err(format!("option {key}: {word}"))),
        }
    };
    let quota = Quota {
        soft_bytes: fields.take("soft_bytes")?,
        hard_bytes: fields.take("hard_bytes")?,
        soft_files: fields.take("soft_files")?,
        hard_files: fields.take("hard_files")?,
        count: match choice("count", ["logical", "stored"])? {
            true => Count::Stored,
            false => Count::Logical,
        },
        over: match choice("over", ["keep-small", "refuse"])? {
            true => Over::Refuse,
            false => Over::KeepSmall,
        },
    };
    fields.finish()?;
    Ok(quota)
}

pub(crate) fn claim(dict: &Bound<'_, PyDict>) -> PyResult<ClaimOptions> {
    let fields = Fields::new(dict)?;
    let ttl = valid(dict.py(), seconds("ttl", fields.take("ttl")?))?;
    let options = ClaimOptions {
        take_over: fields.flag("take_over")?,
        resident: fields.flag("resident")?,
        ttl: ttl.unwrap_or(DEFAULT_TTL),
        notes: fields.take("notes")?,
    };
    fields.finish()?;
    Ok(options)
}

pub(crate) fn restore(dict: &Bound<'_, PyDict>) -> PyResult<RestoreOptions> {
    let py = dict.py();
    let fields = Fields::new(dict)?;
    let paths: Option<Vec<PathBytes>> = fields.take("paths")?;
    let options = RestoreOptions {
        snapshot: fields
            .take("snapshot")?
            .unwrap_or_else(|| "latest".to_owned()),
        paths: paths.map(|paths| paths.into_iter().map(|path| path.0).collect()),
        delete: valid(py, delete(fields.take::<String>("delete")?.as_deref()))?,
        verify: fields.flag("verify")?,
        numeric_ids: fields.flag("numeric_ids")?,
        discard_changes: fields.flag("discard_changes")?,
        threads: fields.take("threads")?,
        memory_bytes: fields.take("memory_bytes")?,
    };
    fields.finish()?;
    Ok(options)
}

pub(crate) fn check(dict: &Bound<'_, PyDict>) -> PyResult<CheckOptions> {
    let fields = Fields::new(dict)?;
    let options = CheckOptions {
        read_data: fields.take("read_data")?.unwrap_or_default(),
    };
    fields.finish()?;
    Ok(options)
}

pub(crate) fn usage(dict: &Bound<'_, PyDict>) -> PyResult<UsageOptions> {
    let fields = Fields::new(dict)?;
    let defaults = UsageOptions::default();
    let options = UsageOptions {
        snapshot: fields.take("snapshot")?.unwrap_or(defaults.snapshot),
        path: fields
            .take::<PathBytes>("path")?
            .map_or(defaults.path, |path| path.0),
        depth: fields.take("depth")?.unwrap_or(defaults.depth),
        largest: fields.take("largest")?,
        categories: fields.take("categories")?.unwrap_or_default(),
    };
    fields.finish()?;
    Ok(options)
}

pub(crate) fn prune(dict: &Bound<'_, PyDict>) -> PyResult<PruneOptions> {
    let py = dict.py();
    let fields = Fields::new(dict)?;
    let rules = |key| -> PyResult<Option<Retention>> {
        retention(fields.take::<Bound<'_, PyDict>>(key)?.as_ref())
    };
    let options = PruneOptions {
        apply: fields.flag("apply")?,
        force: fields.flag("force")?,
        grace: valid(py, seconds("grace", fields.take("grace")?))?,
        retention: rules("retention")?,
        default_retention: rules("default_retention")?,
        repack: fields.take("repack")?.unwrap_or(true),
        time_limit: valid(py, seconds("time_limit", fields.take("time_limit")?))?,
    };
    fields.finish()?;
    Ok(options)
}

pub(crate) fn retention(dict: Option<&Bound<'_, PyDict>>) -> PyResult<Option<Retention>> {
    let Some(dict) = dict else { return Ok(None) };
    let fields = Fields::new(dict)?;
    let rules = Retention {
        keep_daily: fields.take("keep_daily")?,
        keep_last: fields.take("keep_last")?,
        keep_monthly: fields.take("keep_monthly")?,
        keep_weekly: fields.take("keep_weekly")?,
        keep_within_ms: fields.take("keep_within_ms")?,
        lifetime_eviction_threshold: fields.take("lifetime_eviction_threshold")?,
        lifetime_in_days: fields.take("lifetime_in_days")?,
        retained_number: fields.take("retained_number")?,
    };
    fields.finish()?;
    Ok(Some(rules))
}
