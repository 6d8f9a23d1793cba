//! Compression of one frame's payload: raw or zstd, decided by looking at samples.

use crate::error::{Error, Result};
use std::io::Cursor;
use zstd::zstd_safe;

/// Samples decide for plain bytes from this length on; shorter ones are simply tried.
const SAMPLE_BYTES: usize = 4 << 10;
/// Level of the samples: the lowest that still codes literals, so that skewed bytes without repetitions count as a gain.
const SAMPLE_LEVEL: i32 = 1;
/// First bytes of a zstd frame; skippable frames start with others.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The levels above 19 need more memory to decode than a reader has to expect.
const MAX_LEVEL: i32 = 19;

/// How a payload is stored; the discriminant is the byte of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// The plain bytes.
    Raw = 0,
    /// One zstd frame with its content size.
    Zstd = 1,
}

impl Codec {
    /// From the byte of the format; `None` for one that no version has defined.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Codec::Raw),
            1 => Some(Codec::Zstd),
            _ => None,
        }
    }
}

/// Compresses payloads; keeps its zstd context and buffers from one to the next.
pub struct Encoder {
    context: zstd_safe::CCtx<'static>,
    sample: Vec<u8>,
}

impl Encoder {
    /// Allocates the context; `Internal` if there is no memory for it.
    pub fn new() -> Result<Self> {
        let context = zstd_safe::CCtx::try_create()
            .ok_or_else(|| Error::internal("compress", "no memory for a zstd context"))?;
        Ok(Encoder {
            context,
            sample: Vec::with_capacity(zstd_safe::compress_bound(SAMPLE_BYTES)),
        })
    }

    /// Appends the payload for `plain` to `out` and says how it is coded.
    ///
    /// Raw when samples gain less than 5 % or the result is not smaller. `level`: 1..=19, or a negative fast level;
    /// higher ones count as 19. `Internal` if zstd fails; `out` then holds what it held before.
    pub fn encode(&mut self, plain: &[u8], level: i32, out: &mut Vec<u8>) -> Result<Codec> {
        let start = out.len();
        if self.is_worth_it(plain)? {
            out.reserve(zstd_safe::compress_bound(plain.len()));
            let mut cursor = Cursor::new(&mut *out);
            cursor.set_position(start as u64);
            let result = self
                .context
                .compress(&mut cursor, plain, level.min(MAX_LEVEL));
            match result {
                Ok(length) if length < plain.len() => return Ok(Codec::Zstd),
                Ok(_) => out.truncate(start),
                Err(code) => {
                    out.truncate(start);
                    return Err(Error::internal("compress", zstd_safe::get_error_name(code)));
                }
            }
        }
        out.extend_from_slice(plain);
        Ok(Codec::Raw)
    }

    /// Whether one of up to three samples (start, middle, end) gains 5 % or more.
    ///
    /// One is enough: a frame holds several files, and to try costs time only.
    fn is_worth_it(&mut self, plain: &[u8]) -> Result<bool> {
        let Some(last) = plain.len().checked_sub(SAMPLE_BYTES) else {
            return Ok(true);
        };
        let positions = [0, last / 2, last];
        // Samples of a short frame overlap: its middle says nothing new.
        let positions = match last {
            0 => &positions[..1],
            1..SAMPLE_BYTES => &positions[1..],
            _ => &positions[..],
        };
        for at in positions {
            self.sample.clear();
            let gained = self
                .context
                .compress(
                    &mut self.sample,
                    &plain[*at..*at + SAMPLE_BYTES],
                    SAMPLE_LEVEL,
                )
                .map_err(|code| {
                    Error::internal("compress sample", zstd_safe::get_error_name(code))
                })?;
            if gained <= SAMPLE_BYTES - SAMPLE_BYTES / 20 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Decompresses payloads; keeps its zstd context from one to the next.
///
/// It decodes in one step into the output, so there is no window besides it and no payload makes it allocate more
/// than the declared length.
pub struct Decoder {
    context: zstd_safe::DCtx<'static>,
}

impl Decoder {
    /// Allocates the context; `Internal` if there is no memory for it.
    pub fn new() -> Result<Self> {
        let context = zstd_safe::DCtx::try_create()
            .ok_or_else(|| Error::internal("decompress", "no memory for a zstd context"))?;
        Ok(Decoder { context })
    }

    /// Replaces the content of `out` by the plain bytes of `payload`.
    ///
    /// `Corrupt` unless it yields exactly `plain_len` bytes, which the caller has checked against a limit; `out` is then
    /// empty. A zstd payload must be one frame that declares this size.
    pub fn decode(
        &mut self,
        codec: Codec,
        payload: &[u8],
        plain_len: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        out.clear();
        match codec {
            Codec::Raw => {
                if payload.len() != plain_len {
                    return Err(corrupt("a raw payload has another length than declared"));
                }
                out.extend_from_slice(payload);
                Ok(())
            }
            Codec::Zstd => {
                let decoded = self.decode_zstd(payload, plain_len, out);
                if decoded.is_err() {
                    out.clear();
                }
                decoded
            }
        }
    }

    fn decode_zstd(&mut self, payload: &[u8], plain_len: usize, out: &mut Vec<u8>) -> Result<()> {
        if !payload.starts_with(&ZSTD_MAGIC) {
            return Err(corrupt("payload is not a zstd frame"));
        }
        if zstd_safe::get_frame_content_size(payload).ok().flatten() != Some(plain_len as u64) {
            return Err(corrupt("a zstd payload declares another size, or none"));
        }
        if zstd_safe::find_frame_compressed_size(payload).ok() != Some(payload.len()) {
            return Err(corrupt("payload is not exactly one zstd frame"));
        }
        out.reserve_exact(plain_len);
        let length = self
            .context
            .decompress(out, payload)
            .map_err(|code| corrupt(zstd_safe::get_error_name(code)))?;
        if length != plain_len || out.len() != plain_len {
            return Err(corrupt("payload yields another length than declared"));
        }
        Ok(())
    }
}

fn corrupt(why: &'static str) -> Error {
    Error::corrupt("decompress", why)
}
