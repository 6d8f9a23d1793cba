//! The 64 bytes at the start of every container (`docs/format.md`, section 4.1).

use crate::error::{Error, ErrorKind, Result};
use crate::id::{ContainerId, RepositoryId};
use crate::key::{ContainerKey, ContainerKind};
use crate::limits::FORMAT_VERSION;
use crate::wire::WireReader;

/// Length of a header.
pub const HEADER_BYTES: usize = 64;
const MAGIC: &[u8; 4] = b"nbws";

/// Says what a container is and how it is named, so that a valid pack in the place of another is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Its own name.
    pub key: ContainerKey,
}

impl Header {
    /// The 64 bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..4].copy_from_slice(MAGIC);
        out[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[6] = match self.key.kind {
            ContainerKind::Pack => 1,
            ContainerKind::Index => 2,
        };
        out[8..24].copy_from_slice(&self.repository.0);
        out[40..48].copy_from_slice(&self.key.id.epoch.to_le_bytes());
        out[48..64].copy_from_slice(&self.key.id.random);
        out
    }

    /// Reads the first 64 bytes of a container. `Unsupported` for another version or an encrypted container.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = WireReader::new(bytes, "decode container header");
        if reader.array::<4>()? != *MAGIC {
            return Err(reader.corrupt("is not an nbws container"));
        }
        let version = u16::from_le_bytes(reader.array()?);
        let kind = reader.u8()?;
        let encryption = reader.u8()?;
        let repository = RepositoryId(reader.array()?);
        let key_id = reader.array::<16>()?;
        if version != FORMAT_VERSION || encryption != 0 || key_id != [0; 16] {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "decode container header",
                format!(
                    "format version {version}, encryption {encryption}: this program reads version {FORMAT_VERSION}, unencrypted"
                ),
            ));
        }
        let kind = match kind {
            1 => ContainerKind::Pack,
            2 => ContainerKind::Index,
            _ => return Err(reader.corrupt("unknown container kind")),
        };
        let id = ContainerId {
            epoch: reader.u64()?,
            random: reader.array()?,
        };
        Ok(Header {
            repository,
            key: ContainerKey { kind, id },
        })
    }

    /// Fails unless `bytes` start with the header of `key` in a repository that is `accepted`: its own, or one it was forked from.
    pub fn expect(
        bytes: &[u8],
        accepted: impl Fn(RepositoryId) -> bool,
        key: ContainerKey,
    ) -> Result<()> {
        let found = Header::decode(bytes.get(..HEADER_BYTES).unwrap_or(bytes))?;
        if found.key == key && accepted(found.repository) {
            return Ok(());
        }
        Err(Error::corrupt(
            "check container",
            format!(
                "holds {} of repository {} instead",
                found.key, found.repository
            ),
        )
        .at(key.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn another_pack_in_its_place_is_noticed() {
        let repository = RepositoryId([1; 16]);
        let key = ContainerKey::pack(ContainerId {
            epoch: 3,
            random: [4; 16],
        });
        let other = ContainerKey::pack(ContainerId {
            epoch: 3,
            random: [5; 16],
        });
        let bytes = Header { repository, key }.encode();
        assert!(Header::expect(&bytes, |r| r == repository, key).is_ok());
        assert_eq!(
            Header::expect(&bytes, |r| r == repository, other)
                .unwrap_err()
                .kind(),
            ErrorKind::Corrupt
        );
        assert_eq!(
            Header::expect(&bytes[..63], |r| r == repository, key)
                .unwrap_err()
                .kind(),
            ErrorKind::Corrupt
        );
    }
}
