//! The LUKS2 volume on plain files, with the real cryptsetup: everything that needs neither root nor device-mapper.

mod fixture;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fixture::{FileVolume, mac_key, state, volume_key};
use orama_keyshare::lifecycle::Custody;
use orama_volume::{
    Damage, DataVolume, FormatError, LeaveError, OpenError, Probe, ProbeError, WriteStateError,
};

fn enrolled(volume: &FileVolume) -> (orama_volume::EarlyState, orama_volume::SealedRecord) {
    match volume.volume.probe() {
        Ok(Probe::Enrolled { state, sealed }) => (state, sealed),
        Ok(Probe::Blank) => panic!("blank"),
        Ok(Probe::Unfinished { why }) => panic!("unfinished: {why}"),
        Ok(Probe::Leaving) => panic!("marked"),
        Err(error) => panic!("{error:?}"),
    }
}

/// The header must be refused with this damage, and must survive an attempt to format it.
fn check_damaged(volume: &FileVolume, expect: fn(&Damage) -> bool) {
    match volume.volume.probe() {
        Err(ProbeError::Damaged { source, .. }) if expect(&source) => {}
        Err(error) => panic!("other error: {error:?}"),
        Ok(Probe::Enrolled { .. }) => panic!("taken as enrolled"),
        Ok(Probe::Blank | Probe::Unfinished { .. } | Probe::Leaving) => {
            panic!("taken as free for formatting")
        }
    }
    let before = volume.bytes();
    assert!(matches!(volume.volume.format(&volume_key(2)), Err(FormatError::Probe { .. })));
    assert!(before == volume.bytes(), "a refused format wrote to the device");
}

#[test]
fn a_formatted_volume_opens_with_its_key_only() {
    let file = FileVolume::blank();
    assert!(matches!(file.volume.probe(), Ok(Probe::Blank)));
    let uuid = file.volume.format(&volume_key(1)).unwrap();
    let said = String::from_utf8(file.cryptsetup(&["luksUUID"], b"").unwrap()).unwrap();
    assert_eq!(said.trim(), orama_volume::uuid_text(uuid));
    file.volume.test_key(&volume_key(1)).unwrap();
    assert!(matches!(file.volume.test_key(&volume_key(2)), Err(OpenError::WrongKey { .. })));
    assert!(matches!(file.volume.probe(), Ok(Probe::Unfinished { .. })));
}

#[test]
fn the_header_is_made_as_documented() {
    let file = FileVolume::blank();
    file.volume.format(&volume_key(1)).unwrap();
    let dump = String::from_utf8(file.cryptsetup(&["luksDump"], b"").unwrap()).unwrap();
    for expect in [
        "Version:       \t2",
        "Metadata area: \t1048576 [bytes]",
        "Keyslots area: \t2097152 [bytes]",
        "cipher: aes-xts-plain64",
        "sector: 4096 [bytes]",
        "Key:        512 bits",
        "PBKDF:      pbkdf2",
        "Iterations: 1000\n",
    ] {
        assert!(dump.contains(expect), "{expect:?} is not in\n{dump}");
    }
}

#[test]
fn an_unfinished_volume_may_be_formatted_again() {
    let file = FileVolume::blank();
    let first = file.volume.format(&volume_key(1)).unwrap();
    let second = file.volume.format(&volume_key(2)).unwrap();
    assert_ne!(first, second);
    assert!(matches!(file.volume.test_key(&volume_key(1)), Err(OpenError::WrongKey { .. })));
}

#[test]
fn an_enrolled_volume_is_never_formatted() {
    let (file, _) = FileVolume::enrolled();
    assert!(matches!(file.volume.format(&volume_key(2)), Err(FormatError::Enrolled { .. })));
    file.volume.test_key(&volume_key(1)).unwrap();
}

#[test]
fn early_state_comes_back_as_it_went() {
    let (file, uuid) = FileVolume::enrolled();
    let (read, sealed) = enrolled(&file);
    let wrote = state(uuid, 5);
    assert_eq!(read.volume_uuid, uuid);
    assert_eq!(read.node_id, wrote.node_id);
    assert_eq!(read.wireguard.private_key.expose(), wrote.wireguard.private_key.expose());
    assert_eq!(read.wireguard.address, wrote.wireguard.address);
    assert_eq!(read.wireguard.listen_port, wrote.wireguard.listen_port);
    assert_eq!(read.wireguard.peers, wrote.wireguard.peers);
    assert_eq!(read.gateway_url, wrote.gateway_url);
    assert_eq!(read.agent_token_sha256, wrote.agent_token_sha256);
    assert_eq!(read.peers_revision, wrote.peers_revision);
    assert_eq!(read.custody, wrote.custody);
    assert_eq!(read.sealed_key, wrote.sealed_key);
    sealed.verify(&mac_key(1)).unwrap();
    assert!(sealed.verify(&mac_key(2)).is_err());
}

#[test]
fn two_hundred_and_fifty_peers_fit_and_can_be_replaced() {
    let file = FileVolume::blank();
    let uuid = file.volume.format(&volume_key(1)).unwrap();
    let mut large = state(uuid, 250);
    // The longest endpoints that are allowed.
    for peer in &mut large.wireguard.peers {
        peer.endpoint = Some(format!("{}:51820", "h".repeat(253)));
    }
    for _ in 0..2 {
        file.volume.write_early_state(&large, &mac_key(1)).unwrap();
        let (read, sealed) = enrolled(&file);
        assert_eq!(read.wireguard.peers, large.wireguard.peers);
        assert_eq!(read.custody.guardians().len(), 250);
        sealed.verify(&mac_key(1)).unwrap();
    }
    file.volume.write_early_state(&state(uuid, 3), &mac_key(1)).unwrap();
    assert_eq!(enrolled(&file).0.wireguard.peers.len(), 3);
    file.volume.test_key(&volume_key(1)).unwrap();
}

/// When guardians take over, what the wallet could open is gone from both copies of the header, and not only unused.
#[test]
fn a_sealed_key_is_erased_from_both_copies() {
    let (file, uuid) = FileVolume::enrolled();
    let shared = state(uuid, 5);
    let secret = "04c0ffee".repeat(40);
    let mut wallet = state(uuid, 5);
    (wallet.custody, wallet.sealed_key) = (Custody::wallet(), Some(secret.clone()));
    file.volume.write_early_state(&wallet, &mac_key(1)).unwrap();
    // The token's payload is base64: any of the three alignments of a long piece of the text.
    let found = |bytes: &[u8]| {
        let pieces = (0..3).map(|skip| {
            let text = STANDARD.encode(&secret.as_bytes()[skip..skip + 240]);
            bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
        });
        pieces.sum::<usize>() + bytes.windows(64).filter(|window| *window == &secret.as_bytes()[..64]).count()
    };
    assert!(found(&file.bytes()) >= 2, "the test does not see a sealed key that is there in two copies");
    file.volume.write_early_state(&shared, &mac_key(1)).unwrap();
    assert_eq!(found(&file.bytes()), 0);
    assert!(enrolled(&file).0.sealed_key.is_none());
}

#[test]
fn too_many_peers_are_refused_before_anything_is_written() {
    let (file, uuid) = FileVolume::enrolled();
    let before = file.bytes();
    let mut large = state(uuid, 250);
    let extra = large.wireguard.peers[0].clone();
    large.wireguard.peers.push(extra);
    assert!(matches!(file.volume.write_early_state(&large, &mac_key(1)), Err(WriteStateError::State(_))));
    assert!(before == file.bytes());
}

#[test]
fn a_state_of_another_volume_is_neither_written_nor_believed() {
    let (file, _) = FileVolume::enrolled();
    let other = state([1; 16], 5);
    assert!(matches!(
        file.volume.write_early_state(&other, &mac_key(1)),
        Err(WriteStateError::OtherVolume { .. })
    ));
    let (stranger, _) = FileVolume::enrolled();
    stranger.set_token(&file.token());
    check_damaged(&stranger, |damage| matches!(damage, Damage::OtherVolume { .. }));
}

#[test]
fn an_edited_payload_is_read_and_its_mac_does_not_match() {
    let (file, _) = FileVolume::enrolled();
    let mut token: serde_json::Value = serde_json::from_slice(&file.token()).unwrap();
    let payload = STANDARD.decode(token["payload"].as_str().unwrap()).unwrap();
    let edited = String::from_utf8(payload).unwrap().replace("gateway.example.org", "gateway.example.com");
    token["payload"] = STANDARD.encode(edited).into();
    file.set_token(token.to_string().as_bytes());
    let (state, sealed) = enrolled(&file);
    assert_eq!(state.gateway_url, "https://gateway.example.com:443");
    assert!(sealed.verify(&mac_key(1)).is_err());
}

#[test]
fn tokens_that_are_not_ours_are_damage() {
    let (file, _) = FileVolume::enrolled();
    let good: serde_json::Value = serde_json::from_slice(&file.token()).unwrap();
    let check = |edit: &dyn Fn(&mut serde_json::Value), expect: fn(&Damage) -> bool| {
        let mut token = good.clone();
        edit(&mut token);
        file.set_token(token.to_string().as_bytes());
        check_damaged(&file, expect);
    };
    check(&|token| token["type"] = "clevis".into(), |damage| {
        matches!(damage, Damage::UnexpectedToken { .. })
    });
    check(&|token| token["version"] = 2.into(), |damage| {
        matches!(damage, Damage::TokenVersion { found: 2, .. })
    });
    check(&|token| token["extra"] = "x".repeat(300_000).into(), |damage| {
        matches!(damage, Damage::TokenSyntax(_))
    });
    check(&|token| token["mac"] = "00".into(), |damage| matches!(damage, Damage::MacEncoding));
    check(&|token| token["payload"] = "%%".into(), |damage| matches!(damage, Damage::PayloadEncoding(_)));
    let large = STANDARD.encode(vec![b' '; 600_000]);
    check(&|token| token["payload"] = large.clone().into(), |damage| matches!(damage, Damage::State(_)));
    let payload = STANDARD.decode(good["payload"].as_str().unwrap()).unwrap();
    let unknown = String::from_utf8(payload).unwrap().replacen('{', "{\"new\":1,", 1);
    check(&|token| token["payload"] = STANDARD.encode(&unknown).into(), |damage| {
        matches!(damage, Damage::State(_))
    });
    file.set_token(good.to_string().as_bytes());
    enrolled(&file);
}

#[test]
fn a_token_in_another_slot_is_damage() {
    let (file, _) = FileVolume::enrolled();
    let token = file.token();
    file.cryptsetup(&["token", "import", "--token-id", "3", "--json-file", "-"], &token).unwrap();
    let remove = std::process::Command::new(fixture::programs().cryptsetup)
        .args(["token", "remove", "--token-id", "0"])
        .arg(file.device())
        .status();
    assert!(remove.unwrap().success());
    check_damaged(&file, |damage| matches!(damage, Damage::UnexpectedToken { .. }));
}

#[test]
fn one_broken_header_copy_is_survived() {
    for offset in [0x1100, (1 << 20) + 0x1100] {
        let (file, _) = FileVolume::enrolled();
        let mut bytes = file.bytes();
        bytes[offset..offset + 64].fill(b'#');
        file.set_bytes(&bytes);
        enrolled(&file);
        file.volume.test_key(&volume_key(1)).unwrap();
    }
}

#[test]
fn one_erased_header_copy_is_survived() {
    for offset in [0, 1 << 20] {
        let (file, _) = FileVolume::enrolled();
        let mut bytes = file.bytes();
        bytes[offset..offset + (1 << 20)].fill(0);
        file.set_bytes(&bytes);
        enrolled(&file);
    }
}

#[test]
fn two_broken_header_copies_are_damage_and_never_blank() {
    let (file, _) = FileVolume::enrolled();
    let mut bytes = file.bytes();
    for offset in [0x1010, (1 << 20) + 0x1010] {
        bytes[offset..offset + 4].fill(b'#');
    }
    file.set_bytes(&bytes);
    check_damaged(&file, |damage| matches!(damage, Damage::Header { .. }));
}

#[test]
fn a_truncated_device_is_damage_and_never_blank() {
    for length in [6, 4096, 6000, (1 << 20) + 100] {
        let (file, _) = FileVolume::enrolled();
        file.set_bytes(&file.bytes()[..length]);
        // The first copy's tail is gone as well, so nothing is whole.
        check_damaged_or_unfinished(&file, length);
    }
}

/// With nothing left that a token could have stood in, the header is as dead as an unfinished one.
fn check_damaged_or_unfinished(file: &FileVolume, length: usize) {
    match file.volume.probe() {
        Err(ProbeError::Damaged { .. }) => {}
        Ok(Probe::Unfinished { .. }) if length <= 4096 => {}
        Err(error) => panic!("at {length}: {error:?}"),
        Ok(_) => panic!("at {length}: taken for a whole header"),
    }
}

#[test]
fn a_device_that_ends_behind_its_header_is_damage() {
    let (file, _) = FileVolume::enrolled();
    file.set_bytes(&file.bytes()[..3 << 20]);
    assert!(matches!(file.volume.probe(), Err(ProbeError::Damaged { .. })));
}

#[test]
fn a_node_that_leaves_is_erased_and_whatever_cuts_that_off_it_stays_marked() {
    let (file, uuid) = FileVolume::enrolled();
    assert!(matches!(file.volume.erase(), Err(LeaveError::NotMarked { .. })));
    file.volume.mark_leaving().unwrap();
    let marked = file.bytes();
    // The mark harms neither header nor key slot: cryptsetup still reads both, and writes neither over it.
    file.volume.test_key(&volume_key(1)).unwrap();
    let refused = file.volume.write_early_state(&state(uuid, 3), &mac_key(1));
    assert!(matches!(refused, Err(WriteStateError::Leaving { .. })));
    assert!(matches!(file.volume.format(&volume_key(2)), Err(FormatError::Leaving { .. })));
    file.volume.erase().unwrap();
    let erased = file.bytes();
    assert!(erased[..4 << 20].iter().all(|byte| *byte == 0));
    assert!(erased[4 << 20..] == marked[4 << 20..]);
    // A disk that has some of the old blocks and some of the new, and the mark, which goes last.
    let mark = (4 << 20) - 4096;
    for cut in [2 << 20, (2 << 20) + 70_000, mark, 1 << 20, 4096, 512, 0] {
        let mut mixed = erased.clone();
        mixed[..cut].copy_from_slice(&marked[..cut]);
        mixed[mark..4 << 20].copy_from_slice(&marked[mark..4 << 20]);
        file.set_bytes(&mixed);
        assert!(matches!(file.volume.probe(), Ok(Probe::Leaving)), "cut at {cut}");
        file.volume.erase().unwrap();
        assert!(matches!(file.volume.probe(), Ok(Probe::Blank)), "cut at {cut}");
    }
    file.volume.format(&volume_key(2)).unwrap();
    assert!(matches!(file.volume.mark_leaving(), Ok(())));
}

#[test]
fn an_erased_header_is_blank() {
    let (file, _) = FileVolume::enrolled();
    let mut bytes = file.bytes();
    bytes[..4 << 20].fill(0);
    file.set_bytes(&bytes);
    assert!(matches!(file.volume.probe(), Ok(Probe::Blank)));
}

#[test]
fn a_format_that_was_cut_off_is_unfinished() {
    let file = FileVolume::blank();
    file.volume.format(&volume_key(1)).unwrap();
    let mut bytes = file.bytes();
    // The first copy as it is while it is being written: no checksum yet, JSON half there; the second not begun.
    bytes[0x1c0..0x200].fill(0);
    bytes[0x1080..].fill(0);
    file.set_bytes(&bytes);
    assert!(matches!(file.volume.probe(), Ok(Probe::Unfinished { .. })));
    file.volume.format(&volume_key(2)).unwrap();
    file.volume.test_key(&volume_key(2)).unwrap();
}

#[test]
fn another_luks_version_is_damage() {
    let file = FileVolume::blank();
    let arguments = [
        "luksFormat",
        "--batch-mode",
        "--type",
        "luks1",
        "--pbkdf-force-iterations",
        "1000",
        "--key-file",
        "-",
    ];
    file.cryptsetup(&arguments, &[1; 32]).unwrap();
    check_damaged(&file, |damage| matches!(damage, Damage::Header { .. }));
}

#[test]
fn a_missing_program_is_named_and_not_taken_for_a_blank_volume() {
    let (file, _) = FileVolume::enrolled();
    let programs =
        orama_volume::Programs { cryptsetup: "/nonexistent/cryptsetup".into(), ..Default::default() };
    let volume = orama_volume::LuksVolume::new(file.device(), "/nonexistent").with_programs(programs);
    assert!(
        matches!(volume.probe(), Ok(Probe::Enrolled { .. })),
        "an unharmed header is read without a program"
    );
    let mut bytes = file.bytes();
    bytes[0x1100..0x1140].fill(b'#');
    file.set_bytes(&bytes);
    let error = volume.probe().err().unwrap();
    assert!(matches!(error, ProbeError::Export { .. }));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "cannot start /nonexistent/cryptsetup");
}

/// A power cut while the record is replaced: cryptsetup is killed at many moments. Old or new must be there, whole.
#[test]
fn a_record_that_is_cut_off_while_it_is_replaced_is_old_or_new() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    let (file, uuid) = FileVolume::enrolled();
    file.volume.write_early_state(&state(uuid, 250), &mac_key(1)).unwrap();
    let large = file.token();
    file.volume.write_early_state(&state(uuid, 3), &mac_key(1)).unwrap();
    let small = file.token();
    let (mut killed, mut kept) = (0, 0);
    for round in 0..40u64 {
        let (old, new) = if file.token() == small { (&small, &large) } else { (&large, &small) };
        let mut child = Command::new(fixture::programs().cryptsetup)
            .args(["token", "import", "--token-id", "0", "--json-file", "-", "--token-replace"])
            .arg(file.device())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(new);
        // 0 to 32 ms: from before the first write to after the last on the machines that we know.
        std::thread::sleep(Duration::from_micros(round * 800));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        let (_, sealed) = enrolled(&file);
        sealed.verify(&mac_key(1)).unwrap();
        let found = file.token();
        assert!(found == *old || found == *new, "round {round}: neither the old record nor the new one");
        kept += u32::from(found == *old);
    }
    file.volume.test_key(&volume_key(1)).unwrap();
    assert!(killed > 0, "no round killed cryptsetup before its end: the delays are all too long");
    println!("killed in {killed} of 40 rounds, old record kept in {kept}");
}
