//! The public surface: a workspace repository, and one function per verb.

use crate::browse::SnapshotReader;
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::doctor;
use crate::local::cache::{KnownTree, Session};
use crate::options::{
    CheckOptions, OpenOptions, PreviewOptions, RestoreOptions, Retention, SaveOptions, UsageOptions,
};
use crate::progress::{Meter, ProgressSink};
use crate::report::{
    CheckReport, GrowthReport, Preview, RestoreReport, SaveReport, SnapshotInfo, UsageReport,
};
use crate::store::{Counting, Created, Discarding, Exclusive, RequestTotals, Retrying, Store};
use nbws_core::format::Format;
use nbws_core::id::{FrameHash, RepositoryId, SnapshotId};
use nbws_core::index::IndexPart;
use nbws_core::limits::FORMAT_VERSION;
use nbws_core::{Error, ErrorKind, Result, key};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How long opening repeats its first request.
pub(crate) const OPEN_PATIENCE: Duration = Duration::from_secs(5);

/// A workspace repository: everything below one prefix of one store. Cheap to clone; clones share connections and what
/// is known of the repository.
#[derive(Clone)]
pub struct Workspace(pub(crate) Arc<Inner>);

/// What every verb works with.
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) format: Format,
    pub(crate) options: OpenOptions,
    memory: Mutex<Memory>,
}

/// What this process knows, so that an open writer asks the store nothing twice.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    pub(crate) targets: HashMap<PathBuf, Remembered>,
    pub(crate) frames: HashMap<FrameHash, Arc<Vec<u8>>>,
    pub(crate) parts: HashMap<FrameHash, Arc<IndexPart>>,
}

/// What this process knows of one target.
#[derive(Clone)]
pub(crate) struct Remembered {
    pub(crate) session: Session,
    pub(crate) tree: Option<(SnapshotId, Arc<KnownTree>)>,
    /// It could not be written: what the disk holds is older.
    pub(crate) is_unstored: bool,
}

/// One verb's view of the repository: requests are counted per verb.
pub(crate) struct Access {
    pub(crate) inner: Arc<Inner>,
    /// Counts and retries; every request of the verb goes through it.
    pub(crate) store: Arc<dyn Store>,
    counting: Arc<Counting>,
    pub(crate) cancel: CancelToken,
    pub(crate) meter: Arc<Meter>,
}

impl Access {
    /// Requests that this verb has sent so far.
    pub(crate) fn totals(&self) -> RequestTotals {
        self.counting.totals()
    }
}

impl Inner {
    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        // A panic while holding the lock leaves a map that is at worst out of date; everything in it is checked.
        self.memory.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn repository(&self) -> RepositoryId {
        self.format.repository
    }

    /// Fails with `Unsupported` unless this program knows the format. Whether the store is safe for the writers there may be depends
    /// on the log: [`crate::settings::check_writers`].
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.format.check_writable()
    }
}

impl Workspace {
    /// Opens the repository at `url`, or makes it with `options.create`.
    ///
    /// One GET; creating adds one listing and one PUT, and with `options.probe` what [`doctor::doctor`] sends. `NotFound` if nothing is there and `create` is not set (a typo must not look like an
    /// empty notebook), `Unsupported` for another format version, and for creating on a store that
    /// can't have several writers without `options.exclusive`, `InvalidInput` for a URL that can't be used.
    pub async fn open(url: &str, options: OpenOptions) -> Result<Workspace> {
        let store = crate::store::open(url, &options.store)?;
        Self::with_store(store, options).await
    }

    /// As [`Workspace::open`], on a store that exists.
    pub async fn with_store(store: Arc<dyn Store>, options: OpenOptions) -> Result<Workspace> {
        // A store that can't be reached is said so soon: nothing has been done yet that waiting could save.
        let retrying = Retrying::new(
            Arc::clone(&store),
            Deadline::after(OPEN_PATIENCE),
            CancelToken::new(),
        );
        let bytes = match retrying.get(key::FORMAT).await {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound && options.create => {
                check_unused(&retrying, options.floor).await?;
                create(&store, &options).await?
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "open",
                    "there is no workspace repository; check the URL, or ask for a new one (create=True, --create)",
                )
                .at(store.describe())
                .caused_by(e));
            }
            Err(e) => return Err(e),
        };
        let format = Format::decode(&bytes)?;
        let store: Arc<dyn Store> = match options.exclusive {
            true => Arc::new(Exclusive::new(store)),
            false => store,
        };
        Ok(Workspace(Arc::new(Inner {
            store,
            format,
            options,
            memory: Mutex::default(),
        })))
    }

    /// The repository id, 32 hex digits.
    pub fn repository_id(&self) -> String {
        self.0.repository().to_hex()
    }

    /// The URL, without secrets.
    pub fn describe(&self) -> String {
        self.0.store.describe()
    }

    pub(crate) fn access(&self, progress: Option<ProgressSink>, cancel: CancelToken) -> Access {
        let counting = Arc::new(Counting::new(Arc::clone(&self.0.store)));
        let inner: Arc<dyn Store> = counting.clone();
        Access {
            inner: Arc::clone(&self.0),
            store: Arc::new(Retrying::new(inner, Deadline::NEVER, cancel.clone())),
            counting,
            cancel,
            meter: Arc::new(Meter::new(progress)),
        }
    }

    /// Tells what [`Workspace::save`] would do. Sends nothing and leaves no trace: neither store nor local state nor what this
    /// handle knows is changed. The bytes to upload are exact as long as the directory stays as it is.
    pub async fn preview(
        &self,
        directory: &Path,
        options: PreviewOptions,
        progress: Option<ProgressSink>,
        cancel: CancelToken,
    ) -> Result<Preview> {
        let sandbox = Workspace(Arc::new(Inner {
            store: Arc::new(Discarding::new(Arc::clone(&self.0.store))),
            format: self.0.format.clone(),
            options: self.0.options.clone(),
            memory: Mutex::new(self.0.memory().clone()),
        }));
        crate::preview::preview(sandbox.access(progress, cancel), directory, options).await
    }

    /// Saves `directory` as the new workspace head.
    ///
    /// Atomic: readers see the previous head until the record is in the log, and the new one from then on. When this
    /// returns the save is durable. `Fenced` (with the rescue that keeps the work) if another writer was faster,
    /// `InvalidState` (with a rescue) if the directory is not proven to hold the workspace head, `CommitUnknown` if the
    /// store did not say whether the record landed, `Cancelled` after [`CancelToken::cancel`].
    pub async fn save(
        &self,
        directory: &Path,
        options: SaveOptions,
        progress: Option<ProgressSink>,
        cancel: CancelToken,
    ) -> Result<SaveReport> {
        crate::save::save(self.access(progress, cancel), directory, options).await
    }

    /// Makes `directory` hold a snapshot.
    ///
    /// Each file appears whole or not at all. An existing tree is changed only after everything new was written beside it.
    /// `InvalidInput` if `directory` holds other things and nobody said what may be removed.
    pub async fn restore(
        &self,
        directory: &Path,
        options: RestoreOptions,
        progress: Option<ProgressSink>,
        cancel: CancelToken,
    ) -> Result<RestoreReport> {
        crate::restore::restore(self.access(progress, cancel), directory, options).await
    }

    /// The snapshots that are kept, oldest first.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        self.snapshots_by(None).await
    }

    /// As [`Workspace::snapshots`]; dates follow `default_retention` where the repository has no rules of its own.
    pub async fn snapshots_by(
        &self,
        default_retention: Option<Retention>,
    ) -> Result<Vec<SnapshotInfo>> {
        let access = self.access(None, CancelToken::new());
        crate::browse::snapshots(&access, default_retention).await
    }

    /// Work of fenced or unproven writers that is kept beside the head, oldest first.
    pub async fn rescues(&self) -> Result<Vec<SnapshotInfo>> {
        crate::browse::rescues(&self.access(None, CancelToken::new())).await
    }

    /// Gives a rescue up; its bytes go with the next prune. One record.
    pub async fn dismiss(&self, rescue: &str) -> Result<()> {
        crate::browse::dismiss(&self.access(None, CancelToken::new()), rescue).await
    }

    /// Opens a snapshot or rescue for reading, without a restore: `latest`, `latest~2`, an id or a unique prefix of one.
    ///
    /// Reads the newest record, the index and the root of the snapshot, and nothing of its tree. `NotFound` if nothing has this
    /// name, `InvalidInput` if several have.
    pub async fn browse(&self, snapshot: &str) -> Result<SnapshotReader> {
        crate::browse::open(self.access(None, CancelToken::new()), snapshot).await
    }

    /// Totals of the repository, and what a path of one snapshot holds, from records, index and trees alone.
    ///
    /// `NotFound` if there is no such snapshot or path; a repository without snapshots has nothing at its top.
    pub async fn usage(&self, options: UsageOptions) -> Result<UsageReport> {
        crate::usage::usage(&self.access(None, CancelToken::new()), &options).await
    }

    /// By how much each of `snapshots` is larger than the one before it; without names all snapshots, oldest first.
    ///
    /// Parts of trees that two neighbours share are not read again. `NotFound` if there is no such snapshot, or if none of them
    /// has the path.
    pub async fn growth(
        &self,
        snapshots: &[String],
        options: UsageOptions,
    ) -> Result<Vec<GrowthReport>> {
        let access = self.access(None, CancelToken::new());
        crate::usage::growth(&access, snapshots, &options).await
    }

    /// Looks for damage: log, trees, index and pack directories always, data as far as asked. Changes nothing.
    pub async fn check(
        &self,
        options: CheckOptions,
        progress: Option<ProgressSink>,
        cancel: CancelToken,
    ) -> Result<CheckReport> {
        crate::check::check(&self.access(progress, cancel), options).await
    }
}

/// A repository that has lost its `format` is never taken for a place without one.
async fn check_unused(store: &dyn Store, floor: Option<u64>) -> Result<()> {
    let (kind, why) = match floor {
        Some(_) => (
            ErrorKind::RollbackDetected,
            "is not there, yet records are known to have been committed",
        ),
        None if store.list(key::LOG, None).await?.is_empty() => return Ok(()),
        None => (
            ErrorKind::Corrupt,
            "is missing from a repository that has a log; put it back from a copy",
        ),
    };
    Err(Error::new(kind, "create repository", why).at(key::FORMAT))
}

async fn create(store: &Arc<dyn Store>, options: &OpenOptions) -> Result<bytes::Bytes> {
    let repository = RepositoryId(crate::random::bytes()?);
    let mut format = Format::new(repository, crate::clock::now_ms(), options.numeric_ids);
    if options.probe {
        let measured = doctor::measured_once(store, options).await?;
        format.probe = Some(doctor::outcome(&measured));
        doctor::check_writers(format.probe.as_ref(), options, &store.describe())?;
    }
    debug_assert_eq!(u64::from(FORMAT_VERSION), 0);
    let bytes = bytes::Bytes::from(format.encode()?);
    let store: Arc<dyn Store> = match options.exclusive {
        true => Arc::new(Exclusive::new(Arc::clone(store))),
        false => Arc::clone(store),
    };
    match store.create(key::FORMAT, bytes.clone()).await {
        Ok(Created::Yes) => Ok(bytes),
        // Somebody else was first, or the reply was lost: either way what is there counts.
        Ok(Created::Exists) => store.get(key::FORMAT).await,
        Err(e) if e.kind() == ErrorKind::Unavailable => match store.get(key::FORMAT).await {
            Ok(found) => Ok(found),
            Err(_) => Err(e),
        },
        Err(e) => Err(e),
    }
}
