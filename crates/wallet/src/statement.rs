//! What the owner's wallet signs for us: each statement has one text, which a wallet shows before it signs, which
//! names its purpose and every value it binds, and which parses back into the same values. Byte for byte in
//! docs/formats.md. Does not sign, and does not judge: who signed, when, and for which node, the caller compares.

mod values;

use std::fmt;
use std::str::FromStr;

pub use values::{NodeId, OneTimeKey, UtcSeconds, ValueError, VolumeId, WireguardKey};
use values::{hex_bytes, hex_text};

/// Longest statement, bytes; the longest possible one has 405.
const TEXT_LIMIT_BYTES: usize = 512;

/// Why a text is not the statement that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    #[error("a statement has at most {TEXT_LIMIT_BYTES} bytes, not {0}")]
    Length(usize),
    #[error("this statement has {expected} lines, not {found}")]
    Lines { expected: usize, found: usize },
    #[error("line {line} of the statement should begin with {expected:?}")]
    Label { line: usize, expected: &'static str },
    #[error("line {line} of the statement is wrong")]
    Value {
        line: usize,
        #[source]
        source: ValueError,
    },
}

/// "This node is the genesis node, and it shall be configured so": signed once, when a cluster begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    pub node: NodeId,
    /// The node's own; its private half never left the node.
    pub wireguard: WireguardKey,
    /// What the node showed for this enrollment only.
    pub one_time_key: OneTimeKey,
    /// SHA-256 of the exact bytes of the configuration.
    pub configuration: [u8; 32],
    pub valid_until: UtcSeconds,
}

const GENESIS_TITLE: &str = "OramaOS genesis 1";
const GENESIS_LABELS: [&str; 5] =
    ["node ", "wireguard ", "one-time key ", "configuration sha256 ", "valid until "];

impl fmt::Display for Genesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let configuration = hex_text(&self.configuration);
        let [node, wireguard, one_time_key, sha256, valid_until] = GENESIS_LABELS;
        writeln!(f, "{GENESIS_TITLE}")?;
        writeln!(f, "{node}{}", self.node)?;
        writeln!(f, "{wireguard}{}", self.wireguard)?;
        writeln!(f, "{one_time_key}{}", self.one_time_key)?;
        writeln!(f, "{sha256}{configuration}")?;
        write!(f, "{valid_until}{}", self.valid_until)
    }
}

impl FromStr for Genesis {
    type Err = StatementError;

    fn from_str(text: &str) -> Result<Self, StatementError> {
        let (title, [node, wireguard, one_time_key, configuration, valid_until]) =
            fields(text, GENESIS_LABELS)?;
        if title != GENESIS_TITLE {
            return Err(StatementError::Label { line: 1, expected: GENESIS_TITLE });
        }
        Ok(Self {
            node: node.parse()?,
            wireguard: wireguard.parse()?,
            one_time_key: one_time_key.parse()?,
            configuration: configuration.bytes()?,
            valid_until: valid_until.parse()?,
        })
    }
}

/// "This node, which a gateway enrols, shall seal its volume key to me, and this WireGuard key is mine": signed once,
/// at enrollment. The node's own id is not in it: the gateway chooses that later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The node's own; its private half never left the node.
    pub wireguard: WireguardKey,
    /// Of the operator's machine: the node makes it a peer, and answers sealed to it.
    pub operator: WireguardKey,
    pub valid_until: UtcSeconds,
}

const RECOVERY_TITLE: &str = "OramaOS recovery 1";
const RECOVERY_LABELS: [&str; 3] = ["wireguard ", "operator ", "valid until "];

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [wireguard, operator, valid_until] = RECOVERY_LABELS;
        writeln!(f, "{RECOVERY_TITLE}")?;
        writeln!(f, "{wireguard}{}", self.wireguard)?;
        writeln!(f, "{operator}{}", self.operator)?;
        write!(f, "{valid_until}{}", self.valid_until)
    }
}

impl FromStr for Recovery {
    type Err = StatementError;

    fn from_str(text: &str) -> Result<Self, StatementError> {
        let (title, [wireguard, operator, valid_until]) = fields(text, RECOVERY_LABELS)?;
        if title != RECOVERY_TITLE {
            return Err(StatementError::Label { line: 1, expected: RECOVERY_TITLE });
        }
        Ok(Self {
            wireguard: wireguard.parse()?,
            operator: operator.parse()?,
            valid_until: valid_until.parse()?,
        })
    }
}

/// Which sealed key the wallet is about to give out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlockKind {
    /// The one in the header of a genesis node.
    Genesis,
    /// The one that the operator kept when the node enrolled.
    Recovery,
}

impl UnlockKind {
    fn title(self) -> &'static str {
        match self {
            Self::Genesis => "OramaOS unlock genesis 1",
            Self::Recovery => "OramaOS unlock recovery 1",
        }
    }
}

/// "Open this volume now": signed for each unlock, over a challenge that the node made for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlock {
    pub kind: UnlockKind,
    pub node: NodeId,
    pub volume: VolumeId,
    /// Random bytes of the node, used once.
    pub challenge: [u8; 32],
}

const UNLOCK_LABELS: [&str; 3] = ["node ", "volume ", "challenge "];

impl fmt::Display for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [node, volume, challenge] = UNLOCK_LABELS;
        writeln!(f, "{}", self.kind.title())?;
        writeln!(f, "{node}{}", self.node)?;
        writeln!(f, "{volume}{}", self.volume)?;
        write!(f, "{challenge}{}", hex_text(&self.challenge))
    }
}

impl FromStr for Unlock {
    type Err = StatementError;

    fn from_str(text: &str) -> Result<Self, StatementError> {
        let (title, [node, volume, challenge]) = fields(text, UNLOCK_LABELS)?;
        let kind = [UnlockKind::Genesis, UnlockKind::Recovery].into_iter().find(|kind| kind.title() == title);
        Ok(Self {
            kind: kind.ok_or(StatementError::Label { line: 1, expected: "OramaOS unlock" })?,
            node: node.parse()?,
            volume: volume.parse()?,
            challenge: challenge.bytes()?,
        })
    }
}

/// What stands behind a label.
#[derive(Clone, Copy)]
struct Field<'a> {
    line: usize,
    text: &'a str,
}

impl Field<'_> {
    fn parse<T: FromStr<Err = ValueError>>(self) -> Result<T, StatementError> {
        self.text.parse().map_err(|source| StatementError::Value { line: self.line, source })
    }

    fn bytes(self) -> Result<[u8; 32], StatementError> {
        hex_bytes(self.text)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(StatementError::Value { line: self.line, source: ValueError::Bytes32 })
    }
}

/// The first line, and what follows the label in each of the others. Nothing may be left over: not even a newline
/// at the end.
fn fields<'a, const N: usize>(
    text: &'a str,
    labels: [&'static str; N],
) -> Result<(&'a str, [Field<'a>; N]), StatementError> {
    if text.len() > TEXT_LIMIT_BYTES {
        return Err(StatementError::Length(text.len()));
    }
    let found = text.split('\n').count();
    if found != N + 1 {
        return Err(StatementError::Lines { expected: N + 1, found });
    }
    let mut lines = text.split('\n');
    let title = lines.next().unwrap_or_default();
    let mut fields = [Field { line: 0, text: "" }; N];
    for (index, ((field, line), expected)) in fields.iter_mut().zip(lines).zip(labels).enumerate() {
        let text = line.strip_prefix(expected);
        let line = index + 2;
        *field = Field { line, text: text.ok_or(StatementError::Label { line, expected })? };
    }
    Ok((title, fields))
}
