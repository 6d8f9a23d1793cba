//! Chunks that are not pieces of files.

use super::pack::Packer;
use super::pipeline::FreshChunks;
use nbws_core::Result;
use nbws_core::frame::{ChunkSpan, FrameEncoder, FrameKind};
use nbws_core::id::ChunkId;
use nbws_core::index::Index;

/// Plain bytes of a frame of such chunks. Less than for files: whoever browses fetches a frame for one segment, and one for one node.
const TYPED_FRAME_BYTES: usize = 256 << 10;

/// Chunks that are not pieces of files: chunk lists, segments, nodes. They share frames like any others.
pub(crate) struct TypedChunks<'p, 'a> {
    pub(crate) packer: &'p mut Packer<'a>,
    pub(crate) index: &'p Index,
    pub(crate) fresh: &'p FreshChunks,
    pub(crate) encoder: FrameEncoder,
    pub(crate) level: i32,
    plain: Vec<u8>,
    chunks: Vec<ChunkSpan>,
}

impl<'p, 'a> TypedChunks<'p, 'a> {
    pub(crate) fn new(
        packer: &'p mut Packer<'a>,
        index: &'p Index,
        fresh: &'p FreshChunks,
        level: i32,
    ) -> Result<Self> {
        let encoder = FrameEncoder::new()?;
        Ok(TypedChunks {
            packer,
            index,
            fresh,
            encoder,
            level,
            plain: Vec::new(),
            chunks: Vec::new(),
        })
    }

    /// Stores `bytes` unless they are stored already.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<ChunkId> {
        let id = ChunkId::of(bytes);
        if self.index.lookup(&id).is_none() && self.fresh.claim(&id) {
            self.plain.extend_from_slice(bytes);
            self.chunks.push(ChunkSpan {
                id,
                length: bytes.len() as u32,
            });
            if self.plain.len() >= TYPED_FRAME_BYTES {
                self.flush()?;
            }
        }
        Ok(id)
    }

    /// Packs what is waiting.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.chunks.is_empty() {
            return Ok(());
        }
        let chunks = std::mem::take(&mut self.chunks);
        let frame = self
            .encoder
            .encode(FrameKind::Chunks, &self.plain, chunks, self.level)?;
        self.plain.clear();
        self.packer.push(frame)?;
        Ok(())
    }
}
