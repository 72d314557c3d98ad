//! The JSON of a keystore. Reads what other writers make (`Crypto` with a capital, unknown members, `0x` before
//! hex); writes one form. Errors never carry the file's text, which may be a secret given by mistake.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::ParseError;
use super::cost::Derivation;
use crate::{Address, hex};

const VERSION: u64 = 3;
const CIPHER: &str = "aes-128-ctr";
/// Longest foreign algorithm name that goes into a message, bytes.
const NAME_LIMIT_BYTES: usize = 32;

#[derive(Deserialize)]
struct Head {
    version: Value,
}

#[derive(Deserialize)]
pub(super) struct File {
    #[serde(default)]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    pub(super) crypto: Crypto,
}

#[derive(Deserialize)]
pub(super) struct Crypto {
    cipher: String,
    cipherparams: CipherParameters,
    ciphertext: String,
    pub(super) kdf: String,
    kdfparams: Value,
    mac: String,
}

#[derive(Deserialize)]
struct CipherParameters {
    iv: String,
}

#[derive(Deserialize)]
pub(super) struct ScryptParameters {
    pub(super) dklen: u64,
    pub(super) n: u64,
    pub(super) p: u64,
    pub(super) r: u64,
    pub(super) salt: String,
}

#[derive(Deserialize)]
pub(super) struct Pbkdf2Parameters {
    pub(super) c: u64,
    pub(super) dklen: u64,
    pub(super) prf: String,
    pub(super) salt: String,
}

impl Crypto {
    /// What the named key derivation needs.
    pub(super) fn parameters<T: DeserializeOwned>(&self) -> Result<T, ParseError> {
        serde_json::from_value(self.kdfparams.clone()).map_err(|_| ParseError::Field { field: "kdfparams" })
    }
}

/// What is encrypted, and what opening needs beside the key derivation.
pub(super) struct Parts {
    pub(super) address: Option<Address>,
    /// 1 to 32 bytes.
    pub(super) ciphertext: Vec<u8>,
    pub(super) iv: [u8; 16],
    pub(super) mac: [u8; 32],
}

impl Parts {
    pub(super) fn from_file(file: &File) -> Result<Self, ParseError> {
        let File { address, crypto } = file;
        if crypto.cipher != CIPHER {
            return Err(unsupported("cipher", &crypto.cipher, CIPHER));
        }
        let address = address.as_deref().map(str::parse).transpose();
        let ciphertext = hex_field(&crypto.ciphertext, "ciphertext")?;
        if !(1..=32).contains(&ciphertext.len()) {
            return Err(ParseError::Field { field: "the length of ciphertext" });
        }
        Ok(Self {
            address: address.map_err(|_| ParseError::Field { field: "address" })?,
            ciphertext,
            iv: array_field(&crypto.cipherparams.iv, "iv")?,
            mac: array_field(&crypto.mac, "mac")?,
        })
    }

    /// The file that [`read`] takes; the id is a UUID that means nothing.
    pub(super) fn to_text(&self, derivation: &Derivation, id: [u8; 16]) -> String {
        let id = hex::encode(&id);
        let (kdf, kdfparams) = derivation.to_json();
        json!({
            // As go-ethereum writes it: small, without a prefix.
            "address": self.address.map(|address| hex::encode(address.as_bytes())),
            "crypto": {
                "cipher": CIPHER,
                "cipherparams": { "iv": hex::encode(&self.iv) },
                "ciphertext": hex::encode(&self.ciphertext),
                "kdf": kdf,
                "kdfparams": kdfparams,
                "mac": hex::encode(&self.mac),
            },
            "id": format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]),
            "version": VERSION,
        })
        .to_string()
    }
}

/// The version first, so that an older keystore is named as such and not as broken JSON.
pub(super) fn read(file: &[u8]) -> Result<File, ParseError> {
    let Head { version } = json(file)?;
    if version != json!(VERSION) {
        return Err(unsupported("version", &version.to_string(), "3"));
    }
    json(file)
}

fn json<T: DeserializeOwned>(file: &[u8]) -> Result<T, ParseError> {
    serde_json::from_slice(file)
        .map_err(|error| ParseError::Json { line: error.line(), column: error.column() })
}

pub(super) fn unsupported(field: &'static str, found: &str, supported: &'static str) -> ParseError {
    let mut found: String = found.chars().take(NAME_LIMIT_BYTES).collect();
    found.retain(|character| character.is_ascii_graphic());
    ParseError::Unsupported { field, found, supported }
}

pub(super) fn hex_field(text: &str, field: &'static str) -> Result<Vec<u8>, ParseError> {
    hex::decode(hex::digits(text)).ok_or(ParseError::Field { field })
}

fn array_field<const N: usize>(text: &str, field: &'static str) -> Result<[u8; N], ParseError> {
    hex::decode_array(hex::digits(text)).ok_or(ParseError::Field { field })
}
