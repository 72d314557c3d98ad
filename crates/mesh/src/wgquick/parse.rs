//! The parser of wg-quick text. Errors name the line and the key, and never repeat a private key.

use std::fmt;
use std::net::SocketAddr;

use super::{ADDRESSES_MAX, PEERS_MAX, PeerConfig, TEXT_LIMIT_BYTES, WgConfig, contested};
use crate::{Ipv4Prefix, KeyError, PrefixError, PrivateKey, PublicKey};

/// Characters of a refused name that an error repeats.
const QUOTE_CHARS: usize = 32;

/// Where the text is wrong and how. `line` counts from 1; 0 is the text as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WgQuickError {
    pub line: usize,
    pub kind: WgQuickErrorKind,
}

impl std::error::Error for WgQuickError {}

impl fmt::Display for WgQuickError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => self.kind.fmt(f),
            line => write!(f, "line {line}: {}", self.kind),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WgQuickErrorKind {
    #[error("the text is {0} bytes, the limit is {TEXT_LIMIT_BYTES}")]
    TextTooLong(usize),
    #[error("more than {PEERS_MAX} peers")]
    TooManyPeers,
    #[error("no [Interface] section")]
    NoInterface,
    #[error("a second [Interface] section")]
    SecondInterface,
    #[error("unknown section {0:?}, expected [Interface] or [Peer]")]
    UnknownSection(String),
    #[error("{0:?} stands before any section")]
    OutsideSection(String),
    #[error("not `Key = value`")]
    NotAnAssignment,
    #[error("unknown key {key:?} in [{section}]")]
    UnknownKey { section: &'static str, key: String },
    #[error("{0} is given twice in this section")]
    DuplicateKey(&'static str),
    #[error("{0} has no value")]
    Empty(&'static str),
    #[error("{name}: {error}")]
    Key { name: &'static str, error: KeyError },
    #[error("{name} {value:?}: {error}")]
    Prefix { name: &'static str, value: String, error: PrefixError },
    #[error("{name} has more than {ADDRESSES_MAX} entries")]
    TooMany { name: &'static str },
    #[error("{name} names {value} twice")]
    Repeated { name: &'static str, value: Ipv4Prefix },
    #[error("{name} {value:?} is not a number from {min} to 65535")]
    Number { name: &'static str, value: String, min: u16 },
    #[error("Endpoint {0:?} is not `ip:port` (names are not resolved)")]
    Endpoint(String),
    #[error("this [Peer] has no PublicKey")]
    NoPublicKey,
    #[error("this [Peer] has the PublicKey of an earlier one")]
    DuplicatePeer,
    #[error("AllowedIPs {0} belongs to an earlier [Peer] already")]
    Contested(Ipv4Prefix),
}

use WgQuickErrorKind as Kind;

/// A `[Peer]` section on its way; `line` is that of its header.
struct Draft {
    line: usize,
    public_key: Option<PublicKey>,
    endpoint: Option<SocketAddr>,
    allowed_ips: Option<Vec<Ipv4Prefix>>,
    keepalive: Option<u16>,
}

/// Addresses and port are optional here so that a second line of the same key is noticed.
#[derive(Default)]
struct Head {
    private_key: Option<PrivateKey>,
    addresses: Option<Vec<Ipv4Prefix>>,
    listen_port: Option<u16>,
}

enum Section {
    None,
    Interface,
    Peer,
}

/// Reads wg-quick text. Keys and section names are case-insensitive, `#` starts a comment, as for `wg`.
pub fn parse(text: &str) -> Result<WgConfig, WgQuickError> {
    let whole = |kind| WgQuickError { line: 0, kind };
    if text.len() > TEXT_LIMIT_BYTES {
        return Err(whole(Kind::TextTooLong(text.len())));
    }
    let mut head: Option<Head> = None;
    let mut drafts: Vec<Draft> = Vec::new();
    let mut section = Section::None;
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let content = raw.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        let result = if content.starts_with('[') {
            open_section(content, line, &mut head, &mut drafts).map(|opened| section = opened)
        } else {
            match (&section, head.as_mut(), drafts.last_mut()) {
                (Section::Interface, Some(head), _) => assign_interface(content, head),
                (Section::Peer, _, Some(draft)) => assign_peer(content, draft),
                _ => Err(Kind::OutsideSection(quote_name(content.split('=').next().unwrap_or_default()))),
            }
        };
        result.map_err(|kind| WgQuickError { line, kind })?;
    }
    let head = head.ok_or_else(|| whole(Kind::NoInterface))?;
    Ok(WgConfig {
        private_key: head.private_key,
        addresses: head.addresses.unwrap_or_default(),
        listen_port: head.listen_port,
        peers: finish_peers(drafts)?,
    })
}

fn open_section(
    content: &str,
    line: usize,
    head: &mut Option<Head>,
    drafts: &mut Vec<Draft>,
) -> Result<Section, Kind> {
    if content.eq_ignore_ascii_case("[interface]") {
        if head.is_some() {
            return Err(Kind::SecondInterface);
        }
        *head = Some(Head::default());
        return Ok(Section::Interface);
    }
    if content.eq_ignore_ascii_case("[peer]") {
        if drafts.len() == PEERS_MAX {
            return Err(Kind::TooManyPeers);
        }
        drafts.push(Draft { line, public_key: None, endpoint: None, allowed_ips: None, keepalive: None });
        return Ok(Section::Peer);
    }
    Err(Kind::UnknownSection(quote(content)))
}

fn split(content: &str) -> Result<(String, &str), Kind> {
    let (key, value) = content.split_once('=').ok_or(Kind::NotAnAssignment)?;
    Ok((key.trim().to_ascii_lowercase(), value.trim()))
}

fn assign_interface(content: &str, head: &mut Head) -> Result<(), Kind> {
    let (key, value) = split(content)?;
    match key.as_str() {
        "privatekey" => once("PrivateKey", value, &mut head.private_key, |name, value| {
            PrivateKey::from_base64(value).map_err(|error| Kind::Key { name, error })
        }),
        "address" => once("Address", value, &mut head.addresses, prefixes),
        "listenport" => {
            once("ListenPort", value, &mut head.listen_port, |name, value| number(name, value, 1))
        }
        _ => Err(Kind::UnknownKey { section: "Interface", key: quote_name(&key) }),
    }
}

fn assign_peer(content: &str, draft: &mut Draft) -> Result<(), Kind> {
    let (key, value) = split(content)?;
    match key.as_str() {
        "publickey" => once("PublicKey", value, &mut draft.public_key, |name, value| {
            value.parse().map_err(|error| Kind::Key { name, error })
        }),
        "endpoint" => once("Endpoint", value, &mut draft.endpoint, |_, value| endpoint(value)),
        "allowedips" => once("AllowedIPs", value, &mut draft.allowed_ips, prefixes),
        "persistentkeepalive" => {
            once("PersistentKeepalive", value, &mut draft.keepalive, |name, value| match value {
                "off" => Ok(0),
                value => number(name, value, 0),
            })
        }
        _ => Err(Kind::UnknownKey { section: "Peer", key: quote_name(&key) }),
    }
}

fn once<T>(
    name: &'static str,
    value: &str,
    slot: &mut Option<T>,
    read: impl FnOnce(&'static str, &str) -> Result<T, Kind>,
) -> Result<(), Kind> {
    if slot.is_some() {
        return Err(Kind::DuplicateKey(name));
    }
    if value.is_empty() {
        return Err(Kind::Empty(name));
    }
    *slot = Some(read(name, value)?);
    Ok(())
}

fn prefixes(name: &'static str, value: &str) -> Result<Vec<Ipv4Prefix>, Kind> {
    let mut list = Vec::new();
    for item in value.split(',').map(str::trim) {
        if list.len() == ADDRESSES_MAX {
            return Err(Kind::TooMany { name });
        }
        let prefix = item.parse().map_err(|error| Kind::Prefix { name, value: quote(item), error })?;
        if list.contains(&prefix) {
            return Err(Kind::Repeated { name, value: prefix });
        }
        list.push(prefix);
    }
    Ok(list)
}

fn number(name: &'static str, value: &str, min: u16) -> Result<u16, Kind> {
    let refused = || Kind::Number { name, value: quote(value), min };
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused());
    }
    value.parse().ok().filter(|number| *number >= min).ok_or_else(refused)
}

fn endpoint(value: &str) -> Result<SocketAddr, Kind> {
    let endpoint: SocketAddr = value.parse().map_err(|_| Kind::Endpoint(quote(value)))?;
    if endpoint.port() == 0 || endpoint.ip().is_unspecified() {
        return Err(Kind::Endpoint(quote(value)));
    }
    Ok(endpoint)
}

fn finish_peers(drafts: Vec<Draft>) -> Result<Vec<PeerConfig>, WgQuickError> {
    let lines: Vec<usize> = drafts.iter().map(|draft| draft.line).collect();
    let mut keys = std::collections::HashSet::new();
    let mut peers = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let at = |kind| WgQuickError { line: draft.line, kind };
        let public_key = draft.public_key.ok_or_else(|| at(Kind::NoPublicKey))?;
        if !keys.insert(public_key) {
            return Err(at(Kind::DuplicatePeer));
        }
        peers.push(PeerConfig {
            public_key,
            endpoint: draft.endpoint,
            allowed_ips: draft.allowed_ips.unwrap_or_default(),
            keepalive_seconds: draft.keepalive.unwrap_or(0),
        });
    }
    match contested(&peers) {
        Some((index, ip)) => Err(WgQuickError { line: lines[index], kind: Kind::Contested(ip) }),
        None => Ok(peers),
    }
}

/// The name of a key, only if it looks like one: a private key pasted without its name must not get into a log.
fn quote_name(text: &str) -> String {
    let text = text.trim();
    if text.len() <= QUOTE_CHARS && text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return text.to_owned();
    }
    "...".to_owned()
}

fn quote(text: &str) -> String {
    text.trim().chars().take(QUOTE_CHARS).collect()
}
