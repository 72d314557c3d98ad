//! One stored secret as text, as docs/formats.md says: a header line per field, the secret in base64 and a
//! SHA-256 over it all, so that a torn, edited or misplaced file is an error and not a wrong share.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orama_protocol::guardian::SHARE_LIMIT_BYTES;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::auth::hex;
use crate::names::{Identity, SecretName};

/// First line; the number changes with the layout.
const FIRST_LINE: &str = "orama-guardian-secret 1";
/// Longest header, bytes: seven lines, of which identity, name and two i128 are the long ones.
pub(crate) const HEADER_LIMIT_BYTES: usize = 512;
/// Last line: `sha256 `, 64 characters and the newline.
const CHECKSUM_LINE_BYTES: usize = 7 + 64 + 1;
/// Longest record, bytes.
pub(crate) const RECORD_LIMIT_BYTES: usize =
    HEADER_LIMIT_BYTES + 6 + SHARE_LIMIT_BYTES.div_ceil(3) * 4 + 1 + CHECKSUM_LINE_BYTES;

/// What is wrong with a stored record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("it is longer than any secret")]
    TooLong,
    #[error("it is not text")]
    NotText,
    #[error("line {line} is not a valid `{expected}` line")]
    Line { line: usize, expected: &'static str },
    #[error("it ends early or goes on after its end")]
    Length,
    #[error("its checksum does not match")]
    Checksum,
    #[error("it belongs to another identity or name")]
    Misplaced,
}

/// What a record says before the secret itself.
#[derive(Clone)]
pub struct Header {
    pub identity: Identity,
    pub name: SecretName,
    pub version: u64,
    pub created_ns: i128,
    pub updated_ns: i128,
    /// Length of the secret, decoded.
    pub share_bytes: usize,
}

/// A stored secret. No Debug.
pub struct Record {
    pub identity: Identity,
    pub name: SecretName,
    pub version: u64,
    pub created_ns: i128,
    pub updated_ns: i128,
    pub share: Zeroizing<Vec<u8>>,
}

impl Record {
    /// The text of the file.
    pub fn encode(&self) -> Zeroizing<String> {
        let mut text =
            Zeroizing::new(String::with_capacity(RECORD_LIMIT_BYTES.min(1024 + self.share.len() * 2)));
        text.push_str(&format!(
            "{FIRST_LINE}\nidentity {}\nname {}\nversion {}\ncreated_ns {}\nupdated_ns {}\nshare_bytes {}\nshare ",
            self.identity.as_str(),
            self.name.as_str(),
            self.version,
            self.created_ns,
            self.updated_ns,
            self.share.len(),
        ));
        STANDARD.encode_string(self.share.as_slice(), &mut text);
        text.push('\n');
        let checksum = hex(&Sha256::digest(text.as_bytes()));
        text.push_str("sha256 ");
        text.push_str(&checksum);
        text.push('\n');
        text
    }

    /// Reads the text of a whole file and checks its sum.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (header, header_bytes) = Header::decode(bytes)?;
        header.check_length(header_bytes, bytes.len() as u64)?;
        let body_end = bytes.len() - CHECKSUM_LINE_BYTES;
        let (body, last) = bytes.split_at(body_end);
        let checksum = format!("sha256 {}\n", hex(&Sha256::digest(body)));
        if last != checksum.as_bytes() {
            return Err(RecordError::Checksum);
        }
        let line = RecordError::Line { line: 8, expected: "share" };
        let base64 = body[header_bytes..].strip_prefix(b"share ").and_then(|rest| rest.strip_suffix(b"\n"));
        let Some(Ok(share)) = base64.map(|base64| STANDARD.decode(base64)) else {
            return Err(line);
        };
        let share = Zeroizing::new(share);
        if share.len() != header.share_bytes {
            return Err(line);
        }
        let Header { identity, name, version, created_ns, updated_ns, .. } = header;
        Ok(Self { identity, name, version, created_ns, updated_ns, share })
    }
}

impl Header {
    /// Reads the seven header lines from the beginning of a file; also gives their length in bytes. Nothing
    /// vouches for a header alone: only [`Record::decode`] checks the sum.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), RecordError> {
        if bytes.len() > RECORD_LIMIT_BYTES {
            return Err(RecordError::TooLong);
        }
        let start = &bytes[..bytes.len().min(HEADER_LIMIT_BYTES)];
        let mut lines = Lines { rest: start, line: 0, taken: 0 };
        lines.field(FIRST_LINE, |rest| rest.is_empty().then_some(()))?;
        let header = Self {
            identity: lines.field("identity ", Identity::parse)?,
            name: lines.field("name ", SecretName::parse)?,
            version: lines.field("version ", number)?,
            created_ns: lines.field("created_ns ", number)?,
            updated_ns: lines.field("updated_ns ", number)?,
            share_bytes: lines.field("share_bytes ", |text| {
                number(text).filter(|length| (1..=SHARE_LIMIT_BYTES).contains(length))
            })?,
        };
        Ok((header, lines.taken))
    }

    /// Whether a file of this many bytes can hold the secret that the header announces.
    pub fn check_length(&self, header_bytes: usize, file_bytes: u64) -> Result<(), RecordError> {
        let share_line = 6 + self.share_bytes.div_ceil(3) * 4 + 1;
        let expected = (header_bytes + share_line + CHECKSUM_LINE_BYTES) as u64;
        if file_bytes == expected { Ok(()) } else { Err(RecordError::Length) }
    }

    /// Whether the file lies where it belongs.
    pub fn check_place(&self, identity: &Identity, name: &SecretName) -> Result<(), RecordError> {
        if self.identity == *identity && self.name == *name { Ok(()) } else { Err(RecordError::Misplaced) }
    }
}

/// A decimal number in its shortest form, so that a record has exactly one text.
fn number<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    text.parse::<T>().ok().filter(|value| value.to_string() == text)
}

struct Lines<'a> {
    rest: &'a [u8],
    line: usize,
    taken: usize,
}

impl Lines<'_> {
    fn field<T>(
        &mut self,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, RecordError> {
        self.line += 1;
        let wrong = RecordError::Line { line: self.line, expected: expected.trim_end() };
        let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') else {
            return Err(wrong);
        };
        let text = std::str::from_utf8(&self.rest[..end]).map_err(|_| RecordError::NotText)?;
        let value = text.strip_prefix(expected).and_then(parse).ok_or(wrong)?;
        self.rest = &self.rest[end + 1..];
        self.taken += end + 1;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn example(share: &[u8]) -> Record {
        Record {
            identity: Identity::parse(&"ab".repeat(32)).unwrap(),
            name: SecretName::parse("luks-00112233445566778899aabbccddeeff-g1").unwrap(),
            version: 1,
            created_ns: 1_763_800_000_123_456_789,
            updated_ns: 1_763_800_000_123_456_789,
            share: Zeroizing::new(share.to_vec()),
        }
    }

    #[test]
    fn round_trip_and_the_longest_fits() {
        for length in [1, 2, 3, 83, SHARE_LIMIT_BYTES] {
            let mut record = example(&vec![0xa5; length]);
            record.version = u64::MAX;
            record.created_ns = i128::MIN;
            record.updated_ns = i128::MIN;
            record.name = SecretName::parse(&"n".repeat(128)).unwrap();
            let text = record.encode();
            assert!(text.len() <= RECORD_LIMIT_BYTES, "{} bytes", text.len());
            let back = Record::decode(text.as_bytes()).unwrap();
            assert_eq!(back.share, record.share);
            assert_eq!((back.version, back.created_ns), (u64::MAX, i128::MIN));
            assert!(back.encode() == text);
        }
    }

    #[test]
    fn torn_and_edited_records_are_refused_at_every_byte() {
        let text = example(b"thirty-two bytes of a key share!").encode();
        let bytes = text.as_bytes();
        for length in 0..bytes.len() {
            assert!(Record::decode(&bytes[..length]).is_err(), "first {length} bytes");
        }
        for index in 0..bytes.len() {
            let mut edited = bytes.to_vec();
            edited[index] ^= 1;
            assert!(Record::decode(&edited).is_err(), "byte {index}");
        }
        let mut longer = bytes.to_vec();
        longer.push(b'\n');
        assert_eq!(Record::decode(&longer).err(), Some(RecordError::Length));
        assert_eq!(Record::decode(&vec![b'x'; RECORD_LIMIT_BYTES + 1]).err(), Some(RecordError::TooLong));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Record::decode(&bytes).is_err());
        }

        #[test]
        fn no_header_makes_it_panic(lines in proptest::collection::vec("[a-z_]{0,12} ?[0-9a-f]{0,70}", 0..12)) {
            let _ = Record::decode(format!("{FIRST_LINE}\n{}", lines.join("\n")).as_bytes());
        }
    }
}
