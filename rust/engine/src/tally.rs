//! Many repositories of one container, each by its newest record or its whole log, a bounded number at once.

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::log::newest_record;
use crate::notebook::LogEvent;
use crate::notebook::history::{event, events};
use crate::options::OpenOptions;
use crate::report::Requests;
use crate::store::{Below, Counting, Retrying, Store, StoreOptions};
use crate::whole_log::whole_log;
use crate::workspace::Workspace;
use futures::{StreamExt, stream};
use nbws_core::{Error, ErrorKind, Result, key};
use std::sync::Arc;
use std::time::Duration;

/// How long one repository is tried: others wait behind it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was found of one repository.
#[derive(Clone, Debug, Default)]
pub struct Tallied {
    /// Its name in the container.
    pub id: String,
    /// Its newest record, or all, oldest first; none if it has no log.
    pub events: Vec<LogEvent>,
    /// Snapshots that are kept; none if only the newest record was read.
    pub snapshots: Option<u64>,
    /// Kind of the error that kept it from being read.
    pub kind: Option<String>,
    /// The error.
    pub problem: Option<String>,
    /// Requests sent for it.
    pub requests: Requests,
}

/// Looks at the repositories `ids` below `url`, `parallel` at once, in the order of `ids`. One that can't be read says why and
/// keeps no other from being read.
///
/// By its newest record a repository at rest takes four requests; with `whole` one more for each record.
pub async fn tally(
    url: &str,
    options: &StoreOptions,
    ids: Vec<String>,
    whole: bool,
    parallel: usize,
) -> Result<Vec<Tallied>> {
    let store = crate::store::open(url, options)?;
    let looks = ids
        .into_iter()
        .map(|id| look(Arc::clone(&store), id, whole));
    let looks: Vec<_> = looks.collect();
    Ok(stream::iter(looks)
        .buffered(parallel.max(1))
        .collect()
        .await)
}

async fn look(container: Arc<dyn Store>, id: String, whole: bool) -> Tallied {
    let below: Arc<dyn Store> = Arc::new(Below::new(container, &id));
    let counting = Arc::new(Counting::new(below));
    let counted: Arc<dyn Store> = counting.clone();
    let found = match whole {
        true => all(counted).await,
        false => newest(counted).await,
    };
    let mut tallied = Tallied {
        id,
        requests: counting.totals().into(),
        ..Tallied::default()
    };
    match found {
        Ok((events, snapshots)) => (tallied.events, tallied.snapshots) = (events, snapshots),
        Err(error) => {
            tallied.kind = Some(error.kind().name().to_owned());
            tallied.problem = Some(error.to_string());
        }
    }
    tallied
}

type Found = (Vec<LogEvent>, Option<u64>);

async fn newest(store: Arc<dyn Store>) -> Result<Found> {
    let patient = Retrying::new(store, Deadline::after(PATIENCE), CancelToken::new());
    match newest_record(&patient).await? {
        Some(record) => Ok((vec![event(&record)], None)),
        // Made and never used; anything else below the container is no repository.
        None => match patient.get(key::FORMAT).await {
            Ok(_) => Ok((Vec::new(), None)),
            Err(e) if e.kind() == ErrorKind::NotFound => Err(no_repository(&patient)),
            Err(e) => Err(e),
        },
    }
}

fn no_repository(store: &dyn Store) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "open",
        "there is no workspace repository",
    )
    .at(store.describe())
}

async fn all(store: Arc<dyn Store>) -> Result<Found> {
    let workspace = Workspace::with_store(store, OpenOptions::default()).await?;
    let access = workspace.access(None, CancelToken::new());
    let newest = crate::base::newest(&access, None).await?;
    let log = whole_log(&access, newest.as_ref()).await?;
    Ok((events(&log), Some(log.snapshots(None).len() as u64)))
}
