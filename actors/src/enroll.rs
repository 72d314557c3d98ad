//! EnrollActor: makes an unenrolled node a member. Shows the registration code on port 9999, keeps a WebSocket to
//! the gateway, checks the configuration that comes down, and drives provisioning. Owns neither volume nor
//! interface: it asks their actors.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use actix::{Actor, Context, Message};

use crate::ports::Console;
use crate::registry::Registry;

pub struct EnrollActor {
    pub(crate) registry: Registry,
    pub(crate) settings: Arc<EnrollSettings>,
    pub(crate) console: Arc<dyn Console>,
}

pub struct EnrollSettings {
    pub mode: EnrollMode,
    /// `https://host[:port]`.
    pub gateway_url: String,
    pub pin: Pin,
    /// Where the registration code is shown; `0.0.0.0:9999` on a node.
    pub listen: SocketAddr,
    pub wireguard_port: u16,
    /// Version of the image.
    pub version: String,
    /// `amd64`.
    pub arch: String,
    /// The node's public addresses, for the console line.
    pub addresses: Arc<dyn Fn() -> Vec<std::net::Ipv4Addr> + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrollMode {
    Websocket,
    SealedPush,
}

/// What the gateway's certificate must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// PEM file with the only authority that may have signed it.
    CaFile(PathBuf),
    /// SHA-256 of the certificate (DER).
    Fingerprint([u8; 32]),
}

/// Shows a code and waits for a configuration; when enrollment mode is on already, makes a new code.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct OpenEnrollment;

impl EnrollActor {
    pub fn new(registry: Registry, settings: Arc<EnrollSettings>, console: Arc<dyn Console>) -> Self {
        Self { registry, settings, console }
    }
}

impl Actor for EnrollActor {
    type Context = Context<Self>;
}
impl actix::Handler<OpenEnrollment> for EnrollActor {
    type Result = ();
    fn handle(&mut self, _: OpenEnrollment, _: &mut Self::Context) {}
}
