//! Tar headers, as POSIX pax: ustar fields where they suffice, and an extended header before the entry where they don't.

use nbws_core::tree::{Entry, Timestamp, Xattr};

/// Everything in a tar stream is padded to this.
pub(super) const BLOCK_BYTES: usize = 512;
/// The whole stream is padded to this: what tar calls a record.
pub(super) const RECORD_BYTES: usize = 20 * BLOCK_BYTES;

const NAME_BYTES: usize = 100;
/// Seven octal digits, and eleven.
const SHORT_LIMIT: u64 = 1 << 21;
const LONG_LIMIT: u64 = 1 << 33;

/// What an entry is in the stream.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    Directory,
    /// With so many bytes of content, which follow.
    File(u64),
    /// One more name of an earlier file.
    HardLink(&'a [u8]),
    Symlink(&'a [u8]),
}

impl Kind<'_> {
    fn flag(&self) -> u8 {
        match self {
            Kind::File(_) => b'0',
            Kind::HardLink(_) => b'1',
            Kind::Symlink(_) => b'2',
            Kind::Directory => b'5',
        }
    }
}

/// Appends the headers of `entry`.
pub(super) fn put_headers(out: &mut Vec<u8>, entry: &Entry, kind: Kind<'_>) {
    let mut path = entry.path.clone();
    if matches!(kind, Kind::Directory) {
        path.push(b'/');
    }
    let target = match kind {
        Kind::HardLink(target) | Kind::Symlink(target) => target,
        Kind::Directory | Kind::File(_) => b"",
    };
    let size = match kind {
        Kind::File(size) => size,
        _ => 0,
    };
    let records = records(entry, kind, (&path, target, size));
    if !records.is_empty() {
        let (name, length) = (b"././@PaxHeader", records.len() as u64);
        put_header(
            out,
            b'x',
            (name, b""),
            &Fields {
                mode: 0o644,
                size: length,
                ..Fields::default()
            },
        );
        out.extend_from_slice(&records);
        pad(out, BLOCK_BYTES);
    }
    let fields = Fields {
        mode: u64::from(entry.mode),
        uid: u64::from(entry.uid),
        gid: u64::from(entry.gid),
        size,
        seconds: u64::try_from(entry.mtime.seconds).unwrap_or(0),
    };
    put_header(out, kind.flag(), (&path, target), &fields);
}

/// Fills up with zeros to a multiple of `unit`.
pub(super) fn pad(out: &mut Vec<u8>, unit: usize) {
    out.resize(out.len().next_multiple_of(unit), 0);
}

/// What ustar fields can't say.
fn records(entry: &Entry, kind: Kind<'_>, (path, target, size): (&[u8], &[u8], u64)) -> Vec<u8> {
    let mut out = Vec::new();
    let is_binary = |name: &[u8]| needs_record(name) && std::str::from_utf8(name).is_err();
    if is_binary(path) || is_binary(target) {
        // Without this word names in records are UTF-8. GNU tar says that it ignores it, and takes the bytes as they are.
        put_record(&mut out, b"hdrcharset", b"BINARY");
    }
    if needs_record(path) {
        put_record(&mut out, b"path", path);
    }
    if needs_record(target) {
        put_record(&mut out, b"linkpath", target);
    }
    if size >= LONG_LIMIT {
        put_record(&mut out, b"size", size.to_string().as_bytes());
    }
    for (key, id) in [(b"uid", entry.uid), (b"gid", entry.gid)] {
        if u64::from(id) >= SHORT_LIMIT {
            put_record(&mut out, key, id.to_string().as_bytes());
        }
    }
    let mtime = entry.mtime;
    if mtime.nanos != 0 || !(0..LONG_LIMIT as i64).contains(&mtime.seconds) {
        put_record(&mut out, b"mtime", time(mtime).as_bytes());
    }
    // Further names of a file share its attributes.
    if !matches!(kind, Kind::HardLink(_)) {
        for Xattr { name, value } in &entry.xattrs {
            put_record(
                &mut out,
                &[b"SCHILY.xattr.".as_slice(), &keyword(name)].concat(),
                value,
            );
        }
    }
    out
}

/// Text beyond ASCII is UTF-8 in a record. Bytes that are no text at all stand in the field as they are, where they fit.
fn needs_record(name: &[u8]) -> bool {
    name.len() > NAME_BYTES || (!name.is_ascii() && std::str::from_utf8(name).is_ok())
}

/// `=` ends a keyword, so GNU tar writes it, and `%`, as in a URL.
fn keyword(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'=' => out.extend_from_slice(b"%3D"),
            b'%' => out.extend_from_slice(b"%25"),
            byte => out.push(*byte),
        }
    }
    out
}

/// Decimal seconds, exactly.
fn time(at: Timestamp) -> String {
    let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
    let (sign, size) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (whole, rest) = (size / 1_000_000_000, size % 1_000_000_000);
    let text = format!("{sign}{whole}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `length key=value\n`, where the length counts itself.
fn put_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + digits(length) {
        length = rest + digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

#[derive(Default)]
struct Fields {
    mode: u64,
    uid: u64,
    gid: u64,
    size: u64,
    seconds: u64,
}

fn put_header(out: &mut Vec<u8>, flag: u8, (name, target): (&[u8], &[u8]), fields: &Fields) {
    let mut block = [0u8; BLOCK_BYTES];
    put_text(&mut block[0..NAME_BYTES], name);
    put_octal(&mut block[100..108], fields.mode);
    put_octal(&mut block[108..116], fields.uid);
    put_octal(&mut block[116..124], fields.gid);
    put_octal(&mut block[124..136], fields.size);
    put_octal(&mut block[136..148], fields.seconds);
    block[148..156].fill(b' ');
    block[156] = flag;
    put_text(&mut block[157..157 + NAME_BYTES], target);
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    put_octal(&mut block[148..155], sum);
    out.extend_from_slice(&block);
}

/// Cut off where it does not fit: then a record has it whole.
fn put_text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Octal digits and a NUL; 0 where they don't fit: then a record has it, or it is out of reach for tar.
fn put_octal(field: &mut [u8], value: u64) {
    let width = field.len() - 1;
    let fits = value < 1 << (3 * width);
    let text = format!("{:0width$o}", if fits { value } else { 0 });
    field[..width].copy_from_slice(text.as_bytes());
    field[width] = 0;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for length in [
            1, 80, 90, 91, 92, 93, 94, 95, 96, 97, 98, 985, 990, 991, 992, 993, 9_990,
        ] {
            let mut out = Vec::new();
            put_record(&mut out, b"k", &vec![b'v'; length]);
            let space = out.iter().position(|byte| *byte == b' ').unwrap();
            let said: usize = std::str::from_utf8(&out[..space]).unwrap().parse().unwrap();
            assert_eq!(said, out.len());
        }
    }

    #[test]
    fn times_are_exact() {
        let text = |seconds, nanos| time(Timestamp { seconds, nanos });
        assert_eq!(text(1_650_000_000, 123_456_789), "1650000000.123456789");
        assert_eq!(text(5, 0), "5");
        assert_eq!(text(50, 0), "50");
        assert_eq!(text(5, 500_000_000), "5.5");
        assert_eq!(text(-1, 0), "-1");
        assert_eq!(text(-1, 500_000_000), "-0.5");
        assert_eq!(text(-2, 999_999_999), "-1.000000001");
    }

    #[test]
    fn keywords_hide_what_ends_them() {
        assert_eq!(keyword(b"user.a=b%c"), b"user.a%3Db%25c");
    }
}
