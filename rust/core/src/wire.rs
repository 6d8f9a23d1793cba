//! The primitive encodings of the format: little-endian integers, minimal varints, length-prefixed bytes.

use crate::error::{Error, Result};

/// Appends a minimal unsigned LEB128.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a zigzag varint.
pub fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a varint length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads primitives off a slice; every failure is `Corrupt`, and nothing is allocated.
#[derive(Clone)]
pub struct WireReader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> WireReader<'a> {
    /// Reads `bytes`, which are a `what` ("decode tree segment").
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        WireReader { rest: bytes, what }
    }

    /// An error about these bytes.
    pub fn corrupt(&self, why: &'static str) -> Error {
        Error::corrupt(self.what, why)
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Fails unless everything was read.
    pub fn end(&self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.corrupt("trailing bytes"))
        }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        if count > self.rest.len() {
            return Err(self.corrupt("truncated"));
        }
        let (head, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// A little-endian u32.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A little-endian u64.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A minimal varint.
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let group = u64::from(byte & 0x7f);
            if shift == 63 && group > 1 {
                return Err(self.corrupt("varint is too large"));
            }
            value |= group << shift;
            if byte < 0x80 {
                if byte == 0 && shift > 0 {
                    return Err(self.corrupt("varint is not minimal"));
                }
                return Ok(value);
            }
        }
        Err(self.corrupt("varint is too long"))
    }

    /// A varint of at most `limit`, as a usize.
    pub fn count(&mut self, limit: usize) -> Result<usize> {
        let value = self.varint()?;
        match usize::try_from(value) {
            Ok(count) if count <= limit => Ok(count),
            _ => Err(self.corrupt("a count or length is over its limit")),
        }
    }

    /// A zigzag varint.
    pub fn zigzag(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Length-prefixed bytes of at most `limit`.
    pub fn bytes(&mut self, limit: usize) -> Result<&'a [u8]> {
        let length = self.count(limit)?;
        self.take(length)
    }

    /// Length-prefixed UTF-8 of at most `limit` bytes.
    pub fn text(&mut self, limit: usize) -> Result<&'a str> {
        let bytes = self.bytes(limit)?;
        std::str::from_utf8(bytes).map_err(|_| self.corrupt("text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_round_trip(value: u64, signed: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_zigzag(&mut out, signed);
            let mut reader = WireReader::new(&out, "test");
            prop_assert_eq!(reader.varint().unwrap(), value);
            prop_assert_eq!(reader.zigzag().unwrap(), signed);
            prop_assert!(reader.end().is_ok());
        }

        #[test]
        fn any_accepted_varint_is_the_only_spelling(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = WireReader::new(&bytes, "test");
            if let Ok(value) = reader.varint() {
                let mut again = Vec::new();
                put_varint(&mut again, value);
                prop_assert_eq!(&bytes[..again.len()], &again[..]);
            }
        }
    }
}
