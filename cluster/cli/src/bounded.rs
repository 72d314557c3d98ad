//! Reading files whose size somebody else decides: up to a limit, never beyond.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// The text of a file of at most `limit_bytes`.
pub fn read_text(path: &Path, limit_bytes: u64) -> io::Result<String> {
    read_secret(path, limit_bytes).map(|mut text| std::mem::take(&mut *text))
}

/// The same, wiped when it is dropped.
pub fn read_secret(path: &Path, limit_bytes: u64) -> io::Result<Zeroizing<String>> {
    read_secret_from(File::open(path)?, limit_bytes)
}

/// The same, from a stream.
pub fn read_secret_from(stream: impl Read, limit_bytes: u64) -> io::Result<Zeroizing<String>> {
    // Reserved at once: a growing buffer would leave copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit_bytes as usize + 1));
    stream.take(limit_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit_bytes {
        let error = format!("longer than {limit_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
        }
    }
}
