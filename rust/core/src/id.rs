//! Typed identifiers. Sixteen random bytes for things that are made, thirty-two hash bytes for content.

use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Lowercase hex of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| {
            [
                DIGITS[(b >> 4) as usize] as char,
                DIGITS[(b & 15) as usize] as char,
            ]
        })
        .collect()
}

/// Exactly `N` bytes from lowercase hex; anything else is `None`.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $size:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $size]);

        impl $name {
            /// Lowercase hex.
            pub fn to_hex(&self) -> String {
                to_hex(&self.0)
            }

            /// From lowercase hex of the full length.
            pub fn parse(text: &str) -> Result<Self> {
                from_hex(text).map($name).ok_or_else(|| {
                    Error::new(ErrorKind::InvalidInput, concat!("parse ", $what),
                               concat!("not lowercase hex of ", stringify!($size), " bytes")).at(text)
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_hex())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                from_hex(&text).map($name).ok_or_else(|| serde::de::Error::custom(concat!("bad ", $what)))
            }
        }
    };
}

identifier!(
    /// Names a chunk: BLAKE3 of its plain bytes.
    ChunkId, 32, "chunk id");
identifier!(
    /// BLAKE3 over the logical entries of a tree (`docs/format.md`, section 6.4).
    TreeRoot, 32, "tree root");
identifier!(
    /// BLAKE3 of the plain bytes of a frame that a record or an index root names.
    FrameHash, 32, "frame hash");
identifier!(
    /// Names a repository; made once, in `format`.
    RepositoryId, 16, "repository id");
identifier!(
    /// Names a snapshot; random, chosen when its root is encoded.
    SnapshotId, 16, "snapshot id");
identifier!(
    /// Names one writer: one session, or one one-shot save.
    WriterId, 16, "writer id");
identifier!(
    /// Names one record; random, so that a read-back tells whose record holds a slot.
    CommitId, 16, "commit id");

impl ChunkId {
    /// The id of `plain`.
    pub fn of(plain: &[u8]) -> Self {
        ChunkId(*blake3::hash(plain).as_bytes())
    }
}

impl FrameHash {
    /// The hash of `plain`.
    pub fn of(plain: &[u8]) -> Self {
        FrameHash(*blake3::hash(plain).as_bytes())
    }
}

/// Name of a container: epoch and random part, never derived from content, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId {
    /// Epoch of the writer.
    pub epoch: u64,
    /// 128 random bits.
    pub random: [u8; 16],
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, to_hex(&self.random))
    }
}

impl ContainerId {
    /// From `<16 hex>-<32 hex>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, random) = text.split_once('-')?;
        Some(ContainerId {
            epoch: u64::from_be_bytes(from_hex(epoch)?),
            random: from_hex(random)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_names_round_trip_and_refuse_other_spellings() {
        let id = ContainerId {
            epoch: 7,
            random: [0xab; 16],
        };
        assert_eq!(ContainerId::parse(&id.to_string()), Some(id));
        assert_eq!(ContainerId::parse(&id.to_string().to_uppercase()), None);
        assert_eq!(ContainerId::parse("7-ab"), None);
    }
}
