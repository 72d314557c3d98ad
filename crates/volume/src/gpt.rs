//! A GPT whose last partition is to reach the end of a larger disk, as bytes in and bytes out (UEFI 2.10, chapter 5).
//! Pure: reading, writing and telling the kernel is `grow`.

/// Sector size of the table, in bytes. Images are made for 512 and do not boot from disks of another size.
pub(crate) const SECTOR_BYTES: usize = 512;
/// Sectors of the first copy: protective MBR, header, 128 entries of 128 bytes.
pub(crate) const FIRST_COPY_SECTORS: usize = 34;
/// Sectors of the second copy: entries, header.
const SECOND_COPY_SECTORS: u64 = 33;
/// What is written of the first copy, in bytes: MBR, header and the first 24 entries lie in it, so that one write of
/// one page carries every change and no power cut can leave a header that does not fit its entries.
pub(crate) const HEAD_BYTES: usize = 4096;
/// Partitions end at a multiple of this many sectors (1 MiB), as they begin.
const ALIGNMENT_SECTORS: u64 = 2048;

const ENTRY_BYTES: usize = 128;
const ENTRY_COUNT: usize = 128;
const ENTRIES_AT: usize = 2 * SECTOR_BYTES;
/// Header fields, bytes from the header's start.
const HEADER_BYTES: usize = 92;
const CRC_AT: usize = 16;
const MY_LBA_AT: usize = 24;
const OTHER_LBA_AT: usize = 32;
const LAST_USABLE_AT: usize = 48;
const ENTRIES_LBA_AT: usize = 72;
const ENTRIES_CRC_AT: usize = 88;
/// Entry fields, bytes from the entry's start.
const FIRST_LBA_AT: usize = 32;
const LAST_LBA_AT: usize = 40;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    #[error("the first copy of the partition table is broken: {0}")]
    Broken(&'static str),
    #[error("the partition table is laid out in a way that is not ours: {0}")]
    Layout(&'static str),
    #[error("the disk has {found} sectors, its partition table needs {needed}")]
    DiskTooSmall { found: u64, needed: u64 },
    #[error("there is no partition {0}")]
    NoPartition(u32),
    #[error("partition {0} is not the last one on the disk")]
    NotLast(u32),
}

/// What to write, and what comes out of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The first [`HEAD_BYTES`] of the disk.
    pub head: Vec<u8>,
    /// The second copy, to be written first.
    pub second_copy: Vec<u8>,
    pub second_copy_at: u64,
    pub partition_start: u64,
    pub old_partition_length: u64,
    pub partition_length: u64,
}

/// `None` when the partition ends where it would anyway. Positions and lengths of the plan are in bytes.
pub(crate) fn plan(first_copy: &[u8], disk_sectors: u64, partition: u32) -> Result<Option<Plan>, TableError> {
    check(first_copy)?;
    let header = &first_copy[SECTOR_BYTES..][..HEADER_BYTES];
    let old_other = number(header, OTHER_LBA_AT);
    if old_other >= disk_sectors {
        return Err(TableError::DiskTooSmall { found: disk_sectors, needed: old_other.saturating_add(1) });
    }
    let entry_at = entry_of(first_copy, partition)?;
    let (start, end) =
        (number(first_copy, entry_at + FIRST_LBA_AT), number(first_copy, entry_at + LAST_LBA_AT));
    let last_usable = disk_sectors - SECOND_COPY_SECTORS - 1;
    let new_end = ((last_usable + 1) / ALIGNMENT_SECTORS * ALIGNMENT_SECTORS).saturating_sub(1);
    if new_end <= end {
        return Ok(None);
    }

    let mut first = first_copy[..FIRST_COPY_SECTORS * SECTOR_BYTES].to_vec();
    // The protective MBR's only partition covers the disk, as far as 32 bits go.
    let covered = u32::try_from(disk_sectors - 1).unwrap_or(u32::MAX);
    first[446 + 12..446 + 16].copy_from_slice(&covered.to_le_bytes());
    put(&mut first, entry_at + LAST_LBA_AT, new_end);
    let entries = first[ENTRIES_AT..].to_vec();
    let header = &mut first[SECTOR_BYTES..2 * SECTOR_BYTES];
    put(header, OTHER_LBA_AT, disk_sectors - 1);
    put(header, LAST_USABLE_AT, last_usable);
    header[ENTRIES_CRC_AT..HEADER_BYTES].copy_from_slice(&crc32(&entries).to_le_bytes());
    seal(header);

    let mut second_header = header.to_vec();
    put(&mut second_header, MY_LBA_AT, disk_sectors - 1);
    put(&mut second_header, OTHER_LBA_AT, 1);
    put(&mut second_header, ENTRIES_LBA_AT, disk_sectors - SECOND_COPY_SECTORS);
    seal(&mut second_header);
    let bytes = |sectors: u64| sectors * SECTOR_BYTES as u64;
    first.truncate(HEAD_BYTES);
    Ok(Some(Plan {
        head: first,
        second_copy: [entries, second_header].concat(),
        second_copy_at: bytes(disk_sectors - SECOND_COPY_SECTORS),
        partition_start: bytes(start),
        old_partition_length: bytes(end + 1 - start),
        partition_length: bytes(new_end + 1 - start),
    }))
}

/// A whole first copy in the one layout that the image has.
fn check(first_copy: &[u8]) -> Result<(), TableError> {
    if first_copy.len() < FIRST_COPY_SECTORS * SECTOR_BYTES {
        return Err(TableError::Broken("the disk ends before it"));
    }
    let header = &first_copy[SECTOR_BYTES..2 * SECTOR_BYTES];
    if &header[..8] != b"EFI PART" {
        return Err(TableError::Broken("no signature"));
    }
    if header[8..16] != [0, 0, 1, 0, HEADER_BYTES as u8, 0, 0, 0] {
        return Err(TableError::Layout("another revision or header size"));
    }
    let mut sealed = header.to_vec();
    seal(&mut sealed);
    if sealed != header {
        return Err(TableError::Broken("the header's checksum is wrong"));
    }
    let counts = [ENTRY_COUNT as u32, ENTRY_BYTES as u32].map(u32::to_le_bytes).concat();
    if number(header, MY_LBA_AT) != 1 || number(header, ENTRIES_LBA_AT) != 2 || header[80..88] != counts {
        return Err(TableError::Layout("entries in another place, number or size"));
    }
    let entries = &first_copy[ENTRIES_AT..][..ENTRY_COUNT * ENTRY_BYTES];
    if header[ENTRIES_CRC_AT..HEADER_BYTES] != crc32(entries).to_le_bytes() {
        return Err(TableError::Broken("the checksum of the entries is wrong"));
    }
    if first_copy[446 + 4] != 0xee || first_copy[510..512] != [0x55, 0xaa] {
        return Err(TableError::Layout("no protective MBR"));
    }
    Ok(())
}

/// Where the entry of a partition (counted from 1) lies, after checking that nothing lies behind the partition.
fn entry_of(first_copy: &[u8], partition: u32) -> Result<usize, TableError> {
    let at = |index: usize| ENTRIES_AT + index * ENTRY_BYTES;
    let used = |&index: &usize| first_copy[at(index)..][..16] != [0; 16];
    let index = (partition as usize).checked_sub(1).filter(|index| *index < ENTRY_COUNT && used(index));
    let index = index.ok_or(TableError::NoPartition(partition))?;
    if at(index) + ENTRY_BYTES > HEAD_BYTES {
        return Err(TableError::Layout("the partition's entry is not among the first 24"));
    }
    let end_of = |index: usize| number(first_copy, at(index) + LAST_LBA_AT);
    if (0..ENTRY_COUNT).filter(used).any(|other| other != index && end_of(other) >= end_of(index)) {
        return Err(TableError::NotLast(partition));
    }
    let start = number(first_copy, at(index) + FIRST_LBA_AT);
    // The bound keeps byte positions within 64 bits.
    if start > end_of(index) || end_of(index) > u64::MAX >> 10 {
        return Err(TableError::Broken("the partition ends before it begins"));
    }
    Ok(at(index))
}

/// Sets a header's own checksum.
fn seal(header: &mut [u8]) {
    header[CRC_AT..CRC_AT + 4].fill(0);
    let crc = crc32(&header[..HEADER_BYTES]);
    header[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// CRC-32 of ISO 3309, reflected polynomial 0xedb88320. Bit by bit: it runs over 16 KiB, once in a node's life.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        assert!(matches!(plan(&[], 1 << 20, 4), Err(TableError::Broken(_))));
        assert!(matches!(plan(&[0; 34 * 512], 1 << 20, 4), Err(TableError::Broken(_))));
    }
}
