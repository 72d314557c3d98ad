//! Keystores from inside: hostile files, wrong passwords, and the example of docs/formats.md.

use serde_json::{Value, json};

use super::*;

const DOCUMENT: &str = include_str!("../../../../docs/formats.md");

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&[byte; 32]).unwrap()
}

fn cheap() -> Value {
    serde_json::from_str(&Keystore::write(&secret(7), b"orama", Cost::Cheap).unwrap()).unwrap()
}

fn parse(file: &Value) -> Result<Keystore, ParseError> {
    Keystore::parse(file.to_string().as_bytes())
}

/// A keystore whose member at `path` is another.
fn with(path: &str, value: Value) -> Result<Keystore, ParseError> {
    let mut file = cheap();
    *file.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
    parse(&file)
}

#[test]
fn the_documented_example() {
    let text = write_with(&secret(0x11), b"orama", Cost::Cheap, [0x44; 32], [0x55; 16], [0x66; 16]);
    let file: Value = serde_json::from_str(&text).unwrap();
    let derived = Derivation::scrypt(Cost::Cheap, vec![0x44; 32]).derive(b"orama");
    assert!(DOCUMENT.contains(&text), "docs/formats.md lacks {text}");
    let crypto = &file["crypto"];
    for part in [&crate::hex::encode(&*derived), crypto["mac"].as_str().unwrap()] {
        assert!(DOCUMENT.contains(part), "docs/formats.md lacks {part}");
    }
}

#[test]
fn what_is_written_opens() {
    let text = Keystore::write(&secret(7), "pässword".as_bytes(), Cost::Cheap).unwrap();
    let keystore = Keystore::parse(text.as_bytes()).unwrap();
    assert_eq!(keystore.address(), Some(secret(7).public_key().address()));
    assert_eq!(*keystore.open("pässword".as_bytes()).unwrap().expose(), [7; 32]);
    for wrong in ["", "pässwor", "pässword ", "passwort"] {
        assert_eq!(keystore.open(wrong.as_bytes()).err(), Some(OpenError::WrongPassword));
    }
    assert_ne!(Keystore::write(&secret(7), "pässword".as_bytes(), Cost::Cheap).unwrap(), text);
}

#[test]
fn what_wallets_write_costs_what_it_should() {
    let file: Value =
        serde_json::from_str(&Keystore::write(&secret(7), b"", Cost::Standard).unwrap()).unwrap();
    let parameters = &file["crypto"]["kdfparams"];
    assert_eq!(
        [&parameters["n"], &parameters["r"], &parameters["p"]],
        [&json!(262_144), &json!(8), &json!(1)]
    );
}

#[test]
fn other_spellings_are_read() {
    let mut file = cheap();
    let crypto = file.as_object_mut().unwrap().remove("crypto").unwrap();
    file["Crypto"] = crypto.clone();
    file["x-ethers"] = json!({ "client": "ethers" });
    file["address"] = json!(secret(7).public_key().address().to_string());
    file["Crypto"]["mac"] = json!(format!("0x{}", crypto["mac"].as_str().unwrap().to_uppercase()));
    assert!(parse(&file).unwrap().open(b"orama").is_ok());
    file["address"] = Value::Null;
    assert_eq!(parse(&file).unwrap().address(), None);
    file.as_object_mut().unwrap().remove("address");
    assert!(parse(&file).unwrap().open(b"orama").is_ok());
    file["crypto"] = crypto;
    assert!(matches!(parse(&file), Err(ParseError::Json { .. })), "two crypto members");
}

#[test]
fn a_changed_file_does_not_open() {
    let other = "00".repeat(32);
    for path in ["/crypto/ciphertext", "/crypto/mac", "/crypto/kdfparams/salt"] {
        let keystore = with(path, json!(other)).unwrap();
        assert_eq!(keystore.open(b"orama").err(), Some(OpenError::WrongPassword), "{path}");
    }
    // The MAC does not cover the nonce; the address does.
    let keystore = with("/crypto/cipherparams/iv", json!("00".repeat(16))).unwrap();
    assert!(matches!(keystore.open(b"orama"), Err(OpenError::OtherAddress { .. })));
    let stranger = secret(8).public_key().address();
    let keystore = with("/address", json!(stranger.to_string())).unwrap();
    let found = secret(7).public_key().address();
    assert_eq!(keystore.open(b"orama").err(), Some(OpenError::OtherAddress { named: stranger, found }));
}

#[test]
fn a_key_beyond_the_order_is_no_key() {
    let derivation = Derivation::scrypt(Cost::Cheap, vec![1; 32]);
    let derived = derivation.derive(b"orama");
    for plain in [[0xff; 32], [0; 32]] {
        let mut ciphertext = plain.to_vec();
        apply_cipher(&derived, &[2; 16], &mut ciphertext);
        let mac = mac(&derived, &ciphertext);
        let text = Parts { address: None, ciphertext, iv: [2; 16], mac }.to_text(&derivation, [3; 16]);
        assert_eq!(Keystore::parse(text.as_bytes()).unwrap().open(b"orama").err(), Some(OpenError::NoKey));
    }
}

/// Wrong password, no keystore and not supported are told apart, and no error shows what the file holds.
#[test]
fn what_is_no_keystore() {
    let long = vec![b' '; FILE_LIMIT_BYTES + 1];
    assert_eq!(Keystore::parse(&long).err(), Some(ParseError::TooLong(long.len())));
    let key = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
    let deep = "[".repeat(FILE_LIMIT_BYTES);
    let quoted = format!("\"{key}\"");
    let bytes = format!("{{\"version\":3,\"crypto\":{quoted}}}");
    for text in ["", "{}", "null", "[3]", key, &quoted, &bytes, &deep, "{\"version\":3}", "\u{feff}{}"] {
        let error = Keystore::parse(text.as_bytes()).err().unwrap();
        assert!(matches!(error, ParseError::Json { .. }), "{text}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("4c08"), "{error}");
    }
    assert!(matches!(Keystore::parse(b"{\"version\":\xff}"), Err(ParseError::Json { .. })));
    for (path, value) in [
        ("/crypto/ciphertext", json!("")),
        ("/crypto/ciphertext", json!("00".repeat(33))),
        ("/crypto/ciphertext", json!("0g")),
        ("/crypto/cipherparams/iv", json!("00".repeat(15))),
        ("/crypto/mac", json!("00".repeat(31))),
        ("/crypto/kdfparams", json!({})),
        ("/crypto/kdfparams", json!("none")),
        ("/crypto/kdfparams/salt", json!("xyz")),
        ("/crypto/kdfparams/n", json!(-1)),
        ("/crypto/kdfparams/n", json!(1)),
        ("/crypto/kdfparams/n", json!(3000)),
        ("/crypto/kdfparams/r", json!(0)),
        ("/crypto/kdfparams/p", json!(0)),
        ("/address", json!("0x12")),
    ] {
        let error = with(path, value.clone()).err().unwrap_or_else(|| panic!("{path} {value}"));
        assert!(matches!(error, ParseError::Field { .. }), "{path} {value}: {error:?}");
    }
}

/// Whatever stands at any place: an error or a keystore, never a panic.
#[test]
fn no_byte_of_a_file_is_trusted() {
    let text = cheap().to_string().into_bytes();
    for at in 0..text.len() {
        for byte in *b"\0\"{}[],:0129aFz\x80\xff" {
            let mut changed = text.clone();
            changed[at] = byte;
            let _ = Keystore::parse(&changed);
        }
        assert!(Keystore::parse(&text[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn what_is_not_supported_is_named() {
    for (path, value, shown) in [
        ("/version", json!(1), "1"),
        ("/version", json!("3"), "\"3\""),
        ("/version", json!(3.0), "3.0"),
        ("/crypto/cipher", json!("aes-128-cbc"), "aes-128-cbc"),
        ("/crypto/kdf", json!("argon2id"), "argon2id"),
        ("/crypto/kdf", json!("\u{1b}[2J".repeat(100)), "[2J[2J[2J[2J[2J[2J[2J[2J"),
        ("/crypto/kdfparams/dklen", json!(64), "64"),
    ] {
        let error = with(path, value).err().unwrap();
        let ParseError::Unsupported { found, .. } = &error else { panic!("{path}: {error:?}") };
        assert_eq!(found, shown);
    }
    let mut file = cheap();
    file["crypto"]["kdf"] = json!("pbkdf2");
    file["crypto"]["kdfparams"] = json!({ "c": 1, "dklen": 32, "prf": "hmac-sha512", "salt": "00" });
    assert!(matches!(parse(&file), Err(ParseError::Unsupported { field: "prf", .. })));
}

#[test]
fn no_file_makes_us_work_for_minutes() {
    let scrypt = |n: u64, r: u64, p: u64| {
        let mut file = cheap();
        file["crypto"]["kdfparams"] = json!({ "dklen": 32, "n": n, "r": r, "p": p, "salt": "00" });
        parse(&file)
    };
    // What is written out there.
    for (n, r, p) in
        [(1 << 18, 8, 1), (1 << 18, 1, 8), (1 << 12, 8, 6), (1 << 13, 8, 1), (1 << 17, 8, 1), (2, 8, 1)]
    {
        assert!(scrypt(n, r, p).is_ok(), "{n} {r} {p}");
    }
    for (n, r, p) in [
        (1 << 19, 8, 1), // exactly 512 MiB for the block, and some more
        (1 << 18, 8, 5),
        (1 << 22, 1, 1),
        (1 << 63, 1, 1),
        (1 << 63, u64::MAX, u64::MAX),
        (2, 1 << 17, 1),
        (2, 1, 1 << 17),
        (2, u64::MAX, 1),
        (2, 1, u64::MAX),
    ] {
        assert!(matches!(scrypt(n, r, p), Err(ParseError::TooCostly { .. })), "{n} {r} {p}");
    }
    let pbkdf2 = |c: u64| {
        let mut file = cheap();
        file["crypto"]["kdf"] = json!("pbkdf2");
        file["crypto"]["kdfparams"] = json!({ "c": c, "dklen": 32, "prf": "hmac-sha256", "salt": "00" });
        parse(&file)
    };
    assert!(pbkdf2(1).is_ok() && pbkdf2(10_000_000).is_ok());
    assert!(matches!(pbkdf2(0), Err(ParseError::Field { .. })));
    for c in [10_000_001, 1 << 32, (1 << 32) + 1, u64::MAX] {
        assert!(matches!(pbkdf2(c), Err(ParseError::TooCostly { .. })), "{c}");
    }
}
