//! States of a notebook: the nine of its lifecycle, and `none` for a repository that nobody manages.

use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The state that a record leaves behind. Which may follow which is decided in [`crate::lifecycle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not managed as a notebook.
    None,
    /// Claimed; the workspace is being restored.
    Starting,
    /// In use.
    Running,
    /// The final save is under way.
    Stopping,
    /// At rest; the workspace head is complete.
    Stopped,
    /// The notebook's program failed.
    Failed,
    /// The service around it failed.
    Error,
    /// The final save did not store everything.
    SyncFailed,
    /// The program is started again in place; no data moves.
    Restarting,
    /// Deleted; the data stays until it is purged.
    Deleting,
}

impl State {
    /// Every state, in the order of declaration.
    pub const ALL: [State; 10] = [
        State::None,
        State::Starting,
        State::Running,
        State::Stopping,
        State::Stopped,
        State::Failed,
        State::Error,
        State::SyncFailed,
        State::Restarting,
        State::Deleting,
    ];

    /// The name in records and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            State::None => "none",
            State::Starting => "starting",
            State::Running => "running",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
            State::Failed => "failed",
            State::Error => "error",
            State::SyncFailed => "sync_failed",
            State::Restarting => "restarting",
            State::Deleting => "deleting",
        }
    }

    /// From its name. `InvalidInput` if there is none of that name.
    pub fn parse(text: &str) -> Result<State> {
        State::ALL
            .into_iter()
            .find(|state| state.name() == text)
            .ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, "parse state", "no such state").at(text)
            })
    }

    /// Whether a session owns the notebook: starting, running, stopping or restarting.
    pub const fn is_live(self) -> bool {
        matches!(
            self,
            State::Starting | State::Running | State::Stopping | State::Restarting
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_the_same_in_json() {
        for state in State::ALL {
            assert_eq!(State::parse(state.name()).unwrap(), state);
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(json, format!("\"{}\"", state.name()));
        }
        assert!(State::parse("Running").is_err());
    }
}
