//! A sound request passes; each thing that can be wrong with it is found by itself.

use orama_mesh::OVERLAY;
use orama_wallet::SecretKey;

use super::*;

const NOW: u64 = 1_800_000_000;

struct Fixture {
    owner: SecretKey,
    one_time_key: OneTimeKey,
    wireguard: WireguardPublic,
    configuration: GenesisConfiguration,
    valid_until: u64,
}

impl Fixture {
    fn new() -> Self {
        let owner = SecretKey::from_bytes(&[0x11; 32]).unwrap();
        Self {
            one_time_key: SecretKey::from_bytes(&[0x22; 32]).unwrap().public_key().into(),
            wireguard: WireguardPublic::from_bytes([3; 32]),
            configuration: GenesisConfiguration {
                node_id: "node-10.0.0.1".into(),
                wireguard_address: "10.0.0.1/24".into(),
                listen_port: 51820,
                operator_public_key: WireguardPublic::from_bytes([4; 32]).to_string(),
                operator_address: "10.0.0.254".into(),
                token_key: owner.public_key().to_string(),
            },
            owner,
            valid_until: NOW + 3600,
        }
    }

    fn statement(&self, configuration: &str) -> Genesis {
        Genesis {
            node: self.configuration.node_id.parse().unwrap(),
            wireguard: WireguardKey::from_bytes(*self.wireguard.as_bytes()),
            one_time_key: self.one_time_key.clone(),
            configuration: Sha256::digest(configuration).into(),
            valid_until: UtcSeconds::from_unix_seconds(self.valid_until).unwrap(),
        }
    }

    fn request(&self) -> GenesisRequest {
        let configuration = serde_json::to_string(&self.configuration).unwrap();
        self.signing(&self.statement(&configuration), configuration)
    }

    fn signing(&self, statement: &Genesis, configuration: String) -> GenesisRequest {
        let statement = statement.to_string();
        let signature = self.owner.sign(&statement).to_string();
        GenesisRequest { statement, configuration, signature }
    }

    fn judge(&self, request: &GenesisRequest) -> Result<Accepted, GenesisProblem> {
        judge(
            request,
            &Expected {
                owner: SecretKey::from_bytes(&[0x11; 32]).unwrap().public_key().address(),
                one_time_key: &self.one_time_key,
                wireguard: self.wireguard,
                overlay: OVERLAY,
                now_unix_seconds: NOW,
            },
        )
    }
}

/// The words of the problem, and whether it is one of authority.
fn refused(fixture: &Fixture, request: &GenesisRequest, authority: bool, words: &str) {
    let problem = fixture.judge(request).expect_err(words);
    let text = crate::describe(&problem);
    assert!(text.contains(words), "{text:?} does not say {words:?}");
    assert_eq!(problem.is_unauthorized(), authority, "{text}");
}

#[test]
fn what_the_owner_signed_is_accepted() {
    let fixture = Fixture::new();
    let accepted = fixture.judge(&fixture.request()).unwrap();
    assert_eq!(accepted.node_id, "node-10.0.0.1");
    assert_eq!(accepted.address.to_string(), "10.0.0.1/24");
    assert_eq!(accepted.listen_port, 51820);
    assert_eq!(accepted.owner, fixture.owner.public_key());
    assert_eq!(accepted.operator.allowed_ips, [Ipv4Prefix::host(Ipv4Addr::new(10, 0, 0, 254))]);
}

#[test]
fn another_wallet_another_text_or_another_configuration_is_refused() {
    let fixture = Fixture::new();
    let stranger = Fixture { owner: SecretKey::from_bytes(&[0x33; 32]).unwrap(), ..Fixture::new() };
    refused(&fixture, &stranger.request(), true, "the signature is one of");

    let sound = fixture.request();
    let longer = GenesisRequest { statement: format!("{}\n", sound.statement), ..sound.clone() };
    refused(&fixture, &longer, true, "the signature is one of");
    let garbage = GenesisRequest { signature: "00".repeat(65), ..sound.clone() };
    refused(&fixture, &garbage, true, "signature");
    let moved = sound.configuration.replace("10.0.0.254", "10.0.0.253");
    refused(&fixture, &GenesisRequest { configuration: moved, ..sound.clone() }, true, "SHA-256");
    let long = " ".repeat(GENESIS_CONFIGURATION_LIMIT_BYTES + 1);
    refused(&fixture, &GenesisRequest { configuration: long, ..sound }, false, "bytes");
}

#[test]
fn a_statement_for_another_node_or_another_time_is_refused() {
    let fixture = Fixture::new();
    let text = serde_json::to_string(&fixture.configuration).unwrap();
    let mut statement = fixture.statement(&text);
    // What a replay of an earlier enrollment looks like: the key was used up.
    statement.one_time_key = SecretKey::from_bytes(&[0x44; 32]).unwrap().public_key().into();
    refused(&fixture, &fixture.signing(&statement, text.clone()), true, "one-time key");
    let mut statement = fixture.statement(&text);
    statement.wireguard = WireguardKey::from_bytes([9; 32]);
    refused(&fixture, &fixture.signing(&statement, text.clone()), true, "not this node's");
    let mut statement = fixture.statement(&text);
    statement.node = "node-10.0.0.9".parse().unwrap();
    refused(&fixture, &fixture.signing(&statement, text), false, "node-10.0.0.9");

    for (valid_until, words) in
        [(NOW, "was valid until"), (NOW - 1, "was valid until"), (NOW + 86_401, "more than a day")]
    {
        let fixture = Fixture { valid_until, ..Fixture::new() };
        refused(&fixture, &fixture.request(), true, words);
    }
    for valid_until in [NOW + 1, NOW + 86_400] {
        let fixture = Fixture { valid_until, ..Fixture::new() };
        fixture.judge(&fixture.request()).unwrap();
    }
}

#[test]
fn a_signed_configuration_must_make_sense() {
    type Change = fn(&mut GenesisConfiguration);
    let changes: [(Change, &str); 9] = [
        (|c| c.wireguard_address = "10.0.1.1/24".into(), "wireguard_address"),
        (|c| c.wireguard_address = "10.0.0.1/16".into(), "wireguard_address"),
        (|c| c.wireguard_address = "10.0.0.2/24".into(), "must be node-10.0.0.2"),
        (|c| c.listen_port = 0, "listen_port"),
        (|c| c.operator_address = "10.0.0.1".into(), "operator_address"),
        (|c| c.operator_address = "10.9.0.1".into(), "operator_address"),
        (|c| c.operator_public_key = "AAAA".into(), "operator_public_key"),
        (|c| c.operator_public_key = WireguardPublic::from_bytes([3; 32]).to_string(), "own"),
        (|c| c.token_key = "04".into(), "token_key"),
    ];
    for (change, words) in changes {
        let mut fixture = Fixture::new();
        change(&mut fixture.configuration);
        refused(&fixture, &fixture.request(), false, words);
    }
    let fixture = Fixture::new();
    let text = r#"{"node_id":"node-10.0.0.1","extra":1}"#.to_owned();
    refused(&fixture, &fixture.signing(&fixture.statement(&text), text), false, "line 1");
}
