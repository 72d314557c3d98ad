//! Does a binary need a dynamic loader? Decides whether the service sees the libraries at all.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::error::PrepareError;

const EM_X86_64: u16 = 62;
const PT_INTERP: u32 = 3;
/// Program headers are 56 bytes each in 64-bit ELF.
const PROGRAM_HEADER: usize = 56;
/// More program headers than any linker makes.
const MAX_PROGRAM_HEADERS: usize = 64;

/// True when the binary names a dynamic loader.
pub(crate) fn is_dynamic(path: &Path) -> Result<bool, PrepareError> {
    let read = |source| PrepareError::Binary { path: path.to_owned(), source };
    let unfit = |what| PrepareError::UnfitBinary { path: path.to_owned(), what };
    let file = File::open(path).map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    if !metadata.is_file() {
        return Err(unfit("is not a regular file"));
    }
    if metadata.mode() & 0o001 == 0 {
        return Err(unfit("cannot be executed by its service user (mode bit o+x)"));
    }
    let mut header = [0; 64];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(unfit("is too short for ELF"));
        }
        Err(error) => return Err(read(error)),
    }
    if header[..6] != [0x7f, b'E', b'L', b'F', 2, 1] {
        return Err(unfit("is not a 64-bit ELF program"));
    }
    if u16::from_le_bytes([header[18], header[19]]) != EM_X86_64 {
        return Err(unfit("is not an x86-64 program"));
    }
    let offset = u64::from_le_bytes(header[32..40].try_into().expect("eight bytes"));
    let size = usize::from(u16::from_le_bytes([header[54], header[55]]));
    let count = usize::from(u16::from_le_bytes([header[56], header[57]]));
    if size != PROGRAM_HEADER || count > MAX_PROGRAM_HEADERS {
        return Err(unfit("has an odd program header table"));
    }
    let mut table = vec![0; size * count];
    file.read_exact_at(&mut table, offset).map_err(read)?;
    Ok(table.chunks(size).any(|entry| entry[..4] == PT_INTERP.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_a_program_and_a_text_is_not() {
        let own = std::env::current_exe().expect("own path");
        is_dynamic(&own).expect("an ELF program");
        let text = is_dynamic(Path::new("/etc/passwd")).expect_err("no program");
        assert_eq!(
            text.to_string(),
            "binary /etc/passwd cannot be executed by its service user (mode bit o+x)"
        );
        let missing = is_dynamic(Path::new("/no/such/program")).expect_err("missing");
        assert_eq!(missing.to_string(), "inspect binary /no/such/program");
    }
}
