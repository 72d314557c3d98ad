//! Raw look at the start of a device: is there a LUKS header, whose is it, and what is left of a broken one.
//! Reads the fixed binary part only (LUKS2 on-disk format, section 2.1); the JSON part is cryptsetup's to read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::seal::TOKEN_TYPE;
use crate::uuid::parse_uuid;

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
