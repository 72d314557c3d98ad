//! Creates one read-only device-mapper device by ioctl on /dev/mapper/control. Knows nothing of verity.
//! Layouts and numbers: include/uapi/linux/dm-ioctl.h.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

const CONTROL: &str = "/dev/mapper/control";

/// Interface version 4.0.0: every 4.x kernel side accepts it.
const VERSION: u32 = 4;

const DEV_CREATE: libc::c_ulong = 0xc138_fd03;
const TABLE_LOAD: libc::c_ulong = 0xc138_fd09;
/// Suspends, or without the suspend flag resumes, which makes the loaded table live.
const DEV_SUSPEND: libc::c_ulong = 0xc138_fd06;

const READ_ONLY_FLAG: u32 = 1;

const HEADER_BYTES: usize = 312;
const TARGET_BYTES: usize = 40;
const DEV_OFFSET: usize = 40;
const NAME_OFFSET: usize = 48;
const NAME_BYTES: usize = 128;
const TYPE_BYTES: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum DmError {
    #[error("cannot open {CONTROL}")]
    Open(#[source] io::Error),
    #[error("name or target type is too long")]
    TooLong,
    #[error("cannot create the device")]
    Create(#[source] io::Error),
    #[error("cannot load the table")]
    Load(#[source] io::Error),
    #[error("cannot activate the table")]
    Activate(#[source] io::Error),
}

/// A table with one line from sector 0.
pub struct Target {
    pub kind: &'static str,
    pub sectors: u64,
    pub parameters: String,
}

/// The node of the new device; devtmpfs makes it.
pub fn create_read_only(name: &str, target: &Target) -> Result<PathBuf, DmError> {
    let control = OpenOptions::new().read(true).write(true).open(CONTROL).map_err(DmError::Open)?;
    let mut create = request(name, 0, None).ok_or(DmError::TooLong)?;
    let mut load = request(name, READ_ONLY_FLAG, Some(target)).ok_or(DmError::TooLong)?;
    let mut resume = request(name, 0, None).ok_or(DmError::TooLong)?;
    call(&control, DEV_CREATE, &mut create).map_err(DmError::Create)?;
    call(&control, TABLE_LOAD, &mut load).map_err(DmError::Load)?;
    call(&control, DEV_SUSPEND, &mut resume).map_err(DmError::Activate)?;
    Ok(PathBuf::from(format!("/dev/dm-{}", minor(&create))))
}

/// A `dm_ioctl`, and behind it a `dm_target_spec` and its parameters, as bytes. `None` when a name does not fit.
fn request(name: &str, flags: u32, target: Option<&Target>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; HEADER_BYTES];
    if let Some(target) = target {
        if target.kind.len() >= TYPE_BYTES {
            return None;
        }
        let mut line = vec![0; TARGET_BYTES];
        line[8..16].copy_from_slice(&target.sectors.to_ne_bytes());
        line[24..24 + target.kind.len()].copy_from_slice(target.kind.as_bytes());
        line.extend_from_slice(target.parameters.as_bytes());
        line.push(0);
        // The kernel wants the next line on an 8-byte boundary; there is none, but `next` must fit the data.
        line.resize(line.len().next_multiple_of(8), 0);
        let next = u32::try_from(line.len()).ok()?;
        line[20..24].copy_from_slice(&next.to_ne_bytes());
        bytes.extend_from_slice(&line);
    }
    if name.len() >= NAME_BYTES {
        return None;
    }
    let size = u32::try_from(bytes.len()).ok()?;
    let targets = u32::from(target.is_some());
    for (at, word) in [(0, VERSION), (12, size), (16, HEADER_BYTES as u32), (20, targets), (28, flags)] {
        bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes[NAME_OFFSET..NAME_OFFSET + name.len()].copy_from_slice(name.as_bytes());
    Some(bytes)
}

/// The minor number in an answer: `dev` is in huge_encode_dev form, minor bits 0 to 7 and 20 to 31.
fn minor(answer: &[u8]) -> u32 {
    let word = |at: usize| u32::from_ne_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]);
    let low = word(DEV_OFFSET);
    (low & 0xff) | ((low >> 12) & 0xfff00)
}

fn call(control: &File, number: libc::c_ulong, request: &mut [u8]) -> io::Result<()> {
    // SAFETY: `control` is an open descriptor. `request` starts with a dm_ioctl whose data_size field is the
    // length of the slice (see `request`), and the kernel reads and writes only that many bytes. It copies
    // from and to user memory byte-wise, so the alignment of the slice does not matter.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), number, request.as_mut_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_load_is_laid_out_as_the_kernel_reads_it() {
        let target = Target { kind: "verity", sectors: 0x1122, parameters: "1 254:2".into() };
        let bytes = request("orama-root", READ_ONLY_FLAG, Some(&target)).unwrap();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(bytes.len(), 312 + 40 + 8);
        assert_eq!((word(0), word(12), word(16), word(20), word(28)), (4, 360, 312, 1, 1));
        assert_eq!(&bytes[48..59], b"orama-root\0");
        assert_eq!(word(312 + 8), 0x1122);
        assert_eq!(word(312 + 20), 48);
        assert_eq!(&bytes[312 + 24..312 + 31], b"verity\0");
        assert_eq!(&bytes[352..360], b"1 254:2\0");
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        assert!(request(&"x".repeat(128), 0, None).is_none());
        let target = Target { kind: "a-type-far-too-long", sectors: 1, parameters: String::new() };
        assert!(request("x", 0, Some(&target)).is_none());
    }

    #[test]
    fn minors_above_255_are_decoded() {
        let mut answer = vec![0; HEADER_BYTES];
        answer[40..48].copy_from_slice(&((254_u64 << 8) | 0x34 | (0x12 << 20)).to_ne_bytes());
        assert_eq!(minor(&answer), 0x1234);
    }
}
