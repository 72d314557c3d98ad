//! What a signature must not be: of another text, of another wallet, or in a second form of itself.

use orama_wallet::{SecretKey, Signature, SignatureError, VerifyError};
use proptest::prelude::*;

const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
/// Half of the order, rounded down: the largest low s.
const HALF: &str = "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0";
const ONE: &str = "0000000000000000000000000000000000000000000000000000000000000001";

fn key(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&[byte; 32]).unwrap()
}

/// n - s for big-endian bytes.
fn negated(s: &[u8]) -> Vec<u8> {
    let order: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&ORDER[2 * at..][..2], 16).unwrap()).collect();
    let mut borrow = 0;
    let mut out = vec![0; 32];
    for at in (0..32).rev() {
        let value = i16::from(order[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(value < 0);
        out[at] = (value + 256 * borrow) as u8;
    }
    out
}

/// The example of docs/formats.md.
#[test]
fn the_documented_example() {
    let document = include_str!("../../../docs/formats.md");
    let signature = key(0x11).sign("OramaOS");
    let hash: String = orama_wallet::digest("OramaOS").iter().map(|byte| format!("{byte:02x}")).collect();
    for part in [signature.to_string(), hash] {
        assert!(document.contains(&part), "docs/formats.md lacks {part}");
    }
}

#[test]
fn v_has_four_spellings_and_two_meanings() {
    let text = "a text";
    let signature = key(1).sign(text);
    let mut bytes = signature.to_bytes();
    let v = bytes[64];
    assert!(matches!(v, 27 | 28));
    bytes[64] = v - 27;
    assert_eq!(Signature::from_bytes(&bytes).unwrap(), signature);
    bytes[64] = 55 - v;
    assert_ne!(Signature::from_bytes(&bytes).unwrap().recover(text).ok(), Some(key(1).public_key()));
    for wrong in (2..=26).chain(29..=255) {
        bytes[64] = wrong;
        assert_eq!(Signature::from_bytes(&bytes), Err(SignatureError::V(wrong)));
    }
}

#[test]
fn the_other_form_of_a_signature_is_refused() {
    let signature = key(2).sign("a text").to_bytes();
    let mut other = signature;
    other[32..64].copy_from_slice(&negated(&signature[32..64]));
    other[64] = 55 - signature[64];
    assert_eq!(Signature::from_bytes(&other), Err(SignatureError::HighS));
    assert_eq!(negated(&other[32..64]), signature[32..64]);
}

#[test]
fn r_and_s_stay_within_bounds() {
    let parse = |r: &str, s: &str| format!("{r}{s}1b").parse::<Signature>();
    let zero = "0".repeat(64);
    let high = HALF.replace("20a0", "20a1");
    assert!(parse(ONE, ONE).is_ok());
    assert!(parse(ONE, HALF).is_ok());
    assert_eq!(parse(ONE, &high), Err(SignatureError::HighS));
    let beyond = "f".repeat(64);
    for (r, s) in [(&*zero, ONE), (ONE, &zero), (ORDER, ONE), (ONE, ORDER), (&beyond, ONE), (ONE, &beyond)] {
        assert_eq!(parse(r, s), Err(SignatureError::Range), "{r} {s}");
    }
}

#[test]
fn texts_that_are_no_signature() {
    let text = key(3).sign("").to_string();
    assert_eq!(format!("0x{}", text.to_uppercase()).parse::<Signature>().unwrap().to_string(), text);
    assert_eq!(text[2..].parse::<Signature>(), Err(SignatureError::Length(64)));
    assert_eq!(format!("{text}00").parse::<Signature>(), Err(SignatureError::Length(66)));
    assert_eq!("".parse::<Signature>(), Err(SignatureError::Length(0)));
    assert_eq!(format!("{}zz", &text[2..]).parse::<Signature>(), Err(SignatureError::Digit));
    assert_eq!(Signature::from_bytes(&[1; 64]), Err(SignatureError::Length(64)));
    let json = serde_json::to_string(&key(3).sign("")).unwrap();
    assert_eq!(serde_json::from_str::<Signature>(&json).unwrap().to_string(), text);
}

/// r that is the x of no point: a form that is fine, and a key that does not exist.
#[test]
fn a_signature_of_nobody() {
    let r = format!("{:064x}", 5);
    let signature: Signature = format!("{r}{ONE}1b").parse().unwrap();
    let address = key(1).public_key().address();
    assert!(matches!(signature.verify("text", &address), Err(VerifyError::Recover(_))));
}

#[test]
fn the_error_names_both_wallets() {
    let (signed, expected) = (key(1).public_key().address(), key(2).public_key().address());
    let error = key(1).sign("a").verify("a", &expected).unwrap_err();
    assert_eq!(error, VerifyError::Signer { expected, found: signed });
    let text = error.to_string();
    assert!(text.contains(&expected.to_string()) && text.contains(&signed.to_string()), "{text}");
}

proptest! {
    #[test]
    fn a_signature_is_of_one_text_and_one_wallet(
        secret in any::<[u8; 32]>(), text in ".{0,300}", other in ".{0,300}", bit in 0usize..512,
    ) {
        prop_assume!(text != other);
        let Ok(key) = SecretKey::from_bytes(&secret) else { return Ok(()) };
        let address = key.public_key().address();
        let signature = key.sign(&text);
        prop_assert_eq!(key.sign(&text), signature);
        prop_assert_eq!(signature.verify(&text, &address), Ok(()));
        prop_assert!(signature.verify(&other, &address).is_err());
        prop_assert_eq!(Signature::from_bytes(&signature.to_bytes()), Ok(signature));
        let mut changed = signature.to_bytes();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(changed) = Signature::from_bytes(&changed) {
            prop_assert!(changed.verify(&text, &address).is_err());
        }
    }

    #[test]
    fn any_bytes_are_refused_or_come_out_again(bytes in proptest::collection::vec(any::<u8>(), 60..70)) {
        if let Ok(signature) = Signature::from_bytes(&bytes) {
            prop_assert_eq!(&signature.to_bytes()[..64], &bytes[..64]);
            let _ = signature.recover("text");
        }
    }
}
