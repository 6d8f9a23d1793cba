//! Kinds of records and their bodies (`docs/format.md`, section 8.2).

use super::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{SnapshotId, TreeRoot};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// A new epoch: somebody starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimBody {
    /// A resident process keeps a heartbeat; without one the session never goes stale.
    pub resident: bool,
    /// The claim displaces a session that had not ended.
    pub take_over: bool,
}

/// A change of state, or a comment on the present one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateBody {
    /// What a person said.
    pub comment: Option<String>,
    /// What the program says about the change.
    pub info: Option<String>,
}

/// A new workspace head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotBody {
    /// The snapshot that the save was compared with.
    pub base: Option<SnapshotId>,
    /// Sum of file sizes.
    pub bytes: u64,
    /// What a person said.
    pub comment: Option<String>,
    /// Files and symlinks.
    pub files: u64,
    /// Framework of the notebook.
    pub framework: Option<String>,
    /// A save with a new epoch and without a claim.
    pub one_shot: bool,
    /// Where it was saved.
    pub origin: String,
    /// The deadline or the quota left work out.
    pub partial: bool,
    /// The base may not be forgotten before this time, milliseconds since 1970 UTC.
    #[serde(rename = "pin_base_until")]
    pub pin_base_until_ms: Option<u64>,
    /// Version of Python.
    pub python: Option<String>,
    /// The frame of the snapshot root.
    pub root: Place,
    /// Id of the snapshot.
    pub snapshot: SnapshotId,
    /// Hash of the logical tree.
    pub tree_root: TreeRoot,
}

/// Work kept beside the head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RescueBody {
    /// The snapshot that the save was compared with.
    pub base: Option<SnapshotId>,
    /// Sum of file sizes.
    pub bytes: u64,
    /// What a person said.
    pub comment: Option<String>,
    /// Files and symlinks.
    pub files: u64,
    /// Framework of the notebook.
    pub framework: Option<String>,
    /// Where it was saved.
    pub origin: String,
    /// The deadline or the quota left work out.
    pub partial: bool,
    /// Version of Python.
    pub python: Option<String>,
    /// Why it is a rescue and not the head.
    pub reason: String,
    /// The frame of the snapshot root.
    pub root: Place,
    /// Id of the snapshot.
    pub snapshot: SnapshotId,
    /// Hash of the logical tree.
    pub tree_root: TreeRoot,
}

/// A rescue is given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DismissBody {
    /// Snapshot id of the rescue.
    pub rescue: SnapshotId,
}

/// New settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsBody {
    /// The attachment that holds all of them.
    pub attachment: Place,
}

/// Chunks were copied to new packs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepackBody {
    /// Number of old packs.
    pub count: u64,
    /// The attachment that lists them.
    pub packs: Place,
}

/// Packs are named for deletion, snapshots forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkBody {
    /// The attachment that lists both.
    pub attachment: Place,
    /// Stored bytes of the packs.
    pub bytes: u64,
    /// Number of packs.
    pub packs: u64,
    /// Number of snapshots.
    pub snapshots: u64,
}

/// A mark is withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelBody {
    /// Seq of the mark.
    pub mark: u64,
}

/// Grace is over: deletes may begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepBody {
    /// Seqs of the marks, strictly increasing.
    pub marks: Vec<u64>,
}

/// The deletes are finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweptBody {
    /// Stored bytes that were freed.
    pub freed_bytes: u64,
    /// Seqs of the marks, strictly increasing.
    pub marks: Vec<u64>,
}

/// The notebook is deleted, or its data purged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TombstoneBody {
    /// False: the data is kept. True: it is purged, and nothing may follow.
    pub purge: bool,
}

macro_rules! kinds {
    ($($kind:ident $body:ident $name:literal $doc:literal,)*) => {
        /// Kind of a record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $(#[doc = $doc] $kind,)*
        }

        impl Kind {
            /// Every kind, in the order of declaration.
            pub const ALL: [Kind; 12] = [$(Kind::$kind),*];

            /// The name in records.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }
        }

        /// What a record says, by kind.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Body {
            $(#[doc = $doc] $kind($body),)*
        }

        impl Body {
            /// The kind.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Body::$kind(_) => Kind::$kind,)*
                }
            }

            pub(super) fn to_value(&self) -> Result<Value> {
                match self {
                    $(Body::$kind(body) => to_value(body),)*
                }
            }

            pub(super) fn from_value(kind: Kind, value: Value) -> Result<Body> {
                Ok(match kind {
                    $(Kind::$kind => Body::$kind(from_value(value)?),)*
                })
            }
        }
    };
}

kinds! {
    Claim ClaimBody "claim" "A new epoch.",
    State StateBody "state" "A change of state or a comment.",
    Snapshot SnapshotBody "snapshot" "A new workspace head.",
    Rescue RescueBody "rescue" "Work kept beside the head.",
    Dismiss DismissBody "dismiss" "A rescue is given up.",
    Settings SettingsBody "settings" "New settings.",
    Repack RepackBody "repack" "Chunks were copied to new packs.",
    Mark MarkBody "mark" "Packs doomed, snapshots forgotten.",
    Cancel CancelBody "cancel" "A mark withdrawn.",
    Sweep SweepBody "sweep" "Deletes may begin.",
    Swept SweptBody "swept" "Deletes are finished.",
    Tombstone TombstoneBody "tombstone" "Deleted or purged.",
}

impl Kind {
    /// From its name; `None` for a kind that this program does not know.
    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Body {
    /// The comment, of the kinds that have one.
    pub fn comment(&self) -> Option<&str> {
        match self {
            Body::State(body) => body.comment.as_deref(),
            Body::Snapshot(body) => body.comment.as_deref(),
            Body::Rescue(body) => body.comment.as_deref(),
            _ => None,
        }
    }

    /// The frame that the body names, of the kinds that name one.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Body::Snapshot(body) => Some(&body.root),
            Body::Rescue(body) => Some(&body.root),
            Body::Settings(body) => Some(&body.attachment),
            Body::Repack(body) => Some(&body.packs),
            Body::Mark(body) => Some(&body.attachment),
            _ => None,
        }
    }
}

fn to_value<T: Serialize>(body: &T) -> Result<Value> {
    serde_json::to_value(body)
        .map_err(|e| Error::internal("encode record", "body can't be JSON").caused_by(e))
}

fn from_value<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|e| Error::new(ErrorKind::Corrupt, "decode record", e.to_string()))
}
