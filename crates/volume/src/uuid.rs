//! The volume's UUID as 16 bytes and as the text that LUKS2 headers carry. No other UUID version than 4 is made here.

/// Canonical text, lowercase with dashes, as `cryptsetup luksUUID` prints it.
pub fn uuid_text(uuid: [u8; 16]) -> String {
    let hex = hex(&uuid);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Reads the canonical text back; anything else is `None`.
pub(crate) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let dashes_in_place = text.len() == 36 && [8, 13, 18, 23].iter().all(|&at| text.as_bytes()[at] == b'-');
    if !dashes_in_place {
        return None;
    }
    let digits: String = text.chars().filter(|&c| c != '-').collect();
    parse_hex(&digits)
}

/// Turns 16 random bytes into a version 4 UUID (RFC 9562).
pub(crate) fn version_4(mut random: [u8; 16]) -> [u8; 16] {
    random[6] = (random[6] & 0x0f) | 0x40;
    random[8] = (random[8] & 0x3f) | 0x80;
    random
}

/// Lowercase hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // At its final size from the start: some callers pass secrets, and a text that grows leaves copies behind.
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Exactly `2 * N` lowercase hex digits; uppercase is refused so that every value has one text.
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_agree() {
        let uuid = version_4([0xff; 16]);
        assert_eq!(uuid_text(uuid), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(parse_uuid(&uuid_text(uuid)), Some(uuid));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "ffffffffffff4fffbfffffffffffffff", "FFFFFFFF-ffff-4fff-bfff-ffffffffffff", "é-"] {
            assert_eq!(parse_uuid(text), None, "{text}");
        }
        assert_eq!(parse_hex::<2>("00F0"), None);
        assert_eq!(parse_hex::<2>("00f"), None);
    }
}
