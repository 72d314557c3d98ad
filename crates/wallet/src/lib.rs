//! The owner's EVM wallet ("rootwallet") as a node and the `orama` command see it: addresses, signatures
//! (personal_sign), keys sealed to the wallet (ECIES), the statements it signs for us, and keystore files.
//! Pure but for the kernel's random bytes: no files, no clock, no network. Which operations touch secrets, and
//! what is constant time, is said in `secret_key.rs`; the formats are in docs/formats.md.

#![forbid(unsafe_code)]

mod address;
mod between;
mod ecies;
mod hex;
pub mod keystore;
mod public_key;
mod sealed_key;
mod secret_key;
mod signature;
pub mod statement;

pub use address::{Address, AddressError};
pub use between::{NotSealed, open_between, seal_between};
pub use ecies::{
    OpenError, PLAINTEXT_LIMIT_BYTES, SEALED_OVERHEAD_BYTES, SealError, SealedTextError, open, seal,
    sealed_from_text, sealed_to_text,
};
pub use keystore::Keystore;
pub use public_key::{PublicKey, PublicKeyError};
pub use sealed_key::{KEY_BYTES, OpenedKeyError, opened_key, seal_key};
pub use secret_key::{RandomError, SecretKey, SecretKeyError};
pub use signature::{RecoverError, Signature, SignatureError, VerifyError, digest};
