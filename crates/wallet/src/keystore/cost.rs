//! From a password to a keystore's derived key, and how much memory and time a file may ask for.

use serde_json::{Value, json};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::ParseError;
use super::format::{Crypto, Pbkdf2Parameters, ScryptParameters, hex_field, unsupported};
use crate::hex;

/// Most memory that scrypt may take for a file, bytes. Wallets write files that take 256 MiB.
const MEMORY_LIMIT_BYTES: u64 = 512 << 20;
/// Most work of scrypt, N·r·p: four times what wallets write, seconds on one core.
const SCRYPT_WORK_LIMIT: u64 = 1 << 23;
/// Most of r·p, which PBKDF2 expands and no memory bound above covers when N is small.
const SCRYPT_WIDTH_LIMIT: u64 = 1 << 16;
/// Most iterations of PBKDF2: ten times what eth-account writes, seconds on one core.
const PBKDF2_ITERATION_LIMIT: u64 = 10_000_000;
/// The only length that files carry: half for the cipher, half for the MAC, bytes.
const DERIVED_BYTES: u64 = 32;

/// How hard it is made to guess the password of a keystore that we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// scrypt with N = 262144, r = 8, p = 1: 256 MiB and about a second, as other wallets write it.
    Standard,
    /// For tests that are not about the cost: as good as no protection.
    #[cfg(any(test, feature = "cheap-keystores"))]
    Cheap,
}

/// A key derivation within the limits.
pub(super) enum Derivation {
    Scrypt { log_n: u8, r: u32, p: u32, salt: Vec<u8> },
    Pbkdf2 { iterations: u32, salt: Vec<u8> },
}

impl Derivation {
    pub(super) fn scrypt(cost: Cost, salt: Vec<u8>) -> Self {
        let log_n = match cost {
            Cost::Standard => 18,
            #[cfg(any(test, feature = "cheap-keystores"))]
            Cost::Cheap => 8,
        };
        Self::Scrypt { log_n, r: 8, p: 1, salt }
    }

    pub(super) fn from_file(crypto: &Crypto) -> Result<Self, ParseError> {
        match crypto.kdf.as_str() {
            "scrypt" => Self::from_scrypt(&crypto.parameters()?),
            "pbkdf2" => Self::from_pbkdf2(&crypto.parameters()?),
            other => Err(unsupported("kdf", other, "scrypt and pbkdf2")),
        }
    }

    fn from_scrypt(parameters: &ScryptParameters) -> Result<Self, ParseError> {
        let ScryptParameters { dklen, n, r, p, salt } = parameters;
        check_length(*dklen)?;
        if !n.is_power_of_two() || *n < 2 {
            return Err(ParseError::Field { field: "n of scrypt, a power of two," });
        }
        if *r == 0 || *p == 0 {
            return Err(ParseError::Field { field: "r or p of scrypt" });
        }
        // Products of numbers from a file: as wide as they can get.
        let (n, r, p) = (u128::from(*n), u128::from(*r), u128::from(*p));
        let costly = |limit| ParseError::TooCostly {
            field: "cost of scrypt (n, r, p)",
            found: format!("{n}, {r}, {p}"),
            limit,
        };
        let width = r.saturating_mul(p);
        if width > SCRYPT_WIDTH_LIMIT.into() || n.saturating_mul(width) > SCRYPT_WORK_LIMIT.into() {
            return Err(costly("four times the work of other wallets"));
        }
        // The block of N·r, the p lanes, and one lane of scratch.
        if 128 * (n * r + width + r) > MEMORY_LIMIT_BYTES.into() {
            return Err(costly("512 MiB of memory"));
        }
        let small = |value: u128| u32::try_from(value).map_err(|_| ParseError::Field { field: "kdfparams" });
        let log_n = n.trailing_zeros() as u8;
        Ok(Self::Scrypt { log_n, r: small(r)?, p: small(p)?, salt: hex_field(salt, "salt")? })
    }

    fn from_pbkdf2(parameters: &Pbkdf2Parameters) -> Result<Self, ParseError> {
        let Pbkdf2Parameters { dklen, c, prf, salt } = parameters;
        check_length(*dklen)?;
        if prf != "hmac-sha256" {
            return Err(unsupported("prf", prf, "hmac-sha256"));
        }
        if *c == 0 {
            return Err(ParseError::Field { field: "c of pbkdf2" });
        }
        let iterations = u32::try_from(*c).ok().filter(|count| u64::from(*count) <= PBKDF2_ITERATION_LIMIT);
        let iterations = iterations.ok_or_else(|| ParseError::TooCostly {
            field: "c of pbkdf2",
            found: c.to_string(),
            limit: "10 million iterations",
        })?;
        Ok(Self::Pbkdf2 { iterations, salt: hex_field(salt, "salt")? })
    }

    /// The name and the parameters as a file carries them.
    pub(super) fn to_json(&self) -> (&'static str, Value) {
        match self {
            Self::Scrypt { log_n, r, p, salt } => {
                let n = 1_u64 << log_n;
                let salt = hex::encode(salt);
                ("scrypt", json!({ "dklen": DERIVED_BYTES, "n": n, "p": p, "r": r, "salt": salt }))
            }
            Self::Pbkdf2 { iterations, salt } => {
                let salt = hex::encode(salt);
                let prf = "hmac-sha256";
                ("pbkdf2", json!({ "c": iterations, "dklen": DERIVED_BYTES, "prf": prf, "salt": salt }))
            }
        }
    }

    pub(super) fn derive(&self, password: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut derived = Zeroizing::new([0; 32]);
        match self {
            Self::Scrypt { log_n, r, p, salt } => {
                let parameters = scrypt::Params::new(*log_n, *r, *p).expect("checked when it was read");
                scrypt::scrypt(password, salt, &parameters, derived.as_mut()).expect("32 bytes are allowed");
            }
            Self::Pbkdf2 { iterations, salt } => {
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, *iterations, derived.as_mut());
            }
        }
        derived
    }
}

fn check_length(dklen: u64) -> Result<(), ParseError> {
    if dklen == DERIVED_BYTES { Ok(()) } else { Err(unsupported("dklen", &dklen.to_string(), "32")) }
}
