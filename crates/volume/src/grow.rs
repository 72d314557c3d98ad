//! First-boot growth: lets the data partition reach the end of a disk that is larger than the image.
//! Only for a partition without content; an existing filesystem would not follow.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use crate::gpt::{self, FIRST_COPY_SECTORS, Plan, SECTOR_BYTES, TableError};

/// What became of the partition.
#[derive(Debug, PartialEq, Eq)]
pub enum Growth {
    /// It reaches the end of the disk already.
    AlreadyFull,
    Grown {
        from_bytes: u64,
        to_bytes: u64,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    #[error("cannot read {disk}")]
    Read {
        disk: String,
        #[source]
        source: io::Error,
    },
    #[error("{disk} has sectors of {found} bytes, its partition table is made for 512")]
    SectorSize { disk: String, found: i32 },
    #[error("cannot change the partition table of {disk}")]
    Table {
        disk: String,
        #[source]
        source: TableError,
    },
    #[error("cannot write {copy} copy of the partition table of {disk}")]
    Write {
        disk: String,
        copy: &'static str,
        #[source]
        source: io::Error,
    },
    /// The table on the disk is right; the kernel will see it at the next boot.
    #[error("cannot tell the kernel the new size of partition {partition} of {disk}")]
    Kernel {
        disk: String,
        partition: u32,
        #[source]
        source: io::Error,
    },
}

/// Moves the end of the last partition (counted from 1) to the end of the disk and tells the kernel.
///
/// A power cut at any moment leaves a valid table, old or new: the second copy is written and synced where nothing
/// was before, then one write of one page switches the first copy over.
pub fn grow_data_partition(disk: &Path, partition: u32) -> Result<Growth, GrowError> {
    let name = || disk.display().to_string();
    let read = |source| GrowError::Read { disk: name(), source };
    let mut file = OpenOptions::new().read(true).write(true).open(disk).map_err(read)?;
    let is_block = file.metadata().map_err(read)?.file_type().is_block_device();
    if is_block {
        let found = kernel::sector_bytes(&file).map_err(read)?;
        if found != SECTOR_BYTES as i32 {
            return Err(GrowError::SectorSize { disk: name(), found });
        }
    }
    let sectors = file.seek(SeekFrom::End(0)).map_err(read)? / SECTOR_BYTES as u64;
    let mut first_copy = vec![0; FIRST_COPY_SECTORS * SECTOR_BYTES];
    file.read_exact_at(&mut first_copy, 0).map_err(read)?;
    let plan = match gpt::plan(&first_copy, sectors, partition) {
        Ok(Some(plan)) => plan,
        Ok(None) => return Ok(Growth::AlreadyFull),
        Err(source) => return Err(GrowError::Table { disk: name(), source }),
    };
    let write = |copy, result: io::Result<()>| {
        result.map_err(|source| GrowError::Write { disk: name(), copy, source })
    };
    write("the second", write_second_copy(&file, &plan))?;
    write("the first", write_first_copy(&file, &plan))?;
    if is_block {
        kernel::resize(&file, partition, &plan).map_err(|source| GrowError::Kernel {
            disk: name(),
            partition,
            source,
        })?;
    }
    Ok(Growth::Grown { from_bytes: plan.old_partition_length, to_bytes: plan.partition_length })
}

fn write_second_copy(file: &File, plan: &Plan) -> io::Result<()> {
    file.write_all_at(&plan.second_copy, plan.second_copy_at)?;
    file.sync_all()
}

fn write_first_copy(file: &File, plan: &Plan) -> io::Result<()> {
    file.write_all_at(&plan.head, 0)?;
    file.sync_all()
}

/// The two ioctls on a disk.
#[allow(unsafe_code)]
mod kernel {
    use super::*;

    /// `BLKPG_RESIZE_PARTITION` of linux/blkpg.h: allowed while other partitions of the disk are in use, which reading
    /// the whole table anew (BLKRRPART) is not.
    const RESIZE_PARTITION: i32 = 3;

    /// `struct blkpg_partition` of linux/blkpg.h.
    #[repr(C)]
    struct Partition {
        start: i64,
        length: i64,
        number: i32,
        device_name: [u8; 64],
        volume_name: [u8; 64],
    }

    /// `struct blkpg_ioctl_arg` of linux/blkpg.h.
    #[repr(C)]
    struct Argument {
        operation: i32,
        flags: i32,
        data_length: i32,
        data: *mut Partition,
    }

    nix::ioctl_read_bad!(block_sector_size, nix::request_code_none!(0x12, 104), i32);
    nix::ioctl_write_ptr_bad!(block_partition, nix::request_code_none!(0x12, 105), Argument);

    pub fn sector_bytes(disk: &File) -> io::Result<i32> {
        let mut bytes = 0;
        // SAFETY: BLKSSZGET (0x12, 104) writes one int; `bytes` is one and outlives the call. The descriptor is open
        // for as long as `disk` is borrowed.
        unsafe { block_sector_size(disk.as_raw_fd(), &mut bytes) }?;
        Ok(bytes)
    }

    pub fn resize(disk: &File, number: u32, plan: &Plan) -> io::Result<()> {
        let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let mut partition = Partition {
            start: i64::try_from(plan.partition_start).map_err(too_large)?,
            length: i64::try_from(plan.partition_length).map_err(too_large)?,
            number: i32::try_from(number).map_err(too_large)?,
            device_name: [0; 64],
            volume_name: [0; 64],
        };
        let argument = Argument {
            operation: RESIZE_PARTITION,
            flags: 0,
            data_length: size_of::<Partition>() as i32,
            data: &mut partition,
        };
        // SAFETY: BLKPG (0x12, 105) reads the argument and the partition that it points to; both have the kernel's
        // layout, are initialized and outlive the call. The descriptor is open for as long as `disk` is borrowed.
        unsafe { block_partition(disk.as_raw_fd(), &argument) }?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A power cut between the two writes: the first copy still is the old table and still names the old second copy.
    #[test]
    fn the_old_table_stays_whole_until_the_last_write() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        let sfdisk = Path::new("/usr/sbin/sfdisk");
        assert!(sfdisk.exists(), "sfdisk is missing: install the Debian package fdisk");
        File::create(&disk).unwrap().set_len(16 << 20).unwrap();
        let run = |input: &[u8], arguments: &[&str]| {
            let timeout = std::time::Duration::from_secs(20);
            crate::program::Run { program: sfdisk, arguments, stdin: input, stdout_limit: 1 << 16, timeout }
                .finish()
                .unwrap()
        };
        let path = disk.to_str().unwrap();
        assert_eq!(run(b"label: gpt\nstart=2048, name=orama-data\n", &["--quiet", path]).code, 0);
        let before = run(b"", &["--dump", path]).stdout;
        let file = OpenOptions::new().read(true).write(true).open(&disk).unwrap();
        file.set_len(64 << 20).unwrap();
        let mut first_copy = vec![0; FIRST_COPY_SECTORS * SECTOR_BYTES];
        file.read_exact_at(&mut first_copy, 0).unwrap();
        let plan = gpt::plan(&first_copy, (64 << 20) / 512, 1).unwrap().unwrap();
        write_second_copy(&file, &plan).unwrap();
        assert_eq!(run(b"", &["--dump", path]).stdout, before);
        assert!(matches!(grow_data_partition(&disk, 1), Ok(Growth::Grown { .. })));
        assert_eq!(run(b"", &["--verify", path]).code, 0);
    }
}
