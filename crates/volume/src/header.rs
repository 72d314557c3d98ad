//! Raw look at the start of a device: is there a LUKS header, whose is it, what is left of a broken one, and which
//! token does an unharmed one carry. Mends nothing: a header that is harmed in any way is cryptsetup's to read.
//! Source: LUKS2 on-disk format specification, section 2.1.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::seal::TOKEN_TYPE;
use crate::uuid::parse_uuid;

/// Token slots of the record of enrollment and of what is held for others.
pub(crate) const NODE_SLOT: &str = "0";
pub(crate) const HELD_SLOT: &str = "1";
const MAGIC_FIRST: &[u8; 6] = b"LUKS\xba\xbe";
const MAGIC_SECOND: &[u8; 6] = b"SKUL\xba\xbe";
/// Metadata size that we format with, in bytes; the second header copy begins there.
pub(crate) const METADATA_BYTES: usize = 1 << 20;
/// Where the second copy can begin, in bytes: one place for each metadata size that LUKS2 knows.
const SECOND_COPY_OFFSETS: [u64; 9] =
    [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];
/// The binary header's UUID field, bytes from its start.
const UUID_OFFSET: usize = 168;
const UUID_FIELD_BYTES: usize = 40;
/// The binary header; the JSON area follows it, bytes.
const BINARY_BYTES: usize = 4096;
/// Fields of the binary header, bytes from its start.
const SIZE_FIELD: Range<usize> = 8..16;
const SEQUENCE_FIELD: Range<usize> = 16..24;
const CHECKSUM_ALGORITHM_FIELD: Range<usize> = 72..104;
const OFFSET_FIELD: Range<usize> = 256..264;
const CHECKSUM_FIELD: Range<usize> = 448..512;

/// What the fixed part of a header says.
pub(crate) struct BinaryHeader {
    pub version: u16,
    pub uuid: Option<[u8; 16]>,
}

/// The first header copy that is there at all. `None`: no LUKS device.
pub(crate) fn find(device: &File) -> io::Result<Option<BinaryHeader>> {
    if let Some(header) = read_copy(device, 0, MAGIC_FIRST)? {
        return Ok(Some(header));
    }
    for offset in SECOND_COPY_OFFSETS {
        if let Some(header) = read_copy(device, offset, MAGIC_SECOND)? {
            return Ok(Some(header));
        }
    }
    Ok(None)
}

fn read_copy(device: &File, offset: u64, magic: &[u8; 6]) -> io::Result<Option<BinaryHeader>> {
    let mut bytes = [0; UUID_OFFSET + UUID_FIELD_BYTES];
    read_up_to(device, offset, &mut bytes)?;
    if &bytes[..6] != magic {
        return Ok(None);
    }
    let field = &bytes[UUID_OFFSET..];
    let text = field.split(|&byte| byte == 0).next().unwrap_or_default();
    let uuid = std::str::from_utf8(text).ok().and_then(parse_uuid);
    Ok(Some(BinaryHeader { version: u16::from_be_bytes([bytes[6], bytes[7]]), uuid }))
}

/// Of the header's JSON what is looked at here.
#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    tokens: BTreeMap<&'a str, &'a RawValue>,
    config: Config<'a>,
}

#[derive(Deserialize)]
struct Config<'a> {
    keyslots_size: &'a str,
}

/// Our tokens, where there are no others.
pub(crate) struct Tokens {
    /// In slot 0.
    pub node: Option<Zeroizing<Vec<u8>>>,
    /// In slot 1.
    pub held: Option<Zeroizing<Vec<u8>>>,
}

/// The tokens of a header that is unharmed: two copies that agree, a checksum that is right, and the room
/// that they speak of. `None`: anything else. Saves the start of a program on every boot; cryptsetup reads a
/// header of this size twice and takes longer than everything else before the first share is asked for.
pub(crate) fn tokens_of_unharmed(device: &File) -> io::Result<Option<Tokens>> {
    let mut both = Zeroizing::new(vec![0; 2 * METADATA_BYTES]);
    read_up_to(device, 0, &mut both)?;
    let (first, second) = both.split_at(METADATA_BYTES);
    if !agree(first, second) || !checksum_is_right(first) {
        return Ok(None);
    }
    let json = first[BINARY_BYTES..].split(|&byte| byte == 0).next().unwrap_or_default();
    let Ok(metadata) = serde_json::from_slice::<Metadata<'_>>(json) else { return Ok(None) };
    let Ok(keyslots) = metadata.config.keyslots_size.parse::<u64>() else { return Ok(None) };
    // A device that ends within the header was cut off behind our back.
    let needed = (2 * METADATA_BYTES as u64).saturating_add(keyslots);
    if io::Seek::seek(&mut &*device, io::SeekFrom::End(0))? <= needed {
        return Ok(None);
    }
    let token = |slot| metadata.tokens.get(slot).map(|token| Zeroizing::new(token.get().as_bytes().to_vec()));
    let tokens = Tokens { node: token(NODE_SLOT), held: token(HELD_SLOT) };
    let ours = usize::from(tokens.node.is_some()) + usize::from(tokens.held.is_some());
    Ok((metadata.tokens.len() == ours).then_some(tokens))
}

/// Whether both copies say the same. Their binary parts differ in magic, salt, place and checksum.
fn agree(first: &[u8], second: &[u8]) -> bool {
    let number = |copy: &[u8], field: Range<usize>| {
        copy[field].iter().fold(0u64, |number, &byte| number << 8 | u64::from(byte))
    };
    let size = METADATA_BYTES as u64;
    let same = |field: Range<usize>| first[field.clone()] == second[field];
    first.starts_with(MAGIC_FIRST)
        && second.starts_with(MAGIC_SECOND)
        && number(first, SIZE_FIELD) == size
        && number(second, SIZE_FIELD) == size
        && number(first, OFFSET_FIELD) == 0
        && number(second, OFFSET_FIELD) == size
        && same(SEQUENCE_FIELD)
        && same(UUID_OFFSET..UUID_OFFSET + UUID_FIELD_BYTES)
        && first[BINARY_BYTES..] == second[BINARY_BYTES..]
}

/// Over the whole copy with its own field as zeros.
fn checksum_is_right(copy: &[u8]) -> bool {
    let algorithm = copy[CHECKSUM_ALGORITHM_FIELD].split(|&byte| byte == 0).next();
    let digest = Sha256::new()
        .chain_update(&copy[..CHECKSUM_FIELD.start])
        .chain_update([0; CHECKSUM_FIELD.end - CHECKSUM_FIELD.start])
        .chain_update(&copy[CHECKSUM_FIELD.end..])
        .finalize();
    algorithm == Some(b"sha256") && copy[CHECKSUM_FIELD].starts_with(&digest)
}

/// What is left of a header that cryptsetup does not take.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// Only the first copy was begun and no token is in it: a format was cut off before its first complete write.
    UnfinishedFormat,
    /// Both copies were there once, or a token is in sight: an enrolled node may have owned this.
    Damaged,
}

pub(crate) fn leftover(device: &File) -> io::Result<Leftover> {
    let mut both = vec![0; 2 * METADATA_BYTES];
    read_up_to(device, 0, &mut both)?;
    // luksFormat wipes both places before it writes, and writes the first copy first. From then on one copy is
    // always whole, so a header that cannot be read and has a second copy was whole before.
    let second_begun = both[METADATA_BYTES..].iter().any(|&byte| byte != 0);
    let has_token = both.windows(TOKEN_TYPE.len()).any(|window| window == TOKEN_TYPE.as_bytes());
    let first_is_ours = both.starts_with(MAGIC_FIRST);
    if first_is_ours && !second_begun && !has_token {
        Ok(Leftover::UnfinishedFormat)
    } else {
        Ok(Leftover::Damaged)
    }
}

/// Fills as much as the device has; what lies behind its end stays 0.
fn read_up_to(device: &File, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match device.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(length) => done += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
