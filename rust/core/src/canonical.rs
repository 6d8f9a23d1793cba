//! Canonical JSON: the one spelling of a value (`docs/format.md`, section 1).

use crate::error::{Error, ErrorKind, Result};
use crate::limits::MAX_JSON_INTEGER;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

/// The canonical bytes of `value`. `InvalidInput` if it holds a fraction or an integer over 2^53 - 1, or can't be JSON.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let value = serde_json::to_value(value).map_err(|e| {
        Error::new(
            ErrorKind::InvalidInput,
            "encode JSON",
            "can't be written as JSON",
        )
        .caused_by(e)
    })?;
    let mut out = Vec::with_capacity(512);
    put_value(&mut out, &value)?;
    Ok(out)
}

/// Decodes at most `limit` bytes, encodes the result and compares. Anything but the canonical bytes of a `T` is `Corrupt`.
pub fn decode<T: DeserializeOwned + Serialize>(
    bytes: &[u8],
    limit: usize,
    what: &'static str,
) -> Result<T> {
    let value: T = parse(bytes, limit, what)?;
    compare(encode(&value), bytes, what)?;
    Ok(value)
}

/// Parses at most `limit` bytes without asking for canonical spelling; [`compare`] must follow.
pub(crate) fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    limit: usize,
    what: &'static str,
) -> Result<T> {
    if bytes.len() > limit {
        return Err(Error::corrupt(what, format!("is over {limit} bytes")));
    }
    serde_json::from_slice(bytes).map_err(|e| Error::corrupt(what, e.to_string()))
}

/// Fails with `Corrupt` unless what was decoded from `bytes` encodes to them again.
pub(crate) fn compare(again: Result<Vec<u8>>, bytes: &[u8], what: &'static str) -> Result<()> {
    match again {
        Ok(again) if again == bytes => Ok(()),
        Ok(_) => Err(Error::corrupt(what, "is not in canonical form")),
        Err(e) => Err(Error::corrupt(what, e.message().to_owned())),
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) -> Result<()> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => put_integer(out, number)?,
        Value::String(text) => put_string(out, text),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                put_value(out, item)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            // The map's own order depends on a cargo feature that any dependency may switch on.
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by_key(|(key, _)| key.as_bytes());
            out.push(b'{');
            for (at, (key, item)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                put_string(out, key);
                out.push(b':');
                put_value(out, item)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn put_integer(out: &mut Vec<u8>, number: &Number) -> Result<()> {
    let (negative, magnitude) = match (number.as_u64(), number.as_i64()) {
        (Some(value), _) => (false, value),
        (None, Some(value)) => (true, value.unsigned_abs()),
        (None, None) => (false, u64::MAX),
    };
    if magnitude > MAX_JSON_INTEGER {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "encode JSON",
            "numbers must be integers of at most 2^53 - 1",
        ));
    }
    if negative {
        out.push(b'-');
    }
    out.extend_from_slice(magnitude.to_string().as_bytes());
    Ok(())
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
