//! Records of the log: one small object says everything about now (`docs/format.md`, section 8).

mod attachment;
mod body;
mod settings;

pub use attachment::{Doomed, DoomedObject};
pub use body::{
    Body, CancelBody, ClaimBody, DismissBody, Kind, MarkBody, RepackBody, RescueBody, SettingsBody,
    SnapshotBody, StateBody, SweepBody, SweptBody, TombstoneBody,
};
pub use settings::{Fork, Pin, Retention, Settings};

use crate::canonical;
use crate::error::{Error, ErrorKind, Result};
use crate::format::check_version;
use crate::id::{CommitId, FrameHash, RepositoryId, SnapshotId, WriterId};
use crate::key::{ContainerKey, ContainerKind};
use crate::limits::{
    FORMAT_VERSION, MAX_ATTACHMENT_BYTES, MAX_CHUNK_BYTES, MAX_COMMENT_BYTES, MAX_CONTAINER_BYTES,
    MAX_RECORD_BYTES,
};
use crate::state::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const DECODE: &str = "decode record";
/// Length of a container header: no frame starts before it.
const FIRST_FRAME_OFFSET: u32 = 64;
/// Length of a frame header, which the stored length includes.
const FRAME_HEADER_BYTES: u32 = 24;

/// Where one frame lies, and what its plain bytes hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// BLAKE3 of the plain bytes; of a snapshot root this is its chunk id.
    pub hash: FrameHash,
    /// Stored bytes, frame header included.
    pub length: u32,
    /// The object.
    pub object: ContainerKey,
    /// First byte of the frame header in the object.
    pub offset: u32,
    /// Plain bytes.
    pub plain: u32,
}

impl Place {
    /// Says what is impossible about a place whose frame has at most `plain_limit` plain bytes, if anything: a hostile record
    /// must not make a reader ask for gigabytes.
    fn check(&self, plain_limit: usize) -> Result<(), &'static str> {
        let end = u64::from(self.offset) + u64::from(self.length);
        if self.offset < FIRST_FRAME_OFFSET || end > MAX_CONTAINER_BYTES {
            return Err("a place lies outside of any container");
        }
        if self.length <= FRAME_HEADER_BYTES || self.plain == 0 {
            return Err("a place names an empty frame");
        }
        let most = plain_limit.max(MAX_CHUNK_BYTES) + FRAME_HEADER_BYTES as usize;
        if self.plain as usize > plain_limit || self.length as usize > most {
            return Err("a place names a frame over its limit");
        }
        Ok(())
    }
}

/// The newest snapshot of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The frame of its root.
    pub root: Place,
    /// Its id.
    pub snapshot: SnapshotId,
}

/// What the repository holds after a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Sum of file sizes of the workspace head.
    pub bytes: u64,
    /// Files and symlinks of the workspace head.
    pub files: u64,
    /// Objects in the store.
    pub objects: u64,
    /// Bytes in the store.
    pub stored_bytes: u64,
}

/// One commit of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it says; the kind follows from it.
    pub body: Body,
    /// Its own random id.
    pub commit: CommitId,
    /// Epoch in force, at least 1.
    pub epoch: u64,
    /// Workspace head after it.
    pub head: Option<Head>,
    /// Index root after it.
    pub index: Option<Place>,
    /// Commit id of the record before it; none for seq 1.
    pub parent: Option<CommitId>,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Its number, from 1 on.
    pub seq: u64,
    /// Attachment with the settings after it.
    pub settings: Option<Place>,
    /// State after it.
    pub state: State,
    /// Writer's clock, milliseconds since 1970 UTC; carries no safety.
    pub time_ms: u64,
    /// Usage after it.
    pub usage: Usage,
    /// Who wrote it.
    pub writer: WriterId,
}

/// The keys of a record, with the body not yet told apart.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spelled {
    body: Value,
    commit: CommitId,
    epoch: u64,
    head: Option<Head>,
    index: Option<Place>,
    kind: String,
    mac: (),
    parent: Option<CommitId>,
    repository: RepositoryId,
    seq: u64,
    settings: Option<Place>,
    state: State,
    time: u64,
    usage: Usage,
    version: u16,
    writer: WriterId,
}

impl Record {
    /// The kind.
    pub fn kind(&self) -> Kind {
        self.body.kind()
    }

    /// The canonical bytes, at most 4,096.
    ///
    /// `InvalidInput` if the comment has more than 1,024 bytes, if texts make the whole too large, or if a number is over
    /// 2^53 - 1; `Internal` if the fields contradict each other.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let invalid = |why: String| Err(Error::new(ErrorKind::InvalidInput, "encode record", why));
        if self.comment_too_long() {
            return invalid("a comment has at most 1,024 bytes".to_owned());
        }
        self.check()
            .map_err(|why| Error::internal("encode record", why))?;
        let bytes = canonical::encode(&self.spelled()?)?;
        if bytes.len() > MAX_RECORD_BYTES {
            return invalid(format!(
                "would have {} bytes, at most {MAX_RECORD_BYTES} are allowed: shorten the comment or the other texts",
                bytes.len()
            ));
        }
        Ok(bytes)
    }

    /// Decodes a record. `Unsupported` for another format version or an unknown kind; anything else than the canonical bytes of
    /// a record without contradictions is `Corrupt`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        check_version(bytes, MAX_RECORD_BYTES, DECODE)?;
        let spelled: Spelled = canonical::parse(bytes, MAX_RECORD_BYTES, DECODE)?;
        let Some(kind) = Kind::parse(&spelled.kind) else {
            let why = "has a kind that this program does not know";
            return Err(Error::new(ErrorKind::Unsupported, DECODE, why).at(spelled.kind));
        };
        let record = Record {
            body: Body::from_value(kind, spelled.body)?,
            commit: spelled.commit,
            epoch: spelled.epoch,
            head: spelled.head,
            index: spelled.index,
            parent: spelled.parent,
            repository: spelled.repository,
            seq: spelled.seq,
            settings: spelled.settings,
            state: spelled.state,
            time_ms: spelled.time,
            usage: spelled.usage,
            writer: spelled.writer,
        };
        canonical::compare(record.encode(), bytes, DECODE)?;
        Ok(record)
    }

    fn spelled(&self) -> Result<Spelled> {
        Ok(Spelled {
            body: self.body.to_value()?,
            commit: self.commit,
            epoch: self.epoch,
            head: self.head,
            index: self.index,
            kind: self.kind().name().to_owned(),
            mac: (),
            parent: self.parent,
            repository: self.repository,
            seq: self.seq,
            settings: self.settings,
            state: self.state,
            time: self.time_ms,
            usage: self.usage,
            version: FORMAT_VERSION,
            writer: self.writer,
        })
    }

    fn comment_too_long(&self) -> bool {
        self.body
            .comment()
            .is_some_and(|comment| comment.len() > MAX_COMMENT_BYTES)
    }

    /// Says how the fields contradict each other, if they do.
    fn check(&self) -> Result<(), &'static str> {
        if self.seq == 0 || self.epoch == 0 {
            return Err("seq and epoch start at 1");
        }
        if self.parent.is_none() != (self.seq == 1) {
            return Err("the first record, and only the first, has no parent");
        }
        self.check_places()?;
        match &self.body {
            Body::Snapshot(body)
                if self.head
                    != Some(Head {
                        root: body.root,
                        snapshot: body.snapshot,
                    }) =>
            {
                Err("a snapshot record is not its own head")
            }
            Body::Settings(body) if self.settings != Some(body.attachment) => {
                Err("a settings record does not carry its settings")
            }
            Body::Cancel(body) if body.mark == 0 || body.mark >= self.seq => {
                Err("a mark is not before its cancel")
            }
            Body::Sweep(SweepBody { marks }) | Body::Swept(SweptBody { marks, .. }) => {
                self.check_marks(marks)
            }
            _ => Ok(()),
        }
    }

    fn check_places(&self) -> Result<(), &'static str> {
        let root = self.head.map(|head| head.root);
        let rescue = match &self.body {
            Body::Rescue(body) => Some(body.root),
            _ => None,
        };
        for place in [root, rescue].into_iter().flatten() {
            place.check(MAX_CHUNK_BYTES)?;
            if place.object.kind != ContainerKind::Pack {
                return Err("a snapshot root does not lie in a pack");
            }
        }
        let attached = self.body.place().copied();
        for place in [self.index, self.settings, attached].into_iter().flatten() {
            place.check(MAX_ATTACHMENT_BYTES)?;
        }
        Ok(())
    }

    fn check_marks(&self, marks: &[u64]) -> Result<(), &'static str> {
        let rising = marks.windows(2).all(|pair| pair[0] < pair[1]);
        match (marks.first(), marks.last()) {
            (Some(&first), Some(&last)) if rising && first > 0 && last < self.seq => Ok(()),
            _ => Err("marks are missing, not increasing or not before the record"),
        }
    }
}
