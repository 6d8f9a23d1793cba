//! Claims a notebook: the record that fences every older writer.

use super::append::{Decide, Next, append_next};
use super::heartbeat;
use super::history::last_claim;
use super::hold::Hold;
use super::report::Claimed;
use crate::save::lock;
use crate::settings::may_append;
use crate::workspace::Access;
use async_trait::async_trait;
use nbws_core::record::{Body, ClaimBody, Record};
use nbws_core::state::State;
use nbws_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

const START: &str = "start";

/// After so long without a sign of life a resident session counts as dead: three heartbeats, a minute apart, did not come.
pub const DEFAULT_TTL: Duration = Duration::from_secs(180);

/// How to claim.
#[derive(Clone, Debug)]
pub struct ClaimOptions {
    /// Displace a session that is not known to be dead.
    pub take_over: bool,
    /// A process will show that it lives ([`crate::Workspace::beat`]); without one the session never goes stale.
    pub resident: bool,
    /// A resident session that has been silent for longer is dead.
    pub ttl: Duration,
    /// Kept with the session on this machine, for [`crate::Workspace::session`].
    pub notes: Option<String>,
}

pub(super) async fn claim(
    access: &Arc<Access>,
    hold: &Hold,
    options: ClaimOptions,
) -> Result<Claimed> {
    let mut target = lock(access, hold.path()).await?;
    may_append(access, &target).await?;
    target.settle_pending(access).await?;
    let claim = Claim {
        own_epoch: target.session.epoch,
        own_writer: target.session.writer.to_hex(),
        options,
    };
    // Before the record is sent: whoever finishes a claim that a crash interrupted finds the directory.
    target.session.directory = hold.path().to_str().map(str::to_owned);
    let done = append_next(access, Some(&mut target), &claim).await?;
    target.session.notes.clone_from(&claim.options.notes);
    target.store_session_or_go_on(&access.inner);
    if claim.options.resident {
        // Carries no safety: a claim without a first heartbeat is as old as its record.
        let _ = heartbeat::beat(access, &claim.own_writer).await;
    }
    let previous = done.before.map_or(State::None, |before| before.state);
    Ok(Claimed {
        seq: done.record.seq,
        epoch: done.record.epoch,
        writer: claim.own_writer,
        previous: previous.name().to_owned(),
        displaced: previous.is_live(),
        snapshot: done.record.head.map(|head| head.snapshot.to_hex()),
    })
}

struct Claim {
    /// The epoch of the session that this directory belonged to.
    own_epoch: Option<u64>,
    own_writer: String,
    options: ClaimOptions,
}

#[async_trait]
impl Decide for Claim {
    fn operation(&self) -> &'static str {
        START
    }

    async fn decide(&self, access: &Access, newest: Option<&Record>) -> Result<Option<Next>> {
        let Some(newest) = newest else {
            let why = "the notebook was never created";
            return Err(Error::new(ErrorKind::NotFound, START, why));
        };
        let is_live = newest.state.is_live();
        // The hold says that nobody else of this machine runs it. If the session in force is this directory's own, it has died.
        if is_live && !self.options.take_over && self.own_epoch != Some(newest.epoch) {
            self.check_dead(access, newest).await?;
        }
        Ok(Some(Next {
            body: Body::Claim(ClaimBody {
                resident: self.options.resident,
                take_over: is_live,
            }),
            state: State::Starting,
            epoch: newest.epoch + 1,
        }))
    }
}

impl Claim {
    /// `Conflict` unless the session in force has been silent for too long.
    async fn check_dead(&self, access: &Access, newest: &Record) -> Result<()> {
        let claim = last_claim(access, newest).await?;
        let owner = claim.as_ref().map_or(newest.writer, |c| c.writer).to_hex();
        let is_resident = claim.is_some_and(|c| c.resident);
        let silent = heartbeat::silence(access, &self.own_writer, &owner, newest.seq).await?;
        if is_resident && silent > self.options.ttl {
            return Ok(());
        }
        let seconds = silent.as_secs();
        let text = match is_resident {
            true => format!(
                "the notebook is {} elsewhere: writer {owner} was last seen {seconds} s ago; stop it there, wait until it has \
                 been silent for {} s, or take over",
                newest.state,
                self.options.ttl.as_secs()
            ),
            false => format!(
                "the notebook is {} elsewhere: writer {owner}, whose last record is {seconds} s old, keeps no process that could \
                 show whether it lives; stop it there, or take over",
                newest.state
            ),
        };
        Err(Error::new(ErrorKind::Conflict, START, text))
    }
}
