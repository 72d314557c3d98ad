//! What is held for others in a real LUKS2 header, beside the record of enrollment, with the real cryptsetup.

mod fixture;

use fixture::{FileVolume, mac_key, state, volume_key};
use orama_volume::{
    Damage, DataVolume, FormatError, HELD_FACTS_LIMIT_BYTES, Held, Probe, ProbeError, WriteStateError,
};
use zeroize::Zeroizing;

fn held(uuid: [u8; 16], secrets: u8) -> Held {
    let mut held = Held::empty(uuid);
    for index in 0..secrets {
        let name = format!("luks-{}-g7", "0".repeat(32));
        held.put(&[index; 32], &name, 7, Zeroizing::new(vec![index; 154]), 1).unwrap();
    }
    held
}

fn count(file: &FileVolume) -> Option<usize> {
    let (held, sealed) = file.volume.read_held().unwrap()?;
    sealed.verify(&mac_key(1)).unwrap();
    assert!(sealed.verify(&mac_key(2)).is_err());
    Some(held.count().0)
}

fn enrolled(file: &FileVolume) -> bool {
    matches!(file.volume.probe(), Ok(Probe::Enrolled { .. }))
}

#[test]
fn both_records_live_beside_each_other_and_are_replaced_one_by_one() {
    let (file, uuid) = FileVolume::enrolled();
    assert_eq!(count(&file), None);
    file.volume.write_held(&held(uuid, 3), &mac_key(1)).unwrap();
    assert_eq!(count(&file), Some(3));
    file.volume.write_early_state(&state(uuid, 9), &mac_key(1)).unwrap();
    assert_eq!(count(&file), Some(3));
    file.volume.write_held(&held(uuid, 4), &mac_key(1)).unwrap();
    let Ok(Probe::Enrolled { state, .. }) = file.volume.probe() else { panic!("not enrolled") };
    assert_eq!((count(&file), state.wireguard.peers.len()), (Some(4), 9));
    file.volume.test_key(&volume_key(1)).unwrap();
    assert!(matches!(file.volume.format(&volume_key(2)), Err(FormatError::Enrolled { .. })));
}

/// The largest of both at once.
#[test]
fn everything_that_may_be_held_fits_beside_the_largest_record() {
    let file = FileVolume::blank();
    let uuid = file.volume.format(&volume_key(1)).unwrap();
    let mut large = state(uuid, 250);
    for peer in &mut large.wireguard.peers {
        peer.endpoint = Some(format!("{}:51820", "h".repeat(253)));
    }
    file.volume.write_early_state(&large, &mac_key(1)).unwrap();
    let mut full = held(uuid, 250);
    full.set_facts(Zeroizing::new(vec![0xff; HELD_FACTS_LIMIT_BYTES])).unwrap();
    full.set_operator_sha256([1; 32]);
    let mut index = 0;
    while full.put(&[0xee; 32], &format!("more-{index}"), 1, Zeroizing::new(vec![7; 154]), 1).is_ok() {
        index += 1;
    }
    file.volume.write_held(&full, &mac_key(1)).unwrap();
    assert_eq!(count(&file), Some(250 + index));
    file.volume.write_early_state(&large, &mac_key(1)).unwrap();
    assert!(enrolled(&file));
}

/// Power went between the two copies: cryptsetup reads the other one.
#[test]
fn one_broken_copy_of_the_header_costs_nothing() {
    let (file, uuid) = FileVolume::enrolled();
    file.volume.write_held(&held(uuid, 3), &mac_key(1)).unwrap();
    for offset in [0, 1 << 20] {
        let whole = file.bytes();
        let mut torn = whole.clone();
        torn[offset + 6000..offset + 9000].fill(0);
        file.set_bytes(&torn);
        assert_eq!(count(&file), Some(3), "copy at {offset}");
        assert!(enrolled(&file));
        file.set_bytes(&whole);
    }
}

#[test]
fn a_header_of_another_volume_takes_nothing_and_gives_nothing() {
    let (file, uuid) = FileVolume::enrolled();
    let other = file.volume.write_held(&held([9; 16], 1), &mac_key(1));
    assert!(matches!(other, Err(WriteStateError::OtherVolume { .. })));
    file.volume.write_held(&held(uuid, 1), &mac_key(1)).unwrap();
    let foreign = file.cryptsetup(&["token", "export", "--token-id", "1"], b"").unwrap();
    let (second, _) = FileVolume::enrolled();
    let import = ["token", "import", "--token-id", "1", "--json-file", "-"];
    second.cryptsetup(&import, &foreign).unwrap();
    let read = second.volume.read_held();
    assert!(
        matches!(read, Err(ProbeError::Damaged { source: Damage::OtherVolume { .. }, .. })),
        "taken over from another disk"
    );
    assert!(matches!(
        FileVolume::blank().volume.write_held(&held(uuid, 1), &mac_key(1)),
        Err(WriteStateError::NoHeader { .. })
    ));
}

#[test]
fn what_is_no_such_token_is_named_and_the_node_stays_enrolled() {
    let (file, uuid) = FileVolume::enrolled();
    file.volume.write_held(&held(uuid, 1), &mac_key(1)).unwrap();
    let import = ["token", "import", "--token-id", "1", "--json-file", "-", "--token-replace"];
    let good = file.cryptsetup(&["token", "export", "--token-id", "1"], b"").unwrap();
    let good = String::from_utf8(good).unwrap();
    for (from, to, expect) in [
        ("orama-held", "orama-else", "instead of an orama-held token"),
        ("\"version\":1", "\"version\":2", "version 2"),
        ("\"payload\":\"", "\"payload\":\"!", "not base64"),
        ("\"payload\":\"", "\"payload\":\"AAAA", "not usable"),
    ] {
        file.cryptsetup(&import, good.replacen(from, to, 1).as_bytes()).unwrap();
        let Err(ProbeError::Damaged { source, .. }) = file.volume.read_held() else {
            panic!("{to} was taken")
        };
        assert!(source.to_string().contains(expect), "{source}");
        assert!(enrolled(&file));
    }
    // Nobody formats over what is held, even when the record of enrollment is gone.
    file.cryptsetup(&import, good.as_bytes()).unwrap();
    file.cryptsetup(&["token", "remove", "--token-id", "0"], b"").unwrap();
    assert!(matches!(file.volume.format(&volume_key(2)), Err(FormatError::Probe { .. })));
    assert_eq!(count(&file), Some(1));
}
