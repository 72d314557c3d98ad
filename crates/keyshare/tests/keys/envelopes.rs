//! The envelope's bytes: the vector of docs/formats.md, and everything that is not an envelope.

use orama_keyshare::{Envelope, EnvelopeError, Share, Threshold, VolumeKey, combine, digest, secret_name};
use proptest::prelude::*;

use crate::{NODE, VOLUME};

const FORMATS: &str = include_str!("../../../../docs/formats.md");

fn envelope(x: u8, value: u8, generation: u64) -> Envelope {
    let threshold = Threshold::for_guardians(5).unwrap();
    let share = Share::new(x, &[value; 32]).unwrap();
    Envelope { volume: VOLUME, node_id: NODE.into(), generation, threshold, share }
}

fn encoded(x: u8, value: u8, generation: u64) -> Vec<u8> {
    envelope(x, value, generation).encode().unwrap().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn error(bytes: &[u8]) -> EnvelopeError {
    Envelope::decode(bytes).err().unwrap()
}

/// Offsets in the example: version, volume, node id, generation, x, k, n, share.
const NODE_LENGTH_AT: usize = 17;
const GENERATION_AT: usize = 31;
const X_AT: usize = 32;

#[test]
fn the_documented_vectors_are_ours() {
    // The published points of 42 + 5x + 7x², in all 32 bytes.
    let mut shares = Vec::new();
    for (x, y) in [(1, 40), (2, 60), (3, 62)] {
        let bytes = encoded(x, y, 1);
        assert!(FORMATS.contains(&hex(&bytes)), "formats.md lacks the example {}", hex(&bytes));
        let sum = hex(&digest(&bytes));
        assert!(FORMATS.contains(&sum), "formats.md lacks the digest {sum}");
        shares.push(Envelope::decode(&bytes).unwrap().share);
    }
    let key = hex(combine(&shares, 3).unwrap().expose());
    assert!(FORMATS.contains(&key), "formats.md lacks the key {key}");
    let name = secret_name(VOLUME, 1);
    assert_eq!(name, "luks-00112233445566778899aabbccddeeff-g1");
    assert!(FORMATS.contains(&name), "formats.md lacks the name {name}");
}

#[test]
fn the_documented_integers_are_ours() {
    for (generation, text) in [
        (1, "01"),
        (250, "fa"),
        (251, "fbfb00"),
        (300, "fb2c01"),
        (65535, "fbffff"),
        (65536, "fc00000100"),
        (u64::MAX, "fdffffffffffffffff"),
    ] {
        let bytes = encoded(1, 40, generation);
        let end = bytes.len() - 3 - 32;
        assert_eq!(hex(&bytes[GENERATION_AT..end]), text);
        assert!(FORMATS.contains(&format!("`{text}`")), "formats.md lacks {text}");
        assert_eq!(Envelope::decode(&bytes).unwrap().generation, generation);
    }
}

#[test]
fn nonsense_is_refused_and_named() {
    let good = encoded(1, 40, 1);
    assert!(Envelope::decode(&good).is_ok());
    let edit = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        error(&bytes)
    };
    assert!(matches!(error(&[]), EnvelopeError::Empty));
    assert!(matches!(edit(0, 0), EnvelopeError::Version(0)));
    assert!(matches!(edit(0, 2), EnvelopeError::Decode(_)), "version 2 is longer");
    assert!(matches!(edit(0, 3), EnvelopeError::Version(3)));
    assert!(matches!(edit(NODE_LENGTH_AT + 1, b'/'), EnvelopeError::NodeId));
    assert!(matches!(edit(GENERATION_AT, 0), EnvelopeError::Generation));
    assert!(matches!(edit(X_AT, 0), EnvelopeError::Point { x: 0, n: 5 }));
    assert!(matches!(edit(X_AT, 6), EnvelopeError::Point { x: 6, n: 5 }));
    for k in [0, 1, 2, 5, 6, 255] {
        assert!(matches!(edit(X_AT + 1, k), EnvelopeError::Threshold(_)), "k = {k}");
    }
    for n in [0, 2] {
        assert!(matches!(edit(X_AT + 2, n), EnvelopeError::Threshold(_)), "n = {n}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(matches!(error(&longer), EnvelopeError::Decode(_)), "a share of 33 bytes");
    for length in 1..good.len() {
        assert!(matches!(error(&good[..length]), EnvelopeError::Decode(_)), "{length} bytes");
    }
    assert!(matches!(error(&vec![1; 70_000]), EnvelopeError::Decode(_)));
}

#[test]
fn a_hostile_length_prefix_reserves_nothing() {
    for prefix in [&[0xfb, 0xff, 0xff][..], &[0xfc, 0xff, 0xff, 0xff, 0xff], &[0xfd; 9], &[0xfe; 17], &[0xff]]
    {
        let mut bytes = encoded(1, 40, 1);
        bytes.splice(NODE_LENGTH_AT..=NODE_LENGTH_AT, prefix.iter().copied());
        assert!(matches!(error(&bytes), EnvelopeError::Decode(_)), "prefix {prefix:02x?}");
    }
}

#[test]
fn longer_forms_of_the_same_integers_are_refused() {
    let good = encoded(1, 40, 1);
    for long in [&[0xfb, 1, 0][..], &[0xfc, 1, 0, 0, 0], &[0xfd, 1, 0, 0, 0, 0, 0, 0, 0]] {
        let mut bytes = good.clone();
        bytes.splice(GENERATION_AT..=GENERATION_AT, long.iter().copied());
        assert!(matches!(error(&bytes), EnvelopeError::NotCanonical), "{long:02x?}");
    }
}

#[test]
fn an_envelope_that_nobody_could_read_is_not_made() {
    let mut long = envelope(1, 40, 1);
    long.node_id = "n".repeat(65);
    assert!(long.encode().is_err());
    assert!(envelope(1, 40, 0).encode().is_err());
    assert!(envelope(6, 40, 1).encode().is_err());
    let mut longest = envelope(5, 40, u64::MAX);
    longest.node_id = "n".repeat(64);
    assert_eq!(longest.encode().unwrap().len(), 126);
}

proptest! {
    #[test]
    fn round_trip(
        volume in any::<[u8; 16]>(),
        node_id in "[A-Za-z0-9._-]{1,64}",
        generation in 1u64..,
        n in 3usize..=255,
        point in any::<prop::sample::Index>(),
        bytes in any::<[u8; 32]>(),
    ) {
        let threshold = Threshold::for_guardians(n).unwrap();
        let share = Share::new(point.index(n) as u8 + 1, &bytes).unwrap();
        let x = share.x();
        let encoded = Envelope { volume, node_id: node_id.clone(), generation, threshold, share }.encode().unwrap();
        let back = Envelope::decode(&encoded).unwrap();
        prop_assert_eq!((back.volume, back.node_id, back.generation), (volume, node_id, generation));
        prop_assert_eq!((back.threshold, back.share.x(), back.share.bytes()), (threshold, x, &bytes));
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), known in any::<bool>()) {
        if let (true, Some(first)) = (known, bytes.first_mut()) {
            *first = 1;
        }
        if let Ok(envelope) = Envelope::decode(&bytes) {
            prop_assert!(envelope.encode().unwrap().as_slice() == bytes);
        }
    }

    #[test]
    fn no_edit_makes_it_panic(at in any::<prop::sample::Index>(), value in any::<u8>(), cut in 0usize..80) {
        let mut bytes = encoded(3, 62, 1);
        let at = at.index(bytes.len());
        bytes[at] = value;
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        if let Ok(envelope) = Envelope::decode(&bytes) {
            prop_assert!(envelope.encode().unwrap().as_slice() == bytes);
        }
    }
}

#[test]
fn a_key_is_the_same_after_its_shares_travelled() {
    let key = VolumeKey::generate().unwrap();
    let sent = crate::envelopes(&key, 5, 3);
    let shares: Vec<Share> = sent[1..4].iter().map(|bytes| Envelope::decode(bytes).unwrap().share).collect();
    assert!(combine(&shares, 3).unwrap().matches(&key));
}
