//! An EVM address: twenty bytes, and the text with the checksum of EIP-55. Says nothing about who holds its key.

use std::fmt;
use std::str::FromStr;

use sha3::{Digest, Keccak256};
use subtle::ConstantTimeEq;

use crate::hex;

/// Bytes of an address.
const ADDRESS_BYTES: usize = 20;

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("an address is 40 hex digits, with or without 0x; this text has {0}")]
    Length(usize),
    #[error("an address is 40 hex digits, with or without 0x; this text has another character")]
    Digit,
    #[error("the address was mistyped: its capital letters are a checksum (EIP-55), and it does not fit")]
    Checksum,
}

/// The last twenty bytes of the Keccak-256 of a public key. Comparisons are constant time.
#[derive(Clone, Copy)]
pub struct Address([u8; ADDRESS_BYTES]);

impl Address {
    pub const fn from_bytes(bytes: [u8; ADDRESS_BYTES]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; ADDRESS_BYTES] {
        &self.0
    }

    /// The forty digits with the capital letters of EIP-55.
    fn checksummed(&self) -> String {
        let mut text = hex::encode(&self.0);
        let hash = Keccak256::digest(text.as_bytes());
        // A digit is written large when its nibble of the hash over the small text is 8 or more.
        let large = |index: usize| hash[index / 2] >> (if index.is_multiple_of(2) { 4 } else { 0 }) & 15 >= 8;
        text = text
            .char_indices()
            .map(|(index, digit)| if large(index) { digit.to_ascii_uppercase() } else { digit })
            .collect();
        text
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// With or without `0x`; letters all small, all large, or mixed with the right checksum.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let digits = hex::digits(text);
        if digits.len() != 2 * ADDRESS_BYTES {
            return Err(AddressError::Length(digits.chars().count()));
        }
        let address = Self(hex::decode_array(digits).ok_or(AddressError::Digit)?);
        let small = digits.bytes().any(|digit| digit.is_ascii_lowercase());
        let large = digits.bytes().any(|digit| digit.is_ascii_uppercase());
        if small && large && address.checksummed() != digits {
            return Err(AddressError::Checksum);
        }
        Ok(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", self.checksummed())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Address {}

hex::serde_as_text!(Address);

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of EIP-55 itself, and the signer of the live network's updates.
    const CHECKSUMMED: [&str; 9] = [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x27b1fdb04752bbc536007a920d24acb045561c26",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        "0xb5d8a496c8b2412990d7D467E17727fdF5954afC",
    ];

    #[test]
    fn every_spelling_of_an_address_is_read() {
        for text in CHECKSUMMED {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            let digits = &text[2..];
            for other in [digits.to_owned(), digits.to_lowercase(), digits.to_uppercase()] {
                assert_eq!(other.parse::<Address>().unwrap(), address);
                assert_eq!(format!("0x{other}").parse::<Address>().unwrap(), address);
            }
        }
    }

    #[test]
    fn a_wrong_capital_letter_is_a_typing_error() {
        for text in CHECKSUMMED {
            for (index, digit) in text.char_indices().skip(2).filter(|(_, digit)| digit.is_alphabetic()) {
                let mut wrong = text.to_owned();
                let small = digit.is_ascii_lowercase();
                let turned = if small { digit.to_ascii_uppercase() } else { digit.to_ascii_lowercase() };
                wrong.replace_range(index..=index, &turned.to_string());
                assert_eq!(wrong.parse::<Address>(), Err(AddressError::Checksum), "{wrong}");
            }
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let lower = "de709f2102306220921060314715629080e2fb77";
        assert_eq!(lower[1..].parse::<Address>(), Err(AddressError::Length(39)));
        assert_eq!(format!("{lower}0").parse::<Address>(), Err(AddressError::Length(41)));
        assert_eq!("".parse::<Address>(), Err(AddressError::Length(0)));
        assert_eq!(format!("0X{lower}").parse::<Address>(), Err(AddressError::Length(42)));
        assert_eq!(lower.replace('d', "g").parse::<Address>(), Err(AddressError::Digit));
        assert_eq!("é".repeat(20).parse::<Address>(), Err(AddressError::Digit));
    }

    #[test]
    fn serde_is_the_checksummed_text() {
        let address: Address = CHECKSUMMED[4].parse().unwrap();
        let json = serde_json::to_string(&address).unwrap();
        assert_eq!(json, format!("\"{}\"", CHECKSUMMED[4]));
        assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
        assert!(serde_json::from_str::<Address>("\"0x00\"").is_err());
    }
}
