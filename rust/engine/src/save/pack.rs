//! Step 8 of a save: frames go into packs, packs go to the store while reading continues.

use crate::budget::{ByteBudget, Resources};
use crate::cancel::CancelToken;
use crate::clock::RateLimit;
use crate::local::cache::StateFolder;
use crate::store::pause;
use crate::workspace::Access;
use nbws_core::frame::EncodedFrame;
use nbws_core::header::Header;
use nbws_core::id::{ContainerId, FrameHash};
use nbws_core::index::{IndexPart, IndexPartBuilder};
use nbws_core::key::ContainerKey;
use nbws_core::pack::{FrameSlot, PackBuilder, SealedPack};
use nbws_core::{Error, Result};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Uploads at most this many packs at a time.
const CONCURRENCY: usize = 4;

/// What a chunk costs in memory until its pack is stored, beside its bytes: span, directory and journal.
const CHUNK_WEIGHT: usize = 128;

/// Fills packs and sends them off. Everything it has packed is in its index.
pub(crate) struct Packer<'a> {
    access: &'a Access,
    runtime: Handle,
    folder: Option<StateFolder>,
    epoch: u64,
    /// Log head that the save started from; uploaded packs are journalled with it.
    base_seq: u64,
    target_bytes: usize,
    budget: Arc<ByteBudget>,
    slots: Arc<tokio::sync::Semaphore>,
    rate: Arc<RateLimit>,
    builder: PackBuilder,
    /// Bytes for which a pack has room from the start.
    room: usize,
    /// What the open pack takes in memory: packs of many tiny files are sealed earlier.
    weight: usize,
    index: IndexPartBuilder,
    uploads: Vec<JoinHandle<Result<()>>>,
    packs: u64,
    bytes: u64,
}

impl<'a> Packer<'a> {
    pub(crate) fn new(
        access: &'a Access,
        runtime: Handle,
        folder: Option<StateFolder>,
        (epoch, base_seq): (u64, u64),
        resources: Resources,
        limit_rate: Option<u64>,
    ) -> Result<Self> {
        Ok(Packer {
            access,
            runtime,
            folder,
            epoch,
            base_seq,
            target_bytes: resources.pack_target_bytes(),
            budget: Arc::new(ByteBudget::new(resources.memory_bytes / 2)),
            slots: Arc::new(tokio::sync::Semaphore::new(CONCURRENCY)),
            rate: Arc::new(RateLimit::new(limit_rate)),
            builder: new_pack(access, epoch, pack_room(resources))?,
            room: pack_room(resources),
            weight: 0,
            index: IndexPartBuilder::new(),
            uploads: Vec::new(),
            packs: 0,
            bytes: 0,
        })
    }

    /// Makes room in the index for so many chunks.
    pub(crate) fn reserve(&mut self, chunks: usize) {
        self.index.reserve(chunks);
    }

    /// Adds chunks of packs that an earlier, unfinished save left in the store.
    pub(crate) fn adopt(&mut self, part: &IndexPart) {
        self.index.add_part(part);
    }

    /// Adds a frame; seals and sends the pack when it is full. Returns where the frame lies.
    pub(crate) fn push(&mut self, frame: EncodedFrame) -> Result<(ContainerKey, FrameSlot)> {
        let weight = frame.bytes.len() + frame.chunks.len() * CHUNK_WEIGHT;
        if !self.builder.is_empty() && self.weight + weight > self.target_bytes {
            self.seal()?;
        }
        self.weight += weight;
        let key = self.builder.key();
        let slot = self.builder.push(frame)?.clone();
        self.index.add_frame(key.id, &slot);
        Ok((key, slot))
    }

    /// What the index part of this save will hold.
    pub(crate) fn index_mut(&mut self) -> &mut IndexPartBuilder {
        &mut self.index
    }

    /// Remembers the index part of this save, so that the next one need not fetch it.
    pub(crate) fn keep_part(&self, hash: FrameHash, part: IndexPart) {
        if let Some(folder) = &self.folder {
            folder.store_frame(hash, part.bytes());
        }
        self.access
            .inner
            .memory()
            .parts
            .insert(hash, Arc::new(part));
    }

    /// Remembers a small frame, so that the next save need not fetch it.
    pub(crate) fn keep_frame(&self, hash: FrameHash, bytes: Vec<u8>) {
        crate::base::keep_frame(self.access, self.folder.as_ref(), hash, bytes);
    }

    /// Sends the open pack off, if anything is in it.
    pub(crate) fn seal(&mut self) -> Result<()> {
        if self.builder.is_empty() {
            return Ok(());
        }
        self.collect_finished()?;
        let next = new_pack(self.access, self.epoch, self.room)?;
        let sealed = std::mem::replace(&mut self.builder, next).finish();
        let weight = std::mem::take(&mut self.weight) as u64;
        self.packs += 1;
        self.bytes += sealed.bytes.len() as u64;
        self.budget.acquire(weight, &self.access.cancel)?;
        let upload = Upload {
            store: Arc::clone(&self.access.store),
            slots: Arc::clone(&self.slots),
            rate: Arc::clone(&self.rate),
            cancel: self.access.cancel.clone(),
            budget: Arc::clone(&self.budget),
            folder: self.folder.clone(),
            base_seq: self.base_seq,
            weight,
        };
        self.uploads.push(self.runtime.spawn(upload.run(sealed)));
        Ok(())
    }

    fn collect_finished(&mut self) -> Result<()> {
        let (done, running): (Vec<_>, Vec<_>) = std::mem::take(&mut self.uploads)
            .into_iter()
            .partition(JoinHandle::is_finished);
        self.uploads = running;
        for upload in done {
            self.wait_for(upload)?;
        }
        Ok(())
    }

    fn wait_for(&self, upload: JoinHandle<Result<()>>) -> Result<()> {
        self.runtime
            .block_on(upload)
            .map_err(|e| Error::internal("upload", e.to_string()))?
    }

    /// Seals the open pack and waits until everything is stored. Returns packs and bytes sent.
    pub(crate) fn finish(&mut self) -> Result<(u64, u64)> {
        let sealed = self.seal();
        self.wait_for_all()?;
        sealed?;
        Ok((self.packs, self.bytes))
    }

    /// Waits for every upload, also after a failure, so that nothing lands behind the caller's back.
    pub(crate) fn wait_for_all(&mut self) -> Result<()> {
        let mut first = Ok(());
        for upload in std::mem::take(&mut self.uploads) {
            let outcome = self.wait_for(upload);
            if first.is_ok() {
                first = outcome;
            }
        }
        first
    }
}

/// A little more than a full pack: pages that nobody writes to cost nothing.
fn pack_room(resources: Resources) -> usize {
    let target = resources.pack_target_bytes();
    target + target / 16
}

/// An empty pack with a new name and room for so many bytes.
pub(crate) fn new_pack(access: &Access, epoch: u64, room: usize) -> Result<PackBuilder> {
    let id = ContainerId {
        epoch,
        random: crate::random::bytes()?,
    };
    let header = Header {
        repository: access.inner.repository(),
        key: ContainerKey::pack(id),
    };
    Ok(PackBuilder::with_capacity(header, room))
}

struct Upload {
    store: Arc<dyn crate::store::Store>,
    slots: Arc<tokio::sync::Semaphore>,
    rate: Arc<RateLimit>,
    cancel: CancelToken,
    budget: Arc<ByteBudget>,
    folder: Option<StateFolder>,
    base_seq: u64,
    weight: u64,
}

impl Upload {
    async fn run(self, sealed: SealedPack) -> Result<()> {
        let outcome = self.send(sealed).await;
        self.budget.release(self.weight);
        outcome
    }

    async fn send(&self, sealed: SealedPack) -> Result<()> {
        let _slot = self
            .slots
            .acquire()
            .await
            .map_err(|e| Error::internal("upload", e.to_string()))?;
        pause(self.rate.delay(sealed.bytes.len() as u64), &self.cancel).await?;
        let SealedPack { key, bytes, frames } = sealed;
        self.store.put(&key.to_string(), bytes.into()).await?;
        if let Some(folder) = &self.folder {
            let mut journal = IndexPartBuilder::new();
            for frame in &frames {
                journal.add_frame(key.id, frame);
            }
            // Losing the journal costs a second upload, not data.
            if let Err(error) =
                folder.store_uploaded(key.id, self.base_seq, journal.finish().bytes())
            {
                tracing::debug!(%error, "uploaded pack is not journalled");
            }
        }
        Ok(())
    }
}
