//! The crate from outside: splits, envelopes, records and the collector.

mod collecting;
mod envelopes;
mod records;
mod sealed;
mod splits;
mod tool;

use orama_keyshare::{Digest, Envelope, Holder, ShareSeal, ShareSet, Threshold, VolumeKey, digest, split};
use zeroize::Zeroizing;

pub const VOLUME: [u8; 16] =
    [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
/// The WireGuard private key of the examples: `d3d3…d3c=`.
pub const WIREGUARD: [u8; 32] = [0x77; 32];
pub const NODE: &str = "node-10.0.0.4";

/// The encoded envelopes of one split of `key`, in the order of x.
pub fn envelopes(key: &VolumeKey, guardians: usize, generation: u64) -> Vec<Zeroizing<Vec<u8>>> {
    unencoded(key, guardians, generation).iter().map(|envelope| envelope.encode().unwrap()).collect()
}

/// The same, sealed.
pub fn sealed_envelopes(
    key: &VolumeKey,
    guardians: usize,
    generation: u64,
    seal: &ShareSeal,
) -> Vec<Zeroizing<Vec<u8>>> {
    let envelopes = unencoded(key, guardians, generation);
    envelopes.iter().map(|envelope| envelope.encode_sealed(seal).unwrap()).collect()
}

fn unencoded(key: &VolumeKey, guardians: usize, generation: u64) -> Vec<Envelope> {
    let threshold = Threshold::for_guardians(guardians).unwrap();
    let shares = split(key, threshold).unwrap();
    assert_eq!(shares.len(), guardians);
    let envelope =
        |share| Envelope { volume: VOLUME, node_id: NODE.to_owned(), generation, threshold, share };
    shares.into_iter().map(envelope).collect()
}

/// The record that goes with [`envelopes`]; guardians are 10.0.0.11 and up.
pub fn share_set(envelopes: &[Zeroizing<Vec<u8>>], generation: u64) -> ShareSet {
    let holder = |(index, envelope): (usize, &Zeroizing<Vec<u8>>)| Holder {
        node_id: format!("node-10.0.0.{}", index + 11),
        wg_ip: [10, 0, 0, index as u8 + 11].into(),
        x: index as u8 + 1,
        digest: Digest(digest(envelope)),
    };
    let holders = envelopes.iter().enumerate().map(holder).collect();
    ShareSet::new(generation, Threshold::for_guardians(envelopes.len()).unwrap(), holders).unwrap()
}
