//! What each row of the table means: what causes it. `docs/lifecycle.md` is made of these sentences.

use super::{Step, next_states};
use crate::state::State;

/// A legal change of state and its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What is appended.
    pub step: Step,
    /// The state before it.
    pub from: State,
    /// The state after it.
    pub to: State,
    /// What causes it, in words.
    pub cause: &'static str,
}

/// Every legal change of state, in the order of steps and states.
pub fn transitions() -> impl Iterator<Item = Transition> {
    let pairs = Step::ALL
        .into_iter()
        .flat_map(|step| State::ALL.map(|from| (step, from)));
    pairs.flat_map(|(step, from)| {
        next_states(step, from).iter().map(move |to| Transition {
            step,
            from,
            to: *to,
            cause: cause(step, from, *to),
        })
    })
}

impl Step {
    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Step::Claim => "claim",
            Step::State => "state",
            Step::Session => "session save",
            Step::OneShot => "one-shot save",
            Step::Delete => "delete",
            Step::Purge => "purge",
        }
    }
}

/// Empty for what the table refuses.
fn cause(step: Step, from: State, to: State) -> &'static str {
    match step {
        Step::Claim => claim(from),
        Step::State if from == to => "a comment; the state stays",
        Step::State => state(from, to),
        Step::Session => session(from),
        Step::OneShot => one_shot(from, to),
        Step::Delete => delete(from),
        Step::Purge => {
            "the data is given up for good; the log stays, so that the id is not used again"
        }
    }
}

fn claim(from: State) -> &'static str {
    match from {
        State::None => "a repository that was only saved to is run by a program of its own",
        State::Starting => {
            "a start that died half-way: its half-restored tree is resumed, and is never made the head"
        }
        State::Running => {
            "the run died, or is taken over: the newest snapshot is restored; on the same disk the work that survived there is saved first"
        }
        State::Stopping => {
            "the final save died, or is taken over: it was acknowledged or it was not; on the same disk what is missing is saved first"
        }
        State::Stopped => "a start",
        State::Failed => "a start after a failure: the workspace head is what was saved last",
        State::Error => {
            "a start after what was wrong has been put right, or by leave of the caller"
        }
        State::SyncFailed => {
            "a start although the final save left work out: the report says since when it is missing; the old disk's later save \
             becomes a rescue"
        }
        State::Restarting => "a restart that died: as for a run that died",
        State::Deleting => "",
    }
}

fn state(from: State, to: State) -> &'static str {
    match (from, to) {
        (State::None, State::Stopped) => "created: it rests until its first start",
        (State::Starting, State::Running) => "the workspace was restored as a whole",
        (State::Starting, State::Failed) => {
            "the start failed for a reason of this run: the disk, the network, credentials, a template that is not there"
        }
        (State::Starting, State::Error) => {
            "what is stored can't be restored: damaged or rolled back, of a later format, or without its marker under \
             strict_marker"
        }
        (State::Running, State::Stopping) => "a stop: the final save begins",
        (State::Running, State::Restarting) => "a restart: no data moves",
        (State::Running, State::Failed) => {
            "a platform says that the program failed and nothing is to be saved"
        }
        (State::Running | State::Restarting | State::Stopping, State::Error) => {
            "a platform says that the service around it failed"
        }
        (State::Stopping, State::Stopped) => "the final save stored everything",
        (State::Stopping, State::SyncFailed) => {
            "the final save failed, or its deadline left work out"
        }
        (State::Stopping, State::Failed) => {
            "the program ended with a code other than 0; its work was saved all the same"
        }
        (State::SyncFailed, State::Stopped) => "a save stored what the final one had left out",
        (State::Restarting, State::Running) => {
            "the program runs again, and the clock of the run begins anew"
        }
        (State::Restarting, State::Stopping) => "a stop comes while it restarts",
        (State::Restarting, State::Failed) => "the program could not be started again",
        _ => "",
    }
}

fn session(from: State) -> &'static str {
    match from {
        State::Starting => {
            "the first start saves what it has set up; a start on the disk of a crash saves what survived there"
        }
        State::Running => "a save or an autosave",
        State::Stopping => "the final save",
        State::SyncFailed => "what the final save had left out is saved",
        State::Restarting => "a save while it restarts",
        _ => "",
    }
}

fn one_shot(from: State, to: State) -> &'static str {
    match (from, to) {
        (State::None, _) => "a save of a repository that is no notebook",
        (State::Starting | State::Running | State::Stopping | State::Restarting, _) => {
            "a save that takes over: the run is fenced and counts as stopped"
        }
        (State::SyncFailed, State::Stopped) => {
            "a save from elsewhere that makes the workspace whole"
        }
        (State::SyncFailed, _) => "a save from elsewhere that leaves work out again",
        (State::Stopped | State::Failed | State::Error, _) => {
            "a save without a run: the head moves, the state stays"
        }
        _ => "",
    }
}

fn delete(from: State) -> &'static str {
    match from {
        State::None => "a repository that is no notebook is given up; its data stays",
        State::Starting | State::Running | State::Stopping | State::Restarting => {
            "deleted by force: the run is fenced; its later save becomes a rescue, the data stays"
        }
        _ => "deleted; the data stays until it is purged",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_row_says_why() {
        let rows: Vec<_> = transitions().collect();
        assert!(rows.iter().all(|row| !row.cause.is_empty()));
        let listed: usize = Step::ALL
            .into_iter()
            .flat_map(|step| State::ALL.map(|from| next_states(step, from).len()))
            .sum();
        assert_eq!(rows.len(), listed);
    }
}
