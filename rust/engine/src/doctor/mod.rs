//! Measures what a store guarantees: creates that race, reads and listings after writes, the store's clock.
//!
//! What a service says about itself is not asked: of several stores that accept a conditional PUT, some let two writers win.

mod keep;

use crate::cancel::CancelToken;
use crate::clock::{Deadline, Stopwatch, now_ms};
use crate::options::OpenOptions;
use crate::report::DoctorReport;
use crate::store::{Counting, Created, Retrying, Store, StoreOptions};
use bytes::Bytes;
use futures::future::join_all;
use nbws_core::{ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keep::keep;
pub(crate) use keep::{check_writers, outcome};

/// Rounds of creates that race.
const ROUNDS: u64 = 8;
/// Creates in one round.
const RACERS: u64 = 16;
/// How long a request that is not measured is repeated.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an object of the probe: enough that a create takes the store more than one packet.
const BODY_BYTES: usize = 4_096;
/// Clocks that differ by more than this are worth a word: S3 refuses signatures that are 15 minutes off.
const CLOCK_TOLERANCE_S: f64 = 60.0;
/// What to do about a store that lets several creates win.
const WAY_OUT: &str = "use one writer at a time: open with exclusive= (an epoch source such as nbws.exclusive.LockFile), or take a store \
                       whose conditional PUT is atomic";

/// Measures the store at `url`. Writes small objects below `probe/` of the prefix and removes them; needs no repository. If there
/// is one, the outcome is kept in its log, and writers go by it from then on; where that fails, a finding says so.
/// `InvalidInput` for a URL that can't be used, `Unavailable` and `Denied` as every verb.
///
/// Where one writer at a time is all that the store allows, or was until now, the outcome is kept only with `options.exclusive`:
/// without a lock the doctor would be one more writer.
pub async fn doctor(url: &str, options: OpenOptions) -> Result<DoctorReport> {
    examine(crate::store::open(url, &options.store)?, options).await
}

/// As [`doctor`], on a store that is open.
pub async fn examine(store: Arc<dyn Store>, options: OpenOptions) -> Result<DoctorReport> {
    let stopwatch = Stopwatch::start();
    let counting = Arc::new(Counting::new(store));
    let store: Arc<dyn Store> = counting.clone();
    let mut report = measure(Arc::clone(&store)).await?;
    match keep(&store, options, &mut report).await {
        Ok(seq) => report.recorded = seq,
        Err(error) => report.findings.push(format!(
            "the outcome is not kept with the repository: {}",
            error.message()
        )),
    }
    report.requests = counting.totals().into();
    report.duration_s = stopwatch.elapsed().as_secs_f64();
    Ok(report)
}

/// Measures a store that is open; keeps nothing.
pub async fn measure(store: Arc<dyn Store>) -> Result<DoctorReport> {
    let stopwatch = Stopwatch::start();
    let counting = Arc::new(Counting::new(store));
    let counted: Arc<dyn Store> = counting.clone();
    let probe = Probe {
        patient: Retrying::new(
            Arc::clone(&counted),
            Deadline::after(PATIENCE),
            CancelToken::new(),
        ),
        store: counted,
        name: hex(&crate::random::bytes()?),
    };
    let mut report = DoctorReport {
        url: probe.store.describe(),
        client: client(),
        ..DoctorReport::default()
    };
    let measured = probe.run(&mut report).await;
    probe.clean_up().await;
    measured?;
    conclude(&mut report);
    report.requests = counting.totals().into();
    report.duration_s = stopwatch.elapsed().as_secs_f64();
    Ok(report)
}

/// What measured: another version may find something else.
fn client() -> String {
    format!("nbws {}", env!("CARGO_PKG_VERSION"))
}

fn hex(bytes: &[u8; 16]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

struct Probe {
    /// Each request once.
    store: Arc<dyn Store>,
    /// Repeats what is not measured.
    patient: Retrying,
    name: String,
}

impl Probe {
    fn key(&self, what: &str) -> String {
        format!("probe/{}-{what}", self.name)
    }

    async fn run(&self, report: &mut DoctorReport) -> Result<()> {
        self.write_and_look(report).await?;
        self.in_parts(report).await?;
        match self.create_twice(report).await {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                let why = "the store offers no conditional create at all";
                report.findings.push(why.to_owned());
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        for round in 0..ROUNDS {
            self.race(round, report).await?;
        }
        Ok(())
    }

    /// An upload in parts. Nothing depends on it (`docs/design/multipart.md`), so a failure is a finding and no error.
    async fn in_parts(&self, report: &mut DoctorReport) -> Result<()> {
        let key = self.key("parts");
        let body = Bytes::from(vec![b'p'; BODY_BYTES]);
        let failure = match self.store.put_parts(&key, vec![body.clone()]).await {
            Ok(false) => return Ok(()),
            Ok(true) if self.patient.get(&key).await? == body => None,
            Ok(true) => Some("other bytes are stored than were sent".to_owned()),
            Err(e) => Some(e.message().to_owned()),
        };
        report.multipart = Some(failure.is_none());
        if let Some(why) = failure {
            report.findings.push(format!(
                "an upload in parts failed ({why}); nbws sends every object as one, so that nothing depends on it"
            ));
        }
        Ok(())
    }

    /// A write, a read, a listing, and what time the store takes it to be.
    async fn write_and_look(&self, report: &mut DoctorReport) -> Result<()> {
        let key = self.key("write");
        let body = Bytes::from(vec![b'w'; BODY_BYTES]);
        let before = now_ms();
        self.patient.put(&key, body.clone()).await?;
        let after = now_ms();
        report.read_after_write = match self.store.get(&key).await {
            Ok(read) => read == body,
            Err(e) if e.kind() == ErrorKind::NotFound => false,
            Err(e) => return Err(e),
        };
        let listed = self.patient.list("probe/", None).await?;
        let found = listed.iter().find(|object| object.key == key);
        report.list_after_write = found.is_some_and(|object| object.size == body.len() as u64);
        report.clock_offset_s = found.map(|object| {
            // Stores keep whole seconds: the middle of the second is the best guess.
            let theirs = object.modified_ms as f64
                + match object.modified_ms % 1_000 {
                    0 => 500.0,
                    _ => 0.0,
                };
            (theirs - (before as f64 + after as f64) / 2.0) / 1_000.0
        });
        Ok(())
    }

    /// One create after another: the second one must be refused and change nothing.
    async fn create_twice(&self, report: &mut DoctorReport) -> Result<()> {
        let key = self.key("twice");
        let body = |letter| Bytes::from(vec![letter; BODY_BYTES]);
        let first = self.store.create(&key, body(b'a')).await?;
        let second = self.store.create(&key, body(b'b')).await?;
        let kept = self.patient.get(&key).await? == body(b'a');
        report.sequential_create = first == Created::Yes && second == Created::Exists && kept;
        Ok(())
    }

    /// Many creates of one name at once: exactly one may win, and what is stored must be its.
    async fn race(&self, round: u64, report: &mut DoctorReport) -> Result<()> {
        let key = self.key(&format!("round-{round}"));
        let body = |racer: u64| {
            let mut body = vec![b'0' + racer as u8; BODY_BYTES];
            body[0] = racer as u8;
            Bytes::from(body)
        };
        let creates = (0..RACERS).map(|racer| self.store.create(&key, body(racer)));
        let mut winners = Vec::new();
        for (racer, created) in (0..).zip(join_all(creates).await) {
            match created {
                Ok(Created::Yes) => winners.push(racer),
                Ok(Created::Exists) => {}
                Err(e) if e.kind() == ErrorKind::Unavailable => report.unclear += 1,
                Err(e) => return Err(e),
            }
        }
        report.rounds += 1;
        report.most_winners = report.most_winners.max(winners.len() as u64);
        // Without a winner nothing is known of the round: an unclear create may have landed.
        if let [winner] = winners[..]
            && self.patient.get(&key).await? == body(winner)
        {
            report.rounds_with_one_winner += 1;
        } else if winners.len() == 1 {
            report.losers_wrote = true;
        }
        Ok(())
    }

    /// Objects that can't be removed are left: they have a place of their own.
    async fn clean_up(&self) {
        let rounds = (0..ROUNDS).map(|round| format!("round-{round}"));
        for what in ["write", "parts", "twice"]
            .map(str::to_owned)
            .into_iter()
            .chain(rounds)
        {
            drop(self.patient.delete(&self.key(&what)).await);
        }
    }
}

/// The verdict, and a sentence for each thing that a person should know.
fn conclude(report: &mut DoctorReport) {
    let raced = report.rounds == ROUNDS && report.most_winners == 1;
    let decided = report.rounds_with_one_winner * 2 > ROUNDS;
    report.multi_writer = report.sequential_create
        && raced
        && decided
        && !report.losers_wrote
        && report.read_after_write;
    let mut say = |what: String| report.findings.push(what);
    if report.most_winners > 1 {
        say(format!(
            "conditional create is not atomic: up to {} of {RACERS} creates of one name succeeded at once",
            report.most_winners
        ));
    }
    if report.losers_wrote {
        say("a create that was refused changed the object".to_owned());
    }
    if report.rounds > 0 && !report.sequential_create {
        say("a second create of the same name was not refused, or changed the object".to_owned());
    }
    if report.rounds == ROUNDS && report.most_winners <= 1 && !decided {
        say(format!(
            "too many creates were not answered ({}); measure again when the store is less busy",
            report.unclear
        ));
    }
    if !report.read_after_write {
        say("an object that was just written could not be read".to_owned());
    }
    if !report.list_after_write {
        say("an object that was just written was not listed".to_owned());
    }
    if let Some(offset) = report.clock_offset_s
        && offset.abs() > CLOCK_TOLERANCE_S
    {
        say(format!(
            "the clocks of this machine and of the store differ by {:.0} s",
            offset.abs()
        ));
    }
    if !report.multi_writer {
        say(WAY_OUT.to_owned());
    }
}

/// Measures once per bucket and process: a container with a thousand repositories is not measured a thousand times.
pub(crate) async fn measured_once(
    store: &Arc<dyn Store>,
    options: &OpenOptions,
) -> Result<DoctorReport> {
    type Known = BTreeMap<(String, StoreOptions), DoctorReport>;
    static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let place = bucket(&store.describe()).map(|bucket| (bucket, options.store.clone()));
    if let Some(report) = place.as_ref().and_then(|place| known().get(place).cloned()) {
        return Ok(report);
    }
    let report = measure(Arc::clone(store)).await?;
    if let Some(place) = place {
        known().insert(place, report.clone());
    }
    Ok(report)
}

/// Scheme and bucket of a remote store; a directory may lie on any file system, so it has none.
fn bucket(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    if matches!(scheme, "file" | "memory") {
        return None;
    }
    let bucket = rest.split('/').next()?;
    Some(format!("{scheme}://{bucket}"))
}
