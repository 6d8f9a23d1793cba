//! The `format` object: what a repository was created as (`docs/format.md`, section 3).

use crate::canonical;
use crate::chunker::ChunkerParams;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RepositoryId;
use crate::limits::{FORMAT_VERSION, FRAME_TARGET_BYTES, MAX_FORMAT_BYTES};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Required features that this program knows: none yet.
const KNOWN_FEATURES: [&str; 0] = [];
const CHUNKER_KIND: &str = "gear-threshold";
const HASH: &str = "blake3";
const NO_ENCRYPTION: &str = "none";
const DECODE: &str = "decode format";

/// How the repository cuts files. Only a writer needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkerSpec {
    /// Average bytes of a chunk.
    pub average: u32,
    /// `gear-threshold`.
    pub kind: String,
    /// Most bytes of a chunk.
    pub maximum: u32,
    /// Fewest bytes of a chunk that is cut by content.
    pub minimum: u32,
    /// A file of at most so many bytes is one chunk.
    pub whole: u32,
}

impl From<&ChunkerSpec> for ChunkerParams {
    fn from(spec: &ChunkerSpec) -> Self {
        ChunkerParams {
            average: spec.average,
            minimum: spec.minimum,
            maximum: spec.maximum,
            whole: spec.whole,
        }
    }
}

impl Default for ChunkerSpec {
    fn default() -> Self {
        ChunkerSpec {
            average: 65_536,
            kind: CHUNKER_KIND.to_owned(),
            maximum: 262_144,
            minimum: 32_768,
            whole: 65_536,
        }
    }
}

/// How the repository groups chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameSpec {
    /// Plain bytes aimed at per frame.
    pub target: u32,
}

/// What a repository was created as; written once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    /// How files are cut.
    pub chunker: ChunkerSpec,
    /// Milliseconds since 1970 UTC.
    #[serde(rename = "created")]
    pub created_ms: u64,
    /// `none`; other values are reserved.
    pub encryption: String,
    /// Required features, strictly sorted. Unknown ones are kept; [`Format::check_writable`] refuses them.
    pub features: Vec<String>,
    /// How chunks are grouped.
    pub frame: FrameSpec,
    /// `blake3`.
    pub hash: String,
    /// Whether a save compares uid and gid.
    pub numeric_ids: bool,
    /// Repositories whose containers and snapshot roots were copied here: it is a fork of theirs. Strictly sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<RepositoryId>,
    /// Outcome of the store's probe at creation.
    pub probe: Option<Map<String, Value>>,
    /// The repository's id.
    pub repository: RepositoryId,
    /// Format version.
    pub version: u16,
}

/// The one key that every version has.
#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl Format {
    /// A new repository with the default parameters.
    pub fn new(repository: RepositoryId, created_ms: u64, numeric_ids: bool) -> Self {
        Format {
            chunker: ChunkerSpec::default(),
            created_ms,
            encryption: NO_ENCRYPTION.to_owned(),
            features: Vec::new(),
            frame: FrameSpec {
                target: FRAME_TARGET_BYTES as u32,
            },
            hash: HASH.to_owned(),
            numeric_ids,
            origins: Vec::new(),
            probe: None,
            repository,
            version: FORMAT_VERSION,
        }
    }

    /// The canonical bytes. `InvalidInput` if they would not decode again.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let bytes = canonical::encode(self)?;
        if self.check().is_err() || bytes.len() > MAX_FORMAT_BYTES {
            let why = "features must be sorted, version, hash and encryption this program's, the whole at most 64 KiB";
            return Err(Error::new(ErrorKind::InvalidInput, "encode format", why));
        }
        Ok(bytes)
    }

    /// Decodes `format`. The version is looked at before anything else: another one is `Unsupported`, whatever else changed, as
    /// are another hash and encryption. Otherwise anything but the canonical bytes of a format is `Corrupt`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        check_version(bytes, MAX_FORMAT_BYTES, DECODE)?;
        let format: Format = canonical::decode(bytes, MAX_FORMAT_BYTES, DECODE)?;
        format.check()?;
        Ok(format)
    }

    /// Whether what says that it belongs to `repository` may be here.
    pub fn accepts(&self, repository: RepositoryId) -> bool {
        repository == self.repository || self.origins.contains(&repository)
    }

    /// Required features that this program does not know: it must not write, and reading may go wrong.
    pub fn unknown_features(&self) -> Vec<&str> {
        self.features
            .iter()
            .map(String::as_str)
            .filter(|feature| !KNOWN_FEATURES.contains(feature))
            .collect()
    }

    /// Fails with `Unsupported` unless this program knows every required feature and the chunker kind.
    pub fn check_writable(&self) -> Result<()> {
        let unknown = self.unknown_features();
        if unknown.is_empty() && self.chunker.kind == CHUNKER_KIND {
            return Ok(());
        }
        let why = match unknown.is_empty() {
            true => format!("needs the unknown chunker {}", self.chunker.kind),
            false => format!("needs unknown features: {}", unknown.join(", ")),
        };
        let error = Error::new(ErrorKind::Unsupported, "write to repository", why);
        Err(error.at(self.repository.to_hex()))
    }

    fn check(&self) -> Result<()> {
        let unsupported = |why: String| Err(Error::new(ErrorKind::Unsupported, DECODE, why));
        if self.version != FORMAT_VERSION {
            return Err(other_version(DECODE, u64::from(self.version)));
        }
        if self.encryption != NO_ENCRYPTION {
            return unsupported(format!("encryption {} is not known", self.encryption));
        }
        if self.hash != HASH {
            return unsupported(format!("hash {} is not known", self.hash));
        }
        if self.features.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(Error::corrupt(DECODE, "features are not sorted"));
        }
        if self.origins.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(Error::corrupt(DECODE, "origins are not sorted"));
        }
        Ok(())
    }
}

/// Looks at nothing but `version`: another one is `Unsupported`, none is `Corrupt`.
pub(crate) fn check_version(bytes: &[u8], limit: usize, what: &'static str) -> Result<()> {
    let Version { version } = canonical::parse(bytes, limit, what)?;
    if version == u64::from(FORMAT_VERSION) {
        Ok(())
    } else {
        Err(other_version(what, version))
    }
}

fn other_version(what: &'static str, version: u64) -> Error {
    let why = format!(
        "has format version {version}; this program reads and writes version {FORMAT_VERSION}"
    );
    Error::new(ErrorKind::Unsupported, what, why)
}
