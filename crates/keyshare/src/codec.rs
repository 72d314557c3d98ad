//! The one place that names bincode: standard configuration (little endian, variable-length integers),
//! bounded, and with nothing left over after the value.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use zeroize::Zeroizing;

/// Most bytes that decoding may read or reserve. Without a bound a hostile length prefix makes bincode
/// reserve what the prefix says.
pub(crate) const LIMIT_BYTES: usize = 65536;

const CONFIG: Configuration<LittleEndian, Varint, Limit<LIMIT_BYTES>> =
    bincode::config::standard().with_limit::<LIMIT_BYTES>();

/// Why bytes are not one encoded value.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("{0} bytes are more than the 65536 that are read at all")]
    TooLong(usize),
    #[error("the bytes do not follow the layout")]
    Layout(#[source] bincode::error::DecodeError),
    #[error("{0} bytes follow after the end")]
    Trailing(usize),
}

/// Encodes into a buffer of `room` bytes that is wiped on drop and never moves while it grows.
pub(crate) fn encode<T: bincode::Encode>(
    value: &T,
    room: usize,
) -> Result<Zeroizing<Vec<u8>>, bincode::error::EncodeError> {
    let mut buffer = Zeroizing::new(vec![0; room]);
    let length = bincode::encode_into_slice(value, &mut buffer, CONFIG)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Decodes exactly one value that fills all of `bytes`.
pub(crate) fn decode<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > LIMIT_BYTES {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let (value, length) = bincode::decode_from_slice(bytes, CONFIG).map_err(DecodeError::Layout)?;
    match bytes.len() - length {
        0 => Ok(value),
        trailing => Err(DecodeError::Trailing(trailing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_long_and_trailing_bytes_are_refused() {
        assert_eq!(decode::<u8>(&[7]).unwrap(), 7);
        assert!(matches!(decode::<u8>(&[7, 0, 0]), Err(DecodeError::Trailing(2))));
        assert!(matches!(decode::<u8>(&[]), Err(DecodeError::Layout(_))));
        assert!(matches!(decode::<u8>(&[7; LIMIT_BYTES + 1]), Err(DecodeError::TooLong(65537))));
    }

    /// A prefix that announces 16 EiB is an error before anything is reserved.
    #[test]
    fn a_hostile_length_is_an_error() {
        let mut bytes = vec![0xfd];
        bytes.extend([0xff; 8]);
        assert!(matches!(decode::<String>(&bytes), Err(DecodeError::Layout(_))));
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(DecodeError::Layout(_))));
    }
}
