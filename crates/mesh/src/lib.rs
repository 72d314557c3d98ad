//! A WireGuard interface and its peers: keys, wg-quick text, the interface itself, and the control socket
//! through which an unprivileged gateway changes peers. Owns no policy about who may be a peer and no
//! address allocation. Everything that touches the kernel blocks: call it from a blocking thread.

#![deny(unsafe_code)]

pub mod control;
mod interface;
mod key;
mod link;
mod prefix;
mod userspace;
pub mod wgquick;

pub use interface::{
    Backend, DownError, Interface, InterfaceStatus, MTU_BYTES, PeerError, PeerStatus, ReadError, UpError,
};
pub use key::{KeyError, PrivateKey, PublicKey, identity};
pub use prefix::{Ipv4Prefix, OVERLAY, PrefixError};
pub use wgquick::{PeerConfig, WgConfig, WgQuickError};
