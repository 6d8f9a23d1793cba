//! A change of state, or a comment on the present one.

use super::append::{Decide, Next, append_next};
use crate::save::lock;
use crate::settings::may_append;
use crate::workspace::Access;
use async_trait::async_trait;
use nbws_core::limits::MAX_COMMENT_BYTES;
use nbws_core::record::{Body, Record, StateBody};
use nbws_core::state::State;
use nbws_core::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;

const CHANGE: &str = "change state";

pub(super) async fn change(
    access: &Arc<Access>,
    directory: Option<&Path>,
    state: State,
    (comment, info): (Option<String>, Option<String>),
) -> Result<u64> {
    for text in [&comment, &info].into_iter().flatten() {
        if text.len() > MAX_COMMENT_BYTES {
            let why = "the comment is longer than 1,024 bytes; shorten it";
            return Err(Error::new(ErrorKind::InvalidInput, CHANGE, why));
        }
    }
    let mut target = match directory {
        Some(directory) => Some(lock(access, directory).await?),
        None => None,
    };
    if let Some(target) = &mut target {
        may_append(access, target).await?;
        target.settle_pending(access).await?;
    }
    let change = Change {
        epoch: target.as_ref().and_then(|target| target.session.epoch),
        is_session: target.is_some(),
        state,
        body: StateBody { comment, info },
    };
    let done = append_next(access, target.as_mut(), &change).await?;
    Ok(done.record.seq)
}

struct Change {
    epoch: Option<u64>,
    is_session: bool,
    state: State,
    body: StateBody,
}

#[async_trait]
impl Decide for Change {
    fn operation(&self) -> &'static str {
        CHANGE
    }

    async fn decide(&self, _: &Access, newest: Option<&Record>) -> Result<Option<Next>> {
        let current = newest.map_or(1, |record| record.epoch);
        if self.is_session && self.epoch != Some(current) {
            let text = match (newest, self.epoch) {
                (Some(newest), Some(_)) => format!(
                    "writer {} has opened epoch {current}; the session of this directory has ended",
                    newest.writer
                ),
                _ => "this directory belongs to no session; start the notebook first".to_owned(),
            };
            return Err(Error::new(ErrorKind::Fenced, CHANGE, text));
        }
        Ok(Some(Next {
            body: Body::State(self.body.clone()),
            state: self.state,
            epoch: current,
        }))
    }
}
