//! The crate from outside: splits, envelopes, records and the collector.

mod collecting;
mod envelopes;
mod records;
mod splits;
mod tool;

use orama_keyshare::{Digest, Envelope, Holder, ShareSet, Threshold, VolumeKey, digest, split};
use zeroize::Zeroizing;

pub const VOLUME: [u8; 16] =
    [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
pub const NODE: &str = "node-10.0.0.4";

/// The encoded envelopes of one split of `key`, in the order of x.
pub fn envelopes(key: &VolumeKey, guardians: usize, generation: u64) -> Vec<Zeroizing<Vec<u8>>> {
    let threshold = Threshold::for_guardians(guardians).unwrap();
    let shares = split(key, threshold).unwrap();
    assert_eq!(shares.len(), guardians);
    let seal = |share| {
        let node_id = NODE.to_owned();
        Envelope { volume: VOLUME, node_id, generation, threshold, share }.encode().unwrap()
    };
    shares.into_iter().map(seal).collect()
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
