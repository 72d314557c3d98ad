//! Agreement with other implementations: everything in tests/fixtures, whose README says where it is from.

use orama_wallet::{
    Address, Keystore, PublicKey, SecretKey, Signature, digest, open, sealed_from_text, sealed_to_text,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Signatures {
    signatures: Vec<Signed>,
}

#[derive(Deserialize)]
struct Signed {
    secret: String,
    public: String,
    address: String,
    text: String,
    digest: String,
    signature: String,
}

#[derive(Deserialize)]
struct Keystores {
    keystores: Vec<Stored>,
}

#[derive(Deserialize)]
struct Stored {
    secret: String,
    password: String,
    file: String,
}

#[derive(Deserialize)]
struct Boxes {
    sealed: Vec<Sealed>,
}

#[derive(Deserialize)]
struct Sealed {
    secret: String,
    plaintext: String,
    sealed: String,
}

const ETH_ACCOUNT: &str = include_str!("fixtures/eth_account.json");
const ETHERS: &str = include_str!("fixtures/ethers.json");
const PUBLISHED: &str = include_str!("fixtures/published.json");

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.strip_prefix("0x").unwrap_or(hex);
    (0..digits.len() / 2).map(|index| u8::from_str_radix(&digits[2 * index..][..2], 16).unwrap()).collect()
}

fn secret(hex: &str) -> SecretKey {
    SecretKey::from_bytes(&bytes(hex).try_into().unwrap()).unwrap()
}

fn check_signatures(file: &str) {
    let file: Signatures = serde_json::from_str(file).unwrap();
    assert!(file.signatures.len() >= 20);
    for Signed { secret: key, public, address, text, digest: hash, signature } in file.signatures {
        let key = secret(&key);
        assert_eq!(key.public_key().to_string(), format!("04{}", &hex_tail(&public, 128)));
        assert_eq!(public.parse::<PublicKey>().unwrap(), key.public_key());
        assert_eq!(key.public_key().address().to_string(), address);
        assert_eq!(digest(&text).as_slice(), bytes(&hash), "{text:?}");
        assert_eq!(key.sign(&text).to_bytes().as_slice(), bytes(&signature), "{text:?}");
        let signature: Signature = signature.parse().unwrap();
        assert_eq!(signature.recover(&text).unwrap(), key.public_key());
        signature.verify(&text, &address.parse::<Address>().unwrap()).unwrap();
    }
}

fn hex_tail(text: &str, digits: usize) -> &str {
    &text[text.len() - digits..]
}

fn check_keystores(file: &str) {
    let file: Keystores = serde_json::from_str(file).unwrap();
    for Stored { secret: expected, password, file } in file.keystores {
        let keystore = Keystore::parse(file.as_bytes()).unwrap();
        let key = keystore.open(password.as_bytes()).unwrap();
        assert_eq!(key.expose().as_slice(), bytes(&expected), "{file}");
        if let Some(address) = keystore.address() {
            assert_eq!(address, key.public_key().address());
        }
    }
}

fn check_sealed(file: &str) {
    let file: Boxes = serde_json::from_str(file).unwrap();
    for Sealed { secret: key, plaintext, sealed } in file.sealed {
        let text = sealed_from_text(&sealed).unwrap();
        assert_eq!(open(&secret(&key), &text).unwrap().as_slice(), bytes(&plaintext));
        assert_eq!(sealed_to_text(&text), sealed);
    }
}

#[test]
fn signatures_of_eth_account() {
    check_signatures(ETH_ACCOUNT);
}

#[test]
fn signatures_of_ethers() {
    check_signatures(ETHERS);
}

/// The example in the documentation of web3.js, `web3.eth.accounts.sign`.
#[test]
fn the_signature_that_web3_js_documents() {
    let key = secret("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318");
    assert_eq!(key.public_key().address().to_string(), "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23");
    let hash = "1da44b586eb0729ff70a73c326926f6ed5a25f5b056e7f47fbc6e58d86871655";
    assert_eq!(digest("Some data").as_slice(), bytes(hash));
    let signature = "b91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd\
                     6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a029\
                     1c";
    assert_eq!(key.sign("Some data").to_string(), signature);
}

#[test]
fn sealed_by_eciespy() {
    check_sealed(include_str!("fixtures/eciespy.json"));
}

#[test]
fn sealed_by_eciesjs() {
    check_sealed(include_str!("fixtures/eciesjs.json"));
}

#[test]
fn keystores_of_eth_account() {
    check_keystores(ETH_ACCOUNT);
}

#[test]
fn keystores_of_ethers() {
    check_keystores(ETHERS);
}

#[test]
fn published_keystores() {
    check_keystores(PUBLISHED);
}
