//! Fails on demand: by the number of the request, by verb and prefix, or at random from a seed.

use super::{Verb, random};
use crate::store::{Created, ObjectInfo, Store};
use async_trait::async_trait;
use bytes::Bytes;
use nbws_core::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fails with `Unavailable`; nothing was done.
    FailBefore,
    /// Is done, then fails with `Unavailable`: the reply was lost.
    LandWithoutReply,
    /// Fails with `Unavailable`; a write is done at the next [`Faulty::release`].
    LandLater,
    /// Waits for the next [`Faulty::release`], then is done. A test that drops the waiting task instead has killed it
    /// exactly before this request.
    Hang,
    /// Is done, then waits for the next [`Faulty::release`] before it returns. Dropping the waiting task is a kill
    /// exactly after this request.
    LandThenHang,
    /// This and every later request fail with `Cancelled`, undone, until [`Faulty::revive`]: nobody retries after it.
    Die,
    /// As `Die`, but this request is done.
    LandThenDie,
    /// A `get` returns half of the bytes; a `get_range` notices and fails with `Corrupt`.
    Short,
    /// A read returns the bytes with one bit flipped.
    FlipBit,
    /// Fails with `Denied`; nothing was done.
    Deny,
    /// Fails with `QuotaExceeded`; nothing was done.
    Full,
}

#[derive(Debug)]
struct Rule {
    verb: Option<Verb>,
    prefix: String,
    skip: u64,
    times: u64,
    fault: Fault,
}

#[derive(Debug)]
struct Dice {
    seed: u64,
    per_mille: u64,
    faults: Vec<Fault>,
}

#[derive(Debug)]
enum Held {
    Put(String, Bytes),
    Create(String, Bytes),
    Delete(String),
}

#[derive(Debug, Default)]
struct Plan {
    operations: u64,
    dead: bool,
    numbered: BTreeMap<u64, Fault>,
    rules: Vec<Rule>,
    dice: Option<Dice>,
    held: Vec<Held>,
}

/// A store whose requests fail as planned; others pass.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn Store>,
    plan: Mutex<Plan>,
    releases: watch::Sender<u64>,
    hanging: watch::Sender<u64>,
}

fn unavailable(what: &'static str, key: &str) -> Error {
    Error::new(ErrorKind::Unavailable, "use faulty store", what).at(key)
}

fn dead(key: &str) -> Error {
    Error::new(ErrorKind::Cancelled, "use faulty store", "is dead").at(key)
}

impl Faulty {
    /// Passes everything until told otherwise.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Faulty {
            inner,
            plan: Mutex::default(),
            releases: watch::Sender::new(0),
            hanging: watch::Sender::new(0),
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans `fault` for request number `operation`, counted from 0 over all verbs.
    pub fn at(&self, operation: u64, fault: Fault) {
        self.plan().numbered.insert(operation, fault);
    }

    /// Plans `fault` for the next `times` requests of `verb` (`None`: any) below `prefix`, after the first `skip`.
    pub fn when(&self, verb: Option<Verb>, prefix: &str, skip: u64, times: u64, fault: Fault) {
        self.plan().rules.push(Rule {
            verb,
            prefix: prefix.to_owned(),
            skip,
            times,
            fault,
        });
    }

    /// From now on each request fails with `per_mille` in 1,000, by one of `faults`; the same for the same seed and
    /// order of requests.
    pub fn roll(&self, seed: u64, per_mille: u64, faults: &[Fault]) {
        self.plan().dice = Some(Dice {
            seed,
            per_mille,
            faults: faults.to_vec(),
        });
    }

    /// Drops every plan; what is held or hangs stays so.
    pub fn calm(&self) {
        let mut plan = self.plan();
        plan.numbered.clear();
        plan.rules.clear();
        plan.dice = None;
    }

    /// How many requests came so far: the crash points of what ran.
    pub fn operations(&self) -> u64 {
        self.plan().operations
    }

    /// How many writes wait to land later.
    pub fn held(&self) -> usize {
        self.plan().held.len()
    }

    /// Waits until a request hangs.
    pub async fn wait_hanging(&self) {
        let mut hanging = self.hanging.subscribe();
        // The sender lives as long as `self`, so waiting can't fail.
        let _ = hanging.wait_for(|count| *count > 0).await;
    }

    /// Lets held writes land, in order, and hanging requests go on. A late `create` that finds its name taken changes
    /// nothing, as at a real store.
    pub async fn release(&self) {
        let held = std::mem::take(&mut self.plan().held);
        for write in held {
            // The one who sent it was told of a failure already; nobody hears what becomes of it now.
            let _ = match write {
                Held::Put(key, bytes) => self.inner.put(&key, bytes).await,
                Held::Create(key, bytes) => self.inner.create(&key, bytes).await.map(|_| ()),
                Held::Delete(key) => self.inner.delete(&key).await,
            };
        }
        self.releases.send_modify(|count| *count += 1);
    }

    /// Ends the effect of `Die`: the next process meets the same store.
    pub fn revive(&self) {
        self.plan().dead = false;
    }

    /// Decides what happens to the next request, and its number.
    fn next(&self, verb: Verb, key: &str) -> Result<(u64, Option<Fault>)> {
        let mut plan = self.plan();
        let operation = plan.operations;
        plan.operations += 1;
        if plan.dead {
            return Err(dead(key));
        }
        if let Some(fault) = plan.numbered.remove(&operation) {
            return Ok((operation, Some(fault)));
        }
        let matching = plan.rules.iter_mut().find(|rule| {
            rule.times > 0
                && rule.verb.is_none_or(|wanted| wanted == verb)
                && key.starts_with(&rule.prefix)
        });
        if let Some(rule) = matching {
            if rule.skip > 0 {
                rule.skip -= 1;
                return Ok((operation, None));
            }
            rule.times -= 1;
            return Ok((operation, Some(rule.fault)));
        }
        let rolled = plan.dice.as_ref().and_then(|dice| {
            let roll = random(dice.seed, operation);
            let faults = dice.faults.len() as u64;
            if roll % 1_000 >= dice.per_mille || faults == 0 {
                return None;
            }
            let chosen = usize::try_from((roll >> 32) % faults).ok()?;
            dice.faults.get(chosen).copied()
        });
        Ok((operation, rolled))
    }

    async fn hang(&self) {
        let mut releases = self.releases.subscribe();
        let _hanging = Hanging::new(&self.hanging);
        // The sender lives as long as `self`, so waiting can't fail.
        let _ = releases.changed().await;
    }

    async fn perform<T>(
        &self,
        verb: Verb,
        key: &str,
        hold: impl FnOnce() -> Option<Held>,
        request: impl Future<Output = Result<T>>,
    ) -> Result<(T, Option<(u64, Fault)>)> {
        let (operation, fault) = self.next(verb, key)?;
        let Some(fault) = fault else {
            return Ok((request.await?, None));
        };
        match fault {
            Fault::FailBefore => Err(unavailable("failed as planned", key)),
            Fault::Deny => Err(Error::new(ErrorKind::Denied, "use faulty store", "denied").at(key)),
            Fault::Full => {
                Err(Error::new(ErrorKind::QuotaExceeded, "use faulty store", "is full").at(key))
            }
            Fault::LandWithoutReply => {
                let _ = request.await;
                Err(unavailable("the reply is lost as planned", key))
            }
            Fault::LandLater => {
                let held = hold();
                self.plan().held.extend(held);
                Err(unavailable("lands later as planned", key))
            }
            Fault::Hang => {
                self.hang().await;
                Ok((request.await?, None))
            }
            Fault::LandThenHang => {
                let result = request.await;
                self.hang().await;
                Ok((result?, None))
            }
            Fault::Die => {
                self.plan().dead = true;
                Err(dead(key))
            }
            Fault::LandThenDie => {
                let _ = request.await;
                self.plan().dead = true;
                Err(dead(key))
            }
            Fault::Short | Fault::FlipBit => Ok((request.await?, Some((operation, fault)))),
        }
    }
}

/// Counts a hanging request until it goes on or is dropped.
struct Hanging<'a>(&'a watch::Sender<u64>);

impl<'a> Hanging<'a> {
    fn new(count: &'a watch::Sender<u64>) -> Self {
        count.send_modify(|n| *n += 1);
        Hanging(count)
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n = n.saturating_sub(1));
    }
}

fn flip(bytes: &Bytes, operation: u64) -> Bytes {
    let mut bytes = bytes.to_vec();
    let bits = bytes.len() as u64 * 8;
    if let Some(at) = random(operation, 0).checked_rem(bits)
        && let Ok(byte) = usize::try_from(at / 8)
    {
        bytes[byte] ^= 1 << (at % 8);
    }
    Bytes::from(bytes)
}

#[async_trait]
impl Store for Faulty {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let hold = || Some(Held::Put(key.to_owned(), bytes.clone()));
        let request = self.inner.put(key, bytes.clone());
        self.perform(Verb::Put, key, hold, request).await?;
        Ok(())
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        let hold = || Some(Held::Create(key.to_owned(), bytes.clone()));
        let request = self.inner.create(key, bytes.clone());
        Ok(self.perform(Verb::Create, key, hold, request).await?.0)
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        let request = self.inner.get(key);
        let (bytes, damage) = self.perform(Verb::Get, key, || None, request).await?;
        Ok(match damage {
            Some((_, Fault::Short)) => bytes.slice(..bytes.len() / 2),
            Some((operation, _)) => flip(&bytes, operation),
            None => bytes,
        })
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let request = self.inner.get_range(key, range);
        let (bytes, damage) = self.perform(Verb::GetRange, key, || None, request).await?;
        match damage {
            Some((_, Fault::Short)) => {
                Err(Error::corrupt("use faulty store", "short as planned").at(key))
            }
            Some((operation, _)) => Ok(flip(&bytes, operation)),
            None => Ok(bytes),
        }
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        let request = self.inner.head(key);
        Ok(self.perform(Verb::Head, key, || None, request).await?.0)
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        let request = self.inner.list(prefix, after);
        Ok(self.perform(Verb::List, prefix, || None, request).await?.0)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let hold = || Some(Held::Delete(key.to_owned()));
        let request = self.inner.delete(key);
        self.perform(Verb::Delete, key, hold, request).await?;
        Ok(())
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}
