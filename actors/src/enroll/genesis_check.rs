//! Judges the enrollment of a cluster's first node: did the owner's wallet sign this very statement, for this very node
//! and this very configuration, and is the configuration sound. Pure: time and keys are passed in.

use std::net::Ipv4Addr;

use orama_keyshare::printable;
use orama_mesh::{Ipv4Prefix, PeerConfig, PublicKey as WireguardPublic};
use orama_protocol::genesis::{GENESIS_CONFIGURATION_LIMIT_BYTES, GenesisConfiguration, GenesisRequest};
use orama_wallet::statement::{Genesis, OneTimeKey, StatementError, UtcSeconds, WireguardKey};
use orama_wallet::{
    Address, PublicKey, PublicKeyError, RecoverError, Signature, SignatureError, VerifyError,
};
use sha2::{Digest, Sha256};

/// How far ahead a statement may be valid, seconds: clocks of new machines are wrong, but a statement is no bearer bond.
const VALIDITY_LIMIT_SECONDS: u64 = 24 * 3600;
/// Seconds between packets to the operator's machine that keep its way to us open.
const KEEPALIVE_SECONDS: u16 = 25;

/// What this node knows of itself.
pub struct Expected<'a> {
    pub owner: Address,
    pub one_time_key: &'a OneTimeKey,
    pub wireguard: WireguardPublic,
    pub overlay: Ipv4Prefix,
    pub now_unix_seconds: u64,
}

/// A signed configuration in which nothing is missing.
#[derive(Debug)]
pub struct Accepted {
    pub node_id: String,
    pub address: Ipv4Prefix,
    pub listen_port: u16,
    pub operator: PeerConfig,
    /// The owner's, recovered from the signature: the volume key is sealed to it.
    pub owner: PublicKey,
    pub token_key: PublicKey,
}

#[derive(Debug, thiserror::Error)]
pub enum GenesisProblem {
    #[error("signature")]
    Signature(#[source] SignatureError),
    #[error("signature")]
    Recover(#[source] RecoverError),
    #[error("signature: {0}")]
    Signer(VerifyError),
    #[error("statement")]
    Statement(#[source] StatementError),
    #[error("the statement is for another one-time key than this node shows now")]
    OneTimeKey,
    #[error("the statement is for WireGuard key {0}, which is not this node's")]
    WireguardKey(WireguardKey),
    #[error("the statement was valid until {until}, and this node's clock says {now}")]
    Expired { until: UtcSeconds, now: String },
    #[error("the statement is valid until {until}, more than a day from now: this node's clock says {now}")]
    TooLong { until: UtcSeconds, now: String },
    #[error("the configuration is not the one that the statement names by its SHA-256")]
    Hash,
    #[error("configuration has {0} bytes, at most {GENESIS_CONFIGURATION_LIMIT_BYTES} are allowed")]
    Length(usize),
    #[error("configuration: not the JSON that it should be (line {line}, column {column})")]
    Json { line: usize, column: usize },
    #[error("configuration: {field} `{text}`: {why}")]
    Field { field: &'static str, text: String, why: String },
    #[error("configuration: token_key")]
    TokenKey(#[source] PublicKeyError),
    #[error("the statement is about `{statement}`, the configuration about `{configuration}`")]
    OtherNode { statement: String, configuration: String },
}

impl GenesisProblem {
    /// Whether the request lacks the owner's word, rather than sense.
    pub fn is_unauthorized(&self) -> bool {
        match self {
            Self::Signature(_)
            | Self::Recover(_)
            | Self::Signer(_)
            | Self::OneTimeKey
            | Self::WireguardKey(_)
            | Self::Expired { .. }
            | Self::TooLong { .. }
            | Self::Hash => true,
            Self::Statement(_)
            | Self::Length(_)
            | Self::Json { .. }
            | Self::Field { .. }
            | Self::TokenKey(_)
            | Self::OtherNode { .. } => false,
        }
    }
}

/// The signature first: nothing that the owner did not sign is looked at.
pub fn judge(request: &GenesisRequest, expected: &Expected) -> Result<Accepted, GenesisProblem> {
    let signature: Signature = request.signature.parse().map_err(GenesisProblem::Signature)?;
    let owner = signature.recover(&request.statement).map_err(GenesisProblem::Recover)?;
    signature.verify(&request.statement, &expected.owner).map_err(GenesisProblem::Signer)?;
    let statement: Genesis = request.statement.parse().map_err(GenesisProblem::Statement)?;
    judge_statement(&statement, expected)?;
    let text = &request.configuration;
    if text.len() > GENESIS_CONFIGURATION_LIMIT_BYTES {
        return Err(GenesisProblem::Length(text.len()));
    }
    if <[u8; 32]>::from(Sha256::digest(text)) != statement.configuration {
        return Err(GenesisProblem::Hash);
    }
    let configuration: GenesisConfiguration = serde_json::from_str(text)
        .map_err(|error| GenesisProblem::Json { line: error.line(), column: error.column() })?;
    if configuration.node_id != statement.node.as_str() {
        return Err(GenesisProblem::OtherNode {
            statement: statement.node.to_string(),
            configuration: printable(&configuration.node_id),
        });
    }
    accept(configuration, owner, expected)
}

fn judge_statement(statement: &Genesis, expected: &Expected) -> Result<(), GenesisProblem> {
    if statement.one_time_key != *expected.one_time_key {
        return Err(GenesisProblem::OneTimeKey);
    }
    if statement.wireguard.as_bytes() != expected.wireguard.as_bytes() {
        return Err(GenesisProblem::WireguardKey(statement.wireguard));
    }
    let until = statement.valid_until;
    let now = || match UtcSeconds::from_unix_seconds(expected.now_unix_seconds) {
        Some(now) => now.to_string(),
        None => "a time beyond the year 9999".to_owned(),
    };
    if until.unix_seconds() <= expected.now_unix_seconds {
        return Err(GenesisProblem::Expired { until, now: now() });
    }
    if until.unix_seconds() - expected.now_unix_seconds > VALIDITY_LIMIT_SECONDS {
        return Err(GenesisProblem::TooLong { until, now: now() });
    }
    Ok(())
}

fn accept(
    configuration: GenesisConfiguration,
    owner: PublicKey,
    expected: &Expected,
) -> Result<Accepted, GenesisProblem> {
    let wrong = |field: &'static str, text: &str, why: &dyn std::fmt::Display| GenesisProblem::Field {
        field,
        text: printable(text),
        why: why.to_string(),
    };
    let text = &configuration.wireguard_address;
    let address: Ipv4Prefix = text.parse().map_err(|error| wrong("wireguard_address", text, &error))?;
    let overlay = expected.overlay;
    let inside =
        |ip: Ipv4Addr| overlay.contains(&Ipv4Prefix::host(ip)) && Ipv4Prefix::host(ip) != overlay.network();
    if !inside(address.address()) || address.length() < overlay.length() {
        return Err(wrong("wireguard_address", text, &format!("not inside the overlay {overlay}")));
    }
    let node_ip = address.address();
    let node_id = orama_protocol::node_id(node_ip);
    if configuration.node_id != node_id {
        return Err(wrong("node_id", &configuration.node_id, &format!("for {node_ip} it must be {node_id}")));
    }
    if configuration.listen_port == 0 {
        return Err(wrong("listen_port", "0", &"a port is 1 to 65535"));
    }
    let text = &configuration.operator_address;
    let operator_ip: Ipv4Addr = text.parse().map_err(|error| wrong("operator_address", text, &error))?;
    if operator_ip == node_ip || !inside(operator_ip) {
        return Err(wrong("operator_address", text, &format!("no other address of the overlay {overlay}")));
    }
    let text = &configuration.operator_public_key;
    let operator_key: WireguardPublic =
        text.parse().map_err(|error| wrong("operator_public_key", text, &error))?;
    if operator_key == expected.wireguard {
        return Err(wrong("operator_public_key", text, &"it is this node's own"));
    }
    Ok(Accepted {
        node_id,
        address,
        listen_port: configuration.listen_port,
        operator: PeerConfig {
            public_key: operator_key,
            // It calls us, from wherever it is.
            endpoint: None,
            allowed_ips: vec![Ipv4Prefix::host(operator_ip)],
            keepalive_seconds: KEEPALIVE_SECONDS,
        },
        owner,
        token_key: configuration.token_key.parse().map_err(GenesisProblem::TokenKey)?,
    })
}

#[cfg(test)]
#[path = "genesis_check_tests.rs"]
mod tests;
