//! What can go wrong with an interface, one type per operation.

use std::io;

use defguard_wireguard_rs::error::WireguardInterfaceError;

use super::NAME_BYTES_MAX;
use crate::{Ipv4Prefix, PublicKey};

#[derive(Debug, thiserror::Error)]
pub enum UpError {
    #[error("interface name {0:?} is not 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`")]
    Name(String),
    #[error("the configuration of {0} has no private key")]
    NoPrivateKey(String),
    #[error("this kernel has no WireGuard, cannot create {0}")]
    NoKernelSupport(String, #[source] io::Error),
    #[error("no permission to create {0}: CAP_NET_ADMIN is needed")]
    Permission(String, #[source] io::Error),
    #[error("{0} exists and is not a WireGuard interface of this kind")]
    NameTaken(String),
    #[error("cannot create {0}")]
    Create(String, #[source] io::Error),
    #[error("cannot start a userspace {0}")]
    CreateUserspace(String, #[source] WireguardInterfaceError),
    #[error("cannot give {0} its key and port")]
    Configure(String, #[source] WireguardInterfaceError),
    #[error("cannot {action} {name}")]
    Link {
        name: String,
        action: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Peer(#[from] PeerError),
}

#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("cannot set peer {1} on {0}")]
    Set(String, PublicKey, #[source] WireguardInterfaceError),
    #[error("cannot remove peer {1} from {0}")]
    Remove(String, PublicKey, #[source] WireguardInterfaceError),
    #[error("cannot read the peers of {0}")]
    Read(String, #[source] WireguardInterfaceError),
    #[error("cannot route {1} through {0}")]
    Route(String, Ipv4Prefix, #[source] io::Error),
    #[error("peer {1} on {0} is allowed 0.0.0.0/0, which would take all traffic of this machine")]
    DefaultRoute(String, PublicKey),
    #[error("cannot find {0} any more")]
    Gone(String, #[source] io::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read {0}")]
    Device(String, #[source] WireguardInterfaceError),
    #[error("{0} has no private key")]
    NoKey(String),
    #[error("cannot read the addresses of {0}")]
    Addresses(String, #[source] io::Error),
}

#[derive(Debug, thiserror::Error)]
#[error("cannot remove {name}")]
pub struct DownError {
    pub(super) name: String,
    #[source]
    pub(super) source: io::Error,
}
