//! The node's public network interface: link, IPv4 address, routes and resolver file, by DHCP or from configuration.
//! Owns nothing of the overlay (orama-mesh) and no firewall. Needs root, or CAP_NET_ADMIN and CAP_NET_RAW.
//!
//! ```no_run
//! # async fn example() {
//! let (task, mut status) = orama_uplink::bring_up(Default::default(), "/run/orama/resolv.conf".into());
//! tokio::spawn(task); // renews for ever; dropping it leaves the interface as it is
//! while status.changed().await.is_ok() {
//!     println!("{}", *status.borrow_and_update());
//! }
//! # }
//! ```

#![forbid(unsafe_code)]

mod cidr;
mod config;
mod dhcp;
mod interfaces;
mod lease;
mod netlink;
mod resolver;
mod task;

pub use cidr::{Cidr, CidrError};
pub use config::{Mode, StaticConfig, UplinkConfig};
pub use lease::{Lease, Route};
pub use task::{UplinkStatus, bring_up};
