//! Statements: one text each, which reads back, and which no other value shares.

use orama_wallet::statement::{
    Genesis, NodeId, OneTimeKey, Recovery, StatementError, Unlock, UnlockKind, UtcSeconds, VolumeId,
    WireguardKey,
};
use orama_wallet::{Address, Signature};
use proptest::collection::vec;
use proptest::prelude::*;

const DOCUMENT: &str = include_str!("../../../docs/formats.md");

fn node() -> impl Strategy<Value = NodeId> {
    "[A-Za-z0-9._-]{1,64}".prop_map(|text| text.parse().unwrap())
}

prop_compose! {
    fn genesis()(
        node in node(),
        wireguard in any::<[u8; 32]>(),
        one_time_key in vec(any::<u8>(), 32..=65),
        configuration in any::<[u8; 32]>(),
        valid_until in 0..253_000_000_000_u64,
    ) -> Genesis {
        Genesis {
            node,
            wireguard: WireguardKey::from_bytes(wireguard),
            one_time_key: OneTimeKey::from_bytes(&one_time_key).unwrap(),
            configuration,
            valid_until: UtcSeconds::from_unix_seconds(valid_until).unwrap(),
        }
    }
}

prop_compose! {
    fn unlock()(recovery in any::<bool>(), node in node(), volume in any::<[u8; 16]>(), challenge in any::<[u8; 32]>())
        -> Unlock
    {
        let kind = if recovery { UnlockKind::Recovery } else { UnlockKind::Genesis };
        Unlock { kind, node, volume: VolumeId::from_bytes(volume), challenge }
    }
}

prop_compose! {
    fn recovery()(wireguard in any::<[u8; 32]>(), operator in any::<[u8; 32]>(), valid_until in 0..253_000_000_000_u64)
        -> Recovery
    {
        Recovery {
            wireguard: WireguardKey::from_bytes(wireguard),
            operator: WireguardKey::from_bytes(operator),
            valid_until: UtcSeconds::from_unix_seconds(valid_until).unwrap(),
        }
    }
}

/// What a wallet must be able to show, whatever the values are.
fn can_be_shown(text: &str, lines: usize) -> bool {
    text.len() <= 512
        && text.lines().count() == lines
        && text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte))
}

proptest! {
    #[test]
    fn genesis_reads_back(statement in genesis()) {
        let text = statement.to_string();
        prop_assert!(can_be_shown(&text, 6), "{}", text);
        prop_assert_eq!(text.parse::<Genesis>(), Ok(statement));
        prop_assert!(text.parse::<Unlock>().is_err());
    }

    #[test]
    fn unlock_reads_back(statement in unlock()) {
        let text = statement.to_string();
        prop_assert!(can_be_shown(&text, 4), "{}", text);
        prop_assert_eq!(text.parse::<Unlock>(), Ok(statement));
        prop_assert!(text.parse::<Genesis>().is_err());
    }

    #[test]
    fn recovery_reads_back(statement in recovery()) {
        let text = statement.to_string();
        prop_assert!(can_be_shown(&text, 4), "{}", text);
        prop_assert_eq!(text.parse::<Recovery>(), Ok(statement));
        prop_assert!(text.parse::<Unlock>().is_err() && text.parse::<Genesis>().is_err());
    }

    /// Two values that share all but some fields: the text is the same only if they are.
    #[test]
    fn no_two_values_share_a_text(one in genesis(), two in genesis(), keep in any::<[bool; 5]>()) {
        let pick = |keep: bool, first: &Genesis| if keep { one.clone() } else { first.clone() };
        let mixed = Genesis {
            node: pick(keep[0], &two).node,
            wireguard: pick(keep[1], &two).wireguard,
            one_time_key: pick(keep[2], &two).one_time_key,
            configuration: pick(keep[3], &two).configuration,
            valid_until: pick(keep[4], &two).valid_until,
        };
        prop_assert_eq!(mixed == one, mixed.to_string() == one.to_string());
    }

    #[test]
    fn no_two_unlocks_share_a_text(one in unlock(), two in unlock(), keep in any::<[bool; 4]>()) {
        let mixed = Unlock {
            kind: if keep[0] { one.kind } else { two.kind },
            node: if keep[1] { one.node.clone() } else { two.node },
            volume: if keep[2] { one.volume } else { two.volume },
            challenge: if keep[3] { one.challenge } else { two.challenge },
        };
        prop_assert_eq!(mixed == one, mixed.to_string() == one.to_string());
    }

    /// Whatever is read is written the same: there is no second spelling of any statement.
    #[test]
    fn a_changed_text_is_refused_or_another_statement(
        statement in genesis(), at in any::<proptest::sample::Index>(), byte in 0_u8..128, insert in any::<bool>(),
    ) {
        let mut bytes = statement.to_string().into_bytes();
        let at = at.index(bytes.len());
        if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
        let text = String::from_utf8(bytes).unwrap();
        if let Ok(read) = text.parse::<Genesis>() {
            prop_assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn any_text_is_survived(text in "(OramaOS (genesis|unlock genesis) 1\n)?(.|\n){0,200}") {
        let _ = text.parse::<Genesis>();
        let _ = text.parse::<Unlock>();
    }
}

fn documented_genesis() -> Genesis {
    let one_time_key = orama_wallet::SecretKey::from_bytes(&[0x22; 32]).unwrap().public_key();
    Genesis {
        node: "node-10.0.0.1".parse().unwrap(),
        wireguard: WireguardKey::from_bytes([1; 32]),
        one_time_key: one_time_key.into(),
        configuration: [0xc5; 32],
        valid_until: "2026-12-01T12:00:00Z".parse().unwrap(),
    }
}

fn documented_unlock(kind: UnlockKind) -> Unlock {
    let volume = "11111111-1111-4111-9111-111111111111".parse().unwrap();
    Unlock { kind, node: "node-10.0.0.1".parse().unwrap(), volume, challenge: [0x5a; 32] }
}

/// The examples of docs/formats.md, and the wallet's signatures over them.
#[test]
fn the_documented_examples() {
    let wallet = orama_wallet::SecretKey::from_bytes(&[0x11; 32]).unwrap();
    let genesis = documented_genesis().to_string();
    let [unlock, recovery] =
        [UnlockKind::Genesis, UnlockKind::Recovery].map(|kind| documented_unlock(kind).to_string());
    let wish = Recovery {
        wireguard: WireguardKey::from_bytes([1; 32]),
        operator: WireguardKey::from_bytes([2; 32]),
        valid_until: "2026-12-01T12:00:00Z".parse().unwrap(),
    };
    for text in [genesis, unlock, recovery, wish.to_string()] {
        assert!(DOCUMENT.contains(&format!("\n{text}\n")), "docs/formats.md lacks:\n{text}");
        let signature = wallet.sign(&text).to_string();
        assert!(DOCUMENT.contains(&signature), "docs/formats.md lacks {signature} of\n{text}");
        let hash: String = orama_wallet::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(DOCUMENT.contains(&hash), "docs/formats.md lacks the digest {hash} of\n{text}");
        let owner: Address = wallet.public_key().address();
        signature.parse::<Signature>().unwrap().verify(&text, &owner).unwrap();
    }
}

#[test]
fn errors_name_the_line() {
    let text = documented_genesis().to_string();
    let parse = |text: &str| text.parse::<Genesis>().unwrap_err();
    assert_eq!(parse(""), StatementError::Lines { expected: 6, found: 1 });
    assert_eq!(parse(&format!("{text}\n")), StatementError::Lines { expected: 6, found: 7 });
    assert_eq!(parse(&"\n".repeat(600)), StatementError::Length(600));
    assert_eq!(
        parse(&text.replace("genesis 1", "genesis 2")),
        StatementError::Label { line: 1, expected: "OramaOS genesis 1" }
    );
    assert_eq!(
        parse(&text.replace("\nwireguard", "\nWireguard")),
        StatementError::Label { line: 3, expected: "wireguard " }
    );
    for (from, to, line) in [
        ("node-10.0.0.1", "node 1", 2),
        ("AQEB", "AQE", 3),
        ("one-time key 04", "one-time key 0A", 4),
        ("c5c5", "c5C5", 5),
        ("2026", "+026", 6),
        ("Z", "Z\r", 6),
        ("Z", " Z", 6),
    ] {
        let error = parse(&text.replacen(from, to, 1));
        assert!(
            matches!(error, StatementError::Value { line: found, .. } if found == line),
            "{to}: {error:?}"
        );
    }
}

#[test]
fn kinds_of_unlock_are_not_mistaken() {
    let genesis = documented_unlock(UnlockKind::Genesis).to_string();
    let recovery = documented_unlock(UnlockKind::Recovery).to_string();
    assert_eq!(recovery.parse::<Unlock>().unwrap().kind, UnlockKind::Recovery);
    assert_eq!(genesis.replace("genesis 1", "recovery 1"), recovery);
    let other = genesis.replace("genesis 1", "other 1").parse::<Unlock>().unwrap_err();
    assert!(matches!(other, StatementError::Label { line: 1, .. }), "{other:?}");
}

#[test]
fn the_longest_statement_is_within_the_limit() {
    let mut longest = documented_genesis();
    longest.node = "x".repeat(64).parse().unwrap();
    assert_eq!(longest.to_string().len(), 405);
    assert_eq!(longest.to_string().parse::<Genesis>(), Ok(longest));
}
