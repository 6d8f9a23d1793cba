//! What the verbs of a notebook's life return.

/// A claim that was acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// Number of the record.
    pub seq: u64,
    /// The epoch that it opened.
    pub epoch: u64,
    /// Id of the writer, 32 hex digits.
    pub writer: String,
    /// State before it.
    pub previous: String,
    /// A session that had not ended was displaced.
    pub displaced: bool,
    /// Id of the workspace head, if there is one.
    pub snapshot: Option<String>,
}

/// What is known of a directory and how it stands to the repository.
#[derive(Clone, Debug, Default)]
pub struct TargetState {
    /// Nothing lies in it, or it does not exist.
    pub is_empty: bool,
    /// Local state says what it held.
    pub is_known: bool,
    /// It is proven to descend from the workspace head: a save would be the next head.
    pub is_proven: bool,
    /// A restore into it did not end.
    pub is_half_restored: bool,
    /// The epoch of its session, if it had one.
    pub epoch: Option<u64>,
    /// The writer that it would write as, 32 hex digits.
    pub writer: String,
    /// Its session owns the epoch in force.
    pub owns_epoch: bool,
    /// Why its saves become rescues, if a latch is set.
    pub latch: Option<String>,
    /// Local state can be kept.
    pub has_state: bool,
    /// State of the notebook.
    pub state: String,
    /// Id of the workspace head, if there is one.
    pub snapshot: Option<String>,
    /// What a person should know.
    pub notices: Vec<String>,
}

/// The session of a notebook on this machine.
#[derive(Clone, Debug, Default)]
pub struct FoundSession {
    /// The workspace.
    pub directory: String,
    /// Its epoch.
    pub epoch: u64,
    /// Its writer, 32 hex digits.
    pub writer: String,
    /// Its epoch is in force.
    pub owns_epoch: bool,
    /// What the claim was told to keep.
    pub notes: Option<String>,
}

/// One record of the log.
#[derive(Clone, Debug, Default)]
pub struct LogEvent {
    /// Its number.
    pub seq: u64,
    /// Writer's clock, milliseconds since 1970 UTC.
    pub time_ms: u64,
    /// Kind of the record.
    pub kind: String,
    /// State after it.
    pub state: String,
    /// Epoch in force.
    pub epoch: u64,
    /// Who wrote it, 32 hex digits.
    pub writer: String,
    /// The snapshot or rescue that it is about.
    pub snapshot: Option<String>,
    /// What a person said.
    pub comment: Option<String>,
    /// What the program said: of a state the cause, of a rescue the reason, of a snapshot what made it.
    pub info: Option<String>,
    /// Of a snapshot or rescue: work was left out.
    pub partial: bool,
    /// Of a snapshot or rescue: framework and version.
    pub framework: Option<String>,
    /// Of a snapshot or rescue: version of Python.
    pub python: Option<String>,
    /// Of a claim: a process shows that it lives.
    pub resident: bool,
    /// Of a claim: it displaced a session that had not ended.
    pub take_over: bool,
    /// Of a tombstone: the data was given up.
    pub purge: bool,
    /// Bytes of the workspace head.
    pub bytes: u64,
    /// Files of the workspace head.
    pub files: u64,
    /// Objects in the store.
    pub objects: u64,
    /// Bytes in the store.
    pub stored_bytes: u64,
    /// Of the last one: why the records after it can't be read, if there are any.
    pub unread: Option<String>,
}
