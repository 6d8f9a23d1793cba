//! Fork: an independent repository that begins with one snapshot of this one. The store copies the objects itself.
//!
//! The copy keeps the names of packs, whose headers go on naming the repository that wrote them; `format` says whose are accepted.
//! Order: note the fork in the settings of the source, which keeps the snapshot, make `format`, copy, verify, append the record.
//! Before the record the new repository is empty; a fork that died there is finished by repeating it.

use crate::base;
use crate::beside::{Beside, append_once, following};
use crate::cancel::CancelToken;
use crate::clock::{Stopwatch, now_ms};
use crate::report::Requests;
use crate::resolve::resolve;
use crate::settings::{Edit, change_settings};
use crate::store::{Created, Exclusive, ObjectInfo, Store};
use crate::whole_log::whole_log;
use crate::workspace::{Access, Workspace};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use nbws_core::format::Format;
use nbws_core::frame::FrameKind;
use nbws_core::id::{RepositoryId, SnapshotId, WriterId};
use nbws_core::record::{Body, Fork as ForkNote, Head, Place, Record, SnapshotBody, Usage};
use nbws_core::{Error, ErrorKind, Result, key};
use std::collections::BTreeMap;
use std::sync::Arc;

const FORK: &str = "fork";
/// Copies in flight.
const CONCURRENCY: usize = 16;
/// Longer than any copy takes; a fork that dies leaves its note, which ends by itself.
const LONGEST_MS: u64 = 24 * 3_600_000;

/// What a fork made.
#[derive(Clone, Debug, Default)]
pub struct Forked {
    /// Id of the new repository.
    pub repository: String,
    /// The snapshot that it begins with.
    pub snapshot: String,
    /// Objects copied.
    pub objects: u64,
    /// Bytes copied by the store.
    pub bytes: u64,
    /// Requests to either.
    pub requests: Requests,
    /// Bytes that passed through this program.
    pub bytes_moved: u64,
    /// Seconds of wall time.
    pub duration_s: f64,
}

impl Workspace {
    /// Makes the repository at `url`, another prefix of the same bucket, which begins with `snapshot`. Later changes of either don't
    /// concern the other. What is copied is kept meanwhile, and the source can't be purged. May be repeated after a failure.
    ///
    /// `AlreadyExists` if there is a repository with records, or of other origin, `NotFound` if there is no such snapshot,
    /// `Unsupported` if the store can't copy.
    pub async fn fork(&self, snapshot: &str, url: &str) -> Result<Forked> {
        let watch = Stopwatch::start();
        let source = self.access(None, CancelToken::new());
        let (body, index) = described(&source, snapshot).await?;
        let id = body.snapshot.to_hex();
        let name = last_part(url);
        let fork = ForkNote {
            snapshot: body.snapshot,
            target: name.clone(),
            until_ms: now_ms() + LONGEST_MS,
        };
        change_settings(&source, Edit::BeginFork(fork)).await?;
        let made = self.make_copy(&source, url, (body, index)).await;
        // Also after a failure: what was copied is found again by repeating it. If this fails, the note ends by itself.
        let ended = change_settings(&source, Edit::EndFork(name)).await;
        let (target, access, (objects, bytes)) = made?;
        ended?;
        let moved = |access: &Access| access.totals().bytes_up + access.totals().bytes_down;
        Ok(Forked {
            repository: target.repository_id(),
            snapshot: id,
            objects,
            bytes,
            requests: (source.totals() + access.totals()).into(),
            bytes_moved: moved(&source) + moved(&access),
            duration_s: watch.elapsed().as_secs_f64(),
        })
    }

    /// The new repository with its first record; its objects and bytes.
    async fn make_copy(
        &self,
        source: &Access,
        url: &str,
        (body, index): (SnapshotBody, Option<Place>),
    ) -> Result<(Workspace, Access, (u64, u64))> {
        let target = self.make_fork(url).await?;
        let access = target.access(None, CancelToken::new());
        let (objects, bytes) = copy_all(source, &access).await?;
        let usage = Usage {
            bytes: body.bytes,
            files: body.files,
            objects: objects + 2,
            stored_bytes: bytes,
        };
        // What the record is about to name can be read there.
        base::frame(&access, None, &body.root, FrameKind::Chunks).await?;
        append_first(&access, body, index, usage).await?;
        Ok((target, access, (objects, bytes)))
    }

    /// The new repository, without a record yet.
    async fn make_fork(&self, url: &str) -> Result<Workspace> {
        let options = crate::options::OpenOptions {
            create: false,
            floor: None,
            ..self.0.options.clone()
        };
        let store = crate::store::open(url, &options.store)?;
        let store: Arc<dyn Store> = match options.exclusive {
            true => Arc::new(Exclusive::new(store)),
            false => store,
        };
        let own = &self.0.format;
        let mut origins = own.origins.clone();
        origins.push(own.repository);
        origins.sort_unstable();
        origins.dedup();
        let format = Format {
            repository: RepositoryId(crate::random::bytes()?),
            created_ms: now_ms(),
            origins,
            ..own.clone()
        };
        match store
            .create(key::FORMAT, Bytes::from(format.encode()?))
            .await?
        {
            Created::Yes => Workspace::with_store(store, options).await,
            Created::Exists => {
                let found = Workspace::with_store(store, options).await?;
                if self.is_begun(&found).await? {
                    return Ok(found);
                }
                let why = "there is a repository already; fork to another prefix";
                Err(Error::new(ErrorKind::AlreadyExists, FORK, why).at(url))
            }
        }
    }

    /// Whether a repository is what a fork of this one leaves that did not come to its record. Two forks to one place copy the same
    /// objects, and one of them gets the first slot of the log.
    async fn is_begun(&self, found: &Workspace) -> Result<bool> {
        let own = self.0.repository();
        if !found.0.format.origins.contains(&own) {
            return Ok(false);
        }
        let access = found.access(None, CancelToken::new());
        Ok(base::newest(&access, None).await?.is_none())
    }
}

fn last_part(url: &str) -> String {
    let path = url.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// The snapshot or rescue that is named, as the record of a snapshot, and the index root that names its chunks.
async fn described(access: &Access, snapshot: &str) -> Result<(SnapshotBody, Option<Place>)> {
    let newest = base::newest(access, None).await?;
    let found = resolve(access, newest.as_ref(), snapshot)
        .await?
        .head
        .snapshot;
    let log = whole_log(access, newest.as_ref()).await?;
    let kept = log.snapshots(None);
    let body = kept.iter().find(|s| s.body.snapshot == found);
    let body = match body {
        Some(snapshot) => snapshot.body.clone(),
        None => rescued(&log, found)?,
    };
    let body = SnapshotBody {
        base: None,
        one_shot: true,
        origin: FORK.to_owned(),
        pin_base_until_ms: None,
        ..body
    };
    Ok((body, newest.and_then(|head| head.record.index)))
}

fn rescued(log: &nbws_core::ledger::Log, found: SnapshotId) -> Result<SnapshotBody> {
    let rescues = log.rescues();
    let rescue = rescues.iter().find(|r| r.body.snapshot == found);
    let body = &rescue
        .ok_or_else(|| Error::new(ErrorKind::NotFound, FORK, "the snapshot was forgotten"))?
        .body;
    Ok(SnapshotBody {
        base: None,
        bytes: body.bytes,
        comment: body.comment.clone(),
        files: body.files,
        framework: body.framework.clone(),
        one_shot: true,
        origin: FORK.to_owned(),
        partial: body.partial,
        pin_base_until_ms: None,
        python: body.python.clone(),
        root: body.root,
        snapshot: body.snapshot,
        tree_root: body.tree_root,
    })
}

async fn containers(access: &Access) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for prefix in [key::PACKS, key::INDEX] {
        let listed = access.store.list(prefix, None).await?;
        found.extend(
            listed
                .into_iter()
                .map(|object: ObjectInfo| (object.key, object.size)),
        );
    }
    Ok(found)
}

/// Copies every container; objects and bytes. One that a prune removes meanwhile holds nothing of a pinned snapshot.
async fn copy_all(source: &Access, target: &Access) -> Result<(u64, u64)> {
    let listed = containers(source).await?;
    let from = source.inner.store.describe();
    let from = &from;
    // Owned names: a stream of borrowing closures would keep the verb's future from being `Send`.
    stream::iter(listed.keys().cloned().collect::<Vec<_>>())
        .map(|name| async move {
            match target.store.copy_from(from, &name).await {
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
                other => other,
            }
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<()>>()
        .await?;
    let copied = containers(target).await?;
    let gone = containers(source).await?;
    for (name, size) in &listed {
        let is_whole = copied.get(name) == Some(size);
        if !is_whole && gone.contains_key(name) {
            let why = "was not copied whole; the new repository has no record, so nothing relies on it. Try again elsewhere";
            return Err(Error::new(ErrorKind::Unavailable, FORK, why).at(name.clone()));
        }
    }
    Ok((copied.len() as u64, copied.values().sum()))
}

async fn append_first(
    access: &Access,
    body: SnapshotBody,
    index: Option<Place>,
    usage: Usage,
) -> Result<()> {
    let head = Some(Head {
        root: body.root,
        snapshot: body.snapshot,
    });
    let writer = WriterId(crate::random::bytes()?);
    let record = Record {
        head,
        index,
        usage,
        ..following(access, None, writer, Body::Snapshot(body))?
    };
    match append_once(access, None, record).await? {
        Beside::Appended(_) => Ok(()),
        Beside::Lost(_) => {
            let why = "somebody else has written to the new repository";
            Err(Error::new(ErrorKind::Conflict, FORK, why))
        }
    }
}
