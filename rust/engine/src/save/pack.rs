//! Step 8 of a save: frames go into packs, packs go to the store while reading continues.

use super::pace::Pace;
use super::upload::{Fate, Upload};
use crate::budget::{ByteBudget, Resources};
use crate::local::cache::StateFolder;
use crate::workspace::Access;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use nbws_core::frame::EncodedFrame;
use nbws_core::header::Header;
use nbws_core::id::{ChunkId, ContainerId, FrameHash};
use nbws_core::index::{IndexPart, IndexPartBuilder};
use nbws_core::key::ContainerKey;
use nbws_core::pack::{FrameSlot, PackBuilder};
use nbws_core::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Uploads at most this many packs at a time.
const CONCURRENCY: usize = 4;

/// What a chunk costs in memory until its pack is stored, beside its bytes: span, directory and journal.
const CHUNK_WEIGHT: usize = 128;

/// What did not reach the store before the deadline.
#[derive(Default)]
pub(crate) struct Lost {
    packs: HashSet<ContainerId>,
    /// With their lengths.
    chunks: HashMap<ChunkId, u32>,
}

impl Lost {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(crate) fn has(&self, id: &ChunkId) -> bool {
        self.chunks.contains_key(id)
    }

    /// Chunks, and their plain bytes.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let bytes = self.chunks.values().map(|length| u64::from(*length)).sum();
        (self.chunks.len() as u64, bytes)
    }
}

/// Fills packs and sends them off. Everything it has packed and not given up is in its index.
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
    pace: Arc<Pace>,
    /// From now on everything is needed for the record.
    is_tail: bool,
    builder: PackBuilder,
    /// Bytes for which a pack has room from the start.
    room: usize,
    /// What the open pack takes in memory: packs of many tiny files are sealed earlier.
    weight: usize,
    index: IndexPartBuilder,
    uploads: Vec<JoinHandle<Result<Fate>>>,
    lost: Lost,
    sealed: u64,
    sealed_bytes: u64,
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
        pace: Arc<Pace>,
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
            pace,
            is_tail: false,
            builder: new_pack(access, epoch, pack_room(resources))?,
            room: pack_room(resources),
            weight: 0,
            index: IndexPartBuilder::new(),
            uploads: Vec::new(),
            lost: Lost::default(),
            sealed: 0,
            sealed_bytes: 0,
            packs: 0,
            bytes: 0,
        })
    }

    /// How this save uses its time.
    pub(crate) fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }

    /// Makes room in the index for so many chunks.
    pub(crate) fn reserve(&mut self, chunks: usize) {
        self.index.reserve(chunks);
    }

    /// Adds chunks of packs that an earlier, unfinished save left in the store.
    pub(crate) fn adopt(&mut self, part: &IndexPart) {
        self.index.add_part(part);
    }

    /// The next frame. With a deadline it is waited for only as long as what is packed already can afford.
    pub(crate) fn next_of(
        &self,
        frames: &Receiver<EncodedFrame>,
    ) -> std::result::Result<EncodedFrame, RecvTimeoutError> {
        match self.pace.idle_time() {
            Some(wait) => frames.recv_timeout(wait),
            None => frames.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Nothing came for a while: what is there is sent off while there is time.
    pub(crate) fn seal_early(&mut self) -> Result<()> {
        match self.pace.is_over() {
            true => Ok(()),
            false => self.seal(),
        }
    }

    /// Adds a frame of files. After the deadline only as long as little waits to go with the tree; a later one is given up.
    pub(crate) fn push_files(&mut self, frame: EncodedFrame) -> Result<()> {
        let waiting = self.builder.len() + frame.bytes.len();
        if self.pace.is_over() && !self.pace.is_worth_waiting(waiting) {
            let chunks = frame.chunks.iter().map(|c| (c.id, c.length));
            self.lost.chunks.extend(chunks);
            return Ok(());
        }
        self.push(frame).map(drop)
    }

    /// Adds a frame; seals and sends the pack when it is full. Returns where the frame lies.
    pub(crate) fn push(&mut self, frame: EncodedFrame) -> Result<(ContainerKey, FrameSlot)> {
        let weight = frame.bytes.len() + frame.chunks.len() * CHUNK_WEIGHT;
        if !self.builder.is_empty() && self.weight + weight > self.pack_bytes() {
            self.seal()?;
        }
        self.weight += weight;
        let key = self.builder.key();
        let slot = self.builder.push(frame)?.clone();
        self.index.add_frame(key.id, &slot);
        Ok((key, slot))
    }

    fn pack_bytes(&self) -> usize {
        match self.is_tail {
            true => self.target_bytes,
            false => self.pace.pack_bytes(self.target_bytes, self.sealed),
        }
    }

    /// Everything that was read is packed. With a deadline: waits for what can still be sent in time, gives up the rest, and says
    /// what that was. What is packed from now on is sent in any case.
    pub(crate) fn settle(&mut self) -> Result<Lost> {
        if self.pace.is_bounded() {
            let is_alone = self.uploads.is_empty() || self.pace.is_over();
            if !is_alone || !self.pace.is_worth_waiting(self.builder.len()) {
                self.seal()?;
            }
            self.wait_for_all()?;
            let lost = &self.lost.packs;
            self.index.drop_packs(|pack| lost.contains(pack));
        }
        self.is_tail = true;
        Ok(std::mem::take(&mut self.lost))
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
        self.sealed += 1;
        self.sealed_bytes += sealed.bytes.len() as u64;
        self.budget.acquire(weight, &self.access.cancel)?;
        let upload = Upload {
            store: Arc::clone(&self.access.store),
            slots: Arc::clone(&self.slots),
            pace: Arc::clone(&self.pace),
            is_tail: self.is_tail,
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

    fn wait_for(&mut self, upload: JoinHandle<Result<Fate>>) -> Result<()> {
        let fate = self
            .runtime
            .block_on(upload)
            .map_err(|e| Error::internal("upload", e.to_string()))?;
        match fate? {
            Fate::Stored(bytes) => {
                self.packs += 1;
                self.bytes += bytes;
            }
            Fate::GivenUp(pack, frames) => {
                let chunks = frames.iter().flat_map(|frame| &frame.chunks);
                self.lost.chunks.extend(chunks.map(|c| (c.id, c.length)));
                self.lost.packs.insert(pack);
            }
        }
        Ok(())
    }

    /// Bytes of everything that was packed so far, sent or not.
    pub(crate) fn packed_bytes(&self) -> u64 {
        let open = match self.builder.is_empty() {
            true => 0,
            false => self.builder.len() as u64,
        };
        self.sealed_bytes + open
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
