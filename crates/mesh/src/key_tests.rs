use super::*;

/// RFC 7748 §6.1, Alice's key pair, as `wg pubkey` would print it.
const ALICE: (&str, &str) =
    ("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=", "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");

#[test]
fn the_public_half_is_that_of_rfc_7748() {
    let key = PrivateKey::from_base64(ALICE.0).unwrap();
    assert_eq!(key.public().to_string(), ALICE.1);
    assert_eq!(key.to_base64().as_str(), ALICE.0, "a key that is read is not changed by it");
}

#[test]
fn the_identity_hashes_the_text_not_the_bytes() {
    let key = PrivateKey::from_base64(ALICE.0).unwrap();
    // printf %s dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo= | sha256sum
    assert_eq!(identity(&key), "c20e65119435d188564d9eb736e3bd37fac49ba17b11971d80e251bc43129524");
}

#[test]
fn generated_keys_are_clamped_and_differ() {
    let (one, two) = (PrivateKey::generate(), PrivateKey::generate());
    for key in [&one, &two] {
        let bytes = key.expose();
        assert_eq!((bytes[0] & 7, bytes[31] & 0xc0), (0, 0x40));
    }
    assert_ne!(one.public(), two.public());
}

#[test]
fn what_is_not_a_key_is_refused() {
    for (text, error) in [
        ("", KeyError::Length(0)),
        ("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo", KeyError::Length(43)),
        (" hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=", KeyError::Length(45)),
        // 33 bytes fill the same 44 characters.
        ("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmoA", KeyError::Base64),
        ("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTm==", KeyError::Base64),
        // Not the canonical text of its bytes: the last character has bits that no byte takes.
        ("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmp=", KeyError::Base64),
        ("hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo=", KeyError::Base64),
    ] {
        assert_eq!(text.parse::<PublicKey>(), Err(error), "{text:?}");
    }
}

#[test]
fn a_public_key_is_its_text_in_json() {
    let key: PublicKey = ALICE.1.parse().unwrap();
    assert_eq!(serde_json::to_string(&key).unwrap(), format!("{:?}", ALICE.1));
    assert_eq!(serde_json::from_str::<PublicKey>(&format!("{:?}", ALICE.1)).unwrap(), key);
    assert!(serde_json::from_str::<PublicKey>("\"nonsense\"").is_err());
}

#[test]
fn both_sides_agree_and_a_weak_key_agrees_with_nobody() {
    let (one, two) = (PrivateKey::generate(), PrivateKey::generate());
    let shared = one.agree(&two.public()).unwrap();
    assert_eq!(*shared, *two.agree(&one.public()).unwrap());
    assert_ne!(*shared, *one.agree(&one.public()).unwrap());
    assert!(one.agree(&PublicKey::from_bytes([0; 32])).is_none());
}
