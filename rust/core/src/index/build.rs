//! Builds one part from the frames of new packs and from older parts.

use super::part::{
    CHUNK_BYTES, FRAME_BYTES, HEAD_BYTES, ID_BYTES, IndexPart, PACK_BYTES, PLACE_BYTES, TAG, words,
};
use crate::id::ContainerId;
use crate::pack::FrameSlot;
use std::collections::HashMap;

/// While building: id, then frame, offset in it and length as big-endian u32, so that sorting the bytes sorts by id
/// and, for equal ids, by the order in which the frames were added.
type Record = [u8; CHUNK_BYTES];

struct Frame {
    pack: u32,
    offset: u32,
    stored_len: u32,
    plain_len: u32,
}

/// Collects chunks for one part: 44 bytes for each while building, and 12 more at the end.
#[derive(Default)]
pub struct IndexPartBuilder {
    packs: Vec<ContainerId>,
    pack_numbers: HashMap<ContainerId, u32>,
    frames: Vec<Frame>,
    records: Vec<Record>,
}

impl IndexPartBuilder {
    /// An empty part.
    pub fn new() -> Self {
        IndexPartBuilder::default()
    }

    /// Makes room for so many more chunks.
    pub fn reserve(&mut self, chunks: usize) {
        self.records.reserve_exact(chunks);
    }

    /// Adds the chunks of a frame of `pack`.
    pub fn add_frame(&mut self, pack: ContainerId, frame: &FrameSlot) {
        if frame.chunks.is_empty() {
            return;
        }
        let number = self.frames.len() as u32;
        let pack = self.pack_number(pack);
        self.frames.push(Frame {
            pack,
            offset: frame.offset,
            stored_len: frame.stored_len,
            plain_len: frame.plain_len,
        });
        let mut offset = 0;
        for chunk in &frame.chunks {
            self.records
                .push(record(&chunk.id.0, [number, offset, chunk.length]));
            offset += chunk.length;
        }
    }

    /// Adds the chunks of another part that lie in packs for which `keep` is true.
    pub fn add_part_of(&mut self, part: &IndexPart, keep: impl Fn(&ContainerId) -> bool) {
        let names: Vec<ContainerId> = part.packs().collect();
        if names.iter().all(&keep) {
            return self.add_part(part);
        }
        let mut numbers: HashMap<(ContainerId, u32), u32> = HashMap::new();
        for (id, at) in part.iter().filter(|(_, at)| keep(&at.pack)) {
            let number = match numbers.get(&(at.pack, at.offset)) {
                Some(number) => *number,
                None => {
                    let pack = self.pack_number(at.pack);
                    self.frames.push(Frame {
                        pack,
                        offset: at.offset,
                        stored_len: at.stored_len,
                        plain_len: at.plain_len,
                    });
                    let number = self.frames.len() as u32 - 1;
                    numbers.insert((at.pack, at.offset), number);
                    number
                }
            };
            self.records
                .push(record(&id.0, [number, at.chunk_offset, at.chunk_len]));
        }
    }

    /// Adds the chunks of another part.
    pub fn add_part(&mut self, part: &IndexPart) {
        let first = self.frames.len() as u32;
        let packs: Vec<u32> = part.packs().map(|pack| self.pack_number(pack)).collect();
        self.frames.extend(part.frame_table().iter().map(|frame| {
            let [pack, offset, stored_len, plain_len] = words(frame);
            Frame {
                pack: packs[pack as usize],
                offset,
                stored_len,
                plain_len,
            }
        }));
        self.records.reserve(part.len());
        for (id, place) in part.id_table().iter().zip(part.place_table()) {
            let [frame, offset, length] = words(place);
            self.records
                .push(record(id, [first + frame, offset, length]));
        }
    }

    /// Forgets the chunks of some packs.
    pub fn drop_packs(&mut self, is_dropped: impl Fn(&ContainerId) -> bool) {
        let dropped: Vec<bool> = self.packs.iter().map(is_dropped).collect();
        let frames = &self.frames;
        self.records.retain(|record| {
            let [number, ..] = places(record);
            !dropped[frames[number as usize].pack as usize]
        });
    }

    fn pack_number(&mut self, pack: ContainerId) -> u32 {
        *self.pack_numbers.entry(pack).or_insert_with(|| {
            self.packs.push(pack);
            self.packs.len() as u32 - 1
        })
    }

    /// Chunks added so far, those added twice counted twice.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no chunk was added yet.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The most bytes that the part made of this will have; a part over 256 MiB can't be stored.
    pub fn bytes_bound(&self) -> usize {
        HEAD_BYTES
            + self.packs.len() * PACK_BYTES
            + self.frames.len() * FRAME_BYTES
            + self.records.len() * CHUNK_BYTES
    }

    /// Sorts and encodes. Of a chunk added several times the first place stays; frames and packs without a chunk left go.
    pub fn finish(mut self) -> IndexPart {
        self.join_frames();
        self.records.sort_unstable();
        self.records
            .dedup_by(|later, first| later[..ID_BYTES] == first[..ID_BYTES]);
        let (packs, frames) = self.renumber();
        encode(&packs, &frames, self.records)
    }

    /// Lets chunks of a frame that was added twice name the first; where the two do not agree about the frame's length,
    /// at most one is true, and the chunks of the later one are dropped.
    fn join_frames(&mut self) {
        let frames = &self.frames;
        let mut order: Vec<u32> = (0..frames.len() as u32).collect();
        order.sort_by_key(|n| (frames[*n as usize].pack, frames[*n as usize].offset));
        let mut first: Vec<Option<u32>> = vec![None; frames.len()];
        let mut repeated = false;
        let mut last: Option<u32> = None;
        for number in order {
            let frame = &frames[number as usize];
            let same = last.filter(|last| {
                let last = &frames[*last as usize];
                (last.pack, last.offset) == (frame.pack, frame.offset)
            });
            first[number as usize] = match same {
                None => {
                    last = Some(number);
                    Some(number)
                }
                Some(original) => {
                    repeated = true;
                    let other = &frames[original as usize];
                    ((other.stored_len, other.plain_len) == (frame.stored_len, frame.plain_len))
                        .then_some(original)
                }
            };
        }
        if repeated {
            self.records.retain_mut(|record| {
                let [number, offset, length] = places(record);
                let Some(number) = first[number as usize] else {
                    return false;
                };
                set_places(record, [number, offset, length]);
                true
            });
        }
    }

    /// Numbers the packs and frames that are still named in the order of the format; returns both tables.
    fn renumber(&mut self) -> (Vec<ContainerId>, Vec<Frame>) {
        let mut frame_used = vec![false; self.frames.len()];
        for record in &self.records {
            frame_used[places(record)[0] as usize] = true;
        }
        let mut pack_used = vec![false; self.packs.len()];
        for (frame, used) in self.frames.iter().zip(&frame_used) {
            pack_used[frame.pack as usize] |= *used;
        }
        let mut order: Vec<usize> = (0..self.packs.len()).filter(|n| pack_used[*n]).collect();
        order.sort_unstable_by_key(|n| self.packs[*n]);
        let mut pack_numbers = vec![0; self.packs.len()];
        for (new, old) in order.iter().enumerate() {
            pack_numbers[*old] = new as u32;
        }
        let packs = order.iter().map(|n| self.packs[*n]).collect();

        let frames = &self.frames;
        let mut order: Vec<u32> = (0..frames.len() as u32)
            .filter(|n| frame_used[*n as usize])
            .collect();
        order.sort_unstable_by_key(|n| {
            let frame = &frames[*n as usize];
            (pack_numbers[frame.pack as usize], frame.offset)
        });
        let mut frame_numbers = vec![0; frames.len()];
        for (new, old) in order.iter().enumerate() {
            frame_numbers[*old as usize] = new as u32;
        }
        let sorted = order
            .iter()
            .map(|n| {
                let frame = &frames[*n as usize];
                Frame {
                    pack: pack_numbers[frame.pack as usize],
                    ..*frame
                }
            })
            .collect();
        for record in &mut self.records {
            let [number, offset, length] = places(record);
            set_places(record, [frame_numbers[number as usize], offset, length]);
        }
        (packs, sorted)
    }
}

fn record(id: &[u8; ID_BYTES], place: [u32; 3]) -> Record {
    let mut record = [0; CHUNK_BYTES];
    record[..ID_BYTES].copy_from_slice(id);
    set_places(&mut record, place);
    record
}

fn set_places(record: &mut Record, place: [u32; 3]) {
    for (field, value) in record[ID_BYTES..]
        .as_chunks_mut::<4>()
        .0
        .iter_mut()
        .zip(place)
    {
        *field = value.to_be_bytes();
    }
}

fn places(record: &Record) -> [u32; 3] {
    words::<3>(&record[ID_BYTES..]).map(u32::swap_bytes)
}

/// Turns the sorted records into a part in their own allocation: only the places are copied out meanwhile.
fn encode(packs: &[ContainerId], frames: &[Frame], records: Vec<Record>) -> IndexPart {
    let chunks = records.len();
    let places_table: Vec<[u8; PLACE_BYTES]> = records.iter().map(place_bytes).collect();
    let ids_at = HEAD_BYTES + packs.len() * PACK_BYTES + frames.len() * FRAME_BYTES;
    let places_at = ids_at + chunks * ID_BYTES;

    let mut bytes = records.into_flattened();
    for n in 1..chunks {
        bytes.copy_within(n * CHUNK_BYTES..n * CHUNK_BYTES + ID_BYTES, n * ID_BYTES);
    }
    bytes.truncate(chunks * ID_BYTES);
    bytes.reserve_exact(ids_at + chunks * PLACE_BYTES);
    bytes.resize(places_at, 0);
    bytes.copy_within(..chunks * ID_BYTES, ids_at);
    bytes.extend_from_slice(places_table.as_flattened());
    bytes.shrink_to_fit();

    let mut head = Vec::with_capacity(ids_at);
    head.push(TAG);
    for count in [packs.len(), frames.len(), chunks] {
        head.extend_from_slice(&(count as u32).to_le_bytes());
    }
    for pack in packs {
        head.extend_from_slice(&pack.epoch.to_le_bytes());
        head.extend_from_slice(&pack.random);
    }
    for frame in frames {
        for field in [frame.pack, frame.offset, frame.stored_len, frame.plain_len] {
            head.extend_from_slice(&field.to_le_bytes());
        }
    }
    bytes[..ids_at].copy_from_slice(&head);
    IndexPart::assembled(bytes, packs.len(), frames.len(), chunks)
}

fn place_bytes(record: &Record) -> [u8; PLACE_BYTES] {
    let mut out = [0; PLACE_BYTES];
    for (field, value) in out.as_chunks_mut::<4>().0.iter_mut().zip(places(record)) {
        *field = value.to_le_bytes();
    }
    out
}
