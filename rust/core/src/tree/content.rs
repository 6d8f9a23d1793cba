//! Content of files: runs, inline or in chunk lists (`docs/format.md`, section 6.2).

use super::{Content, ListRef, Run};
use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::limits::{MAX_CHUNK_BYTES, MAX_INLINE_RUNS, MAX_LIST_RUNS, MIN_LIST_RUNS};
use crate::wire::{WireReader, put_varint};

const LIST_TAG: u8 = b'L';
/// An encoded run has an id, a length and a count: at least this many bytes.
const MIN_RUN_BYTES: usize = 34;
const MIN_LIST_REF_BYTES: usize = 33;

/// Joins neighbouring runs of the same chunk, as the format demands.
pub fn join_runs(runs: impl IntoIterator<Item = Run>) -> Vec<Run> {
    let mut joined: Vec<Run> = Vec::new();
    for run in runs {
        if let Some(last) = joined.last_mut()
            && same_chunk(last, &run)
        {
            last.count = last.count.saturating_add(run.count);
        } else {
            joined.push(run);
        }
    }
    joined
}

/// Encodes `runs` (joined, more than 1,024) as chunk lists, each the plain bytes of a chunk, cut by content.
pub fn cut_lists(runs: &[Run]) -> Vec<Vec<u8>> {
    let mut lists = Vec::new();
    let mut rest = runs;
    while !rest.is_empty() {
        let end = (1..=rest.len())
            .find(|n| ends_list(*n, &rest[n - 1]))
            .unwrap_or(rest.len());
        let mut bytes = Vec::with_capacity(4 + end * 38);
        bytes.push(LIST_TAG);
        put_runs(&mut bytes, &rest[..end]);
        lists.push(bytes);
        rest = &rest[end..];
    }
    lists
}

/// Decodes one chunk list. `Corrupt` unless it is the one encoding of joined runs, cut where the format says.
pub fn decode_list(bytes: &[u8]) -> Result<Vec<Run>> {
    let mut reader = WireReader::new(bytes, "decode chunk list");
    if bytes.len() > MAX_CHUNK_BYTES {
        return Err(reader.corrupt("is larger than a chunk"));
    }
    if reader.u8()? != LIST_TAG {
        return Err(reader.corrupt("is not a chunk list"));
    }
    let count = reader.count(MAX_LIST_RUNS)?;
    let runs = read_runs(&mut reader, count)?;
    reader.end()?;
    check_joined(&runs).map_err(|why| reader.corrupt(why))?;
    let cut_early = runs
        .iter()
        .enumerate()
        .take(runs.len().saturating_sub(1))
        .any(|(at, run)| ends_list(at + 1, run));
    if runs.is_empty() || cut_early {
        return Err(reader.corrupt("is not cut where the format cuts it"));
    }
    Ok(runs)
}

/// Checks the runs of a whole file, in order, as its chunk lists gave them: joined across lists, adding up to `size`.
///
/// `Corrupt` otherwise. Counts are compared with `content` too, so a missing list is noticed.
pub fn check_runs(content: &Content, size: u64, runs: &[Run]) -> Result<()> {
    let expected = match content {
        Content::Inline(inline) => inline.len() as u64,
        Content::Listed { run_count, .. } => *run_count,
    };
    let checked = if expected == runs.len() as u64 {
        check_joined(runs).and_then(|()| check_sum(runs, size))
    } else {
        Err("the chunk lists do not hold as many runs as the entry says")
    };
    checked.map_err(|why| Error::corrupt("check content", why))
}

/// Says what is wrong with the content of a file of `size` bytes, if anything.
pub(super) fn check_content(content: &Content, size: u64) -> Result<(), &'static str> {
    match content {
        Content::Inline(runs) if runs.len() > MAX_INLINE_RUNS => {
            Err("more than 1,024 runs are not in chunk lists")
        }
        Content::Inline(runs) => check_joined(runs).and_then(|()| check_sum(runs, size)),
        Content::Listed { run_count, lists } => check_listed(*run_count, lists, size),
    }
}

fn check_listed(run_count: u64, lists: &[ListRef], size: u64) -> Result<(), &'static str> {
    if run_count <= MAX_INLINE_RUNS as u64 || run_count > size {
        return Err("a run count in chunk lists is out of range");
    }
    let count = lists.len() as u64;
    let most = count.saturating_mul(MAX_LIST_RUNS as u64);
    let fewest = count.saturating_sub(1).saturating_mul(MIN_LIST_RUNS as u64);
    if run_count > most || run_count <= fewest {
        return Err("the number of chunk lists does not fit the number of runs");
    }
    if lists.iter().all(|list| fits_chunk(list.length)) {
        Ok(())
    } else {
        Err("a chunk list has an impossible length")
    }
}

fn check_joined(runs: &[Run]) -> Result<(), &'static str> {
    if runs.iter().any(|run| !fits_chunk(run.length)) {
        return Err("a chunk has an impossible length");
    }
    if runs.iter().any(|run| run.count == 0) {
        return Err("a run repeats nothing");
    }
    if runs.windows(2).any(|pair| same_chunk(&pair[0], &pair[1])) {
        return Err("neighbouring runs are not joined");
    }
    Ok(())
}

fn check_sum(runs: &[Run], size: u64) -> Result<(), &'static str> {
    let sum = runs.iter().try_fold(0u64, |sum, run| {
        sum.checked_add(u64::from(run.length).checked_mul(run.count)?)
    });
    if sum == Some(size) {
        Ok(())
    } else {
        Err("the chunks do not add up to the size")
    }
}

/// Appends the content of a file of `size` bytes.
pub(super) fn put_content(out: &mut Vec<u8>, content: &Content, size: u64) {
    match content {
        _ if size == 0 => {}
        Content::Inline(runs) => put_runs(out, runs),
        Content::Listed { run_count, lists } => {
            out.push(0);
            put_varint(out, *run_count);
            put_varint(out, lists.len() as u64);
            for list in lists {
                out.extend_from_slice(&list.id.0);
                put_varint(out, u64::from(list.length));
            }
        }
    }
}

/// Reads the content of a file of `size` bytes; [`check_content`] must follow.
pub(super) fn read_content(reader: &mut WireReader<'_>, size: u64) -> Result<Content> {
    if size == 0 {
        return Ok(Content::Inline(Vec::new()));
    }
    let count = reader.count(MAX_INLINE_RUNS)?;
    if count > 0 {
        return Ok(Content::Inline(read_runs(reader, count)?));
    }
    let run_count = reader.varint()?;
    let list_count = reader.count(reader.remaining() / MIN_LIST_REF_BYTES)?;
    let mut lists = Vec::with_capacity(list_count);
    for _ in 0..list_count {
        lists.push(ListRef {
            id: ChunkId(reader.array()?),
            length: read_length(reader)?,
        });
    }
    Ok(Content::Listed { run_count, lists })
}

fn put_runs(out: &mut Vec<u8>, runs: &[Run]) {
    put_varint(out, runs.len() as u64);
    for run in runs {
        out.extend_from_slice(&run.id.0);
        put_varint(out, u64::from(run.length));
        put_varint(out, run.count);
    }
}

fn read_runs(reader: &mut WireReader<'_>, count: usize) -> Result<Vec<Run>> {
    if count > reader.remaining() / MIN_RUN_BYTES {
        return Err(reader.corrupt("truncated"));
    }
    let mut runs = Vec::with_capacity(count);
    for _ in 0..count {
        runs.push(Run {
            id: ChunkId(reader.array()?),
            length: read_length(reader)?,
            count: reader.varint()?,
        });
    }
    Ok(runs)
}

fn read_length(reader: &mut WireReader<'_>) -> Result<u32> {
    Ok(reader.count(MAX_CHUNK_BYTES)? as u32)
}

fn fits_chunk(length: u32) -> bool {
    (1..=MAX_CHUNK_BYTES).contains(&(length as usize))
}

fn same_chunk(a: &Run, b: &Run) -> bool {
    a.id == b.id && a.length == b.length
}

/// Whether a list ends after its `count`-th run.
fn ends_list(count: usize, run: &Run) -> bool {
    let head = u16::from_le_bytes([run.id.0[0], run.id.0[1]]);
    count >= MAX_LIST_RUNS || (count >= MIN_LIST_RUNS && head & 0x3ff == 0)
}
