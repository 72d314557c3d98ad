//! Envelopes of version 2: the vectors of docs/formats.md, made by Python's `cryptography` 48.0.0 (HKDF and
//! AESGCM), everything that does not open, and what the collector says of it.

use std::convert::Infallible;

use orama_keyshare::collector::{Collector, Verdict};
use orama_keyshare::{
    EncodeEnvelopeError, Envelope, EnvelopeError, KeptEnvelope, OpenError, Share, ShareSeal, Threshold,
    VolumeKey, combine, digest,
};
use proptest::prelude::*;
use rand_core::{TryCryptoRng, TryRng};

use crate::{NODE, VOLUME, WIREGUARD, envelopes, sealed_envelopes, share_set};

const FORMATS: &str = include_str!("../../../../docs/formats.md");
/// In the examples: version, volume, node id, generation, x, k, n; then nonce, share, tag.
const LABEL_BYTES: usize = 35;
const ENVELOPE_BYTES: usize = LABEL_BYTES + 12 + 32 + 16;

fn seal() -> ShareSeal {
    ShareSeal::new(&WIREGUARD, VOLUME)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Counts up from a number: the nonces of the examples.
struct Counting(u8);

impl TryRng for Counting {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unimplemented!("a nonce is bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unimplemented!("a nonce is bytes")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = self.0;
            self.0 += 1;
        }
        Ok(())
    }
}

impl TryCryptoRng for Counting {}

fn envelope(x: u8, value: u8) -> Envelope {
    let threshold = Threshold::for_guardians(5).unwrap();
    let share = Share::new(x, &[value; 32]).unwrap();
    Envelope { volume: VOLUME, node_id: NODE.into(), generation: 1, threshold, share }
}

#[test]
fn the_documented_vectors_are_ours() {
    let mut shares = Vec::new();
    for (x, y, nonce) in [(1, 40, 0x00), (2, 60, 0x10), (3, 62, 0x20)] {
        let bytes = envelope(x, y).encode_sealed_with(&seal(), &mut Counting(nonce)).unwrap();
        assert_eq!(bytes.len(), ENVELOPE_BYTES);
        assert!(FORMATS.contains(&hex(&bytes)), "formats.md lacks the example {}", hex(&bytes));
        let sum = hex(&digest(&bytes));
        assert!(FORMATS.contains(&sum), "formats.md lacks the digest {sum}");
        shares.push(Envelope::decode_sealed(&bytes, &seal()).unwrap().share);
    }
    assert_eq!(combine(&shares, 3).unwrap().expose(), &[42; 32]);
}

#[test]
fn a_guardian_reads_all_but_the_share() {
    let bytes = envelope(2, 60).encode_sealed(&seal()).unwrap();
    let kept = KeptEnvelope::decode(&bytes).unwrap();
    assert!(kept.is_sealed());
    assert_eq!((kept.volume(), kept.node_id(), kept.generation()), (VOLUME, NODE, 1));
    assert_eq!((kept.x(), kept.threshold()), (2, Threshold::for_guardians(5).unwrap()));
    assert_eq!(kept.open(None).err(), Some(OpenError::Sealed));
    assert!(matches!(Envelope::decode(&bytes).err(), Some(EnvelopeError::Open(OpenError::Sealed))));
    assert!(!bytes.windows(3).any(|bytes| bytes == [60; 3]), "the share is in the clear");
}

#[test]
fn an_older_share_needs_no_seal_and_minds_none() {
    let bytes = envelope(2, 60).encode().unwrap();
    assert!(!KeptEnvelope::decode(&bytes).unwrap().is_sealed());
    assert_eq!(Envelope::decode(&bytes).unwrap().share.bytes(), &[60; 32]);
    assert_eq!(Envelope::decode_sealed(&bytes, &seal()).unwrap().share.bytes(), &[60; 32]);
}

#[test]
fn another_key_opens_nothing() {
    let bytes = envelope(1, 40).encode_sealed(&seal()).unwrap();
    let mut other_key = WIREGUARD;
    other_key[31] ^= 1;
    for other in [ShareSeal::new(&other_key, VOLUME), ShareSeal::new(&WIREGUARD, [0; 16])] {
        let opened = Envelope::decode_sealed(&bytes, &other);
        assert!(matches!(opened.err(), Some(EnvelopeError::Open(OpenError::OtherKey))));
    }
    let other_volume = ShareSeal::new(&WIREGUARD, [0; 16]);
    let refused = envelope(1, 40).encode_sealed(&other_volume).err();
    assert!(matches!(refused, Some(EncodeEnvelopeError::OtherVolume)));
}

/// Neither the share nor what stands beside it can be changed: not even to another valid label.
#[test]
fn every_bit_is_sealed() {
    let bytes = envelope(1, 40).encode_sealed(&seal()).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut edited = bytes.to_vec();
        edited[bit / 8] ^= 1 << (bit % 8);
        assert!(Envelope::decode_sealed(&edited, &seal()).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(Envelope::decode_sealed(&bytes[..length], &seal()).is_err(), "{length} bytes");
    }
    // Another generation and another point, well formed.
    for (at, value) in [(LABEL_BYTES - 4, 2), (LABEL_BYTES - 3, 2)] {
        let mut edited = bytes.to_vec();
        edited[at] = value;
        let opened = Envelope::decode_sealed(&edited, &seal());
        assert!(matches!(opened.err(), Some(EnvelopeError::Open(OpenError::OtherKey))));
    }
}

#[test]
fn no_two_envelopes_of_a_share_are_the_same() {
    let [one, two] = [(), ()].map(|()| envelope(1, 40).encode_sealed(&seal()).unwrap());
    assert_eq!(one[..LABEL_BYTES], two[..LABEL_BYTES]);
    assert_ne!(one[LABEL_BYTES..], two[LABEL_BYTES..]);
    let mut longest = envelope(5, 40);
    (longest.node_id, longest.generation) = ("n".repeat(64), u64::MAX);
    assert_eq!(longest.encode_sealed(&seal()).unwrap().len(), 154);
}

#[test]
fn sealed_shares_unlock_and_old_ones_with_them() {
    let key = VolumeKey::generate().unwrap();
    let mut stored = sealed_envelopes(&key, 5, 2, &seal());
    let mut collector = Collector::new(share_set(&stored, 2), VOLUME, NODE.into()).sealed_to(seal());
    for index in [4, 0, 2] {
        assert_eq!(collector.answer(index, Ok(stored[index].clone())), Ok(&Verdict::Good));
    }
    assert!(collector.key().unwrap().unwrap().matches(&key));

    // A set in which one holder has an envelope of version 1.
    let share = Envelope::decode_sealed(&stored[1], &seal()).unwrap();
    stored[1] = share.encode().unwrap();
    let mut collector = Collector::new(share_set(&stored, 2), VOLUME, NODE.into()).sealed_to(seal());
    for index in [0, 1, 2] {
        assert_eq!(collector.answer(index, Ok(stored[index].clone())), Ok(&Verdict::Good));
    }
    assert!(collector.key().unwrap().unwrap().matches(&key));
}

#[test]
fn the_collector_says_what_is_wrong_with_a_seal() {
    let key = VolumeKey::generate().unwrap();
    let stored = sealed_envelopes(&key, 5, 2, &seal());
    let fresh = || Collector::new(share_set(&stored, 2), VOLUME, NODE.into());
    let detail = |mut collector: Collector, bytes: &[u8]| {
        let verdict = collector.answer(0, Ok(bytes.to_vec().into())).unwrap().clone();
        (verdict.word(), verdict.detail())
    };
    let other = || ShareSeal::new(&[1; 32], VOLUME);
    let sealed_to_another = ("malformed", "its share is sealed to another key".to_owned());
    assert_eq!(detail(fresh().sealed_to(other()), &stored[0]), sealed_to_another);
    let no_key = ("malformed", "its share is sealed and there is no key to open it".to_owned());
    assert_eq!(detail(fresh(), &stored[0]), no_key);
    // Sealed by somebody else after the fact: not what the guardian was given, whatever is in it.
    let again = sealed_envelopes(&key, 5, 2, &other());
    assert_eq!(detail(fresh().sealed_to(seal()), &again[0]).0, "wrong-digest");
    let older = sealed_envelopes(&key, 5, 1, &seal());
    assert_eq!(detail(fresh().sealed_to(seal()), &older[0]).0, "wrong-generation");
    let unsealed = envelopes(&key, 5, 2);
    assert_eq!(detail(fresh().sealed_to(seal()), &unsealed[0]).0, "wrong-digest");
}

proptest! {
    #[test]
    fn round_trip(
        (volume, wireguard, bytes) in any::<([u8; 16], [u8; 32], [u8; 32])>(),
        node_id in "[A-Za-z0-9._-]{1,64}",
        generation in 1u64..,
        n in 3usize..=255,
        point in any::<prop::sample::Index>(),
    ) {
        let threshold = Threshold::for_guardians(n).unwrap();
        let share = Share::new(point.index(n) as u8 + 1, &bytes).unwrap();
        let x = share.x();
        let seal = ShareSeal::new(&wireguard, volume);
        let envelope = Envelope { volume, node_id: node_id.clone(), generation, threshold, share };
        let back = Envelope::decode_sealed(&envelope.encode_sealed(&seal).unwrap(), &seal).unwrap();
        prop_assert_eq!((back.volume, back.node_id, back.generation), (volume, node_id, generation));
        prop_assert_eq!((back.threshold, back.share.x(), back.share.bytes()), (threshold, x, &bytes));
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 1..300)) {
        bytes[0] = 2;
        prop_assert!(Envelope::decode_sealed(&bytes, &seal()).is_err());
    }
}
