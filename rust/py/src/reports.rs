//! Reports as dicts. The lists of fields stand here once; `nbws.reports` mirrors them and a test compares both.
//!
//! Paths become `os.fsdecode` strings, so names that are not UTF-8 survive as surrogate escapes.

use nbws_engine::options::Retention;
use nbws_engine::report::{
    CategoryGrowth, CategoryUsage, Changed, CheckReport, Damage, Diff, DoctorReport, Entry,
    ExportReport, GrowthReport, OmitReason, Omitted, PathGrowth, PathUsage, Preview, Requests,
    RestoreReport, SaveReport, Skipped, SnapshotInfo, UsageReport,
};
use nbws_engine::{
    Claimed, ForgottenSnapshot, Forked, FoundSession, LogEvent, PinnedSnapshot, PruneReport,
    Tallied, TargetState, WaitingMark,
};
use pyo3::types::{PyDict, PyDictMethods, PyList, PyListMethods, PyString};
use pyo3::{Bound, IntoPyObjectExt, PyAny, PyResult, Python, pyfunction};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A value that Python gets as a plain one: numbers, text, lists and dicts.
pub(crate) trait Plain {
    fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;
}

macro_rules! plain_by_conversion {
    ($($type:ty),*) => {$(
        impl Plain for $type {
            fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                self.clone().into_bound_py_any(py)
            }
        }
    )*};
}

plain_by_conversion!((), bool, u64, i64, i128, f64, String);
plain_by_conversion!(Option<bool>, Option<u64>, Option<f64>, Option<String>);

/// A path: bytes in the engine, `os.fsdecode` text in Python.
impl Plain for Vec<u8> {
    fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        OsStr::from_bytes(self).into_bound_py_any(py)
    }
}

impl Plain for Option<Vec<u8>> {
    fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Some(path) => path.plain(py),
            None => Ok(py.None().into_bound(py)),
        }
    }
}

impl Plain for Option<FoundSession> {
    fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Some(session) => session.plain(py),
            None => Ok(py.None().into_bound(py)),
        }
    }
}

macro_rules! plain_list {
    ($($item:ty),*) => {$(
        impl Plain for Vec<$item> {
            fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                let list = PyList::empty(py);
                for item in self {
                    list.append(item.plain(py)?)?;
                }
                Ok(list.into_any())
            }
        }
    )*};
}

plain_list!(
    Vec<u8>,
    String,
    (String, Vec<u8>),
    Omitted,
    Skipped,
    Damage,
    PathUsage,
    CategoryUsage,
    PathGrowth,
    CategoryGrowth,
    GrowthReport,
    SnapshotInfo,
    Entry,
    Changed,
    ForgottenSnapshot,
    PinnedSnapshot,
    WaitingMark,
    LogEvent,
    Tallied
);

impl Plain for Option<Retention> {
    fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Some(rules) => rules.plain(py),
            None => Ok(py.None().into_bound(py)),
        }
    }
}

impl Plain for OmitReason {
    fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let name = match self {
            OmitReason::Deadline => "deadline",
            OmitReason::Quota => "quota",
        };
        name.into_bound_py_any(py)
    }
}

/// A file of a snapshot.
impl Plain for (String, Vec<u8>) {
    fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let dict = PyDict::new(py);
        dict.set_item(pyo3::intern!(py, "snapshot"), &self.0)?;
        dict.set_item(pyo3::intern!(py, "path"), self.1.plain(py)?)?;
        Ok(dict.into_any())
    }
}

macro_rules! reports {
    ($($type:ident { $($field:ident),* $(,)? })*) => {
        $(
            impl Plain for $type {
                fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                    // Naming every field makes a new one of the engine break this build.
                    let $type { $($field),* } = self;
                    let dict = PyDict::new(py);
                    $(dict.set_item(PyString::intern(py, stringify!($field)), $field.plain(py)?)?;)*
                    Ok(dict.into_any())
                }
            }
        )*

        /// Every report and its fields, in order.
        #[pyfunction]
        pub(crate) fn report_fields() -> Vec<(&'static str, Vec<&'static str>)> {
            vec![$((stringify!($type), vec![$(stringify!($field)),*])),*]
        }
    };
}

reports! {
    Requests { put, get, list, head, delete }
    Omitted { path, size, reason }
    Skipped { path, reason }
    SaveReport {
        snapshot, seq, complete, partial, files_total, files_new, files_changed, files_unchanged, files_removed,
        files_opened, bytes_total, bytes_read, bytes_new, bytes_uploaded, requests, chunks_total, chunks_new, unstable,
        stale, omitted, skipped, warnings, rescue, duration_s,
    }
    RestoreReport {
        snapshot, complete, files_written, files_kept, files_removed, bytes_written, bytes_downloaded, requests,
        tree_root, skipped, warnings, rescue, duration_s,
    }
    SnapshotInfo {
        snapshot, seq, time_ms, comment, files, bytes, tree_root, framework, python, partial, origin, reason, pinned_until_ms,
        eviction_ms,
    }
    Preview {
        files_total, files_new, files_changed, files_unchanged, files_removed, bytes_total, bytes_read, bytes_new,
        bytes_uploaded, requests, chunks_new, exact, rescue, omitted, skipped, unstable, stale, warnings, duration_s,
    }
    PathUsage { path, logical_bytes, files, unique_bytes, stored_bytes }
    CategoryUsage { category, logical_bytes, files, unique_bytes, stored_bytes }
    UsageReport {
        logical_bytes, unique_bytes, stored_bytes, objects, snapshots, files, snapshot_bytes, by_path, snapshot, total, by_category,
        metadata_bytes, other_bytes, overhead_bytes, requests,
    }
    PathGrowth { path, logical_bytes, files, unique_bytes, stored_bytes, new_stored_bytes, gone_stored_bytes }
    CategoryGrowth { category, logical_bytes, files, unique_bytes, stored_bytes, new_stored_bytes, gone_stored_bytes }
    GrowthReport { before, after, total, by_path, by_category, metadata_bytes, requests }
    Entry { path, kind, size, mode, uid, gid, mtime_ns, target, link, xattrs }
    Changed { path, what, before, after }
    Diff { added, changed, removed, skipped }
    ExportReport { snapshot, complete, files, bytes, skipped }
    Damage { object, problem, files }
    CheckReport { objects, snapshots, bytes_read, complete, damaged, requests, duration_s }
    ForgottenSnapshot { snapshot, seq, time_ms, comment, reason }
    PinnedSnapshot { snapshot, until_ms, comment }
    WaitingMark { seq, packs, bytes, snapshots, sweep_after_ms, state }
    Retention {
        retained_number, lifetime_in_days, lifetime_eviction_threshold, keep_last, keep_within_ms, keep_daily, keep_weekly,
        keep_monthly,
    }
    PruneReport {
        applied, needs_force, snapshots, forgotten, rescues_expired, packs, stored_bytes, packs_doomed, bytes_doomed,
        packs_repacked, bytes_copied, mark, marks, packs_deleted, bytes_freed, records_removed, ledger, warnings, requests,
        duration_s,
    }
    Forked { repository, snapshot, objects, bytes, requests, bytes_moved, duration_s }
    Claimed { seq, epoch, writer, previous, displaced, snapshot }
    TargetState {
        is_empty, is_known, is_proven, is_half_restored, epoch, writer, owns_epoch, latch, has_state, state, snapshot, notices,
    }
    FoundSession { directory, epoch, writer, owns_epoch, notes }
    LogEvent {
        seq, time_ms, kind, state, epoch, writer, snapshot, comment, info, partial, framework, python, resident, take_over, purge,
        bytes, files, objects, stored_bytes, unread,
    }
    Tallied { id, events, snapshots, kind, problem, requests }
    DoctorReport {
        url, client, multi_writer, sequential_create, rounds, rounds_with_one_winner, most_winners, losers_wrote, unclear,
        read_after_write, list_after_write, multipart, clock_offset_s, recorded, findings, requests, duration_s,
    }
}
