use proptest::prelude::*;

use super::*;

const ALICE: HeldIdentity = [0xaa; 32];
const BOB: HeldIdentity = [0xbb; 32];

fn share(length: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![0x5a; length])
}

fn example() -> Held {
    let mut held = Held::empty([0x11; 16]);
    held.put(&BOB, "one", 1, share(3), 5).unwrap();
    held.put(&ALICE, "two", 2, share(1), 6).unwrap();
    held.put(&ALICE, "one", 1, share(2), 7).unwrap();
    held.put(&ALICE, "one", 3, share(4), 8).unwrap();
    held.set_facts(Zeroizing::new(b"a note".to_vec())).unwrap();
    held.set_operator_sha256([0x77; 32]);
    held
}

fn names(held: &Held, identity: &HeldIdentity) -> Vec<(String, u64, usize)> {
    let entry = |(name, secret): (&str, &HeldSecret)| (name.to_owned(), secret.version, secret.share.len());
    held.secrets_of(identity).map(entry).collect()
}

#[test]
fn what_was_kept_comes_back() {
    for held in [example(), example().duplicate()] {
        let back = Held::decode(&held.encode()).unwrap();
        assert!(*back.encode() == *held.encode());
        assert_eq!(back.volume_uuid(), [0x11; 16]);
        assert_eq!(names(&back, &ALICE), [("one".to_owned(), 3, 4), ("two".to_owned(), 2, 1)]);
        assert_eq!(names(&back, &BOB), [("one".to_owned(), 1, 3)]);
        assert_eq!(back.count(), (3, 2));
        let one = back.secret(&ALICE, "one").unwrap();
        assert_eq!((one.created_ns, one.updated_ns), (7, 8));
        assert_eq!((back.facts(), back.operator_sha256()), (&b"a note"[..], Some(&[0x77; 32])));
        assert_eq!(back.secrets_bytes, held.secrets_bytes);
    }
    let empty = Held::decode(&Held::empty([1; 16]).encode()).unwrap();
    assert_eq!((empty.count(), empty.operator_sha256(), empty.facts().len()), ((0, 0), None, 0));
}

#[test]
fn deleting_and_forgetting_make_room() {
    let mut held = example();
    assert!(held.delete(&ALICE, "one"));
    assert!(!held.delete(&ALICE, "one"));
    assert!(held.forget(&BOB));
    assert!(!held.forget(&BOB));
    assert!(held.delete(&ALICE, "two"));
    assert_eq!((held.count(), held.secrets_bytes), ((0, 0), 0));
}

#[test]
fn versions_only_rise_and_names_have_bounds() {
    let mut held = example();
    let again = held.put(&ALICE, "one", 3, share(1), 9);
    assert_eq!(again, Err(HoldError::Version { offered: 3, stored: 3 }));
    for bad in ["", "node-10.0.0.4", "a/b", &"x".repeat(129)] {
        assert_eq!(held.put(&ALICE, bad, 9, share(1), 9), Err(HoldError::Name), "{bad}");
    }
    assert_eq!(held.put(&ALICE, "three", 1, share(0), 9), Err(HoldError::Empty));
    assert_eq!(names(&held, &ALICE).len(), 2);
}

/// Two generations of the shares of 250 nodes, with names and envelopes as they are in a large cluster.
#[test]
fn a_full_overlay_fits_twice_and_what_does_not_fit_is_refused() {
    let mut held = Held::empty([1; 16]);
    held.set_facts(Zeroizing::new(vec![1; HELD_FACTS_LIMIT_BYTES])).unwrap();
    held.set_operator_sha256([2; 32]);
    let name = |generation: u8| format!("luks-{}-g{generation}", "0".repeat(32));
    for node in 0..250 {
        for generation in [8, 9] {
            held.put(&[node; 32], &name(generation), u64::MAX, share(154), 1).unwrap();
        }
    }
    let encoded = held.encode();
    assert!(encoded.len() <= HELD_LIMIT_BYTES, "{} bytes", encoded.len());
    assert_eq!(Held::decode(&encoded).unwrap().count(), (500, 250));
    let used = held.secrets_bytes;
    let largest = HELD_SECRETS_LIMIT_BYTES - used - SECRET_FIXED_BYTES - 1;
    let full = held.put(&ALICE, "x", 1, share(largest + 1), 1);
    assert!(matches!(full, Err(HoldError::Full { used: said, .. }) if said == used));
    held.put(&ALICE, "x", 1, share(largest), 1).unwrap();
    assert_eq!(held.encode().len(), HELD_LIMIT_BYTES);
    Held::decode(&held.encode()).unwrap();
    // Its own room counts as free when it is replaced.
    held.put(&ALICE, "x", 2, share(largest), 1).unwrap();
    assert!(held.put(&ALICE, "y", 1, share(1), 1).is_err());
    let note = Zeroizing::new(vec![1; HELD_FACTS_LIMIT_BYTES + 1]);
    assert_eq!(held.set_facts(note), Err(HoldError::Facts { found: HELD_FACTS_LIMIT_BYTES + 1 }));
}

#[test]
fn one_identity_holds_a_thousand_at_most() {
    let mut held = Held::empty([1; 16]);
    for index in 0..SECRETS_PER_IDENTITY {
        held.put(&ALICE, &format!("{index}"), 1, share(1), 1).unwrap();
    }
    assert_eq!(held.put(&ALICE, "more", 1, share(1), 1), Err(HoldError::TooMany));
    held.put(&ALICE, "7", 2, share(1), 1).unwrap();
    held.put(&BOB, "more", 1, share(1), 1).unwrap();
}

#[test]
fn malformed_records_are_named() {
    let good = example().encode();
    let edited = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        Held::decode(&bytes).err()
    };
    assert_eq!(edited(0, b'O'), Some(HeldError::Magic));
    assert_eq!(edited(10, 2), Some(HeldError::Version(2)));
    assert_eq!(edited(27, 2), Some(HeldError::Bounds));
    // 27 bytes, the flag, the digest, two lengths and the note: the first secret's identity.
    let first = 28 + 32 + 4 + 6 + 4;
    assert_eq!(good[first..first + 32], ALICE);
    assert_eq!(edited(first, 0xff), Some(HeldError::Secret(1)));
    assert_eq!(edited(first + 33, b'.'), Some(HeldError::Secret(0)));
    assert_eq!(Held::decode(&vec![0; HELD_LIMIT_BYTES + 1]).err(), Some(HeldError::TooLong));
    for length in 10..good.len() {
        assert_eq!(Held::decode(&good[..length]).err(), Some(HeldError::Length), "first {length} bytes");
    }
    assert_eq!(Held::decode(&[&good[..], b"x"].concat()).err(), Some(HeldError::Length));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_what_is_read_has_one_form(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
        let bytes = [&example().encode()[..28], &tail].concat();
        if let Ok(held) = Held::decode(&bytes) {
            prop_assert!(*held.encode() == bytes);
        }
    }
}

/// Others read headers by that document, so it shows what this code writes, byte for byte.
#[test]
fn the_documented_example_is_what_is_written() {
    use crate::seal::{HELD_TOKEN_TYPE, MacKey, SealedRecord};
    use crate::uuid::{hex, version_4};

    let mut held = Held::empty(version_4([0x11; 16]));
    held.set_operator_sha256([0xbb; 32]);
    held.set_facts(Zeroizing::new(b"note".to_vec())).unwrap();
    let name = "luks-00112233445566778899aabbccddeeff-g1";
    held.put(&ALICE, name, 1, share(83), 1_763_800_000_123_456_789).unwrap();
    let token = SealedRecord::seal_held(&held, &MacKey::from_bytes(Zeroizing::new([0x42; 32])));
    let token = String::from_utf8(token.token_json(HELD_TOKEN_TYPE).to_vec()).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats.md");
    let document = std::fs::read_to_string(path).unwrap();
    for expect in [hex(&held.encode()), token] {
        assert!(document.lines().any(|line| line == expect), "docs/formats.md lacks this line:\n{expect}");
    }
}
